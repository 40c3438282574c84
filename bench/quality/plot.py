"""Pictures in SVG: no background, colours that stand out against white and against black."""

import colorsys
import math
from html import escape

INK, OURS, RIVAL, MARK = "#7b848e", "#2f81f7", "#d9772b", "#c0392b"
LINE = 15  # height of a label


def text(x, y, words, anchor="start", size=12, colour=INK, weight="normal"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" '
            f'fill="{colour}">{escape(words)}</text>')


def line(x1, y1, x2, y2, opacity=0.4):
    return (f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{INK}" '
            f'stroke-opacity="{opacity:g}"/>')


def frame(width, height, title, parts):
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'role="img" font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif">',
        f"<title>{escape(title)}</title>", text(16, 24, title, size=14, weight="bold"), *parts, "</svg>"])


def spread(wanted, least, most):
    """Label heights as near to the wanted ones as LINE apart allows, in the given order of points."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed = {}
    y = least - LINE
    for i in order:
        y = placed[i] = max(wanted[i], y + LINE)
    y = most + LINE
    for i in reversed(order):
        y = placed[i] = min(placed[i], y - LINE)
    return [placed[i] for i in range(len(wanted))]


def divergence(points, title):
    """Mean KL divergence over code bits, both axes logarithmic; points: (label, bits, kl, is_ours)."""
    width, height, left, top, right, bottom = 900, 520, 64, 48, 260, 470
    ticks = (2, 2.25, 2.5, 3, 4, 5, 8)
    low = math.floor(math.log10(min(kl for _, _, kl, _ in points)))
    high = math.ceil(math.log10(max(kl for _, _, kl, _ in points)))
    x = lambda bits: left + (width - right - left) * math.log(bits / 2) / math.log(9 / 2)
    y = lambda kl: bottom - (bottom - top) * (math.log10(kl) - low) / (high - low)
    parts = []
    for decade in range(low, high + 1):
        parts += [line(left, y(10**decade), width - right, y(10**decade)),
                  text(left - 8, y(10**decade) + 4, f"{10.0**decade:g}", "end")]
    for bits in ticks:
        parts += [line(x(bits), bottom, x(bits), bottom + 5, 1), text(x(bits), bottom + 20, f"{bits:g}", "middle")]
    parts.append(text((left + width - right) / 2, bottom + 40, "bits per element of packed tokens", "middle"))
    heights = spread([y(kl) for _, _, kl, _ in points], top, bottom + 20)
    for (label, bits, kl, is_ours), at in zip(points, heights):
        colour = OURS if is_ours else RIVAL
        parts += [
            f'<path d="M{x(bits):.1f} {y(kl):.1f} L{width - right + 4} {at:.1f} h8" fill="none" stroke="{colour}" '
            'stroke-opacity="0.35"/>',
            f'<circle cx="{x(bits):.1f}" cy="{y(kl):.1f}" r="5" fill="{colour}"/>',
            text(width - right + 16, at + 4, f"{label}: {kl:.2g}", colour=colour,
                 weight="bold" if is_ours else "normal"),
        ]
    return frame(width, height, title, parts)


def shade(share):
    """From red over yellow to green, all light enough for dark words."""
    red, green, blue = colorsys.hls_to_rgb(share / 3, 0.62, 0.55)
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"


def heat_map(rows, columns, title, caption):
    """rows: (label, is_ours, shares), a share in [0, 1] or None for each column."""
    left, top, cell, tall = 220, 58, 56, 24
    width, height = left + cell * len(columns) + 20, top + tall * len(rows) + 34
    parts = [text(left + cell * (i + 0.5), top - 8, column, "middle") for i, column in enumerate(columns)]
    for j, (label, is_ours, shares) in enumerate(rows):
        y = top + tall * j
        parts.append(text(left - 10, y + 16, label, "end", colour=OURS if is_ours else INK,
                          weight="bold" if is_ours else "normal"))
        for i, share in enumerate(shares):
            words = "-" if share is None else f"{100 * share:.0f}"
            fill = "none" if share is None else shade(share)
            ink = INK if share is None else "#1f2328"
            parts += [f'<rect x="{left + cell * i}" y="{y}" width="{cell - 2}" height="{tall - 2}" rx="2" '
                      f'fill="{fill}" stroke="{INK}" stroke-opacity="0.4"/>',
                      text(left + cell * (i + 0.5) - 1, y + 16, words, "middle", 11, ink)]
    parts.append(text(left, top + tall * len(rows) + 20, caption))
    return frame(width, height, title, parts)

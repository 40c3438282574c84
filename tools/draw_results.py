#!/usr/bin/env python3
"""Keeps the figures and the picture of README.md equal to a checked-in result of scripts/demo --json.

The line `<!-- figures: FILE -->` in README.md names the result; what stands between it and `<!-- end figures -->` is
written here, and so is docs/img/demo.svg.

  draw_results.py             fails where one of the two has drifted
  draw_results.py --update    writes them
"""
import json
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
README, PICTURE = ROOT / "README.md", ROOT / "docs" / "img" / "demo.svg"
FIGURES = re.compile(r"(<!-- figures: (\S+) -->\n)(.*?)(<!-- end figures -->\n)", re.S)
OURS, DATA_FREE, RIVAL = "liboscar", "liboscar, not calibrated", "OSCAR as published"
# The picture has no background: every colour stands out against white and against black.
INK, BLUE, ORANGE = "#7b848e", "#2f81f7", "#d9772b"
TITLE_Y = 28


# ---- the table ----

def table(result):
    ours, rival = result["fidelity"][OURS], result["fidelity"][RIVAL]
    n_exact = result["windows"]["n_sink"] + result["windows"]["n_recent"]
    first, last = result["memory"][0], result["memory"][-1]
    at_128k = f"{last['times_smaller']:.1f} times smaller than BF16"
    rows = [
        ("", OURS, RIVAL),
        ("---", "---:", "---:"),
        ("bits per element of packed tokens, with scales and means", f"{ours['code_bits']:.2f}",
         f"{rival['code_bits']:.2f}"),
        (f"KL divergence of the next word from exact attention, mean of {ours['n_tokens']:,} tokens, nats",
         f"{ours['kl_mean']:.3f}", f"{rival['kl_mean']:.3f}"),
        ("the likeliest next word stays the same", f"{ours['top1_agreement']:.1%}", f"{rival['top1_agreement']:.1%}"),
        (f"bits per element in memory at {first['n_tokens']:,} tokens, all bytes counted, measured",
         f"{first['bits_per_element']:.2f}", ""),
        (f"the same at {last['n_tokens'] >> 10}K tokens, predicted by `oscar_cache_check`",
         f"{last['bits_per_element']:.2f} ({at_128k})", ""),
    ]
    rows += [
        (f"attention of a token over {t['n_tokens'] >> 10}K, {t['n_q_heads']}/{t['n_kv_heads']} heads of "
         f"{t['head_dim']}, against BF16 in this library", f"{t['speedup']:.1f} times as fast", "")
        for t in result["attention_time"]
    ]
    lines = ["| " + " | ".join(row).replace("|  |", "| |") + " |" for row in rows]
    made = (f"Made by `scripts/demo --json FILE` on {result['date']} (commit {result['commit']}): liboscar "
            f"{result['version']}, {result['processor']}, {result['backend']}, one thread, a shared machine. {n_exact} "
            f"tokens of a sequence ({result['windows']['n_sink']} first, {result['windows']['n_recent']} newest) and "
            f"those that wait for their block stay exact, in both methods. {calibration(result)}")
    return "\n".join([*lines, "", *wrap(made), "", f"![the figures above, drawn]({PICTURE.relative_to(ROOT)})", ""])


def calibration(result):
    data_free, given = result["fidelity"][DATA_FREE]["kl_mean"], result["calibration"]
    return (f"liboscar's cache calibrated itself on the text's first {given['n_tokens']} tokens, which do not count; its "
            f"transforms take {given['bytes'] / 1e6:.1f} MB, however long the context. Without them the divergence is "
            f"{data_free:.3f}. OSCAR is calibrated on two other texts.")


def wrap(text, width=120):
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


# ---- the picture ----

def label(x, y, text, anchor="start", size=13, colour=INK, weight="normal"):
    return (f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" '
            f'fill="{colour}">{text}</text>')


def line(x1, y1, x2, y2, opacity=1.0):
    return f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="{INK}" stroke-opacity="{opacity:g}"/>'


def bar(x, y, width, height, colour, stroke="none"):
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="2" fill="{colour}" stroke="{stroke}"/>'


def divergence(fidelity, left, top, width, height):
    """Mean KL divergence over code bits, one point a method."""
    least, most, highest = 2.0, 2.75, 0.15
    x = lambda bits: left + width * (bits - least) / (most - least)
    y = lambda kl: top + height * (1 - kl / highest)
    parts = [label(left - 38, TITLE_Y, "KL divergence from exact attention (lower is better)", weight="bold")]
    for kl in (0.0, 0.05, 0.10, 0.15):
        parts += [line(left, y(kl), left + width, y(kl), 0.35), label(left - 8, y(kl) + 4, f"{kl:.2f}", "end", 12)]
    for bits in (2.0, 2.25, 2.5, 2.75):
        parts += [line(x(bits), y(0), x(bits), y(0) + 5), label(x(bits), y(0) + 20, f"{bits:g}", "middle", 12)]
    parts.append(label(left + width / 2, y(0) + 40, "bits per element of packed tokens", "middle", 12))
    for name, colour in ((OURS, BLUE), (RIVAL, ORANGE)):
        f = fidelity[name]
        if not (least <= f["code_bits"] <= most and 0 <= f["kl_mean"] <= highest):
            sys.exit(f"{name}: {f['code_bits']} bits, {f['kl_mean']} nats lie outside the picture")
        at_x, at_y = x(f["code_bits"]), y(f["kl_mean"])
        figures = f"{f['kl_mean']:.3f} at {f['code_bits']:.2f} bits"
        parts += [f'<circle cx="{at_x:.1f}" cy="{at_y:.1f}" r="7" fill="{colour}"/>',
                  label(round(at_x) + 13, round(at_y) - 1, name, colour=colour, weight="bold"),
                  label(round(at_x) + 13, round(at_y) + 15, figures, size=12)]
    return parts


def memory(rows, left, top, width):
    """Bytes of a sequence as a share of BF16."""
    parts = [label(left, TITLE_Y, "Memory of one sequence, all bytes counted", weight="bold"),
             label(left, top + 66 * len(rows), "outline: the same tokens in BF16", size=12)]
    for i, m in enumerate(rows):
        y, share = top + 66 * i, m["bytes_cache"] / m["bytes_bf16"]
        parts += [
            label(left, y, f"{m['n_tokens'] >> 10}K tokens"),
            label(left + width, y, f"{m['bytes_cache'] / 2**20:,.0f} of {m['bytes_bf16'] / 2**20:,.0f} MiB, "
                                   f"{m['bits_per_element']:.2f} bits per element", "end", 12),
            bar(left, y + 9, width, 20, "none", INK),
            bar(left, y + 9, round(width * share, 1), 20, BLUE),
            label(left + width * share + 8, y + 24, f"{m['times_smaller']:.1f} times smaller", size=12),
        ]
    return parts


def picture(result):
    longer = [m for m in result["memory"] if m["n_tokens"] >= 8192]
    parts = divergence(result["fidelity"], 54, 60, 350, 180) + memory(longer, 466, 66, 400)
    return "\n".join([
        '<svg xmlns="http://www.w3.org/2000/svg" width="890" height="300" viewBox="0 0 890 300" role="img" '
        'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif">',
        "<title>SmolLM2-135M with a 2-bit cache: KL divergence from exact attention, and memory</title>",
        *parts, "</svg>", ""])


# ---- keeping both ----

def keep(figures, picture_at, text_of, picture_of):
    """Compares README.md, between the marks that `figures` finds, and a picture with the result that the marks name; with
    --update, writes them."""
    script, shown = pathlib.Path(sys.argv[0]).name, picture_at.relative_to(ROOT)
    text = README.read_text(encoding="utf-8")
    found = figures.findall(text)
    if len(found) != 1:
        sys.exit(f"README.md has {len(found)} places for the figures of {script}, wanted 1: the marks that its first lines name")
    result = json.loads((ROOT / found[0][1]).read_text(encoding="utf-8"))
    wanted, drawing = figures.sub(lambda m: m[1] + "\n" + text_of(result) + "\n" + m[4], text), picture_of(result)
    if "--update" in sys.argv[1:]:
        picture_at.parent.mkdir(exist_ok=True)
        README.write_text(wanted, encoding="utf-8")
        picture_at.write_text(drawing, encoding="utf-8")
    elif text != wanted or not picture_at.exists() or picture_at.read_text(encoding="utf-8") != drawing:
        sys.exit(f"README.md or {shown} is not what {found[0][1]} says; tools/{script} --update writes them")
    print(f"README.md and {shown} say what {found[0][1]} says")


if __name__ == "__main__":
    keep(FIGURES, PICTURE, table, picture)

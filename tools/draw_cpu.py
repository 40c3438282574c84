#!/usr/bin/env python3
"""Keeps the CPU figures of README.md, and their picture, equal to a checked-in result of bench/cpu.py decode --json.

The line `<!-- cpu: FILE -->` in README.md names the result; what stands between it and `<!-- end cpu -->` is written here,
and so is docs/img/cpu_decode.svg.

  draw_cpu.py             fails where one of the two has drifted
  draw_cpu.py --update    writes them
"""
import re

from draw_results import BLUE, ORANGE, ROOT, bar, keep, label, wrap

PICTURE = ROOT / "docs" / "img" / "cpu_decode.svg"
FIGURES = re.compile(r"(<!-- cpu: (\S+) -->\n)(.*?)(<!-- end cpu -->\n)", re.S)
SHAPE, CONTEXT = "32/8x128", 65536
OURS = "liboscar"


def shown(result, threads):
    """What the picture shows, fastest first."""
    rows = [r for r in result["results"] if (r["shape"], r["context"], r["threads"]) == (SHAPE, CONTEXT, threads)]
    return sorted(rows, key=lambda r: r["ms"])


def picture(result):
    threads = max(r["threads"] for r in result["results"])
    rows = shown(result, threads)
    left, width, most = 210, 560, max(r["ms"] for r in rows)
    parts = [label(10, 28, f"Attention of one new token over {CONTEXT >> 10}K tokens, one layer, {threads} threads: "
                           "milliseconds (lower is better)", weight="bold")]
    for i, r in enumerate(rows):
        y, colour = 48 + 30 * i, BLUE if r["name"].startswith(OURS) else ORANGE
        parts += [label(left - 10, y + 15, r["name"], "end"), bar(left, y, round(width * r["ms"] / most, 1), 20, colour),
                  label(left + width * r["ms"] / most + 8, y + 15, f"{r['ms']:.1f}", size=12)]
    height = 60 + 30 * len(rows)
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="840" height="{height}" viewBox="0 0 840 {height}" role="img" '
        'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif">',
        "<title>Decode attention on the CPU: liboscar beside llama.cpp and ik_llama.cpp</title>", *parts, "</svg>", ""])


def text(result):
    threads = max(r["threads"] for r in result["results"])
    rows = shown(result, threads)
    ours = {r["name"]: r for r in rows if r["name"].startswith(OURS)}
    rivals = {r["name"]: r for r in rows if not r["name"].startswith(OURS)}
    best = min(rivals.values(), key=lambda r: r["ms"])
    f16 = rivals["llama.cpp f16"]
    said = "; ".join(
        f"`{name.split(', ')[1]}` {r['ms']:.1f} ms, {f16['ms'] / r['ms']:.1f} times as fast as llama.cpp's f16 and "
        f"{best['ms'] / r['ms']:.1f} times as fast as the fastest rival type ({best['name']})" for name, r in ours.items())
    made = (f"32 query and 8 KV heads of 128, {threads} threads: {said}. Made by `bench/cpu.py decode` on {result['date']} "
            f"(commit {result['commit']}), {result['machine']}; {', '.join(result['rivals'])}. All in turns, medians of "
            f"{result['rounds']}; all contexts, one thread too: [bench/results](bench/results).")
    return "\n".join([*wrap(made), "", f"![the figures above, drawn]({PICTURE.relative_to(ROOT)})", ""])


if __name__ == "__main__":
    keep(FIGURES, PICTURE, text, picture)

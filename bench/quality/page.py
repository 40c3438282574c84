"""The figures of a run as one page, pictures inside."""

import html as escape

from . import plot, table
from .figures import ALL
from .roster import OURS

STYLE = """
body { font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; margin: 2rem auto;
  max-width: 1100px; padding: 0 1rem; color-scheme: light dark; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: 3px 9px; border-bottom: 1px solid #7b848e55; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
tr.ours td { color: #2f81f7; font-weight: 600; }
td.no { color: #c0392b; font-weight: 700; }
p { max-width: 75ch; }
"""


def html(figures):
    body = [f"<p>{_words(table.made(figures))}</p>"]
    labels = {arm["label"] for arm in figures["arms"].values() if arm["kind"] == OURS}
    shown = None
    for depth, title, note, cells in table.sections(figures):
        body.append(f"<h{depth}>{_words(title[0].upper() + title[1:])}</h{depth}>")
        if depth == 2 and cells is None:
            shown = next(exact for exact in figures["results"] if table.heading(figures, exact) == title)
            body += [f'<div class="wide">{picture}</div>' for picture in pictures(figures, shown)]
        if cells:
            body.append(_table(cells, labels))
        if note:
            body.append(f"<p>{_words(note)}</p>")
    return "\n".join(['<!doctype html>', '<html lang="en">', '<meta charset="utf-8">',
                      '<meta name="viewport" content="width=device-width">', "<title>liboscar: quality</title>",
                      f"<style>{STYLE}</style>", "<h1>Quality</h1>", *body, "</html>", ""])


def pictures(figures, exact):
    arms, levels = figures["arms"], figures["results"][exact]
    ours = lambda arm: arms[arm]["kind"] == OURS
    if "model" in levels:
        points = [(arms[a]["label"], arms[a]["code_bits"], got[ALL]["kl_mean"], ours(a))
                  for a, got in levels["model"].items()]
        yield plot.divergence(points, f"Mean KL divergence from exact attention, {exact} windows (lower is better)")
    if "recall" in levels:
        found = levels["recall"]
        groups = next(iter(found.values()))["needle"]["groups"]
        kept = sum(g["n_kept"] for g in groups.values())
        order = sorted(found, key=lambda a: (-arms[a]["code_bits"], a))
        rows = [(arms[a]["label"], ours(a), [g["right_of_kept"] for g in found[a]["needle"]["groups"].values()])
                for a in order]
        yield plot.heat_map(rows, [f"{float(depth):.0%}" for depth in groups],
                            f"Needles found, in percent, by depth in the document, {exact} windows",
                            f"of the {kept} needles that exact keys and values find; -: none at this depth")


def _words(text):
    return escape.escape(text).replace("**", "").replace("`", "")


def _table(cells, ours):
    head, *body = cells
    rows = ["<tr>" + "".join(f"<th>{_words(cell)}</th>" for cell in head) + "</tr>"]
    for row in body:
        kind = ' class="ours"' if row[0] in ours else ""
        inside = "".join('<td class="no">no</td>' if cell == "**no**" else f"<td>{_words(cell)}</td>" for cell in row)
        rows.append(f"<tr{kind}>{inside}</tr>")
    return '<div class="wide"><table>' + "\n".join(rows) + "</table></div>"

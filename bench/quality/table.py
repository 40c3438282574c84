"""The figures of a run as tables in Markdown."""

from .figures import ALL

LEVELS = {
    "model": "B. Model level: read in steps of at most {step} tokens, each token attends to the compressed past",
    "tensor": "A. Tensor level: captured queries, keys and values, all layers and KV heads",
    "recall": "D. Far back: items that exact keys and values answer",
    "free": "C. Free run: greedy answers from the arm's own past",
}


def rows(figures, exact, level):
    """[headings, row, row, ...] of strings."""
    arms = figures["arms"]
    found = figures["results"][exact][level]
    order = sorted(found, key=lambda arm: (-arms[arm]["code_bits"], arm))
    lead = lambda arm: [arms[arm]["label"], f"{arms[arm]['code_bits']:.2f}"]
    return [["", "code bits", *HEADINGS[level]]] + [lead(a) + CELLS[level](figures, exact, a, found[a]) for a in order]


def _share(part):
    return "-" if part["right_of_kept"] is None else f"{part['right_of_kept']:.0%}"


def _model(figures, exact, arm, by_text):
    got = by_text[ALL]
    low, high = got["kl_interval"]
    others = [f"{part['kl_mean']:.4f}" for name, part in by_text.items() if name != ALL]
    return [f"{figures['arms'][arm]['total_bits'][exact]:.2f}", f"{got['kl_mean']:.4f}", f"{low:.4f} to {high:.4f}",
            f"{got['kl_median']:.4f}", f"{got['kl_p99']:.3f}", f"{got['kl_p999']:.2f}", f"{got['top1']:.1%}",
            f"{got['delta_nll']:+.4f}", f"{got['kl_ratio']:.3f}" if "kl_ratio" in got else "-", " / ".join(others)]


def _tensor(figures, exact, arm, got):
    spread = lambda name: f"{got[name]['median']:.3f}" if name in got else "-"
    error = got["error"]
    return [f"{error['median']:.3f}", f"{error['p95']:.3f}", f"{error['max']:.3f}", f"{got['db']:.1f}",
            spread("logit_rmse"), f"{got['kl']['mean']:.4f}" if "kl" in got else "-", spread("mass_ratio"),
            f"{got['n_pairs_worse_than_oscar']} of {got['n_pairs']}" if "n_pairs_worse_than_oscar" in got else "-"]


def _recall(figures, exact, arm, got):
    return [_share(got[kind]) for kind in ("copy", "needle", "pair")] + [
        ", ".join(f"{_share(part)} at {distance}" for distance, part in got["copy"]["groups"].items())]


def _free(figures, exact, arm, got):
    return [f"{got['first_divergence_mean']:.0f}", f"{got['first_divergence_median']:.0f}", f"{got['identical']:.0%}",
            f"{got['repetition']:.1%}", f"{got['kl_mean']:.4f}"]


HEADINGS = {
    "model": ["total bits", "KLD mean", "95 %", "median", "P99", "P99.9", "same top-1", "delta NLL", "of OSCAR's KLD",
              "KLD by text"],
    "tensor": ["error median", "P95", "max", "dB", "logit RMSE", "attention KL", "mass ratio", "worse than OSCAR"],
    "recall": ["copies", "needles", "pairs", "copies by distance"],
    "free": ["first difference, mean", "median", "same to the end", "repetition", "KLD along"],
}
CELLS = {"model": _model, "tensor": _tensor, "recall": _recall, "free": _free}


def notes(figures, exact, level):
    """What a table counts."""
    s, found = figures["settings"], figures["results"][exact][level]
    some = next(iter(found.values()))
    if level == "model":
        texts, some = ", ".join(name for name in some if name != ALL), some[ALL]
        drawn = "windows" if some["n_windows"] >= 6 else "blocks of 128 tokens, since windows are few"
        return (f"{s['windows']} window(s) of {s['tokens']} tokens of each text ({texts}); {some['n_tokens']} tokens "
                f"count, those of a window from {s['first']} on. KLD in nats, from exact keys and values. Intervals: "
                f"bootstrap over {drawn}. Total bits are those of all {s['tokens']} tokens, exact ones at 16.")
    if level == "tensor":
        return (f"{some['n_pairs']} (text, layer, KV head) triples of one window of {s['tokens']} tokens a text. "
                "Error: of the attention output, relative. Logits, KL and mass make no sense where tokens are gone. "
                "Last column: triples whose P95 error over queries is above that of OSCAR as published.")
    if level == "recall":
        kept = {kind: f"{some[kind]['n_kept']} of {some[kind]['n_items']}" for kind in ("copy", "needle", "pair")}
        return (f"{s['documents']} document(s) of about {s['document_tokens']} tokens. Of the items, exact keys and "
                f"values answer, and only these count: copied tokens {kept['copy']}, needles {kept['needle']}, pairs "
                f"{kept['pair']}.")
    return (f"{some['n_prompts']} prompts of {s['prompt_tokens']} tokens, {some['n_tokens']} tokens each. First "
            f"difference: from the exact arm's choice after the same tokens; {some['n_tokens']} where there is none. "
            "KLD: along the arm's own path.")


def heading(figures, exact):
    w = figures["exact_windows"][exact]
    return f"{exact} windows: {w['n_sink']} sinks and the {w['n_recent']} newest tokens exact"


def made(figures):
    s = figures["settings"]
    calibrated = ", ".join(f"{name} {fingerprint}" for name, fingerprint in figures["calibrations"].items())
    calibrated = f"Calibrations of liboscar, by fingerprint: {calibrated}. " if calibrated else ""
    note = f"{figures['note']} " if figures["note"] else ""
    rival = ""
    if s["rival_tokens"]:
        rival = (f"OSCAR as published is calibrated on {s['rival_windows'] * s['rival_tokens']} tokens of "
                 f"{s['rival_calibration']}. ")
    return (f"Made by `bench/quality/run.py` on {figures['date']}, commit {figures['commit']}: liboscar "
            f"{figures['version']} ({figures['backend']}), Python {figures['python']}, numpy {figures['numpy']}, "
            f"{figures['processor']}, one thread. Model: {figures['model']}. Tokens that wait for their block are "
            f"exact in every arm, and all arms have the same exact tokens at every position. {calibrated}{note}{rival}"
            "The protocol wants at least 6 windows of 4,096 tokens: judge the figures by the counts under each table.")


def gate_rows(figures):
    out = [["arm", "windows", "text", "promise", "limit", "got", "met"]]
    for g in figures["gates"]:
        sign = ">=" if g["at_least"] else "<="
        out.append([g["arm"], g["windows"], g["text"], g["promise"], f"{sign} {g['limit']:g}", f"{g['got']:.4g}",
                    "yes" if g["met"] else "**no**"])
    return out


def _lines(cells):
    head, *body = cells
    align = ["---"] + ["---:"] * (len(head) - 1)
    return ["| " + " | ".join(row) + " |" for row in (head, align, *body)]


def sections(figures):
    """(depth, heading, note, rows) one after the other."""
    for exact, levels in figures["results"].items():
        yield 2, heading(figures, exact), "", None
        for level, title in LEVELS.items():
            if level in levels:
                title = title.format(step=figures["settings"]["step_tokens"])
                yield 3, title, notes(figures, exact, level), rows(figures, exact, level)
    if figures["gates"]:
        yield 2, "Gates", "", gate_rows(figures)


def markdown(figures):
    lines = ["# Quality", "", made(figures), ""]
    for depth, title, note, cells in sections(figures):
        lines += [f"{'#' * depth} {title[0].upper()}{title[1:]}", ""]
        if cells:
            lines += [*_lines(cells), ""]
        if note:
            lines += [note, ""]
    return "\n".join(lines[:-1]) + "\n"

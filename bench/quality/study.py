#!/usr/bin/env python3
"""Tables at level B: what each ingredient of the 2-bit profile is worth (ablation), which exact windows are worth their
bytes (frontier), and what can be had without a calibration (uncalibrated). Stopped, it goes on where it stood.
bench/quality/README.md says more."""

import functools
import itertools
import json
import os
import pathlib
import sys

# Read when numpy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import numpy as np
import oscar
from oscar.evaluate import Windows
from quality import plan, text
from quality.store import Store
from quality.variant import CONTEXTS, Calibrations, Variant, measure
from rich.console import Console
from rich.progress import track
from smollm2 import model as smollm2_model, provenance
from smollm2.tokenizer import Tokenizer

console = Console(highlight=False)
CALIBRATION_WINDOW = 2048


def progress(words):
    return functools.partial(track, description=f"{words[:60]:60}", console=console)


def ablation(made):
    """made: Calibrations. The first variant is the whole; each of the others differs in one thing."""
    whole = made.make()
    refined = lambda n: {"n_refined": n}
    yield Variant("2bit, calibrated", calibration=whole)
    yield Variant("calibrated on 2,048 tokens", calibration=made.make(2048))
    yield Variant("calibrated on 256 tokens", calibration=made.make(260))
    yield Variant("by itself, on 256 tokens", n_collected=256)
    yield Variant("averaged over 131,072 positions", calibration=made.make(n_positions=131072))
    yield Variant("averaged over 2,048 positions", calibration=made.make(n_positions=2048))
    yield Variant("256 tokens, not told of RoPE", calibration=made.make(260, turns=False))
    yield Variant("values in the Hadamard basis", calibration=made.make(value_basis=oscar.ValueBasis.HADAMARD))
    yield Variant("plain rounding", calibration=whole, settings={"writer": oscar.Writer.PLAIN})
    yield Variant("no token refined", calibration=whole, settings=refined(0))
    yield Variant("8 of 128 refined", calibration=whole, settings=refined(8))
    yield Variant("16 of 128 refined", calibration=whole, settings=refined(16))
    yield Variant("4 of 128 refined, keys only", calibration=whole, settings={"refined_value_bits": 2})
    yield Variant("4 of 128 refined, values only", calibration=whole, settings={"refined_key_bits": 2})
    yield Variant("data-free")
    yield Variant("data-free, no token refined", settings=refined(0))


def frontier(made):
    calibration = made.make()
    for profile, n_refined, windows in (
        *itertools.product(("2bit",), (None,), ((4, 32), (16, 64), (16, 128), (64, 256))),
        *itertools.product(("2bit",), (16, 32), ((4, 32), (16, 128))),
        *itertools.product(("3bit", "4bit"), (None,), ((4, 32), (16, 128))),
    ):
        settings = {"n_refined": n_refined} if n_refined else {}
        name = f"{profile}, {n_refined} refined" if n_refined else profile
        name = f"{name}, {windows[0]} + {windows[1]}"
        yield Variant(name, profile, Windows(*windows), calibration, settings=settings)


def uncalibrated(made):
    """Of models of which nothing is known, but for the last."""
    refined = lambda n, key_bits, value_bits: {
        "n_refined": n, "refined_key_bits": key_bits, "refined_value_bits": value_bits}
    yield Variant("2bit, data-free")
    yield Variant("7 of 128 refined, keys to 4 and values to 3 bits", settings=refined(7, 4, 3))
    yield Variant("8 of 128 refined, to 3 bits", settings=refined(8, 3, 3))
    yield Variant("by itself, on 256 tokens, not told of RoPE", n_collected=256, turns=False)
    yield Variant("by itself, on 256 tokens", n_collected=256)


STUDIES = {"ablation": ablation, "frontier": frontier, "uncalibrated": uncalibrated}


def rows(model, variants, found):
    """Dictionaries, one a variant; the ratio is to the first one."""
    whole = np.concatenate(sum(found[variants[0].name], []))
    out = []
    for v in variants:
        block_bits, total_bits = v.bits(model)
        kl = np.concatenate(sum(found[v.name], []))
        by_text = [float(np.concatenate(windows).mean()) for windows in found[v.name]]
        out.append({"variant": v.name, "block_bits": block_bits, "total_bits": total_bits, "kl_mean": float(kl.mean()),
                    "kl_p99": float(np.percentile(kl, 99)), "ratio": float(kl.mean() / whole.mean()), "kl_by_text": by_text})
    return out


def on_frontier(found, context):
    """Names of the variants that no other one beats in both bytes and divergence."""
    better = lambda a, b: (a["total_bits"][context] <= b["total_bits"][context] and a["kl_mean"] < b["kl_mean"])
    return {row["variant"] for row in found if not any(better(other, row) for other in found if other is not row)}


def markdown(study, result):
    found = result["rows"]
    head = ["", "bits of packed tokens", *(f"all bits at {c >> 10}K" for c in CONTEXTS), "KLD mean", "P99", "ratio", "by text"]
    on = {context: on_frontier(found, context) for context in CONTEXTS} if study == "frontier" else {}
    mark = lambda row, c: f"{row['total_bits'][c]:.2f}" + ("\\*" if row["variant"] in on.get(c, ()) else "")
    cells = [[row["variant"], f"{row['block_bits']:.2f}", *(mark(row, c) for c in CONTEXTS), f"{row['kl_mean']:.4f}",
              f"{row['kl_p99']:.3f}", f"{row['ratio']:.2f}", " / ".join(f"{x:.4f}" for x in row["kl_by_text"])]
             for row in found]
    lines = [f"# Quality: {study}", "", result["made"], ""]
    for row in (head, ["---"] + ["---:"] * (len(head) - 1), *cells):
        lines.append("| " + " | ".join(row) + " |")
    if on:
        lines += ["", "\\*: no other row has both fewer bits at that context and less divergence."]
    return "\n".join(lines) + "\n"


def options():
    p = plan.parser()
    p.description = __doc__
    p.add_argument("study", choices=STUDIES)
    p.set_defaults(arms=None)  # here: profiles
    p.add_argument("--calibration-text", nargs="+", metavar="FILE",
                   default=[str(plan.BUNDLED / name) for name in plan.RIVAL_TEXTS])
    p.add_argument("--calibration-windows", type=int, default=3, metavar="N", help="of 2,048 tokens each (default: 3)")
    return plan.completed(p, p.parse_args())


def main():
    given = options()
    reader, model = smollm2_model.load(progress("loading the model"))
    tokenizer = Tokenizer(reader)
    texts = plan.Texts.read(given, tokenizer)
    n = given.calibration_windows * CALIBRATION_WINDOW
    ids = text.tokens(tokenizer, given.calibration_text, n)
    made = Calibrations(model, text.windows(ids, given.calibration_windows, CALIBRATION_WINDOW), progress)
    variants = [v for v in STUDIES[given.study](made) if not given.arms or v.profile in given.arms]
    settings = {"texts": texts.digest(), "step_tokens": given.step_tokens, "tokens": given.tokens}
    given_one = [v.calibration for v in variants if v.calibration]
    calibration = {"fingerprint": f"{given_one[0].info().fingerprint:016x}" if given_one else "none"}
    store = Store(given.store, {"exact": settings, "variant": settings | calibration}, provenance.collect)
    found = rows(model, variants, measure(model, texts, variants, given, store, progress))
    origin = store.provenance()
    counted = ", ".join(f"{len(w)} window(s) of {given.tokens} tokens of {name}" for name, w in texts.windows.items())
    names = ", ".join(pathlib.Path(file).name for file in given.calibration_text)
    words = (f"Made by `bench/quality/study.py {given.study}` on {origin['date']} (commit {origin['commit']}): liboscar "
             f"{origin['version']}, {origin['backend']}, SmolLM2-135M-Instruct. {counted}; tokens from {given.first} on "
             f"count. {f'Calibrated on {n} tokens of {names}. ' if given_one else ''}KLD in nats, from exact keys and "
             f"values; ratio: to the first row. All bits count exact tokens too.")
    result = origin | {"study": given.study, "made": words, "rows": found}
    page = markdown(given.study, result)
    if given.json:
        given.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if given.markdown:
        given.markdown.write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()

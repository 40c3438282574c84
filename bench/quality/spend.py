#!/usr/bin/env python3
"""Spends a budget of bits over the layers of a model: each layer gets the profile that the measured errors of attention
justify. Prints the settings of oscar.LayerConfig, layer by layer, and what they cost.

The errors are those of level A (bench/quality/README.md), of queries, keys and values that a model has computed for a
text; with --check, level B then compares the result with the same profile for all layers.
"""

import argparse
import functools
import json
import os
import pathlib
import sys

# Read when numpy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import numpy as np
import oscar
from oscar.evaluate import WINDOWS, Library, read_exactly, teacher, tensor
from quality import plan, text
from quality.budget import FIELDS, PROFILES, block_bits, layers_of, spend
from rich.console import Console
from rich.progress import track
from smollm2 import model as smollm2_model, provenance
from smollm2.tokenizer import Tokenizer

console = Console(highlight=False)


def progress(words):
    return functools.partial(track, description=f"{words[:60]:60}", console=console)


def layer_errors(capture, calibration, given):
    """Squared relative error of the attention's output, a mean over KV heads: [n_layers, n_profiles]."""
    errors = []
    for profile in PROFILES:
        arm = Library(profile, calibration)(capture, WINDOWS["stress"], capture.n_tokens, given.step_tokens)
        found = tensor.measure(capture, arm, WINDOWS["stress"], given.step_tokens, given.first, progress(profile))
        arm.close()
        errors.append((found["error"].sum(-1) / found["norm"].sum(-1)).mean(-1))
    return np.stack(errors, 1)


def compare(model, tokens, hidden, layers, calibration, given):
    """Mean KL divergence with these layers, and with each profile for all of them."""
    makers = {p: Library(p, calibration) for p in PROFILES}
    makers["budget"] = Library("2bit", calibration, settings={"layers": layers})
    arms = {p: make(model, WINDOWS["stress"], len(tokens), given.step_tokens) for p, make in makers.items()}
    found, _ = teacher.compare(model, tokens, hidden, arms, given.step_tokens, progress("level B"))
    for arm in arms.values():
        arm.close()
    return {name: float(arrays["kl"][given.first :].mean()) for name, arrays in found.items()}


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("bits", type=float, help="of packed tokens, a mean over layers, e.g. 2.66")
    p.add_argument("--text", default=str(plan.BUNDLED / "persuasion.txt"), metavar="FILE", help="what errors come from")
    p.add_argument("--check", metavar="FILE", help="another text, for level B")
    p.add_argument("--calibration", metavar="FILE", help="a calibration file (default: data-free)")
    p.add_argument("--tokens", type=int, default=1024, metavar="N")
    p.add_argument("--first", type=int, default=512, metavar="N", help="tokens before this one do not count")
    p.add_argument("--json", type=pathlib.Path, metavar="FILE")
    given = p.parse_args()
    given.step_tokens = 32
    return given


def main():
    given = options()
    calibration = oscar.Calibration.load(pathlib.Path(given.calibration).read_bytes()) if given.calibration else None
    reader, model = smollm2_model.load(progress("loading the model"))
    tokenizer = Tokenizer(reader)
    read = lambda source: text.windows(text.tokens(tokenizer, [source], given.tokens), 1, given.tokens)[0]
    _, capture = read_exactly(model, read(given.text), given.step_tokens, True, progress("reading the text"))
    errors = layer_errors(capture, calibration, given)
    bits = np.array([block_bits(model, layers=layers_of([p] * model.n_layers)) for p in PROFILES])
    chosen = spend(errors, bits, given.bits)
    names = [PROFILES[i] for i in chosen]
    layers = layers_of(names)
    result = {**provenance.collect(), "tokens": given.tokens, "first": given.first, "text": pathlib.Path(given.text).name,
              "check": given.check and pathlib.Path(given.check).name, "bits": block_bits(model, layers=layers),
              "profiles": names,
              "error": float(errors[np.arange(len(chosen)), chosen].mean()),
              "error_of_profiles": dict(zip(PROFILES, errors.mean(0).tolist())),
              "bits_of_profiles": dict(zip(PROFILES, bits.tolist())),
              "layers": [{field: getattr(layer, field) for field in FIELDS} for layer in layers]}
    if given.check:
        tokens = read(given.check)
        hidden, _ = read_exactly(model, tokens, given.step_tokens, False, progress("exact"))
        result["kl_mean"] = compare(model, tokens, hidden, layers, calibration, given)
    for i, name in enumerate(names):
        print(f"layer {i}: {name}")
    print(json.dumps({k: v for k, v in result.items() if k not in ("layers", "profiles")}, indent=1))
    if given.json:
        given.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

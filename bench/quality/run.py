#!/usr/bin/env python3
"""Measures how far compressed caches move SmolLM2 from exact keys and values, and writes one table.

The full protocol takes a night on a CPU; stopped, it goes on where it stood. bench/quality/README.md says more.
"""

import functools
import json
import os
import pathlib
import sys

# Read when numpy is imported. One thread: more of them gain little on a small model, and lose much on a busy machine.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import numpy as np
from oscar.evaluate import Capture
from quality import plan, table, text
from quality.figures import Figures
from quality.levels import Levels
from quality.roster import EXACT, roster
from quality.store import Store
from rich.console import Console
from rich.progress import track
from smollm2 import model as smollm2_model, provenance
from smollm2.tokenizer import Tokenizer

MODEL = "SmolLM2-135M-Instruct"
console = Console(highlight=False)


def progress(words):
    return functools.partial(track, description=f"{words[:60]:60}", console=console)


def origin(model):
    return lambda: provenance.collect() | {"model": model}


def chosen(entries, names):
    unknown = set(names or ()) - set(entries)
    if unknown:
        raise SystemExit(f"error: no arms {', '.join(sorted(unknown))}; there are {', '.join(entries)}")
    return [entry for name, entry in entries.items() if name == EXACT or not names or name in names]


def on_model(given):
    """All levels, with SmolLM2."""
    reader, model = smollm2_model.load(progress(f"loading {MODEL}"))
    tokenizer = Tokenizer(reader)
    texts = plan.Texts.read(given, tokenizer)
    loaded = plan.calibrations(given)
    settings = plan.settings(given, texts.digest(), loaded)
    store = Store(given.store, settings, origin(MODEL))
    levels = Levels(given, store, progress)

    def rival_windows():
        ids = text.tokens(tokenizer, given.rival_calibration, given.rival_windows * given.rival_tokens)
        return text.windows(ids, given.rival_windows, given.rival_tokens)

    entries = roster(model, levels.rotations(model, rival_windows), loaded, given.self_tokens)
    arms = chosen(entries, given.arms)
    compared = [entry for entry in arms if entry.name != EXACT]
    docs = levels.documents(tokenizer, texts) if "D" in given.levels else None
    if {"A", "B"} & set(given.levels):
        levels.exact(model, texts)
    for exact in given.exact:
        if "B" in given.levels:
            levels.model(exact, compared, model, texts)
        if "A" in given.levels:
            levels.tensor(exact, compared, levels.stored_captures(texts))
        if "D" in given.levels:
            levels.recall(exact, arms, model, docs)
        if "C" in given.levels:
            levels.free(exact, chosen(entries, given.free_arms or given.arms), entries[EXACT], model, texts)
    counts = {name: len(windows) for name, windows in texts.windows.items()}
    return Figures(given, store, entries, counts, docs), settings


def read_capture(path):
    try:
        return Capture.load(path)
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from None


def on_capture(given):
    """Level A, with tensors of any model."""
    capture = read_capture(given.captured)
    given.tokens = capture.n_tokens
    loaded = plan.calibrations(given)
    name = pathlib.Path(given.captured).stem
    given.rival_windows, given.rival_tokens, given.rival_calibration = 0, 0, []
    if given.captured_calibration:
        other = read_capture(given.captured_calibration)
        given.rival_windows, given.rival_tokens = 1, other.n_tokens
        given.rival_calibration = [given.captured_calibration]
    settings = plan.settings(given, {name: list(capture.q.shape)}, loaded)
    store = Store(given.store, settings, origin(f"captured tensors, {name}"))
    levels = Levels(given, store, progress)
    rotations = None
    if given.captured_calibration:
        rotations = levels.rotations(other, lambda: np.zeros((1, other.n_tokens), int))
    entries = roster(capture, rotations, loaded)
    compared = [entry for entry in chosen(entries, given.arms) if entry.name != EXACT]
    for exact in given.exact:
        levels.tensor(exact, compared, {name: lambda: capture})
    return Figures(given, store, entries, {name: 1}, None), settings


def main():
    given = plan.options()
    figures, settings = (on_capture if given.captured else on_model)(given)
    found = figures.collect(settings)
    markdown = table.markdown(found)
    for path, words in (
        (given.json, json.dumps(found, indent=1) + "\n"),
        (given.markdown, markdown),
    ):
        if path:
            path.write_text(words, encoding="utf-8")
    print(markdown)


if __name__ == "__main__":
    main()

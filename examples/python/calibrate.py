#!/usr/bin/env python3
"""Calibrates liboscar for SmolLM2-135M-Instruct on texts, and writes a file for the demo's --calibration or for
oscar.Calibration.load. scripts/demo installs all it needs."""

import argparse
import functools
import os
import pathlib
import sys
import time

# Read when numpy is imported. One thread: more of them gain little on a small model, and lose much on a busy machine.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import oscar
from rich.progress import track

from smollm2 import calibrate, model as smollm2_model
from smollm2.tokenizer import Tokenizer

TEXTS = pathlib.Path(__file__).parent / "text"
progress = lambda text: functools.partial(track, description=f"{text:42}")


def options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=pathlib.Path, help="the calibration file to write")
    parser.add_argument("--text", type=pathlib.Path, nargs="+", metavar="FILE",
                        default=[TEXTS / "persuasion.txt", TEXTS / "opticks.txt"],
                        help="what the model reads (default: the bundled texts but the one that the demo measures on)")
    parser.add_argument("--tokens", type=int, default=8192, metavar="N", help="of the texts together (default: 8192)")
    parser.add_argument("--positions", type=int, default=0, metavar="N",
                        help="the longest context to be served (default: the model's)")
    parser.add_argument("--value-basis", choices=[b.name.lower() for b in oscar.ValueBasis], default="balanced",
                        help="of the values: none of their own, or one that balances their directions (the default)")
    return parser.parse_args()


def main():
    given = options()
    try:
        texts = [path.read_text(encoding="utf-8", errors="replace") for path in given.text]
    except OSError as error:
        raise SystemExit(f"error: --text {error.filename}: {error.strerror}") from None
    reader, model = smollm2_model.load(progress("loading SmolLM2-135M-Instruct"))
    sequences = calibrate.windows(Tokenizer(reader), texts, given.tokens)
    started = time.monotonic()
    try:
        calibration = calibrate.calibrate(model, sequences, given.positions, progress("reading the texts"),
                                          value_basis=oscar.ValueBasis[given.value_basis.upper()])
    except oscar.Error as error:
        raise SystemExit(f"error: {error}") from None
    seconds = time.monotonic() - started
    data = calibration.save()
    given.file.write_bytes(data)
    print(f"{given.file}: {len(data)} bytes, from {sum(map(len, sequences))} tokens in {seconds:.0f} s, "
          f"fingerprint {calibration.info().fingerprint:016x}")


if __name__ == "__main__":
    sys.exit(main())

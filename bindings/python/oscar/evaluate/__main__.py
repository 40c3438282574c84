"""Level A of captured tensors, as a table: python -m oscar.evaluate FILE"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
from typing import Any

import numpy as np

from ..calibration import Calibration
from ..config import SelfCalibration
from ..errors import Error
from ..report import check, version
from ..types import RopePairing
from . import levels
from .arm import Library, Shape
from .capture import Capture
from .windows import WINDOWS

PROFILES = ("2bit", "3bit", "4bit", "8bit")


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python -m oscar.evaluate", description=__doc__)
    add = p.add_argument
    add("file", nargs="+", help=".npz or .safetensors with q [n_layers, n_tokens, n_q_heads, head_dim], k and v")
    add("--profile", nargs="+", default=list(PROFILES), metavar="NAME", help=f"default: {' '.join(PROFILES)}")
    add("--calibration", metavar="FILE", help="of oscar.Calibration.save: the profiles once more, calibrated")
    add("--rope-theta", type=float, metavar="X", help="the profiles once more, calibrated by themselves on 256 tokens")
    add("--rope-pairing", choices=[p.name.lower() for p in RopePairing], default="half")
    add("--exact", choices=WINDOWS, default="stress", help="tokens that are exact in all arms")
    add("--first", type=int, default=levels.FIRST, metavar="N", help="queries before this one do not count")
    add("--json", type=pathlib.Path, metavar="FILE")
    return p


def arms(given: argparse.Namespace, head_dim: int) -> dict[str, Library]:
    found = {name: Library(name) for name in given.profile}
    if given.calibration:
        calibration = Calibration.load(pathlib.Path(given.calibration).read_bytes())
        found |= {f"{name}, calibrated": Library(name, calibration) for name in given.profile}
    if given.rope_theta:
        frequencies = np.float32(given.rope_theta ** (-np.arange(0, head_dim, 2) / head_dim))
        own = SelfCalibration(frequencies, RopePairing[given.rope_pairing.upper()])
        found |= {f"{name}, by itself": Library(name, self_calibrate=own) for name in given.profile}
    return found


def bits(arm: Library, shape: Shape) -> float:
    """Of an element of a packed token."""
    report = check(arm.config(shape, WINDOWS["stress"], 8192, 32), 8192)
    if not report.served:
        raise ValueError(f"profile {arm.profile}: {report.reason}")
    return report.block_bits_per_element


def table(found: dict[str, dict[str, Any]]) -> str:
    head = f"{'':28}{'bits':>7}{'error':>9}{'P95':>8}{'max':>8}{'dB':>7}{'KL':>9}"
    lines = [head]
    for name, got in found.items():
        error = got["error"]
        lines.append(
            f"{name:28}{got['bits']:7.2f}{error['median']:9.4f}{error['p95']:8.4f}{error['max']:8.4f}"
            f"{got['db']:7.1f}{got['kl']['mean']:9.4f}"
        )
    return "\n".join(lines)


def main() -> None:
    given = parser().parse_args()
    try:
        captures = [Capture.load(path) for path in given.file]
        made = arms(given, captures[0].head_dim)
        counted = {name: bits(arm, captures[0]) for name, arm in made.items()}
        found = levels.tensors(captures, made, windows=WINDOWS[given.exact], first=given.first)
    except (Error, OSError, ValueError, ModuleNotFoundError) as error:
        sys.exit(f"error: {error}")
    found = {name: {"bits": counted[name]} | got for name, got in found.items()}
    first = captures[0]
    print(
        f"liboscar {version()}; {len(captures)} text(s), {first.n_layers} layers of {first.n_q_heads}/{first.n_kv_heads} "
        f"heads of {first.head_dim}, {given.exact} windows, queries from {given.first} on.\n"
        "error: of attention's output, relative; median, P95 and max over layers and KV heads. KL: of attention, nats."
    )
    print(table(found))
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

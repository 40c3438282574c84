"""What a run is asked to do: its options, and the texts and arms that they name."""

import argparse
import dataclasses
import hashlib
import pathlib

import numpy as np
import oscar
from oscar.evaluate import WINDOWS

from . import text

LEVELS = {"A": "tensor", "B": "model", "C": "free", "D": "recall"}
BUNDLED = pathlib.Path(__file__).resolve().parents[2] / "examples" / "python" / "text"
RIVAL_TEXTS = ("persuasion.txt", "opticks.txt")


def pair(given):
    name, equals, value = given.partition("=")
    if not equals or not name or not value:
        raise argparse.ArgumentTypeError(f"{given!r}, wanted NAME=FILE")
    return name, value


def parser():
    p = argparse.ArgumentParser(prog="python bench/quality/run.py", description=__doc__)
    add = p.add_argument
    add("--levels", nargs="+", choices=LEVELS, default=list("ABCD"), help="A tensors, B model, C free run, D recall")
    add("--exact", nargs="+", choices=WINDOWS, default=["stress"], help="exact windows (default: stress)")
    add("--text", type=pair, action="append", metavar="NAME=FILE",
        help='texts to read; FILE "python" is the standard library\'s source (default: a bundled book, and that)')
    add("--windows", type=int, default=1, metavar="N", help="windows of each text (default: 1)")
    add("--tokens", type=int, default=2048, metavar="N", help="tokens of a window (default: 2048)")
    add("--first", type=int, default=512, metavar="N", help="tokens before this one do not count (default: 512)")
    add("--step-tokens", type=int, default=32, metavar="N", help="tokens of a step, at most 32 (default: 32)")
    add("--arms", nargs="+", metavar="ARM", help="default: all")
    add("--free-arms", nargs="+", metavar="ARM", help="arms of level C (default: those of --arms)")
    add("--calibration", type=pair, action="append", default=[], metavar="NAME=FILE",
        help='calibration files of liboscar; the name "calibrated" has gates')
    add("--self-tokens", type=int, default=256, metavar="N",
        help="of a sequence, that a cache calibrates itself from, in the arms +self; 0: no such arms (default: 256)")
    add("--rival-calibration", nargs="+", metavar="FILE", default=[str(BUNDLED / name) for name in RIVAL_TEXTS],
        help="texts, joined, that OSCAR as published calibrates on (default: two bundled books, 6,144 tokens)")
    add("--rival-windows", type=int, default=2, metavar="N", help="windows of that text (default: 2)")
    add("--rival-tokens", type=int, default=3072, metavar="N", help="tokens of such a window (default: 3072)")
    add("--captured", metavar="FILE",
        help="level A alone, on an .npz with q [n_layers, n_tokens, n_q_heads, d], k and v")
    add("--captured-calibration", metavar="FILE", help="another such file, that OSCAR as published calibrates on")
    add("--prompts", type=int, default=8, metavar="N", help="of level C (protocol: 64)")
    add("--prompt-tokens", type=int, default=512, metavar="N")
    add("--answer-tokens", type=int, default=128, metavar="N", help="of level C (protocol: 256)")
    add("--documents", type=int, default=1, metavar="N", help="of level D; their filler is the first text's")
    add("--document-tokens", type=int, default=2200, metavar="N")
    add("--distances", type=int, nargs="+", default=[2000, 1000], metavar="N", help="copies of level D")
    add("--group", type=int, default=8, metavar="N", help="arms that read together, so that weights are read once")
    add("--store", type=pathlib.Path, default=pathlib.Path("build/quality"), metavar="DIR",
        help="where finished parts are kept; the same command goes on from there (default: build/quality)")
    add("--note", default="", metavar="TEXT", help="words for the report, e.g. what a calibration was made from")
    for kind in ("json", "markdown"):
        add(f"--{kind}", type=pathlib.Path, metavar="FILE")
    return p


def options(arguments=None):
    p = parser()
    return completed(p, p.parse_args(arguments))


def completed(p, given):
    """What the parser p has read, checked, with its defaults."""
    if not 1 <= given.step_tokens <= 32:
        p.error(f"--step-tokens is {given.step_tokens}, wanted 1 to 32: a bigger step attends to itself exactly")
    if given.first >= given.tokens:
        p.error(f"--first is {given.first}, wanted less than the {given.tokens} tokens of a window")
    if any(name == "self" for name, _ in given.calibration):
        p.error("--calibration self=...: arms +self calibrate themselves, wanted another name")
    if given.captured:
        given.levels = ["A"]
    given.text = dict(given.text or [("book", str(BUNDLED / "pride-and-prejudice.txt")),
                                     ("python", text.STANDARD_LIBRARY)])
    given.calibration = dict(given.calibration)
    return given


@dataclasses.dataclass
class Texts:
    windows: dict  # {name: token ids [n_windows, n_tokens]}
    ids: dict  # {name: all token ids}

    @classmethod
    def read(cls, given, tokenizer):
        ids = {name: text.tokens(tokenizer, [source], given.tokens) for name, source in given.text.items()}
        return cls({name: text.windows(x, given.windows, given.tokens) for name, x in ids.items()}, ids)

    def prompts(self, n_prompts, n_tokens):
        """Taken from all texts by turns."""
        per_text = -(-n_prompts // len(self.ids))
        cut = [text.windows(ids, per_text, n_tokens) for ids in self.ids.values()]
        return np.stack(cut, 1).reshape(-1, n_tokens)[:n_prompts]

    def digest(self):
        return {name: hashlib.sha256(np.int32(x).tobytes()).hexdigest()[:16] for name, x in self.windows.items()}


def calibrations(given):
    """{name: oscar.Calibration}"""
    return {name: oscar.Calibration.load(pathlib.Path(file).read_bytes()) for name, file in given.calibration.items()}


def settings(given, digest, loaded):
    """What finished parts depend on, by level; a calibration is one, since an arm is named after it."""
    pick = lambda *names: {name: getattr(given, name) for name in names}
    common = {
        **pick("step_tokens"),
        "texts": digest,
        "version": oscar.version(),
    }
    read = common | pick("tokens", "windows")
    names = " and ".join(pathlib.Path(file).name for file in given.rival_calibration)
    rival = {"rival_calibration": names} | pick("rival_windows", "rival_tokens")
    fingerprint = lambda calibration: {"fingerprint": f"{calibration.info().fingerprint:016x}"}
    calibrations = {f"calibration-{name}": fingerprint(calibration) for name, calibration in loaded.items()}
    if given.self_tokens and not given.captured:
        calibrations["calibration-self"] = {"fingerprint": f"from its own first {given.self_tokens} tokens"}
    return calibrations | {
        "rotations": rival,
        "exact": read,
        "capture": read,
        "tensor": read | rival | pick("first"),
        "model": read | rival,
        "free": common | rival | pick("prompts", "prompt_tokens", "answer_tokens"),
        "recall": common | rival | pick("documents", "document_tokens", "distances"),
    }

"""All arms by name: what they are, what they cost, how to make one."""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
import oscar
from oscar.evaluate import WINDOWS, Library, NumpyArm

from .eviction import H2O, SlidingWindow, SnapKV, StreamingLLM
from .quantizer import Fp8, HadamardMinMax, Kivi, PublishedOscar, TurboQuant

EXACT, OURS, RIVAL = "exact", "ours", "rival"
PROFILES = ("2bit-plain", "2bit", "k3v2", "3bit", "4bit", "8bit")
CALIBRATED_PROFILES = ("2bit", "3bit", "4bit")
SELF = "self"  # the calibration of arms that calibrate themselves


@dataclasses.dataclass(frozen=True)
class Entry:
    name: str
    label: str
    kind: str  # EXACT, OURS or RIVAL
    code_bits: float  # of an element of a packed token, all stored bits counted
    make: Callable  # (windows, max_tokens, max_step_tokens) -> arm
    drops_tokens: bool = False


def library_bits(shape, library):
    """Of packed tokens: codes, scales, means and ids, as liboscar itself counts them; library: oscar.evaluate.Library."""
    report = oscar.check(library.config(shape, WINDOWS["stress"], 8192, 32), 8192)
    if not report.served:
        raise SystemExit(f"error: profile {library.profile}: {report.reason}")
    return report.block_bits_per_element


def library_entry(shape, library, name, label, kind=OURS):
    bits = 16.0 if kind == EXACT else library_bits(shape, library)
    return Entry(name, label, kind, bits, functools.partial(library, shape))


def self_calibration(model, turns=True):
    """What a cache that calibrates itself is told; model: a shape, with rope_frequency and max_tokens; turns: whether it
    is told of RoPE."""
    frequencies = np.float32(model.rope_frequency) * np.float32(turns)
    return oscar.SelfCalibration(frequencies, oscar.RopePairing.INTERLEAVED, n_positions=model.max_tokens)


def ours(shape, calibrations, n_collected):
    """The library's profiles: data-free, with each calibration {name: oscar.Calibration}, and calibrating themselves from
    the first n_collected tokens (0, or a shape without RoPE: none of these)."""
    for profile in PROFILES:
        yield library_entry(shape, Library(profile), profile, f"liboscar {profile}, data-free")
    for given, calibration in calibrations.items():
        for profile in CALIBRATED_PROFILES:
            label, name = f"liboscar {profile}, {given}", f"{profile}+{given}"
            yield library_entry(shape, Library(profile, calibration), name, label)
    for profile in CALIBRATED_PROFILES if n_collected and hasattr(shape, "rope_frequency") else ():
        library = Library(profile, self_calibrate=self_calibration(shape), n_collected=n_collected)
        label = f"liboscar {profile}, calibrated by itself on {n_collected} tokens"
        yield library_entry(shape, library, f"{profile}+{SELF}", label)


def quantizers(rotations):
    yield "fp8", "FP8 e4m3", Fp8
    yield "int4", "INT4, Hadamard, min-max", lambda: HadamardMinMax(4)
    yield "int2", "INT2, Hadamard, min-max", lambda: HadamardMinMax(2)
    yield "kivi-4", "KIVI-4", lambda: Kivi(4)
    yield "kivi-2", "KIVI-2", lambda: Kivi(2)
    yield "turboquant", "TurboQuant, 2 bits", TurboQuant
    if rotations is not None:
        yield "oscar", "OSCAR as published", lambda: PublishedOscar(*rotations)


EVICTIONS = (
    ("h2o", "H2O", H2O),
    ("snapkv", "SnapKV", SnapKV),
    ("streaming", "StreamingLLM", StreamingLLM),
    ("sliding", "sliding window", SlidingWindow),
)


def roster(shape, rotations, calibrations, n_collected=0):
    """{name: Entry}. rotations: OSCAR's (keys, values), or None: without it. n_collected: tokens that arms calibrate
    themselves from."""
    entries = [library_entry(shape, Library("exact"), EXACT, "exact BF16", EXACT), *ours(shape, calibrations, n_collected)]
    for name, label, method in quantizers(rotations):
        make = lambda windows, n, n_step, method=method: NumpyArm(shape, windows, n, quantizer=method())
        entries.append(Entry(name, label, RIVAL, method().bits(shape.head_dim), make))
    budget = library_bits(shape, Library("2bit"))
    for name, label, method in EVICTIONS:
        make = lambda windows, n, n_step, method=method: NumpyArm(shape, windows, n, eviction=method(budget))
        entries.append(Entry(name, label, RIVAL, budget, make, drops_tokens=True))
    return {entry.name: entry for entry in entries}


def published_rotations(calibration):
    """From published_oscar.Calibration: (keys, values), each [n_layers, n_kv_heads, d, d]."""
    return np.stack(calibration.key_rotation), np.stack(calibration.value_rotation)

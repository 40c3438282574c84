"""Variants of a cache, read side by side as in level B: what an ingredient or a window is worth."""

import contextlib
import dataclasses
import functools

import numpy as np
import oscar
from oscar.evaluate import WINDOWS, Capture, Library, Windows, read_exactly, teacher
from oscar.evaluate.arm import cache_config

from .roster import self_calibration

CONTEXTS = (4096, 8192, 32768, 131072)


@dataclasses.dataclass(frozen=True)
class Variant:
    name: str
    profile: str = "2bit"
    windows: Windows = WINDOWS["stress"]
    calibration: oscar.Calibration | None = None
    n_collected: int = 0  # tokens that it calibrates itself from
    turns: bool = True  # whether it is told of RoPE then
    settings: dict = dataclasses.field(default_factory=dict)  # others of oscar.Config

    def arm(self, model, n_tokens, step_tokens):
        own = self_calibration(model, self.turns) if self.n_collected else None
        library = Library(self.profile, self.calibration, own, self.n_collected, self.settings)
        return library(model, self.windows, n_tokens, step_tokens)

    def bits(self, model):
        """(of packed tokens, {context: of all tokens}), as oscar.check counts them."""
        reports = {}
        for context in CONTEXTS:
            config = Library(self.profile, self.calibration, settings=self.settings).config(model, self.windows, context, 32)
            reports[context] = oscar.check(config, context)
        total = {context: report.bits_per_element for context, report in reports.items()}
        return reports[CONTEXTS[0]].block_bits_per_element, total


def measure(model, texts, variants, given, store, progress):
    """KL divergence of every token, {variant: [text][window]}; what the store has is not measured again."""
    for text, windows in texts.windows.items():
        for i, tokens in enumerate(windows):
            if not store.has("exact", text, str(i)):
                show = progress(f"exact, {text} {i}")
                store.save("exact", text, str(i), hidden=read_exactly(model, tokens, given.step_tokens, False, show)[0])
            hidden = store.load("exact", text, str(i))["hidden"]
            missing = [v for v in variants if not store.has("variant", text, str(i), v.name)]
            for first in range(0, len(missing), given.group):
                part = missing[first : first + given.group]
                with contextlib.ExitStack() as stack:
                    arms = {v.name: stack.enter_context(contextlib.closing(v.arm(model, len(tokens), given.step_tokens)))
                            for v in part}
                    show = progress(f"{text} {i}: {', '.join(arms)}")
                    found, _ = teacher.compare(model, tokens, hidden, arms, given.step_tokens, show)
                for name, arrays in found.items():
                    store.save("variant", text, str(i), name, **arrays)
    load = lambda v, text, i: store.load("variant", text, str(i), v.name)["kl"][given.first :].astype(np.float64)
    return {v.name: [[load(v, text, i) for i in range(len(w))] for text, w in texts.windows.items()] for v in variants}


class Calibrations:
    """Of one text that the model has read once: what calibrators make of it in different ways."""

    def __init__(self, model, windows, progress):
        self._model, self._windows, self._progress = model, windows, progress

    @functools.cached_property
    def _captures(self):
        show = self._progress("reading the calibration text")
        return [read_exactly(self._model, tokens, 256, True, show)[1] for tokens in self._windows]

    def make(self, n_tokens=None, turns=True, **options):
        """From the first n_tokens; turns: whether the calibrator is told how RoPE turns keys and queries."""
        model, left = self._model, n_tokens or sum(c.n_tokens for c in self._captures)
        frequencies = np.float32(model.rope_frequency) * np.float32(turns)
        config = cache_config(model, "2bit", WINDOWS["stress"], model.max_tokens, 32)
        calibrator = oscar.Calibrator(config, frequencies, oscar.RopePairing.INTERLEAVED, **options)
        for capture in self._captures:
            self._feed(calibrator, capture, min(left, capture.n_tokens))
            left -= min(left, capture.n_tokens)
        return calibrator.finish()

    @staticmethod
    def _feed(calibrator, capture: Capture, n):
        for layer in range(capture.n_layers if n else 0):
            calibrator.feed(layer, 0, capture.q[layer, :n], capture.k[layer, :n], capture.v[layer, :n])

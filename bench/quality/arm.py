"""Arms: ways to keep the same keys and values, all exact at the same positions.

    with arm.step(n) as step:               # n new tokens
        out = step.layer(layer, k, v, q)    # for every layer: stores them, attends to all so far
    k, v, kept = arm.rows(layer)            # what that attention has read
"""

import contextlib

import numpy as np
import oscar
from smollm2.published_oscar import to_bf16

from .attention import attend


def cache_config(shape, profile, windows, max_tokens, max_step_tokens, calibration=None, self_calibrate=None,
                 **settings):
    """A liboscar cache for one sequence; shape: anything with n_layers, n_q_heads, n_kv_heads and head_dim; settings:
    others of oscar.Config."""
    n_bytes = 4 * max_tokens * shape.n_layers * shape.n_kv_heads * shape.head_dim
    return oscar.Config(
        profile=profile,
        n_layers=shape.n_layers,
        n_q_heads=shape.n_q_heads,
        n_kv_heads=shape.n_kv_heads,
        key_dim=shape.head_dim,
        n_sink=windows.n_sink,
        n_recent=windows.n_recent,
        max_sequences=1,
        max_tokens=max_tokens,
        max_step_tokens=max_step_tokens,
        capacity_bytes=2 * n_bytes + (64 << 20),  # room to spare: slabs may be partly empty
        calibration=calibration,
        self_calibrate=self_calibrate,
        **settings,
    )


class LibraryArm:
    """A sequence in a cache of liboscar."""

    def __init__(self, shape, profile, windows, max_tokens, max_step_tokens, calibration=None, self_calibrate=None,
                 **settings):
        self._cache = oscar.Cache(
            cache_config(shape, profile, windows, max_tokens, max_step_tokens, calibration, self_calibrate, **settings)
        )
        self._sequence = self._cache.open()
        self._n_kv_heads = shape.n_kv_heads
        self._n_packed = None if profile == "exact" else windows.n_packed

    def close(self):
        self._sequence.close()
        self._cache.close()

    @property
    def length(self):
        return self._sequence.length

    @contextlib.contextmanager
    def step(self, n):
        length = self.length
        with self._cache.step([(self._sequence, n)]) as step:
            if self._n_packed is not None:
                got, wanted = self._cache.stats().n_packed_tokens, self._n_packed(length)
                if got != wanted:
                    raise RuntimeError(f"liboscar has packed {got} of {length} tokens, the other arms {wanted}")
            yield step

    def rows(self, layer):
        heads = [self._cache.read(self._sequence, layer, head) for head in range(self._n_kv_heads)]
        return np.stack([k for k, _ in heads]), np.stack([v for _, v in heads]), None


class SelfCalibratingArm(LibraryArm):
    """A cache that calibrates itself from the first `n_collected` tokens of its sequence; until then all are exact.
    model: a shape, with rope_frequency and max_tokens."""

    def __init__(self, model, profile, windows, max_tokens, max_step_tokens, n_collected, **settings):
        super().__init__(
            model,
            profile,
            windows,
            max_tokens,
            max_step_tokens,
            self_calibrate=oscar.SelfCalibration(
                np.float32(model.rope_frequency), oscar.RopePairing.INTERLEAVED, n_positions=model.max_tokens
            ),
            **settings,
        )
        self._n_collected = n_collected

    def step(self, n):
        if self._cache.stats().state == oscar.CacheState.COLLECTING:
            if self.length < self._n_collected:
                return self._cache.step([(self._sequence, n)])
            self._cache.freeze()
        return super().step(n)


class RivalArm:
    """A sequence in numpy, whose aged tokens are quantized or dropped."""

    def __init__(self, shape, windows, max_tokens, quantizer=None, eviction=None):
        extent = (shape.n_layers, shape.n_kv_heads, max_tokens)
        self._k = np.zeros((*extent, shape.head_dim), np.float32)
        self._v = np.zeros_like(self._k)
        self._kept = np.ones(extent, bool) if eviction else None
        self._windows, self._quantizer, self._eviction = windows, quantizer, eviction
        self._packed_end = windows.n_sink
        self.length = 0

    def close(self):
        self._k = self._v = None

    @contextlib.contextmanager
    def step(self, n):
        end = self._windows.packed_end(self.length)
        if end > self._packed_end:
            self._pack(end)
        yield self
        self.length += n

    def layer(self, layer, k, v, q):
        end = self.length + len(k)
        self._k[layer, :, self.length : end] = to_bf16(k).swapaxes(0, 1)
        self._v[layer, :, self.length : end] = to_bf16(v).swapaxes(0, 1)
        k, v, kept = self._rows(layer, end)
        out, weights = attend(q, k, v, np.arange(self.length, end), kept)
        if self._eviction and self._eviction.needs_mass:
            self._eviction.see(layer, weights.sum(1).swapaxes(1, 2))
        return out

    def rows(self, layer):
        return self._rows(layer, self.length)

    def _rows(self, layer, end):
        kept = None if self._kept is None else self._kept[layer, :, :end]
        return self._k[layer, :, :end], self._v[layer, :, :end], kept

    def _pack(self, end):
        if self._quantizer:
            new = np.s_[:, :, self._packed_end : end]
            self._k[new], self._v[new] = self._quantizer(self._k[new], self._v[new])
        if self._eviction:
            self._eviction.keep(self._kept, self._windows.n_sink, end)
        self._packed_end = end

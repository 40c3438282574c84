"""Arms of a comparison: ways to keep the same keys and values. An arm has a length, and

    with arm.step(n) as step:                   # n new tokens
        out = step.layer(layer, k, v, q)        # for every layer: stores them, and attends to all so far
"""

import contextlib

import numpy as np
import oscar

# The stress windows of the project's quality protocol: nearly everything that attention reads is really two bits.
STRESS = {"n_sink": 4, "n_recent": 32}


def cache_config(model, profile, max_tokens, max_step_tokens, calibration=None, collects=False):
    """A liboscar cache for one sequence of `model`; without a calibration it is data-free, or, where it collects,
    calibrates itself."""
    geometry = {
        "n_layers": model.n_layers,
        "n_q_heads": model.n_q_heads,
        "n_kv_heads": model.n_kv_heads,
        "key_dim": model.head_dim,
    }
    bf16_bytes = 4 * max_tokens * model.n_layers * model.n_kv_heads * model.head_dim
    return oscar.Config(
        profile=profile,
        calibration=calibration,
        self_calibrate=self_calibration(model) if collects else None,
        **geometry,
        **STRESS,
        max_sequences=1,
        max_tokens=max_tokens,
        max_step_tokens=max_step_tokens,
        capacity_bytes=2 * bf16_bytes + (64 << 20),  # room to spare: every slab of every layer may be partly empty
    )


def self_calibration(model):
    # snippet: self-calibration
    frequencies = np.float32(model.rope_frequency)
    return oscar.SelfCalibration(frequencies, oscar.RopePairing.INTERLEAVED, model="SmolLM2-135M-Instruct")
    # end snippet


class LibraryArm:
    """A sequence in a cache of liboscar."""

    def __init__(self, config):
        self._cache = oscar.Cache(config)
        self._sequence = self._cache.open()

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self._sequence.close()
        self._cache.close()

    @property
    def length(self):
        return self._sequence.length

    @property
    def stats(self):
        return self._cache.stats()

    @property
    def n_packed(self):
        """Tokens that attention reads from packed blocks."""
        return self._cache.stats().n_packed_tokens

    def step(self, n):
        return self._cache.step([(self._sequence, n)])


class SelfCalibratingArm(LibraryArm):
    """Its cache collects: until the sequence has n_collected tokens, all of them are exact. Then it is frozen."""

    def __init__(self, config, n_collected):
        super().__init__(config)
        self._n_collected = n_collected
        self.calibration = None

    def step(self, n):
        # snippet: freeze
        if self.calibration is None and self.length >= self._n_collected:
            self.calibration = self._cache.freeze()
        # end snippet
        return super().step(n)


def forward(model, arms, tokens):
    """One step of all arms together, so that the weights are read once: tokens [n_arms, n] -> [n_arms, n, width]."""
    n_arms, n = np.shape(tokens)
    positions = np.concatenate([np.arange(arm.length, arm.length + n) for arm in arms])
    with contextlib.ExitStack() as stack:
        steps = [stack.enter_context(arm.step(n)) for arm in arms]

        def attend(layer, k, v, q):
            rows = [slice(i * n, (i + 1) * n) for i in range(n_arms)]
            return np.concatenate([step.layer(layer, k[r], v[r], q[r]) for step, r in zip(steps, rows)])

        hidden = model.forward(np.ravel(tokens), positions, attend)
    return hidden.reshape(n_arms, n, -1)

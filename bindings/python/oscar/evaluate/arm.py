"""Arms: ways to keep the same keys and values, all exact at the same positions.

    with arm.step(n) as step:               # n new tokens
        out = step.layer(layer, k, v, q)    # for every layer: stores them, attends to all so far
    k, v, kept = arm.rows(layer)            # what that attention has read
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np

from ..cache import Cache
from ..calibration import Calibration
from ..config import Config, SelfCalibration
from ..types import CacheState
from .attention import Array, attend, to_bf16
from .windows import Windows


class Shape(Protocol):
    """The geometry of a model's attention."""

    @property
    def n_layers(self) -> int: ...

    @property
    def n_q_heads(self) -> int: ...

    @property
    def n_kv_heads(self) -> int: ...

    @property
    def head_dim(self) -> int: ...


class ArmStep(Protocol):
    def layer(self, layer: int, k: Array, v: Array, q: Array, /) -> Any: ...


class Arm(Protocol):
    """One sequence, kept in some way."""

    @property
    def length(self) -> int: ...

    def step(self, n: int) -> contextlib.AbstractContextManager[ArmStep]: ...

    def rows(self, layer: int) -> tuple[Array, Array, Array | None]:
        """Keys and values [n_kv_heads, n_tokens, d], and which of them are there [n_kv_heads, n_tokens]; None: all."""

    def close(self) -> None: ...


#: Makes an arm: (shape, windows, max_tokens, max_step_tokens).
MakeArm = Callable[[Shape, Windows, int, int], Arm]


def cache_config(
    shape: Shape, profile: str, windows: Windows, max_tokens: int, max_step_tokens: int, **settings: Any
) -> Config:
    """A cache for one sequence; settings: others of :class:`oscar.Config`."""
    n_bytes = 4 * max_tokens * shape.n_layers * shape.n_kv_heads * shape.head_dim
    return Config(
        profile,
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
        **settings,
    )


class LibraryArm:
    """A sequence in a cache of liboscar. With ``self_calibrate`` its first n_collected tokens are exact; then it is
    frozen."""

    def __init__(
        self,
        shape: Shape,
        profile: str,
        windows: Windows,
        max_tokens: int,
        max_step_tokens: int,
        *,
        n_collected: int = 256,
        **settings: Any,
    ) -> None:
        self._cache = Cache(cache_config(shape, profile, windows, max_tokens, max_step_tokens, **settings))
        self._sequence = self._cache.open()
        self._n_kv_heads = shape.n_kv_heads
        self._n_packed = None if profile == "exact" else windows.n_packed
        self._n_collected = n_collected

    def close(self) -> None:
        self._sequence.close()
        self._cache.close()

    @property
    def length(self) -> int:
        return self._sequence.length

    @contextlib.contextmanager
    def step(self, n: int) -> Iterator[ArmStep]:
        length, collecting = self.length, self._cache.stats().state == CacheState.COLLECTING
        if collecting and length >= self._n_collected:
            self._cache.freeze()
            collecting = False
        with self._cache.step([(self._sequence, n)]) as step:
            if self._n_packed is not None and not collecting:
                got, wanted = self._cache.stats().n_packed_tokens, self._n_packed(length)
                if got != wanted:
                    raise RuntimeError(f"liboscar has packed {got} of {length} tokens, the other arms {wanted}")
            yield step

    def rows(self, layer: int) -> tuple[Array, Array, None]:
        heads = [self._cache.read(self._sequence, layer, head) for head in range(self._n_kv_heads)]
        return np.stack([k for k, _ in heads]), np.stack([v for _, v in heads]), None


@dataclasses.dataclass(frozen=True)
class Library:
    """How a cache of liboscar keeps a sequence: makes a :class:`LibraryArm`.

    Args:
        profile: of :class:`oscar.Config`.
        calibration: None: data-free.
        self_calibrate: the cache calibrates itself from its first ``n_collected`` tokens.
        settings: others of :class:`oscar.Config`, ``{"n_refined": 8}``.
    """

    profile: str = "2bit"
    calibration: Calibration | None = None
    self_calibrate: SelfCalibration | None = None
    n_collected: int = 256
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __call__(self, shape: Shape, windows: Windows, max_tokens: int, max_step_tokens: int) -> LibraryArm:
        return LibraryArm(
            shape, self.profile, windows, max_tokens, max_step_tokens, n_collected=self.n_collected, **self._settings()
        )

    def config(self, shape: Shape, windows: Windows, max_tokens: int, max_step_tokens: int) -> Config:
        """Of such a cache, for :func:`oscar.check`."""
        return cache_config(shape, self.profile, windows, max_tokens, max_step_tokens, **self._settings())

    def _settings(self) -> dict[str, Any]:
        return self.settings | {"calibration": self.calibration, "self_calibrate": self.self_calibrate}


class Quantizer(Protocol):
    """What attention would read in place of keys and values [n_layers, n_kv_heads, n, d] that have aged; n is a
    multiple of 128."""

    def __call__(self, k: Array, v: Array, /) -> tuple[Array, Array]: ...


class Eviction(Protocol):
    """What drops tokens: told of the attention that they receive, it says which of the aged ones stay."""

    needs_mass: bool

    def see(self, layer: int, mass: Array) -> None:
        """mass [n_kv_heads, n_tokens, n queries]: attention that the new queries of a layer paid."""

    def keep(self, kept: Array, n_sink: int, end: int) -> None:
        """kept [n_layers, n_kv_heads, n_tokens], changed in place: which tokens of [n_sink, end) stay."""


class NumpyArm:
    """A sequence in numpy, whose aged tokens are quantized or dropped: another method, to compare with."""

    def __init__(
        self,
        shape: Shape,
        windows: Windows,
        max_tokens: int,
        quantizer: Quantizer | None = None,
        eviction: Eviction | None = None,
    ) -> None:
        extent = (shape.n_layers, shape.n_kv_heads, max_tokens)
        self._k: Array = np.zeros((*extent, shape.head_dim), np.float32)
        self._v: Array = np.zeros_like(self._k)
        self._kept: Array | None = np.ones(extent, bool) if eviction else None
        self._windows, self._quantizer, self._eviction = windows, quantizer, eviction
        self._packed_end = windows.n_sink
        self.length = 0

    def close(self) -> None:
        del self._k, self._v

    @contextlib.contextmanager
    def step(self, n: int) -> Iterator[ArmStep]:
        end = self._windows.packed_end(self.length)
        if end > self._packed_end:
            self._pack(end)
        yield self
        self.length += n

    def layer(self, layer: int, k: Array, v: Array, q: Array, /) -> Array:
        end = self.length + len(k)
        self._k[layer, :, self.length : end] = to_bf16(k).swapaxes(0, 1)
        self._v[layer, :, self.length : end] = to_bf16(v).swapaxes(0, 1)
        k, v, kept = self._rows(layer, end)
        out, weights = attend(q, k, v, np.arange(self.length, end), kept)
        if self._eviction and self._eviction.needs_mass:
            self._eviction.see(layer, weights.sum(1).swapaxes(1, 2))
        return out

    def rows(self, layer: int) -> tuple[Array, Array, Array | None]:
        return self._rows(layer, self.length)

    def _rows(self, layer: int, end: int) -> tuple[Array, Array, Array | None]:
        kept = None if self._kept is None else self._kept[layer, :, :end]
        return self._k[layer, :, :end], self._v[layer, :, :end], kept

    def _pack(self, end: int) -> None:
        if self._quantizer:
            new = np.s_[:, :, self._packed_end : end]
            self._k[new], self._v[new] = self._quantizer(self._k[new], self._v[new])
        if self._eviction and self._kept is not None:
            self._eviction.keep(self._kept, self._windows.n_sink, end)
        self._packed_end = end

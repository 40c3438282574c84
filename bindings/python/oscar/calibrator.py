"""Makes a calibration from what a model computes for a text."""

from __future__ import annotations

import threading

from . import _oscar
from .calibration import Calibration
from .config import Config, RawConfig
from .types import RopePairing, Tensor, ValueBasis


class Calibrator:
    """Gathers second moments of a model's queries, keys and values, and solves for the transforms that suit them.

    Its memory does not depend on how many tokens it has seen. A few thousand tokens of ordinary text are plenty, 256
    are enough. Feed every layer, in any order and in any number of calls; then :meth:`finish`.

    Args:
        config: the cache's: geometry, ``storage``, ``kv_source``, ``max_tokens`` and ``n_sink`` count.
        rope_frequencies: ``[n_pairs]`` or ``[n_layers, n_pairs]`` float32, radians by which pair i turns from one
            position to the next, e.g. ``theta ** (-2 * i / key_dim)``; scaled ones for YaRN or Llama 3; zeros for a
            layer without positions. None: unknown; :meth:`finish` then demands tokens of all positions to be served.
        rope_pairing: a :class:`RopePairing`.
        n_positions: positions 0 to ``n_positions - 1`` will be served; 0: ``config.max_tokens``.
        value_basis: a :class:`ValueBasis`.
        model: whose tensors these are, for the file: at most 63 bytes.
        note: anything else worth remembering, at most 127 bytes.

    May be used from several threads, which wait for one another.

    Raises:
        InvalidError: the configuration is malformed, or the frequencies do not fit it.
    """

    __slots__ = ("_handle", "_lock")

    def __init__(
        self,
        config: Config,
        rope_frequencies: Tensor | None = None,
        rope_pairing: int = RopePairing.HALF,
        *,
        n_positions: int = 0,
        value_basis: int = ValueBasis.BALANCED,
        model: str | None = None,
        note: str | None = None,
    ) -> None:
        raw = RawConfig(config)
        self._handle = _oscar.calibrator_create(
            raw.struct, rope_pairing, value_basis, n_positions, rope_frequencies, model, note
        )
        self._lock = threading.Lock()

    def feed(
        self, layer: int, first_position: int, q: Tensor, k: Tensor | None = None, v: Tensor | None = None
    ) -> None:
        """Counts tokens of one sequence at consecutive positions, as one layer of the model has them.

        Args:
            layer: index of the layer.
            first_position: of row 0; where it is not the end of the layer's last call, another sequence begins.
            q: ``[n, n_q_heads, key_dim]`` float32, float16 or bfloat16, with positions (RoPE) already applied.
            k: ``[n, n_kv_heads, key_dim]``, likewise; None for a layer with ``kv_source``.
            v: ``[n, n_kv_heads, value_dim]``; None for a layer with ``kv_source``.

        Raises:
            InvalidError: shapes, or an element that is not finite; nothing was counted.
        """
        with self._lock:
            _oscar.calibrator_feed(self._handle, layer, first_position, q, k, v)

    def finish(self) -> Calibration:
        """The calibration of what was fed so far; more may be fed afterwards.

        Raises:
            StateError: a layer was fed nothing or too little.
            InvalidError: keys that do not vary, or queries that are zero; the text names layer and head.
        """
        with self._lock:
            return Calibration(_oscar.oscar_calibrator_finish(self._handle))

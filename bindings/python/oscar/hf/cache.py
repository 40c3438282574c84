"""The cache that transformers generates with."""

from __future__ import annotations

import copy
from typing import Any

import torch
from transformers.cache_utils import Cache

import oscar

from . import attention, rope
from .batch import Batch
from .columns import Columns
from .geometry import Geometry
from .layer import OscarLayer
from .step import ForwardPass

#: A cache that calibrates itself freezes once a sequence has this many tokens after the sinks.
N_COLLECTED = 256
#: A longer context than this is asked for with max_tokens: memory is taken for all of it.
DEFAULT_MAX_TOKENS = 32768
#: Beside whole sequences: what a step reserves ahead, and slabs that are not full.
_MARGIN_BYTES = 32 << 20
#: No cache is larger than this.
_MOST_BYTES = (1 << 38) - 1


class OscarCache(Cache):
    """Keys and values at about two bits per element: ``model.generate(..., past_key_values=OscarCache(model))``.

    The model gets an attention that computes from the packed bits ("oscar_over_sdpa" or "oscar_over_eager"); with any
    other cache, or none, it attends as before. All memory is taken at the first forward pass, for the rows of its batch.

    Args:
        model: a transformers model, whose weights lie on one device.
        profile: "2bit", "2bit-plain", "k3v2", "3bit", "4bit" or "exact", as for :class:`oscar.Config`.
        max_tokens: longest sequence; None: the model's positions, at most 32,768.
        max_rows: sequences to have memory for; None: the rows of the first batch, beams included.
        max_step_tokens: new tokens of one forward pass, all rows together; None: those of the first one, at least 2,048.
        calibration: an :class:`oscar.Calibration` of the model (:func:`oscar.hf.calibrate`); None: data-free.
        self_calibrate: the cache keeps its first tokens exact, and makes a calibration of them: :attr:`calibration`.
        max_rollback: newest tokens that can be cropped as if they had never been there, and one more; assisted decoding
            crops rejected drafts.
        n_threads: on a CPU; None: as many as torch uses.
        allow_untested: also model types that no test has generated with.
        options: anything else that :class:`oscar.Config` takes, e.g. ``n_sink`` and ``n_recent``.

    Raises:
        oscar.UnsupportedError: the model is not served; the text says why.
        oscar.InvalidError: profile, calibration or options are wrong.
    """

    def __init__(
        self,
        model: Any,
        profile: str = "2bit",
        *,
        max_tokens: int | None = None,
        max_rows: int | None = None,
        max_step_tokens: int | None = None,
        calibration: oscar.Calibration | None = None,
        self_calibrate: bool = False,
        max_rollback: int = 32,
        n_threads: int | None = None,
        allow_untested: bool = False,
        **options: Any,
    ) -> None:
        geometry = Geometry(model, allow_untested)
        self.model_config = model.config.get_text_config(decoder=True)
        self.device = next(model.parameters()).device
        self.max_tokens = max_tokens or min(geometry.max_positions, DEFAULT_MAX_TOKENS)
        self.max_rows = max_rows
        self.max_step_tokens = max_step_tokens
        #: What the keys and values are stored with; None: data-free, or still collecting.
        self.calibration = None if calibration is None else geometry.slice(calibration)
        self._n_kv_heads = geometry.n_kv_heads
        self._config = geometry.config(
            profile,
            max_tokens=self.max_tokens,
            max_rollback=max_rollback,
            n_threads=n_threads or (torch.get_num_threads() if self.device.type == "cpu" else None),
            device=str(self.device),
            calibration=self.calibration,
            **options,
        )
        if self_calibrate:
            self._config.self_calibrate = oscar.SelfCalibration(rope.frequencies(model, geometry.n_layers))
        self._batch: Batch | None = None
        self._pass: ForwardPass | None = None
        self._is_recording = False
        self._reserve(self.max_rows or 1, 1)  # says what is not served before anything is generated
        attention.install(model)
        super().__init__(layers=[OscarLayer(self, i, window) for i, window in enumerate(geometry.windows)])

    # What a forward pass calls.

    def mask(self, attention_mask: Any, n_new: int, is_causal: bool) -> Any:
        """What attention will be given as its mask: ``[rows, n_new]`` bool, where the new tokens are; None: no pads."""
        if not is_causal:
            raise oscar.UnsupportedError("OscarCache does not serve masks that are not causal, such as those of images")
        columns = Columns() if self._batch is None else self._batch.columns
        return columns.new_tokens(attention_mask, n_new)

    def forward_pass(self, layer: int, query: torch.Tensor, key: torch.Tensor, is_token: Any) -> ForwardPass:
        """The step that this layer's attention belongs to; layer 0 begins one."""
        if layer == 0:
            self._abort()
            self._pass = self._begin(query, key, is_token)
        if self._pass is None or self._pass.next_layer != layer:
            raise oscar.StateError(f"layer {layer} attends out of turn: a forward pass goes through the layers in order")
        return self._pass

    def _begin(self, query: torch.Tensor, key: torch.Tensor, is_token: Any) -> ForwardPass:
        n_rows, _, n_new, _ = query.shape
        if query.device != self.device:
            raise oscar.InvalidError(f"the model is on {query.device}, it was on {self.device} when the cache was made")
        if key.shape[1] != self._n_kv_heads:
            raise oscar.InvalidError(f"keys have {key.shape[1]} heads, the configuration says {self._n_kv_heads}")
        if self._batch is None:
            self._batch = Batch.open(oscar.Cache(self._reserve(n_rows, n_rows * n_new)), n_rows)
        if len(self._batch) != n_rows:
            raise oscar.InvalidError(f"the batch has {n_rows} rows, the cache holds {len(self._batch)}")
        if is_token is not None and tuple(is_token.shape) != (n_rows, n_new):
            raise oscar.InvalidError(f"attention_mask is of {is_token.shape[0]} rows, the batch has {n_rows}")
        if n_rows * n_new > self._config.max_step_tokens:
            raise oscar.InvalidError(
                f"a forward pass of {n_rows} x {n_new} tokens, the cache was made for {self._config.max_step_tokens}: "
                "OscarCache(..., max_step_tokens=...), or generate(..., prefill_chunk_size=...)"
            )
        max_draft = self._config.max_rollback - 1 if self._is_recording else 0
        return ForwardPass(self._batch, n_new, is_token, max_draft, self.device)

    def layer_done(self) -> None:
        """After a layer's attention; the last one ends the step."""
        assert self._pass is not None and self._batch is not None
        if self._pass.next_layer < len(self.layers):
            return
        done, self._pass = self._pass, None
        done.end()
        if self._config.self_calibrate is not None and self.calibration is None:
            self._freeze_if_full(self._batch)

    def _freeze_if_full(self, batch: Batch) -> None:
        cache, config = batch.cache, self._config
        if batch.longest() < config.n_sink + max(N_COLLECTED, 128 + config.key_dim):
            return
        # A deep copy that shares this memory may have been first.
        if cache.stats().state == oscar.CacheState.COLLECTING:
            self.calibration = cache.freeze()

    def _abort(self) -> None:
        """Drops a pass that was left in the middle: an exception in the model."""
        if self._pass is not None:
            self._pass.abort()
            self._pass = None

    # Memory.

    def _reserve(self, n_rows: int, n_step_tokens: int) -> oscar.Config:
        """The configuration with memory for this many rows of max_tokens.

        Raises:
            oscar.UnsupportedError: it is not served; the text says why.
        """
        config = self._config
        n_rows = max(n_rows, self.max_rows or 0)
        config.max_sequences = 4 * n_rows + 16  # a sequence takes little before it has tokens
        config.max_step_tokens = self.max_step_tokens or max(n_step_tokens, 2048)
        config.capacity_bytes = _MOST_BYTES  # to be asked what one sequence takes
        report = oscar.check(config, config.max_tokens)
        if not report.served:
            raise oscar.UnsupportedError(f"this cache is not served: {report.reason}")
        config.capacity_bytes = n_rows * self._bytes_of_row(report, n_step_tokens // n_rows) + _MARGIN_BYTES
        return config

    def _bytes_of_row(self, report: oscar.Report, n_first: int) -> int:
        if self._config.self_calibrate is None:
            return report.bytes_sequences
        # While collecting, all tokens are exact: the first prompt, and what else it takes to have enough.
        n_exact = min(n_first + 2 * N_COLLECTED + self._config.n_sink, self.max_tokens)
        return max(report.bytes_sequences_frozen, oscar.check(self._config, n_exact).bytes_sequences)

    # What generation calls between forward passes.

    @property
    def n_columns(self) -> int:
        """Columns of the batch so far, pads included: the length that transformers counts."""
        return 0 if self._batch is None else self._batch.columns.n

    @property
    def batch_size(self) -> int:
        """Rows of the batch; -1 before the first forward pass."""
        return -1 if self._batch is None else len(self._batch)

    def activate_past_recording(self) -> None:
        """From now on the newest tokens of a step may be cropped: they are drafts of assisted decoding."""
        self._is_recording = True

    def crop(self, tokens_to_remove: int) -> None:
        """Forgets the newest ``-tokens_to_remove`` columns (0: none).

        Raises:
            ValueError: a positive number, as for transformers' own caches.
            oscar.StateError: a sliding window has dropped tokens that would be seen again; crop at most
                ``max_rollback`` - 1.
        """
        self._abort()
        if tokens_to_remove > 0 or -tokens_to_remove > self.n_columns:
            raise ValueError(f"crop({tokens_to_remove}): wanted minus the number of columns to forget, of {self.n_columns}")
        if self._batch is not None and tokens_to_remove:
            self._batch.crop(self.n_columns + tokens_to_remove)

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Row i becomes what row beam_idx[i] was; beams that go on twice are forked."""
        self.batch_select_indices(beam_idx)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keeps these rows; one that is named twice is forked."""
        self._abort()
        if self._batch is not None:
            if indices.dtype == torch.bool:
                indices = indices.nonzero().flatten()
            self._batch.select(indices.tolist())

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Every row ``repeats`` times, by forks."""
        self._abort()
        if self._batch is not None:
            self._batch.select([row for row in range(len(self._batch)) for _ in range(repeats)])

    def reset(self) -> None:
        """Forgets everything; the next batch may be of another size. A calibration of its own is kept."""
        self._abort()
        self._batch = None
        if self.calibration is not None:
            self._config.calibration, self._config.self_calibrate = self.calibration, None

    def __deepcopy__(self, memo: dict[int, Any]) -> OscarCache:
        """A cache of its own over the same memory: one prompt, many continuations. Its rows are forks.

        Raises:
            oscar.NoSpaceError: no room for more rows: ``OscarCache(..., max_rows=...)``.
        """
        self._abort()
        child = copy.copy(self)
        child._config = copy.copy(self._config)
        child.layers = [OscarLayer(child, layer.index, layer.window) for layer in self.layers]
        child._batch = None if self._batch is None else self._batch.fork()
        return child

    def stats(self) -> oscar.Stats | None:
        """What the cache holds and takes now; None before the first forward pass."""
        return None if self._batch is None else self._batch.cache.stats()

    def __iter__(self) -> Any:
        raise TypeError("an OscarCache has no tensors of keys and values to iterate over; oscar.Cache.read decodes them")

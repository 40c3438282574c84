"""The key/value cache."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, BinaryIO, Union

import numpy

from . import _oscar
from .calibration import Calibration
from .config import Config, RawConfig
from .errors import CorruptError, InvalidError
from .log import LogRecord
from .report import LayerStats, Stats
from .sequence import Sequence
from .step import Step
from .transport import reader
from .types import DEFAULT, Tensor

#: A sequence and its new tokens, of which the last ``n_draft`` may be rejected later. ``oscar.PADDING`` stands for rows
#: that belong to no sequence.
Entry = Union[tuple[Sequence | int, int], tuple[Sequence | int, int, int]]


def _stream_address(stream: Any) -> int:
    for name in ("cuda_stream", "ptr"):
        if hasattr(stream, name):
            return int(getattr(stream, name))
    return 0 if stream is None else stream


class Cache:
    """Keys and values of a model's layers, at about two bits per element. As a context manager it closes itself.

    All memory is taken here. Threads: :meth:`stats`, :meth:`capacity`, :meth:`read`, :meth:`scores` and the lengths of
    sequences may run beside one another; every other call needs the cache to itself. Long calls release the GIL, so it
    is up to the caller to hold a lock; a call that meets another one raises :class:`StateError` and does nothing.

    Args:
        config: geometry and policy; later changes of it have no effect.

    Raises:
        InvalidError: a malformed configuration.
        UnsupportedError: a configuration that is not served, with the reason.
        NoMemoryError: the machine has not enough memory.
        BackendError: OSCAR_BACKEND names none that can run here.
    """

    __slots__ = ("_handle", "_output_shapes", "_key_value_dims", "_log", "_stream", "_closed", "__weakref__")

    def __init__(self, config: Config) -> None:
        raw = RawConfig(config)
        self._closed = False
        self._output_shapes: list[tuple[int, int]] = []
        self._stream: Any = None
        self._log: Any = None
        self._handle = _oscar.cache_create(raw.struct, *raw.self_calibrate)
        layers = [config.layer(i) for i in range(config.n_layers)]
        self._output_shapes = [(layer.n_q_heads, layer.value_dim) for layer in layers]
        self._key_value_dims = [(layer.key_dim, layer.value_dim) for layer in layers]

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._closed

    def close(self) -> None:
        """Frees everything. A second time does nothing; sequences and steps of a closed cache raise StateError.

        Raises:
            StateError: another thread is using the cache.
        """
        _oscar.cache_close(self._handle)
        self._closed = True

    def open(self) -> Sequence:
        """Opens an empty sequence.

        Raises:
            NoSpaceError: ``max_sequences`` are open, or no memory is left.
        """
        return Sequence(self, _oscar.oscar_seq_open(self._handle))

    def read_from(self, file: BinaryIO) -> Sequence:
        """Opens a sequence from what :meth:`Sequence.write_to` wrote, which then goes on as that one would have. This
        cache may have another capacity and other limits; layers, windows and calibration must be the same. Reads the
        sequence's bytes from a binary stream, and none behind them.

        Raises:
            CorruptError: the bytes are no sequence, of another version, cut off or damaged.
            InvalidError: of another geometry, profile or calibration: the text says which.
            NoSpaceError: ``max_sequences``, ``max_tokens`` or the pool.
            StateError: the cache is collecting.
            UnsupportedError: it is on a device.
            Whatever ``file.read`` raises. In each case nothing has changed.
        """
        return Sequence(self, _oscar.seq_import(self._handle, reader(file)))

    def load(self, path: str | os.PathLike[str]) -> Sequence:
        """Opens a sequence from a file of :meth:`Sequence.save`.

        Raises: as :meth:`read_from`; CorruptError where the file has bytes behind the sequence; OSError.
        """
        with open(path, "rb") as file:
            sequence = self.read_from(file)
            if file.read(1):
                sequence.close()
                raise CorruptError(f"{os.fspath(path)!r} has bytes behind the sequence")
        return sequence

    def step(self, entries: Iterable[Entry], stream: Any = None, replay: bool = False) -> Step:
        """Begins a forward pass: ``cache.step([(seq, n_new), (seq, n_new, n_draft), (oscar.PADDING, n), ...])``.

        First packs what has aged past the recent window, then reserves all memory that the pass can need in all layers,
        or fails having changed nothing.

        Args:
            entries: each sequence at most once; ``n_new`` >= 1 tokens that the step appends, drafts included;
                ``n_draft`` < ``max_rollback``, or ``oscar.QUERY_ONLY``: ``n_new`` rows attend to the sequence's tokens and
                append nothing, which context parallelism asks of the caches that do not get the new token.
            stream: where a CUDA cache puts the work of this step: a ``torch.cuda.Stream``, anything else with
                ``cuda_stream`` or ``ptr``, or the address as an integer. None: the default stream; on the CPU, nothing.
            replay: the work of the layers is done by a CUDA graph that was captured in an earlier step with the same
                ``n_new`` of its entries, one after the other: no append, attend or layer calls follow.

        Raises:
            NoSpaceError: the pass does not fit; nothing has changed.
            NotFoundError: a sequence is closed.
            StateError: a sequence is in another open step, or no step slot is free.
            UnsupportedError: an entry is query-only, and a layer has a sliding window.
            InvalidError: anything else that is wrong with the entries.
        """
        raw = [self._entry(entry) for entry in entries]
        address = _stream_address(stream)
        number = _oscar.step_begin(self._handle, raw, replay, address)
        self._stream = stream  # forks, reads and the step's end use it: it must live on
        return Step(self, number, sum(n_new for _, n_new, _ in raw), address)

    def _entry(self, entry: Any) -> tuple[int, int, int]:
        if len(entry) not in (2, 3):
            raise InvalidError(f"a step entry has {len(entry)} items, wanted (sequence, n_new) or (.., n_draft)")
        return self._id_of(entry[0]), entry[1], entry[2] if len(entry) == 3 else 0

    def _id_of(self, sequence: Sequence | int) -> int:
        if isinstance(sequence, Sequence):
            if sequence._cache is not self:
                raise InvalidError(f"{sequence!r} belongs to another cache")
            return sequence._id
        return sequence

    def stats(self) -> Stats:
        """What the cache holds now."""
        raw = _oscar.oscar_cache_stats_get(self._handle)
        return Stats(**{name: getattr(raw, name) for name in Stats.__dataclass_fields__})

    def layer_stats(self, layer: int) -> LayerStats:
        """What was packed of one layer since the cache was created, and how much of it the quantizer clipped. All 0 for one
        that is exact or has a ``kv_source``: it packs nothing.

        Raises:
            InvalidError: there is no such layer.
            UnsupportedError: the cache is on a device, whose kernels pack there and do not count.
        """
        raw = _oscar.oscar_layer_stats_get(self._handle, layer)
        counts = {name: getattr(raw, name) for name in LayerStats.__dataclass_fields__ if name != "layer"}
        return LayerStats(layer=layer, **counts)

    def log_to(self, write: Callable[[LogRecord], object] | None, min_level: int = 0) -> None:
        """Tells where the cache's records go from now on: ``cache.log_to(oscar.log.to_logger(logging.getLogger("kv")))``.
        A new cache has nowhere, and the library writes nowhere else.

        Args:
            write: called on the thread of the call that has something to tell, before that call returns; it must not use
                the cache (a call raises StateError). What it raises goes to ``sys.unraisablehook``. None: nowhere.
            min_level: an :class:`oscar.LogLevel`: records of this level and above; 0: all.

        Raises:
            InvalidError: ``min_level``.
        """

        def take(level: int, event: int, layer: int, text: str) -> None:
            assert write is not None
            write(LogRecord(level, event, None if layer == DEFAULT else layer, text))

        log = None if write is None else take
        _oscar.cache_log_set(self._handle, min_level, log)
        self._log = log  # the handle borrows it

    def freeze(self) -> Calibration:
        """Ends the collecting of a cache with ``self_calibrate``: solves for transforms, keeps those that are better than
        the data-free ones on tokens that were held out, packs what has aged. From then on this is a cache like any other,
        with the same sequences. May take seconds.

        Returns:
            The calibration that the cache now uses, which can be saved.

        Raises:
            StateError: there is nothing to freeze, a step is open, or there are too few tokens: a sequence of
                ``n_sink`` + 192 has enough for a ``key_dim`` of up to 128. Nothing has changed.
        """
        return Calibration(_oscar.oscar_cache_freeze(self._handle))

    def capacity(self) -> int:
        """How many tokens a new sequence could be given now before a step is refused with NoSpaceError."""
        n_tokens: int = _oscar.oscar_cache_capacity(self._handle)
        return n_tokens

    def read(
        self,
        sequence: Sequence | int,
        layer: int,
        head: int,
        first: int = 0,
        n: int | None = None,
        k_out: Tensor | None = None,
        v_out: Tensor | None = None,
    ) -> tuple[Any, Any]:
        """Keys and values of tokens ``[first, first + n)`` of one KV head as attention sees them, in the model's basis.

        Args:
            sequence: a sequence of this cache.
            layer, head: indices of the layer and its KV head.
            first, n: the tokens; n None: all from ``first`` on.
            k_out: ``[n, key_dim]`` float32, float16 or bfloat16, written.
            v_out: ``[n, value_dim]``, written. Where neither is given, both are allocated as float32 numpy arrays.

        Returns:
            ``(k_out, v_out)``.

        Raises:
            NotFoundError: the sequence is closed.
            InvalidError: the range, layer, head or an output.
            StateError: the cache is closed, or a sliding window has dropped some of the tokens.
        """
        number = self._id_of(sequence)
        n = self._count(number, first, n)
        if k_out is None and v_out is None:
            key_dim, value_dim = self._dims(layer)
            k_out = numpy.empty((n, key_dim), numpy.float32)
            v_out = numpy.empty((n, value_dim), numpy.float32)
        _oscar.oscar_read(self._handle, number, layer, head, first, n, k_out, v_out)
        return k_out, v_out

    def scores(
        self,
        sequence: Sequence | int,
        layer: int,
        head: int,
        first: int = 0,
        n: int | None = None,
        out: Tensor | None = None,
    ) -> Any:
        """Importance of tokens ``[first, first + n)`` of one KV head.

        A token that is not packed yet: the attention mass it has received, summed over the query heads of its KV head.
        A packed token: infinity where it was refined, else 0. Exact for ever (sinks): 0.

        Args:
            sequence, layer, head, first, n: as for :meth:`read`.
            out: ``[n]`` float32, written; None allocates a numpy array.

        Returns:
            ``out``.

        Raises: as :meth:`read`; StateError also where the layer's profile makes no choice.
        """
        number = self._id_of(sequence)
        n = self._count(number, first, n)
        if out is None:
            self._dims(layer)
            out = numpy.empty(n, numpy.float32)
        _oscar.oscar_scores(self._handle, number, layer, head, first, n, out)
        return out

    def _count(self, number: int, first: int, n: int | None) -> int:
        length: int = _oscar.oscar_seq_length(self._handle, number)
        if n is None:
            n = length - first
        if first < 0 or n < 0 or first + n > length:
            raise InvalidError(f"tokens [{first}, {first + n}) are wanted, the sequence has {length}")
        return n

    def _dims(self, layer: int) -> tuple[int, int]:
        if not 0 <= layer < len(self._key_value_dims):
            raise InvalidError(f"layer is {layer}, the cache has {len(self._key_value_dims)}")
        return self._key_value_dims[layer]

    def __enter__(self) -> Cache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<oscar.Cache, {len(self._output_shapes)} layers{', closed' if self._closed else ''}>"

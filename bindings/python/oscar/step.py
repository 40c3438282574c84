"""A forward pass through the layers, as a transaction."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy

from . import _oscar
from .errors import InvalidError
from .types import Tensor

if TYPE_CHECKING:
    from .cache import Cache


class Step:
    """Made by :meth:`Cache.step`. As a context manager it commits, or aborts where the body raised.

    Rows of its tensors are the new tokens of its sequences, one sequence after the other; ``n_rows`` in all. Tensors
    are float32, float16 or bfloat16, lie on the cache's device, are borrowed for the call and never copied. On a CUDA
    device calls put their work on the step's stream and return.
    """

    __slots__ = ("_cache", "_handle", "_id", "_n_rows", "_open", "_stream")

    def __init__(self, cache: Cache, number: int, n_rows: int, stream: int) -> None:
        self._stream = stream
        self._cache = cache
        self._handle = cache._handle
        self._id = number
        self._n_rows = n_rows
        self._open = True

    @property
    def id(self) -> int:
        """Its number in the C ABI."""
        return self._id

    @property
    def n_rows(self) -> int:
        """Rows of its tensors."""
        return self._n_rows

    def append(self, layer: int, k: Tensor, v: Tensor) -> None:
        """Stores the step's keys and values of one layer, rounded to BF16.

        Args:
            layer: index of the layer; not one with ``kv_source``.
            k: ``[n_rows, n_kv_heads, key_dim]``, with positions (RoPE) already applied.
            v: ``[n_rows, n_kv_heads, value_dim]``.

        Raises:
            NotFoundError: the step is over.
            InvalidError: shape, dtype, strides, device or layer.
            StateError: the cache is closed, or the layer has been attended to.
        """
        _oscar.append(self._handle, self._id, layer, k, v, self._stream)

    def attend(
        self,
        layer: int,
        q: Tensor,
        out: Tensor | None = None,
        lse: Tensor | None = None,
        mask: Tensor | None = None,
        sink_logits: Tensor | None = None,
        scale: float = 0.0,
        softcap: float = 0.0,
    ) -> Any:
        """Attention of one layer over its sequences and the step's own tokens.

        Args:
            layer: index of the layer.
            q: ``[n_rows, n_q_heads, key_dim]``.
            out: ``[n_rows, n_q_heads, value_dim]``, written. None allocates float32 where ``q`` is a numpy array.
            lse: ``[n_rows, n_q_heads]`` float32, written: natural log of the softmax denominator, sink included.
            mask: ``[n_rows, max n_new]`` uint8 or bool: row i of a sequence attends to its new token j < i where
                ``mask[row, j]`` is not 0, and always to itself. None: the chain (causal).
            sink_logits: ``[n_q_heads]`` float32, a learned logit whose value is zero.
            scale: of the logits; 0: ``1 / sqrt(key_dim)``.
            softcap: c > 0: logits become ``c tanh(logit / c)``; 0: off.

        Returns:
            ``out``.

        Raises:
            NotFoundError: the step is over.
            InvalidError: shape, dtype, strides, device or layer.
            StateError: the cache is closed, or the layer has no keys in this step.
            TypeError: ``out`` is missing and ``q`` is not a numpy array.
        """
        if out is None:
            out = self._allocate(layer, q)
        _oscar.attend(self._handle, self._id, layer, q, out, lse, mask, sink_logits, scale, softcap, self._stream)
        return out

    def layer(
        self,
        layer: int,
        k: Tensor,
        v: Tensor,
        q: Tensor,
        out: Tensor | None = None,
        lse: Tensor | None = None,
        mask: Tensor | None = None,
        sink_logits: Tensor | None = None,
        scale: float = 0.0,
        softcap: float = 0.0,
    ) -> Any:
        """:meth:`append` and :meth:`attend` in one call; all arguments are checked before anything is written."""
        if out is None:
            out = self._allocate(layer, q)
        _oscar.layer(
            self._handle, self._id, layer, k, v, q, out, lse, mask, sink_logits, scale, softcap, self._stream
        )
        return out

    def _allocate(self, layer: int, q: Tensor) -> Any:
        if not isinstance(q, numpy.ndarray):
            raise TypeError(f"out is missing: it is allocated for numpy arrays only, and q is a {type(q).__name__}")
        shapes = self._cache._output_shapes
        if not 0 <= layer < len(shapes):
            raise InvalidError(f"layer is {layer}, the cache has {len(shapes)}")
        return numpy.empty((self._n_rows, *shapes[layer]), numpy.float32)

    def end(self) -> None:
        """Commits: the new tokens now belong to their sequences. A step that is over stays over.

        Raises:
            StateError: a layer has not been given its keys and values; the step stays open.
            NotFoundError: the step is over.
        """
        _oscar.oscar_step_end(self._handle, self._id)
        self._open = False

    def abort(self) -> None:
        """Drops the step: every sequence is as it was. Nothing happens where the step is over or the cache closed."""
        if self._open and not self._cache.closed:
            _oscar.oscar_step_abort(self._handle, self._id)
        self._open = False

    def __enter__(self) -> Step:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self.abort()
        elif self._open:
            try:
                self.end()
            except BaseException:
                self.abort()
                raise

    def __repr__(self) -> str:
        return f"<oscar.Step {self._id}, {self._n_rows} rows{'' if self._open else ', over'}>"

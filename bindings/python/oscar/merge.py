"""Joining attention over disjoint sets of tokens."""

from __future__ import annotations

from typing import Any

import numpy

from . import _oscar
from .types import Tensor


def merge(outs: Tensor, lses: Tensor, out: Tensor | None = None, lse: Tensor | None = None) -> tuple[Any, Any]:
    """``lse = log sum_p exp(lse_p)``, ``out = sum_p exp(lse_p - lse) out_p`` (context parallelism).

    Args:
        outs: ``[n_parts, ..., d]`` float32, up to 4 dimensions, dense.
        lses: ``[n_parts, ...]`` float32, dense.
        out: ``outs`` without its first dimension, written. None allocates it, and ``lse``, where ``outs`` is a numpy
            array.
        lse: ``lses`` without its first dimension, written; ``[1]`` where ``outs`` is ``[n_parts, d]``; may be absent
            where ``out`` is given.

    Returns:
        ``(out, lse)``. A row whose parts are all empty (lse -infinity) gives 0 and -infinity. Parts with lse +infinity
        outweigh all others and share equally. A NaN among the lses makes its row NaN, and no other.

    Raises:
        InvalidError: shapes, dtypes or strides.
        TypeError: ``out`` is missing and ``outs`` is not a numpy array.
    """
    if out is None:
        if not isinstance(outs, numpy.ndarray) or not isinstance(lses, numpy.ndarray):
            raise TypeError(
                f"out is missing: it is allocated for numpy arrays only, and outs is a {type(outs).__name__}"
            )
        out = numpy.empty(outs.shape[1:], numpy.float32)
        if lse is None:
            lse = numpy.empty(lses.shape[1:] or (1,), numpy.float32)
    _oscar.oscar_merge(outs, lses, out, lse)
    return out, lse

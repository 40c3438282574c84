"""Attention in numpy, over rows that may have been quantized or dropped."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def to_bf16(x: Array) -> Array:
    """Rounds float32 to the nearest BF16, ties to even; returns float32."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def logits(q: Array, k: Array) -> Array:
    """q [n, n_q_heads, d], k [n_kv_heads, n_tokens, d] -> [n_kv_heads, group, n, n_tokens], scaled and not masked."""
    n, n_q, d = q.shape
    n_kv, n_tokens, _ = k.shape
    rows = q.reshape(n, n_kv, n_q // n_kv, d).transpose(1, 2, 0, 3).reshape(n_kv, -1, d)
    products: Array = rows @ k.swapaxes(1, 2) * np.float32(d**-0.5)
    return products.reshape(n_kv, -1, n, n_tokens)


def softmax(x: Array) -> Array:
    """In place, over the last axis."""
    x -= x.max(-1, keepdims=True)
    np.exp(x, out=x)
    x /= x.sum(-1, keepdims=True)
    return x


def mix(weights: Array, v: Array) -> Array:
    """weights [n_kv_heads, group, n, n_tokens], v [n_kv_heads, n_tokens, d] -> [n, n_q_heads, d]"""
    n_kv, group, n, n_tokens = weights.shape
    out = (weights.reshape(n_kv, -1, n_tokens) @ v).reshape(n_kv, group, n, -1)
    return out.transpose(2, 0, 1, 3).reshape(n, n_kv * group, -1)


def mask(x: Array, positions: Array, kept: Array | None = None) -> Array:
    """Hides, in logits x of queries at ``positions``, later tokens, and those that a KV head has not kept
    (kept [n_kv_heads, n_tokens])."""
    first, n_tokens = int(positions[0]), x.shape[-1]
    future = np.arange(first, n_tokens) > np.asarray(positions)[:, None]
    x[..., first:] = np.where(future, -np.inf, x[..., first:])
    if kept is not None:
        x += np.where(kept, np.float32(0), np.float32(-np.inf))[:, None, None]
    return x


def attend(q: Array, k: Array, v: Array, positions: Array, kept: Array | None = None) -> tuple[Array, Array]:
    """Output [n, n_q_heads, d], and weights [n_kv_heads, group, n, n_tokens]."""
    weights = softmax(mask(logits(q, k), positions, kept))
    return mix(weights, v), weights

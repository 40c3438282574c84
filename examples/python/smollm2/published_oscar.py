"""The rival, for readers: OSCAR as published, a 2-bit KV cache by offline rotations, in plain numpy.

Z. Zhou et al., "OSCAR: Offline Spectral Covariance-Aware Rotation for 2-bit KV Cache Quantization", arXiv 2605.17757.
Per layer and KV head, keys and values are rotated by R = U H P: U eigenvectors of what attention weighs errors with,
H the orthonormal Hadamard matrix, P the bit reversal. A rotated row is clipped and stored as asymmetric min-max codes
of two bits, with a scale and a zero in 16 bits for every group of `head_dim` elements. U comes from calibration.
"""

import contextlib

import numpy as np

CODE_BITS = 2
GROUP_BITS = 2 * 16  # scale and zero
KEY_CLIP, VALUE_CLIP = 0.96, 0.92  # quantiles of a row's |x|
QUERY_TILE = 128  # queries whose attention is computed at a time: their logits stay in the processor's cache


def bits_per_element(head_dim):
    return CODE_BITS + GROUP_BITS / head_dim


def hadamard(n):
    """Sylvester's, orthonormal; n a power of two."""
    h = np.ones((1, 1))
    while len(h) < n:
        h = np.block([[h, h], [h, -h]])
    return h / np.sqrt(n)


def bit_reversal(n):
    """The permutation that reads indices backwards in binary."""
    width = n.bit_length() - 1
    return np.array([int(f"{i:0{width}b}"[::-1], 2) for i in range(n)])


def rotation(moment):
    """R = U H P for a second moment [..., d, d]; U's columns by falling eigenvalue."""
    d = moment.shape[-1]
    u = np.linalg.eigh(moment)[1][..., ::-1]
    return (u @ hadamard(d))[..., bit_reversal(d)].astype(np.float32)


def quantize(x, clip):
    """Rows [..., d] through clipping and two bits, and back."""
    d = x.shape[-1]
    limit = np.sort(np.abs(x), axis=-1)[..., int(clip * d), None]
    x = np.clip(x, -limit, limit)
    low, high = x.min(-1, keepdims=True), x.max(-1, keepdims=True)
    scale = np.maximum(high - low, 1e-8) / (2**CODE_BITS - 1)
    zero = np.float32(np.float16(-low / scale))
    scale = np.float32(np.float16(scale))
    code = np.clip(np.floor(x / scale + zero + 0.5), 0, 2**CODE_BITS - 1)
    return (code - zero) * scale


def to_bf16(x):
    """Rounds float32 to the nearest BF16, ties to even; returns float32."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def attention(q, k, v, first):
    """Causal attention: q [n, n_q_heads, d] at positions first.. over k, v [n_kv_heads, first + n, d]."""
    n, n_q, d = q.shape
    n_kv, total, _ = k.shape
    q = q.reshape(n, n_kv, n_q // n_kv, d).transpose(1, 2, 0, 3)  # [n_kv_heads, group, n, d]
    logits = (q.reshape(n_kv, -1, d) @ k.swapaxes(1, 2) / np.sqrt(np.float32(d))).reshape(*q.shape[:3], total)
    future = np.arange(total) > np.arange(first, first + n)[:, None]
    logits[..., future] = -np.inf
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    out = (weights.reshape(n_kv, -1, total) @ v).reshape(q.shape)
    return out.transpose(2, 0, 1, 3).reshape(n, n_q, d)


class Calibration:
    """Rotations from captured queries, keys and values of calibration texts."""

    def __init__(self, model, windows, n_sink, progress=lambda items: items):
        """windows: token ids [n_windows, n]; each window is a text of its own. Its first n_sink tokens, which the
        cache keeps exact, do not count."""
        n_windows, n = windows.shape
        self.n_tokens = windows.size
        self.key_rotation, self.value_rotation = [], []  # per layer [n_kv_heads, d, d]
        layers = iter(progress(range(model.n_layers)))

        def attend(layer, k, v, q):
            next(layers)
            q, k, v = (x.reshape(n_windows, n, *x.shape[1:]) for x in (q, to_bf16(k), to_bf16(v)))
            self._add_layer(q[:, n_sink:], k[:, n_sink:], v[:, n_sink:])
            out = np.empty_like(q)
            for window, keys, values in zip(range(n_windows), k.swapaxes(1, 2), v.swapaxes(1, 2)):
                for first in range(0, n, QUERY_TILE):
                    end = min(first + QUERY_TILE, n)
                    part = window, slice(first, end)
                    out[part] = attention(q[part], keys[:, :end], values[:, :end], first)
            return out.reshape(n_windows * n, *out.shape[2:])

        model.forward(windows.ravel(), np.tile(np.arange(n), n_windows), attend)
        next(layers, None)

    def _add_layer(self, q, k, v):
        n_kv, d = k.shape[2:]
        query_moment, value_moment = [], []
        for head in range(n_kv):
            group = q.reshape(*q.shape[:2], n_kv, -1, d)[:, :, head].reshape(-1, d)
            keys, values = k[:, :, head].reshape(-1, d), v[:, :, head].reshape(-1, d)
            moment = group.T @ group / len(group)  # E[q q^T]
            weight = ((keys @ moment) * keys).sum(-1)  # k^T E[q q^T] k: how strongly queries meet this token
            query_moment.append(moment)
            value_moment.append((values * weight[:, None]).T @ values / weight.sum())
        self.key_rotation.append(rotation(np.stack(query_moment)))
        self.value_rotation.append(rotation(np.stack(value_moment)))


class PublishedOscarArm:
    """A sequence whose packed tokens are quantized as above. It packs the very tokens that another arm has packed, so
    that both have the same exact tokens at every position."""

    def __init__(self, model, calibration, n_sink, max_tokens, n_packed):
        """n_packed(): how many tokens behind the first n_sink are quantized now."""
        shape = (model.n_layers, model.n_kv_heads, max_tokens, model.head_dim)
        self._k, self._v = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        self._key_rotation = np.stack(calibration.key_rotation)
        self._value_rotation = np.stack(calibration.value_rotation)
        self._n_sink, self._count_packed = n_sink, n_packed
        self._packed_end = n_sink
        self.length = 0

    @property
    def n_packed(self):
        return self._packed_end - self._n_sink

    @contextlib.contextmanager
    def step(self, n):
        self._pack(self._n_sink + self._count_packed())
        yield self
        self.length += n

    def layer(self, layer, k, v, q):
        end = self.length + len(k)
        self._k[layer, :, self.length : end] = to_bf16(k).swapaxes(0, 1)
        self._v[layer, :, self.length : end] = to_bf16(v).swapaxes(0, 1)
        return attention(q, self._k[layer, :, :end], self._v[layer, :, :end], self.length)

    def _pack(self, end):
        if end <= self._packed_end:
            return
        rows = np.s_[:, :, self._packed_end : end]
        turn = self._key_rotation
        self._k[rows] = quantize(self._k[rows] @ turn, KEY_CLIP) @ turn.swapaxes(-1, -2)
        turn = self._value_rotation
        self._v[rows] = quantize(self._v[rows] @ turn, VALUE_CLIP) @ turn.swapaxes(-1, -2)
        self._packed_end = end

"""The rivals that change numbers: formats for keys and values, in plain numpy, readable rather than fast.

A quantizer takes keys and values [n_layers, n_kv_heads, n, head_dim] of n new tokens, a multiple of 128, and returns
what attention would read instead. `bits(head_dim)` counts every stored bit of an element: codes, scales, zeros.
"""

import numpy as np
from smollm2 import published_oscar
from smollm2.published_oscar import hadamard

FLOAT16_BITS = 16


def min_max(x, n_bits):
    """Asymmetric codes over the last axis, with scale and minimum in float16, and back."""
    low, high = x.min(-1, keepdims=True), x.max(-1, keepdims=True)
    to_float16 = lambda y: y.astype(np.float16).astype(np.float32)
    scale = np.maximum(to_float16((high - low) / (2**n_bits - 1)), np.float32(2**-24))
    low = to_float16(low)
    return np.clip(np.rint((x - low) / scale), 0, 2**n_bits - 1) * scale + low


class Fp8:
    """FP8 e4m3 without a scale (vLLM's and TensorRT-LLM's default): 3 mantissa bits, from 2^-9 to 448."""

    LARGEST, LEAST_EXPONENT, MANTISSA_BITS = 448.0, -6, 3

    def bits(self, head_dim):
        return 8.0

    def round(self, x):
        exponent = np.floor(np.log2(np.maximum(np.abs(x), 2.0**self.LEAST_EXPONENT)))
        spacing = np.exp2(exponent - self.MANTISSA_BITS)
        return np.clip(np.rint(x / spacing) * spacing, -self.LARGEST, self.LARGEST).astype(np.float32)

    def __call__(self, k, v):
        return self.round(k), self.round(v)


class HadamardMinMax:
    """Rows rotated by the orthonormal Hadamard matrix, then min-max codes with 16-bit scale and minimum per row."""

    def __init__(self, n_bits):
        self.n_bits = n_bits

    def bits(self, head_dim):
        return self.n_bits + 2 * FLOAT16_BITS / head_dim

    def __call__(self, k, v):
        turn = hadamard(k.shape[-1]).astype(np.float32)
        return tuple(min_max(x @ turn, self.n_bits) @ turn.T for x in (k, v))


class Kivi:
    """KIVI (Z. Liu et al., arXiv 2402.02750): keys in groups of 32 tokens of one channel, values in groups of 32
    channels of one token, min-max codes with 16-bit scale and minimum per group."""

    GROUP = 32

    def __init__(self, n_bits):
        self.n_bits = n_bits

    def bits(self, head_dim):
        return self.n_bits + 2 * FLOAT16_BITS / self.GROUP

    def __call__(self, k, v):
        *lead, n, d = k.shape
        channels = k.reshape(*lead, n // self.GROUP, self.GROUP, d).swapaxes(-1, -2)
        k = min_max(channels, self.n_bits).swapaxes(-1, -2).reshape(k.shape)
        return k, min_max(v.reshape(*lead, n, -1, self.GROUP), self.n_bits).reshape(v.shape)


class TurboQuant:
    """TurboQuant for mean squared error (A. Zandieh et al., arXiv 2504.19874), 2 bits: a random rotation (signs, then
    Hadamard), the row's rms in 16 bits, and the Lloyd-Max levels of a Gaussian."""

    LEVELS, THRESHOLD = (0.4528, 1.510), 0.9816  # J. Max, "Quantizing for minimum distortion", 1960, table for N = 4

    def __init__(self, seed=0):
        self.seed = seed

    def bits(self, head_dim):
        return 2 + FLOAT16_BITS / head_dim

    def round(self, x):
        scale = np.sqrt((x * x).mean(-1, keepdims=True)).astype(np.float16).astype(np.float32)
        inner, outer = self.LEVELS
        magnitude = np.where(np.abs(x) > self.THRESHOLD * scale, np.float32(outer), np.float32(inner))
        return np.copysign(magnitude, x) * scale

    def __call__(self, k, v):
        d = k.shape[-1]
        signs = np.random.default_rng(self.seed).choice([-1.0, 1.0], d)
        turn = (signs[:, None] * hadamard(d)).astype(np.float32)
        return tuple(self.round(x @ turn) @ turn.T for x in (k, v))


class PublishedOscar:
    """OSCAR as published: see published_oscar.py. Rotations [n_layers, n_kv_heads, d, d] of its own calibration."""

    def __init__(self, key_rotation, value_rotation):
        self.key_rotation, self.value_rotation = key_rotation, value_rotation

    def bits(self, head_dim):
        return published_oscar.bits_per_element(head_dim)

    def __call__(self, k, v):
        pairs = (k, self.key_rotation, published_oscar.KEY_CLIP), (v, self.value_rotation, published_oscar.VALUE_CLIP)
        return tuple(published_oscar.quantize(x @ turn, clip) @ turn.swapaxes(-1, -2) for x, turn, clip in pairs)

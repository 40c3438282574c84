"""Keys with a large constant before RoPE, as Qwen2's have: a Hadamard basis drowns in it, a learned one must not."""

import dataclasses

import numpy as np
import pytest
from oscar.evaluate import Capture, Library, tensors
from oscar.evaluate.attention import to_bf16
from quality.roster import self_calibration

N_TOKENS, N_COLLECTED, FIRST = 1024, 256, 512
SLOW_PAIR, FAST_PAIR = 31, 1  # interleaved: elements 2 j and 2 j + 1
BIAS_RMS = 100.0


@dataclasses.dataclass(frozen=True)
class Shape:
    n_layers: int = 1
    n_q_heads: int = 6
    n_kv_heads: int = 2
    head_dim: int = 64
    max_tokens: int = 4096

    @property
    def rope_frequency(self):
        return 1e5 ** (-2 * np.arange(self.head_dim // 2) / self.head_dim)


def turned(x, frequency):
    """Rows [n, n_heads, d] at positions 0 .. n-1."""
    z = x[..., 0::2] + 1j * x[..., 1::2]
    z = z * np.exp(1j * np.arange(len(x))[:, None] * frequency)[:, None]
    return np.stack([z.real, z.imag], -1).reshape(x.shape)


def capture(bias):
    """Random rows with a spectrum; what is far away is seldom looked at. Queries hardly see the fast pair, or attention
    would follow the bias alone; the slow pair's bias is nearly the same for all keys, and softmax does not see it."""
    shape, random = Shape(), np.random.default_rng(901)
    d = shape.head_dim
    spectrum = 1 / np.sqrt(1 + np.arange(d))
    mix = np.linalg.qr(random.standard_normal((d, d)))[0] * spectrum * np.sqrt(d / (spectrum**2).sum())
    rows = lambda heads: random.standard_normal((N_TOKENS, heads, d)) @ mix.T
    q, k, v = 2.5 * rows(shape.n_q_heads), rows(shape.n_kv_heads), rows(shape.n_kv_heads)
    q[..., 2 * FAST_PAIR : 2 * FAST_PAIR + 2] /= BIAS_RMS
    k[..., 2 * FAST_PAIR] += bias
    k[..., 2 * SLOW_PAIR] += bias
    q, k = (turned(x, shape.rope_frequency) for x in (q, k))
    return Capture(*(to_bf16(np.float32(x))[None] for x in (q, k, v)))


def attention_kl(library, bias):
    return tensors(capture(bias), {"arm": library}, first=FIRST)["arm"]["kl"]["mean"]


ITSELF = Library("2bit", self_calibrate=self_calibration(Shape()), n_collected=N_COLLECTED)


@pytest.fixture(scope="module")
def unbiased():
    return attention_kl(ITSELF, 0.0)


def test_a_cache_that_calibrates_itself_stands_a_key_bias_of_a_hundred_rms(unbiased):
    biased = attention_kl(ITSELF, BIAS_RMS)
    assert 1e-3 < unbiased < 0.5  # attention that means something
    assert biased <= 2 * unbiased


def test_without_calibration_such_a_bias_is_ruinous(unbiased):
    assert attention_kl(Library("2bit"), BIAS_RMS) > 5 * unbiased

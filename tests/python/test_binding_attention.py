"""Attention through the binding equals attention in numpy."""

import numpy as np
import pytest
from binding_support import attention, bf16, exact_config, fill, random_qkv, small_config

import oscar


def close(got, wanted, tolerance=1e-5):
    np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("n", [1, 5, 200])
def test_exact_storage_equals_softmax_attention(n):
    q, k, v = random_qkv(1, n)
    with oscar.Cache(exact_config()) as cache, cache.open() as sequence:
        got = fill(cache, sequence, k, v, q)
    assert got.dtype == np.float32 and got.shape == q.shape
    close(got, attention(q, bf16(k), bf16(v))[0])


def test_append_then_attend_equals_layer():
    q, k, v = random_qkv(2, 9)
    with oscar.Cache(exact_config()) as cache, cache.open() as one, cache.open() as other:
        with cache.step([(one, 9)]) as step:
            step.append(0, k, v)
            apart = step.attend(0, q)
        with cache.step([(other, 9)]) as step:
            together = step.layer(0, k, v, q)
    np.testing.assert_array_equal(apart, together)


def test_values_may_be_of_another_size():
    q, k, v = random_qkv(3, 6, key_dim=128, value_dim=64)
    with oscar.Cache(exact_config(key_dim=128, value_dim=64)) as cache, cache.open() as sequence:
        got = fill(cache, sequence, k, v, q)
    assert got.shape == (6, 4, 64)
    close(got, attention(q, bf16(k), bf16(v))[0])


def test_options_of_attention():
    q, k, v = random_qkv(4, 7)
    sinks = np.linspace(-1, 1, 4).astype(np.float32)
    lse = np.zeros((7, 4), np.float32)
    with oscar.Cache(exact_config()) as cache, cache.open() as sequence:
        with cache.step([(sequence, 7)]) as step:
            got = step.layer(0, k, v, q, lse=lse, sink_logits=sinks, scale=0.3, softcap=2.0)
    out, wanted_lse = attention(q, bf16(k), bf16(v), scale=0.3, softcap=2.0, sink_logits=sinks)
    close(got, out)
    close(lse, wanted_lse)


@pytest.mark.parametrize("dtype", [np.uint8, bool])
def test_tree_mask(dtype):
    q, k, v = random_qkv(5, 14)
    # After ten tokens a root with two children, and a child of the second one.
    tree = np.zeros((4, 4), dtype)
    tree[1, 0] = tree[2, 0] = tree[3, 0] = tree[3, 2] = 1
    with oscar.Cache(exact_config()) as cache, cache.open() as sequence:
        fill(cache, sequence, k[:10], v[:10])
        with cache.step([(sequence, 4, 4)]) as step:
            got = step.layer(0, k[10:], v[10:], q[10:], mask=tree)
    visible = np.concatenate([np.ones((4, 10), bool), tree.astype(bool) | np.eye(4, dtype=bool)], axis=1)
    close(got, attention(q[10:], bf16(k), bf16(v), visible=visible)[0])


def test_ragged_batch_with_padding():
    q, k, v = random_qkv(6, 9)
    lse = np.zeros((9, 4), np.float32)
    with oscar.Cache(exact_config()) as cache, cache.open() as one, cache.open() as other:
        with cache.step([(one, 5), (oscar.PADDING, 1), (other, 3)]) as step:
            assert step.n_rows == 9
            got = step.layer(0, k, v, q, lse=lse)
        assert (one.length, other.length) == (5, 3)
    k, v = bf16(k), bf16(v)
    close(got[:5], attention(q[:5], k[:5], v[:5])[0])
    close(got[6:], attention(q[6:], k[6:], v[6:])[0])
    assert not got[5].any() and np.isneginf(lse[5]).all()


def test_sliding_window():
    q, k, v = random_qkv(7, 90)
    with oscar.Cache(exact_config(window=20)) as cache, cache.open() as sequence:
        got = fill(cache, sequence, k, v, q, chunk=7)
    distance = np.arange(90)[:, None] - np.arange(90)[None, :]
    close(got, attention(q, bf16(k), bf16(v), visible=(distance >= 0) & (distance < 20))[0])


def relative_error(profile, n=512):
    q, k, v = random_qkv(8, n)
    with oscar.Cache(small_config(profile)) as cache, cache.open() as sequence:
        got = fill(cache, sequence, k, v, q, chunk=32)
        assert cache.stats().n_packed_tokens > 0
    wanted = attention(q, bf16(k), bf16(v))[0]
    late = slice(n // 2, n)
    return np.linalg.norm(got[late] - wanted[late]) / np.linalg.norm(wanted[late])


def test_packed_storage_is_close_and_more_bits_are_closer():
    # The best 2-bit quantizer of a Gaussian has a relative error of 0.343, the best 4-bit one 0.097 (Max, 1960); random
    # values average out of the output as their errors do, and the keys' errors come on top.
    two, three, four, eight = (relative_error(profile) for profile in ("2bit", "3bit", "4bit", "8bit"))
    assert 0 < eight < four < three < two
    assert two < 0.6 and four < 0.2 and eight < 0.02


def test_merge_joins_disjoint_parts():
    q, k, v = random_qkv(9, 40)
    k, v = bf16(k), bf16(v)
    last = q[-1:]
    everything = np.ones((1, 15), bool)
    parts = [
        attention(last, k[:15], v[:15], visible=everything),
        attention(last, k[15:30], v[15:30], visible=everything),
        (np.zeros((1, 4, 64)), np.full((1, 4), -np.inf)),
    ]
    outs, lses = (np.stack([part[i] for part in parts]).astype(np.float32) for i in (0, 1))
    out, lse = oscar.merge(outs, lses)
    wanted_out, wanted_lse = attention(last, k[:30], v[:30])
    close(out, wanted_out)
    close(lse, wanted_lse)
    # Into arrays of the caller; the log-sum-exp is optional there.
    mine = np.zeros_like(out)
    got = oscar.merge(outs, lses, mine)
    assert got[0] is mine and got[1] is None
    np.testing.assert_array_equal(mine, out)


def test_merge_of_empty_parts():
    out, lse = oscar.merge(np.ones((2, 3, 8), np.float32), np.full((2, 3), -np.inf, np.float32))
    assert not out.any() and np.isneginf(lse).all()


def test_merge_of_a_single_row():
    outs = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    out, lse = oscar.merge(outs, np.zeros(2, np.float32))
    assert out.tolist() == [2.0, 3.0] and lse.shape == (1,) and abs(lse[0] - np.log(2)) < 1e-6
    with pytest.raises(oscar.InvalidError, match=r"lse: shape\[0\] is 2, wanted 1"):
        oscar.merge(outs, np.zeros(2, np.float32), np.empty(2, np.float32), np.empty(2, np.float32))

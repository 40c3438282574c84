"""Sequences and steps: fork, truncate, accept, commit, abort, and what is left after a close."""

import gc

import numpy as np
import pytest
from binding_support import attention, bf16, exact_config, fill, random_qkv, small_config

import oscar


@pytest.fixture
def cache():
    with oscar.Cache(exact_config()) as cache:
        yield cache


def keys(cache, sequence, head=0):
    return cache.read(sequence, 0, head)[0]


def test_length_counts_accepted_tokens(cache):
    _, k, v = random_qkv(1, 7)
    with cache.open() as sequence:
        assert sequence.length == len(sequence) == 0 and sequence
        step = cache.step([(sequence, 7)])
        step.append(0, k, v)
        assert sequence.length == 0
        step.end()
        assert sequence.length == 7


def test_read_gives_bf16_keys_and_values(cache):
    _, k, v = random_qkv(2, 30)
    with cache.open() as sequence:
        fill(cache, sequence, k, v)
        for head in (0, 1):
            got_k, got_v = cache.read(sequence, 0, head)
            np.testing.assert_array_equal(got_k, bf16(k)[:, head])
            np.testing.assert_array_equal(got_v, bf16(v)[:, head])
        got_k, got_v = cache.read(sequence, 0, 1, first=10, n=5)
        np.testing.assert_array_equal(got_v, bf16(v)[10:15, 1])
        # One of the two, into an array of the caller.
        mine = np.zeros((4, 64), np.float16)
        got_k, got_v = cache.read(sequence, 0, 1, 3, 4, v_out=mine)
        assert got_k is None and got_v is mine
        np.testing.assert_array_equal(mine, bf16(v)[3:7, 1].astype(np.float16))
        with pytest.raises(oscar.InvalidError, match=r"\[28, 31\).*30"):
            cache.read(sequence, 0, 0, 28, 3)
        with pytest.raises(oscar.InvalidError):
            cache.read(sequence, 1, 0)
        with pytest.raises(oscar.InvalidError):
            cache.read(sequence, 0, 2)


def test_fork_shares_the_past_and_goes_its_own_way(cache):
    q, k, v = random_qkv(3, 24)
    with cache.open() as parent:
        fill(cache, parent, k[:20], v[:20])
        with parent.fork(12) as child, parent.fork() as twin:
            assert (child.length, twin.length, parent.length) == (12, 20, 20)
            got = fill(cache, child, k[20:], v[20:], q[20:])
            np.testing.assert_array_equal(keys(cache, parent), bf16(k)[:20, 0])
        past = [np.concatenate([x[:12], x[20:]]) for x in (bf16(k), bf16(v))]
        np.testing.assert_allclose(got, attention(q[20:], *past)[0], rtol=1e-5, atol=1e-5)
        with pytest.raises(oscar.InvalidError):
            parent.fork(21)
        assert cache.stats().n_sequences == 1


def test_truncate_forgets(cache):
    _, k, v = random_qkv(4, 20)
    with cache.open() as sequence:
        fill(cache, sequence, k, v)
        sequence.truncate(13)
        assert sequence.length == 13
        np.testing.assert_array_equal(keys(cache, sequence), bf16(k)[:13, 0])
        with pytest.raises(oscar.InvalidError):
            sequence.truncate(14)


@pytest.mark.parametrize("indices", [[0, 2, 3], (1,), np.array([0, 3], np.int32), []])
def test_accept_keeps_a_path(cache, indices):
    _, k, v = random_qkv(5, 14)
    with cache.open() as sequence:
        fill(cache, sequence, k[:10], v[:10])
        with cache.step([(sequence, 4, 4)]) as step:
            step.append(0, k[10:], v[10:])
        sequence.accept(10, indices)
        stays = [*range(10), *(10 + int(i) for i in indices)]
        np.testing.assert_array_equal(keys(cache, sequence), bf16(k)[stays, 0])


def test_accept_wants_ascending_indices(cache):
    _, k, v = random_qkv(5, 4)
    with cache.open() as sequence:
        fill(cache, sequence, k, v)
        with pytest.raises(oscar.InvalidError):
            sequence.accept(0, [2, 1])
        with pytest.raises(oscar.InvalidError, match="indices is -1"):
            sequence.accept(0, [-1])
        with pytest.raises(TypeError):
            sequence.accept(0, [0.5])
        assert sequence.length == 4


def test_stats_and_capacity(cache):
    _, k, v = random_qkv(6, 40)
    assert cache.stats().n_sequences == cache.stats().n_tokens == 0
    room = cache.capacity()
    assert room > 0
    with cache.open() as one, cache.open() as other:
        fill(cache, one, k, v)
        fill(cache, other, k[:3], v[:3])
        with cache.step([(one, 1)]) as step:
            stats = cache.stats()
            assert (stats.n_sequences, stats.n_open_steps, stats.n_tokens) == (2, 1, 43)
            step.abort()
    assert cache.stats().n_sequences == cache.stats().n_open_steps == 0
    assert cache.capacity() == room


def test_stats_equal_the_report():
    config = small_config()
    _, k, v = random_qkv(7, 700)
    with oscar.Cache(config) as cache, cache.open() as sequence:
        fill(cache, sequence, k, v)
        step = cache.step([(sequence, 1)])
        stats, report = cache.stats(), oscar.check(config, 700)
        step.abort()
    assert stats.bytes_sequences == report.bytes_sequences > 0
    assert stats.bytes_fixed == report.bytes_fixed
    assert stats.bits_per_element == pytest.approx(report.bits_per_element)
    assert stats.n_packed_tokens > 0 and stats.n_blocks > 0


def test_scores_are_the_attention_received():
    q, k, v = random_qkv(8, 20)
    with oscar.Cache(small_config()) as cache, cache.open() as sequence:
        # The votes of the newest max_rollback queries wait.
        for i in range(20):
            fill(cache, sequence, k[i : i + 1], v[i : i + 1], q[i : i + 1])
        scores = cache.scores(sequence, 0, 0)
        assert scores.dtype == np.float32 and scores.shape == (20,)
        assert (scores[:4] == 0).all()  # sinks
        assert (scores[4:] >= 0).all() and scores.max() > 0 and np.isfinite(scores).all()
        mine = np.zeros(7, np.float32)
        assert cache.scores(sequence, 0, 0, 5, 7, out=mine) is mine
        np.testing.assert_array_equal(mine, scores[5:12])


def test_scores_say_which_packed_tokens_were_refined():
    q, k, v = random_qkv(9, 400)
    with oscar.Cache(small_config(n_refined=4)) as cache, cache.open() as sequence:
        fill(cache, sequence, k, v, q, chunk=32)
        stats = cache.stats()
        scores = cache.scores(sequence, 0, 1)
    assert stats.n_packed_tokens >= 128
    assert np.isposinf(scores).sum() == 4 * (stats.n_packed_tokens // 128)


def test_scores_of_exact_storage_are_refused(cache):
    with cache.open() as sequence, pytest.raises(oscar.StateError):
        fill(cache, sequence, *random_qkv(1, 3)[1:])
        cache.scores(sequence, 0, 0)


# ------------------------------------------------------------------------------------------------- steps ----


def test_an_exception_aborts_the_step(cache):
    _, k, v = random_qkv(10, 5)
    with cache.open() as sequence:
        with pytest.raises(ZeroDivisionError):
            with cache.step([(sequence, 5)]) as step:
                step.append(0, k, v)
                raise ZeroDivisionError
        assert sequence.length == 0 and cache.stats().n_open_steps == 0
        with pytest.raises(oscar.NotFoundError):
            step.append(0, k, v)


def test_a_step_without_its_keys_is_not_committed(cache):
    with cache.open() as sequence:
        step = cache.step([(sequence, 2)])
        with pytest.raises(oscar.StateError):
            step.end()
        assert cache.stats().n_open_steps == 1  # it stays open
        step.abort()
        with pytest.raises(oscar.StateError):
            with cache.step([(sequence, 2)]):
                pass
        assert cache.stats().n_open_steps == 0 and sequence.length == 0


def test_end_and_abort_by_hand(cache):
    _, k, v = random_qkv(11, 2)
    with cache.open() as sequence:
        with cache.step([(sequence, 2)]) as step:
            step.append(0, k, v)
            step.end()
        assert sequence.length == 2
        with pytest.raises(oscar.NotFoundError):
            step.end()
        step.abort()  # nothing to drop
        with cache.step([(sequence, 2)]) as step:
            step.abort()
            step.abort()
        assert sequence.length == 2


def test_a_sequence_in_a_step_is_not_touched(cache):
    with cache.open() as sequence:
        step = cache.step([(sequence, 2)])
        for call in (sequence.close, sequence.fork, lambda: sequence.truncate(0)):
            with pytest.raises(oscar.StateError):
                call()
        step.abort()


def test_step_entries(cache):
    with cache.open() as sequence:
        for entries in ([(sequence, 0)], [(sequence, -1)], [(sequence, 1, 2, 3)], [(sequence,)], []):
            with pytest.raises(oscar.InvalidError):
                cache.step(entries)
        with pytest.raises(TypeError):
            cache.step([(sequence, 1.0)])
        with pytest.raises(TypeError):
            cache.step([("sequence", 1)])
        by_number = cache.step(iter([(sequence.id, np.int64(2))]))
        assert by_number.n_rows == 2
        by_number.abort()


def test_a_sequence_of_another_cache_is_refused(cache):
    with oscar.Cache(exact_config()) as other, other.open() as foreign:
        with pytest.raises(oscar.InvalidError, match="another cache"):
            cache.step([(foreign, 1)])
        with pytest.raises(oscar.InvalidError, match="another cache"):
            cache.read(foreign, 0, 0)


# ----------------------------------------------------------------------------------------- after a close ----


def test_a_closed_sequence_is_not_found(cache):
    sequence = cache.open()
    sequence.close()
    sequence.close()
    calls = (
        lambda: sequence.length,
        lambda: sequence.fork(0),
        lambda: sequence.truncate(0),
        lambda: sequence.accept(0, []),
        lambda: cache.step([(sequence, 1)]),
        lambda: cache.read(sequence, 0, 0),
        lambda: cache.scores(sequence, 0, 0),
    )
    for call in calls:
        with pytest.raises(oscar.NotFoundError):
            call()
    assert "closed" in repr(sequence)


def test_a_closed_cache_raises_and_never_crashes():
    q, k, v = random_qkv(12, 2)
    cache = oscar.Cache(exact_config(max_open_steps=2))
    one, other = cache.open(), cache.open()
    step = cache.step([(one, 2)])
    cache.close()
    cache.close()
    assert cache.closed
    calls = (
        cache.open,
        cache.stats,
        cache.capacity,
        lambda: cache.step([(other, 1)]),
        lambda: cache.read(other, 0, 0),
        lambda: cache.scores(other, 0, 0),
        lambda: other.length,
        lambda: other.fork(0),
        lambda: other.truncate(0),
        lambda: other.accept(0, []),
        lambda: step.append(0, k, v),
        lambda: step.attend(0, q),
        lambda: step.layer(0, k, v, q),
        step.end,
    )
    for call in calls:
        with pytest.raises(oscar.StateError, match="closed"):
            call()
    step.abort()
    other.close()
    assert all("closed" in repr(x) for x in (cache, one, other))


def test_a_cache_lives_as_long_as_its_sequences():
    sequence = oscar.Cache(exact_config()).open()
    gc.collect()
    assert sequence.length == 0
    step = sequence.cache.step([(sequence, 1)])
    del sequence
    gc.collect()
    step.append(0, *random_qkv(1, 1)[1:])
    step.end()


def test_with_blocks_nest_in_any_order():
    cache = oscar.Cache(exact_config())
    with cache.open() as sequence:
        with cache:
            assert sequence.length == 0
    assert cache.closed

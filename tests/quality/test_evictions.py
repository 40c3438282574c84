"""What the dropping rivals keep, and that it fits the bytes of ours."""

import numpy as np
import pytest

from quality.eviction import H2O, SlidingWindow, SnapKV, StreamingLLM, highest

N_SINK, N_TOKENS, BITS = 4, 300, 2.0


def kept_after(eviction, mass, ends=(132, 260)):
    """mass [n_tokens]: what every token receives from each of 32 queries, at every pass."""
    kept = np.ones((1, 1, N_TOKENS), bool)
    for end in ends:
        eviction.see(0, np.repeat(mass[None, : end + 36, None], 32, axis=2).astype(np.float32))
        eviction.keep(kept, N_SINK, end)
    return np.flatnonzero(kept[0, 0])


def test_highest_takes_only_what_is_allowed():
    score, allowed = np.array([[5.0, 9, 1, 7]]), np.array([[True, False, True, True]])
    np.testing.assert_array_equal(highest(score, allowed, 2), [[True, False, False, True]])
    np.testing.assert_array_equal(highest(score, allowed, 4), allowed)


@pytest.mark.parametrize("method", [H2O, SnapKV, StreamingLLM, SlidingWindow])
def test_kept_tokens_take_no_more_bytes_than_the_codes_of_ours(method):
    kept = kept_after(method(BITS), np.random.default_rng(0).random(N_TOKENS))
    aged = kept[(kept >= N_SINK) & (kept < 260)]
    sinks = kept[kept < N_SINK]
    assert 16 * (len(aged) + len(sinks)) <= BITS * 256 + 16 * N_SINK < 16 * (len(aged) + len(sinks) + 1)
    assert set(range(260, N_TOKENS)) <= set(kept)  # what is exact in ours


def test_h2o_keeps_what_received_most_attention():
    mass = np.full(N_TOKENS, 0.01)
    mass[[10, 50, 90]] = 1.0
    assert {10, 50, 90} <= set(kept_after(H2O(BITS), mass))


def test_h2o_counts_attention_of_all_queries_so_far():
    eviction = H2O(BITS)
    eviction.see(0, np.full((1, 3, 2), 0.25, np.float32))
    eviction.see(0, np.full((1, 5, 4), 0.5, np.float32))
    np.testing.assert_array_equal(eviction.score(np.ones((1, 1, 6), bool))[0, 0], [2.5, 2.5, 2.5, 2, 2, 0])


def test_snapkv_counts_the_last_32_queries_and_keeps_neighbours():
    eviction = SnapKV(BITS)
    early, late = np.zeros((1, 40, 32), np.float32), np.zeros((1, 40, 32), np.float32)
    early[:, 5], late[:, 20] = 1, 1
    eviction.see(0, early)
    eviction.see(0, late)
    score = eviction.score(np.ones((1, 1, 40), bool))[0, 0]
    np.testing.assert_array_equal(np.flatnonzero(score), range(17, 24))
    assert score.max() == 32


def test_what_was_dropped_stays_dropped():
    eviction = H2O(BITS)
    kept = np.ones((1, 1, N_TOKENS), bool)
    mass = np.linspace(1, 2, N_TOKENS)
    eviction.see(0, mass[None, :, None].astype(np.float32))
    eviction.keep(kept, N_SINK, 132)
    gone = ~kept.copy()
    eviction.see(0, 100 * mass[None, ::-1, None].astype(np.float32))
    eviction.keep(kept, N_SINK, 260)
    assert not (kept & gone).any()


def test_streaming_keeps_sinks_and_newest_and_the_window_only_newest():
    mass = np.ones(N_TOKENS)
    n = int(256 * BITS / 16)
    np.testing.assert_array_equal(kept_after(StreamingLLM(BITS), mass), [0, 1, 2, 3, *range(260 - n, N_TOKENS)])
    # The window may use the sinks' bytes, but 16 tokens of the first pass are gone by the second.
    window = kept_after(SlidingWindow(BITS), mass)
    np.testing.assert_array_equal(window, range(260 - n - N_SINK, N_TOKENS))

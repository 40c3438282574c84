"""The rivals that drop tokens. At every position they keep as many tokens, at 16 bits, as fit the bytes of ours.

An eviction is told how much attention tokens receive, and says which of the aged tokens stay. What was dropped stays
dropped. Keys keep the positions that they were rotated with: contexts here are shorter than the model's own.
"""

import collections

import numpy as np

EXACT_BITS = 16


def highest(score, allowed, n):
    """The n highest of `allowed` in the last axis, as a mask; the older of equals."""
    order = np.argsort(-np.where(allowed, score, -np.inf), axis=-1, kind="stable")[..., :n]
    chosen = np.zeros(score.shape, bool)
    np.put_along_axis(chosen, order, True, -1)
    return chosen & allowed


class Eviction:
    """bits: those of the codes whose bytes may be used; so n packed tokens leave room for n bits / 16 exact ones."""

    needs_mass = True
    keeps_sinks = True

    def __init__(self, bits):
        self._bits = bits

    def bits(self, head_dim):
        return self._bits

    def budget(self, n_packed):
        return int(n_packed * self._bits / EXACT_BITS)

    def see(self, layer, mass):
        """mass [n_kv_heads, n_tokens, n queries]: attention that the new queries of a layer paid."""

    def score(self, kept):
        """For every layer, KV head and token, [n_layers, n_kv_heads, n_tokens]."""
        raise NotImplementedError

    def keep(self, kept, n_sink, end):
        """kept [n_layers, n_kv_heads, n_tokens], changed in place: which tokens of [n_sink, end) stay."""
        packed = np.s_[..., n_sink:end]
        n = self.budget(end - n_sink)
        kept[packed] = highest(self.score(kept)[packed], kept[packed], n)


class H2O(Eviction):
    """H2O (Z. Zhang et al., arXiv 2306.14048): the tokens with most attention, summed over all queries so far."""

    def __init__(self, bits):
        super().__init__(bits)
        self._total = {}

    def see(self, layer, mass):
        mass = mass.sum(-1)
        before = self._total.get(layer)
        if before is not None:
            mass[:, : before.shape[1]] += before
        self._total[layer] = mass

    def score(self, kept):
        total = np.zeros(kept.shape, np.float32)
        for layer, mass in self._total.items():
            total[layer, :, : mass.shape[1]] = mass
        return total


class SnapKV(Eviction):
    """SnapKV (Y. Li et al., arXiv 2404.14469): attention of the last 32 queries, max-pooled over 7 neighbours. The
    paper chooses once, after the prompt; here the choice is made again whenever tokens age."""

    N_QUERIES, POOL = 32, 7

    def __init__(self, bits):
        super().__init__(bits)
        self._last = {}

    def see(self, layer, mass):
        last = self._last.setdefault(layer, collections.deque(maxlen=self.N_QUERIES))
        last.extend(np.moveaxis(mass, -1, 0))

    def score(self, kept):
        total = np.zeros(kept.shape, np.float32)
        for layer, rows in self._last.items():
            for row in rows:
                total[layer, :, : row.shape[1]] += row
        side = self.POOL // 2
        padded = np.pad(total, ((0, 0), (0, 0), (side, side)))
        return np.lib.stride_tricks.sliding_window_view(padded, self.POOL, axis=-1).max(-1)


class StreamingLLM(Eviction):
    """StreamingLLM (G. Xiao et al., arXiv 2309.17453): the sinks and the newest tokens."""

    needs_mass = False

    def score(self, kept):
        return np.broadcast_to(np.arange(kept.shape[-1], dtype=np.float32), kept.shape)


class SlidingWindow(StreamingLLM):
    """The newest tokens; once the window moves, the bytes of the sinks go to newer tokens too."""

    keeps_sinks = False

    def keep(self, kept, n_sink, end):
        kept[..., :n_sink] = False
        packed = np.s_[..., n_sink:end]
        kept[packed] = highest(self.score(kept)[packed], kept[packed], self.budget(end - n_sink) + n_sink)

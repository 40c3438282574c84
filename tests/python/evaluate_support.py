"""Models of one layer: one small enough to be computed again by hand, and one that finds again what it has read."""

import numpy as np


class TinyModel:
    """Keys, values and queries straight from an embedding; the answer is linear in the attention's output."""

    n_layers, n_q_heads, n_kv_heads, head_dim, n_vocabulary = 1, 4, 2, 64, 50

    def __init__(self, seed=0):
        random = np.random.default_rng(seed)
        normal = lambda *shape: random.standard_normal(shape).astype(np.float32)
        self.q = normal(self.n_vocabulary, self.n_q_heads, self.head_dim)
        self.k, self.v = normal(2, self.n_vocabulary, self.n_kv_heads, self.head_dim)
        self.out = normal(self.n_q_heads * self.head_dim, self.n_vocabulary) / 4

    def forward(self, tokens, positions, attend):
        return attend(0, self.k[tokens], self.v[tokens], self.q[tokens]).reshape(len(tokens), -1)

    def logits(self, hidden):
        return hidden @ self.out


class Copier:
    """An induction head: looks for where the token at hand has occurred before, and predicts what followed it there."""

    n_layers, n_q_heads, n_kv_heads, head_dim, n_vocabulary = 1, 1, 1, 64, 4000

    def __init__(self):
        self._embedding = np.random.default_rng(5).standard_normal((self.n_vocabulary, 64)).astype(np.float32)
        self._token_at = {}

    def forward(self, tokens, positions, attend):
        self._token_at.update(zip(np.asarray(positions).tolist(), np.asarray(tokens).tolist()))
        before = [self._token_at.get(position - 1, 0) for position in np.asarray(positions).tolist()]
        rows = [self._embedding[ids][:, None] for ids in (before, tokens, tokens)]
        return attend(0, rows[0], rows[1], 4 * rows[2]).reshape(len(tokens), -1)

    def logits(self, hidden):
        return hidden @ self._embedding.T


class Letters:
    """A tokenizer whose tokens are characters."""

    def encode(self, text):
        return [ord(c) for c in text]

    def decode(self, ids):
        return "".join(map(chr, ids))


def naive_attention(q, k, v):
    """One query head in double precision: q [d], k, v [n, d]; returns output and weights."""
    logits = k.astype(np.float64) @ q.astype(np.float64) / np.sqrt(len(q))
    weights = np.exp(logits - logits.max())
    weights /= weights.sum()
    return weights @ v.astype(np.float64), weights

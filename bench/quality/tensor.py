"""Level A: errors of attention on captured queries, keys and values, for every layer and KV head.

Positions: the last 256 queries, and 64 spread over those before. Each query attends to what its arm kept when that
query came, in steps as in level B. The output is the arm's own; logits come from the rows that it says it has read.
"""

import numpy as np

from .attention import logits, mask, mix, softmax

N_LAST, N_SPREAD = 256, 64
LARGEST_DISAGREEMENT = 0.02  # of liboscar's output with attention over the rows that it reports, relative


def positions(n_tokens, first):
    """Of the queries that count, none before `first`."""
    last = np.arange(max(first, n_tokens - N_LAST), n_tokens)
    before = np.linspace(first, last[0] - 1, N_SPREAD).astype(int) if last[0] > first else []
    return np.unique(np.concatenate([before, last]).astype(int))


class Measured:
    """Per query, all of [n_layers, n_kv_heads, n_queries]; sums of squares are over the group's heads and d."""

    NAMES = ("error", "norm", "logit_rmse", "kl", "mass_ratio", "disagreement")

    def __init__(self, capture, n_queries):
        shape = (len(self.NAMES), capture.n_layers, capture.n_kv_heads, n_queries)
        self._values = np.full(shape, np.nan, np.float32)
        self._group = capture.n_q_heads // capture.n_kv_heads

    def set(self, layer, columns, **values):
        for name, value in values.items():
            self._values[self.NAMES.index(name), layer, :, columns] = value.T

    def squares(self, x):
        """x [n, n_q_heads, d] -> [n_kv_heads, n]"""
        return (x * x).reshape(len(x), -1, self._group, x.shape[-1]).sum((2, 3)).T

    def arrays(self):
        return dict(zip(self.NAMES, self._values))


def measure(capture, arm, windows, step_tokens, first, progress=lambda items: items):
    """Feeds the capture to an arm; returns {name: [n_layers, n_kv_heads, n_queries]}."""
    wanted = positions(capture.n_tokens, first)
    measured = Measured(capture, len(wanted))
    for start in progress(range(0, capture.n_tokens, step_tokens)):
        end = min(start + step_tokens, capture.n_tokens)
        packed = slice(windows.n_sink, windows.packed_end(start))
        new = slice(start, end)
        with arm.step(end - start) as step:
            outs = [
                step.layer(layer, capture.k[layer, new], capture.v[layer, new], capture.q[layer, new])
                for layer in range(capture.n_layers)
            ]
        columns = np.flatnonzero((wanted >= start) & (wanted < end))
        if len(columns):
            for layer, out in enumerate(outs):
                at = wanted[columns]
                _compare(measured, capture, layer, columns, at, out[at - start], arm.rows(layer), packed)
    arrays = measured.arrays()
    worst = float(np.nanmax(arrays["disagreement"]))
    if not worst <= LARGEST_DISAGREEMENT:
        raise SystemExit(f"error: an arm's output is {worst:.3f} off attention over the rows that it reports")
    return arrays


def _compare(measured, capture, layer, columns, at, out, rows, packed):
    q = capture.q[layer, at]
    end = rows[0].shape[1]
    k, v = (x[layer, :end].swapaxes(0, 1) for x in (capture.k, capture.v))
    exact_logits, own_logits = logits(q, k), logits(q, rows[0])
    delta = own_logits[..., packed] - exact_logits[..., packed]
    weights = softmax(mask(exact_logits.copy(), at))
    own_weights = softmax(mask(own_logits.copy(), at, rows[2]))
    expected, twin = mix(weights, v), mix(own_weights, rows[1])
    squares = measured.squares
    values = {
        "error": squares(out - expected),
        "norm": squares(expected),
        "disagreement": np.sqrt(squares(out - twin) / squares(twin)),
    }
    if rows[2] is None:  # otherwise tokens are gone, and these are infinite
        exact = np.ones(end, bool)
        exact[packed] = False
        values["kl"] = (weights * np.log((weights + 1e-30) / (own_weights + 1e-30))).sum(-1).mean(1)
        values["mass_ratio"] = own_weights[..., exact].sum((1, 3)) / weights[..., exact].sum((1, 3))
        if packed.stop > packed.start:
            delta -= delta.mean(-1, keepdims=True)
            values["logit_rmse"] = np.sqrt((delta * delta).mean((1, 3)))
    measured.set(layer, columns, **values)


def summary(parts):
    """parts: results of `measure`, one a text; over all texts, layers and KV heads."""
    join = lambda name, reduce: np.concatenate([reduce(part[name]).ravel() for part in parts])
    error = np.concatenate([np.sqrt(p["error"].sum(-1) / p["norm"].sum(-1)).ravel() for p in parts])
    spread = lambda x: dict(zip(("median", "p95", "max"), np.percentile(x, (50, 95, 100)).tolist()))
    mean = lambda x: x.mean(-1)
    found = {"n_pairs": len(error), "db": float(np.mean(-10 * np.log10(np.maximum(error**2, 1e-20)))),
             "error": spread(error)}
    if not np.isnan(parts[0]["kl"]).any():
        found |= {name: spread(join(name, mean)) for name in ("kl", "mass_ratio", "logit_rmse")}
        found["kl"]["mean"] = float(join("kl", mean).mean())
    return found


def error_p95(parts):
    """Of the relative output error over queries, for every text, layer and KV head."""
    return np.concatenate([np.percentile(np.sqrt(p["error"] / p["norm"]), 95, axis=-1).ravel() for p in parts])

"""Level A: errors of attention on captured queries, keys and values, for every layer and KV head.

Positions: the last 256 queries, and 64 spread over those before. Each query attends to what its arm kept when that
query came, in steps as in level B. The output is the arm's own; logits come from the rows that it says it has read.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .arm import Arm
from .attention import Array, logits, mask, mix, softmax
from .capture import Capture
from .model import Progress, silent
from .windows import Windows

N_LAST, N_SPREAD = 256, 64
LARGEST_DISAGREEMENT = 0.02  # of liboscar's output with attention over the rows that it reports, relative


def positions(n_tokens: int, first: int) -> Array:
    """Of the queries that count, none before `first`."""
    last = np.arange(max(first, n_tokens - N_LAST), n_tokens)
    before = np.linspace(first, last[0] - 1, N_SPREAD if last[0] > first else 0).astype(int)
    return np.unique(np.concatenate([before, last]))


class Measured:
    """Per query, all of [n_layers, n_kv_heads, n_queries]; sums of squares are over the group's heads and d."""

    NAMES = ("error", "norm", "logit_rmse", "kl", "mass_ratio", "disagreement")

    def __init__(self, capture: Capture, n_queries: int) -> None:
        shape = (len(self.NAMES), capture.n_layers, capture.n_kv_heads, n_queries)
        self._values: Array = np.full(shape, np.nan, np.float32)
        self._group = capture.n_q_heads // capture.n_kv_heads

    def set(self, layer: int, columns: Array, **values: Array) -> None:
        for name, value in values.items():
            self._values[self.NAMES.index(name), layer, :, columns] = value.T

    def squares(self, x: Array) -> Array:
        """x [n, n_q_heads, d] -> [n_kv_heads, n]"""
        rows: Array = (x * x).reshape(len(x), -1, self._group, x.shape[-1]).sum((2, 3))
        return rows.T

    def arrays(self) -> dict[str, Array]:
        return dict(zip(self.NAMES, self._values))


def measure(
    capture: Capture, arm: Arm, windows: Windows, step_tokens: int, first: int, progress: Progress = silent
) -> dict[str, Array]:
    """Feeds the capture to an arm; returns {name: [n_layers, n_kv_heads, n_queries]}.

    Raises:
        RuntimeError: the arm's output is not attention over the rows that it reports.
    """
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
        raise RuntimeError(f"an arm's output is {worst:.3f} off attention over the rows that it reports")
    return arrays


def _compare(
    measured: Measured,
    capture: Capture,
    layer: int,
    columns: Array,
    at: Array,
    out: Array,
    rows: tuple[Array, Array, Array | None],
    packed: slice,
) -> None:
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


def summary(parts: list[dict[str, Array]]) -> dict[str, Any]:
    """parts: results of `measure`, one a text; over all texts, layers and KV heads."""

    def join(name: str) -> Array:
        return np.concatenate([part[name].mean(-1).ravel() for part in parts])

    def spread(x: Array) -> dict[str, float]:
        return dict(zip(("median", "p95", "max"), np.percentile(x, (50, 95, 100)).tolist()))

    error = np.concatenate([np.sqrt(p["error"].sum(-1) / p["norm"].sum(-1)).ravel() for p in parts])
    db = float(np.mean(-10 * np.log10(np.maximum(error**2, 1e-20))))
    found: dict[str, Any] = {"n_pairs": len(error), "db": db, "error": spread(error)}
    if not np.isnan(parts[0]["kl"]).any():
        found |= {name: spread(join(name)) for name in ("kl", "mass_ratio", "logit_rmse")}
        found["kl"]["mean"] = float(join("kl").mean())
    return found


def error_p95(parts: list[dict[str, Array]]) -> Array:
    """Of the relative output error over queries, for every text, layer and KV head."""
    return np.concatenate([np.percentile(np.sqrt(p["error"] / p["norm"]), 95, axis=-1).ravel() for p in parts])

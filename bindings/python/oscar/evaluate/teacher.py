"""Level B: the model reads a text, every token attends to the compressed past of its own arm, in small steps.

Within a step the new tokens are exact for all arms: one big step would measure nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .arm import Arm
from .attention import Array
from .model import Model, Progress, forward, silent

N_BOOTSTRAP = 2000
FEWEST_WINDOWS = 6  # for intervals over windows; with fewer, over blocks of tokens
BLOCK_TOKENS = 128


def log_normalizer(logits: Array) -> Array:
    """Of rows: the log of the sum of exponentials."""
    top = logits.max(-1)
    normalizer: Array = top + np.log(np.exp(logits - top[:, None]).sum(-1))
    return normalizer


def compare(
    model: Model,
    tokens: Array,
    exact_hidden: Array,
    arms: dict[str, Arm],
    step_tokens: int,
    progress: Progress = silent,
) -> tuple[dict[str, dict[str, Array]], Array]:
    """arms: {name: arm}. Returns {name: {"kl", "same_top1", "nll"}}, [n] each, and the exact arm's nll [n]; the nll of
    a token is that of the next one, so the last has none."""
    found: dict[str, dict[str, list[Array]]] = {name: {"kl": [], "same_top1": [], "nll": []} for name in arms}
    exact_nll: list[Array] = []
    for start in progress(range(0, len(tokens), step_tokens)):
        chunk = tokens[start : start + step_tokens]
        rows = slice(start, start + len(chunk))
        following = tokens[start + 1 : rows.stop + 1]
        at = np.arange(len(following))
        hidden = forward(model, list(arms.values()), np.stack([chunk] * len(arms)))
        expected = model.logits(exact_hidden[rows])
        expected_norm = log_normalizer(expected)
        probability = np.exp(expected - expected_norm[:, None])
        exact_nll.append(expected_norm[at] - expected[at, following])
        for name, states in zip(arms, hidden):
            got = model.logits(states)
            norm = log_normalizer(got)
            distance = np.einsum("nv,nv->n", probability, expected - got)
            found[name]["kl"].append(distance - expected_norm + norm)
            found[name]["same_top1"].append(expected.argmax(-1) == got.argmax(-1))
            found[name]["nll"].append(norm[at] - got[at, following])
    joined = {name: {key: np.concatenate(parts) for key, parts in f.items()} for name, f in found.items()}
    return joined, np.concatenate(exact_nll)


def blocks(windows: list[Array]) -> tuple[Array, Array]:
    """Sums and counts of what bootstrap draws: whole windows, or blocks of tokens where windows are few."""
    size = None if len(windows) >= FEWEST_WINDOWS else BLOCK_TOKENS
    pieces = [w[i : i + (size or len(w))] for w in windows for i in range(0, len(w), size or len(w))]
    return np.array([p.sum() for p in pieces]), np.array([len(p) for p in pieces])


def interval(windows: list[Array], divisor: list[Array] | None = None) -> list[float]:
    """95 % bootstrap interval of the mean of paired values over windows, or of its ratio to another's mean."""
    sums, counts = blocks(windows)
    draws = np.random.default_rng(0).integers(0, len(sums), (N_BOOTSTRAP, len(sums)))
    below = counts if divisor is None else blocks(divisor)[0]
    values = sums[draws].sum(1) / below[draws].sum(1)
    low, high = np.percentile(values, (2.5, 97.5))
    return [float(low), float(high)]


def summary(
    parts: list[dict[str, Array]],
    exact_nll: list[Array],
    rival: list[dict[str, Array]] | None = None,
    first: int = 0,
) -> dict[str, Any]:
    """parts: results of one arm, one a window; rival: another arm's, for the ratio; tokens before `first` do not
    count."""

    def pick(name: str, ps: list[dict[str, Array]]) -> list[Array]:
        return [p[name][first:].astype(np.float64) for p in ps]

    kl, top1 = pick("kl", parts), pick("same_top1", parts)
    excess = [p["nll"][first:].astype(np.float64) - e[first:] for p, e in zip(parts, exact_nll)]
    flat = np.concatenate(kl)
    found: dict[str, Any] = {
        "n_windows": len(parts),
        "n_tokens": len(flat),
        "kl_mean": float(flat.mean()),
        "kl_interval": interval(kl),
        "kl_median": float(np.median(flat)),
        "kl_p99": float(np.percentile(flat, 99)),
        "kl_p999": float(np.percentile(flat, 99.9)),
        "top1": float(np.concatenate(top1).mean()),
        "delta_nll": float(np.concatenate(excess).mean()),
        "delta_nll_interval": interval(excess),
    }
    if rival is not None:
        other = pick("kl", rival)
        found["kl_ratio"] = found["kl_mean"] / float(np.concatenate(other).mean())
        found["kl_ratio_interval"] = interval(kl, other)
    return found

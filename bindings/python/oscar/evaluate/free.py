"""Level C: the model writes on, greedily, from its own compressed past; an exact arm reads along what was written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .arm import Arm
from .attention import Array
from .model import Model, Progress, forward, silent
from .teacher import log_normalizer

NGRAM = 4


def run(
    model: Model,
    prompts: Array,
    make_arm: Callable[[], Arm],
    make_exact: Callable[[], Arm],
    n_tokens: int,
    step_tokens: int,
    progress: Progress = silent,
) -> dict[str, Array]:
    """prompts [n, n_prompt]. Returns tokens [n, n_tokens], the exact arm's choice after the same history, and the KL
    divergence of the arm's prediction from the exact one's, [n, n_tokens] each."""
    n_prompts, n_prompt = prompts.shape
    arms = [make() for make in (make_arm, make_exact) for _ in range(n_prompts)]
    found: dict[str, list[Array]] = {"tokens": [], "exact_choice": [], "kl": []}
    starts = range(0, n_prompt, step_tokens)
    for step in progress(range(len(starts) + n_tokens - 1)):
        new = prompts[:, starts[step] :][:, :step_tokens] if step < len(starts) else found["tokens"][-1][:, None]
        hidden = forward(model, arms, np.concatenate([new, new]))[:, -1]
        if step < len(starts) - 1:
            continue
        own, exact = model.logits(hidden).reshape(2, n_prompts, -1)
        own_norm, exact_norm = log_normalizer(own), log_normalizer(exact)
        probability = np.exp(exact - exact_norm[:, None])
        found["kl"].append((probability * (exact - own)).sum(-1) - exact_norm + own_norm)
        found["tokens"].append(own.argmax(-1))
        found["exact_choice"].append(exact.argmax(-1))
    for arm in arms:
        arm.close()
    return {name: np.stack(parts, 1) for name, parts in found.items()}


def repetition(tokens: list[int]) -> float:
    """Share of the n-grams of a text that have occurred in it before."""
    grams = [tuple(tokens[i : i + NGRAM]) for i in range(len(tokens) - NGRAM + 1)]
    return 1 - len(set(grams)) / len(grams)


def summary(part: dict[str, Array]) -> dict[str, Any]:
    different = part["tokens"] != part["exact_choice"]
    first = np.where(different.any(1), different.argmax(1), different.shape[1])
    return {
        "n_prompts": len(first),
        "n_tokens": different.shape[1],
        "first_divergence_mean": float(first.mean()),
        "first_divergence_median": float(np.median(first)),
        "identical": float((~different.any(1)).mean()),
        "repetition": float(np.mean([repetition(row) for row in part["tokens"].tolist()])),
        "kl_mean": float(part["kl"].mean()),
    }

"""The four levels, each in one call: what a text, a prompt or a document says of several arms."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from . import free, recall, teacher, tensor
from .arm import Arm, Library, MakeArm, Shape
from .attention import Array
from .capture import Capture, read_exactly
from .model import Model, Progress, silent
from .windows import WINDOWS, Windows

STEP_TOKENS = 32  # new tokens attend to each other exactly: bigger steps would measure less
FIRST = 512  # tokens before this one do not count

#: Makes a Progress of a title.
Titled = Callable[[str], Progress]


def _silent(title: str) -> Progress:
    return silent


def _check(arms: Mapping[str, MakeArm], n_tokens: int, first: int, step_tokens: int) -> None:
    if not arms:
        raise ValueError("no arms are given")
    if not 0 <= first < n_tokens:
        raise ValueError(f"first is {first}, wanted less than the {n_tokens} tokens")
    if not 1 <= step_tokens <= STEP_TOKENS:
        raise ValueError(f"step_tokens is {step_tokens}, wanted 1 to {STEP_TOKENS}: a bigger step attends to itself exactly")


def make(maker: MakeArm, shape: Shape, windows: Windows, n_tokens: int, step_tokens: int) -> Any:
    """An arm, as a context manager that closes it."""
    return contextlib.closing(maker(shape, windows, n_tokens, step_tokens))


def tensors(
    captures: Capture | Sequence[Capture],
    arms: Mapping[str, MakeArm],
    *,
    windows: Windows = WINDOWS["stress"],
    first: int = FIRST,
    step_tokens: int = STEP_TOKENS,
    progress: Titled = _silent,
) -> dict[str, dict[str, Any]]:
    """Level A: errors of attention on captured tensors. No model is needed.

    Args:
        captures: one or several texts.
        arms: {name: what makes an arm}, e.g. ``{"2bit": Library("2bit")}``.
        windows: exact tokens, the same for all arms.
        first: queries before this position do not count.
        step_tokens: new tokens of a step, at most 32.
        progress: of a title, what wraps a loop.

    Returns:
        {name: {"error": relative error of outputs: median, p95 and max over texts, layers and KV heads; "db": the mean
        of -10 log10 of its square; "kl", "logit_rmse", "mass_ratio": of attention; "n_pairs"}}

    Raises:
        ValueError: a text that is too short; no arms.
        RuntimeError: an arm packs other tokens than ``windows`` says, or its output is not what its rows give.
    """
    given = [captures] if isinstance(captures, Capture) else list(captures)
    for capture in given:
        _check(arms, capture.n_tokens, first, step_tokens)
    found: dict[str, dict[str, Any]] = {}
    for name, maker in arms.items():
        parts = []
        for capture in given:
            with make(maker, capture, windows, capture.n_tokens, step_tokens) as arm:
                parts.append(tensor.measure(capture, arm, windows, step_tokens, first, progress(f"A: {name}")))
        found[name] = tensor.summary(parts)
    return found


def predictions(
    model: Model,
    texts: Sequence[Array],
    arms: Mapping[str, MakeArm],
    *,
    rival: str | None = None,
    windows: Windows = WINDOWS["stress"],
    first: int = FIRST,
    step_tokens: int = STEP_TOKENS,
    progress: Titled = _silent,
) -> dict[str, dict[str, Any]]:
    """Level B: how far predictions move while the model reads texts, every token attending to the compressed past.

    Args:
        texts: token ids, one array a text; six of 4,096 tokens are worth judging by.
        rival: the arm whose divergence others' are divided by (``kl_ratio``).
        arms, windows, first, step_tokens, progress: as in :func:`tensors`.

    Returns:
        {name: {"kl_mean", "kl_interval", "kl_median", "kl_p99", "kl_p999", "top1", "delta_nll", ...}}
    """
    parts: dict[str, list[dict[str, Array]]] = {name: [] for name in arms}
    exact_nll = []
    for text in map(np.asarray, texts):
        _check(arms, len(text), first, step_tokens)
        hidden, _ = read_exactly(model, text, step_tokens, False, progress("B: exact"))
        with contextlib.ExitStack() as stack:
            made: dict[str, Arm] = {
                name: stack.enter_context(make(maker, model, windows, len(text), step_tokens))
                for name, maker in arms.items()
            }
            found, nll = teacher.compare(model, text, hidden, made, step_tokens, progress("B: " + ", ".join(arms)))
        exact_nll.append(nll)
        for name, arrays in found.items():
            parts[name].append(arrays)
    against = None if rival is None else parts[rival]
    return {name: teacher.summary(got, exact_nll, against, first) for name, got in parts.items()}


def answers(
    model: Model,
    prompts: Array,
    arms: Mapping[str, MakeArm],
    *,
    n_tokens: int = 256,
    windows: Windows = WINDOWS["stress"],
    step_tokens: int = STEP_TOKENS,
    progress: Titled = _silent,
) -> dict[str, dict[str, Any]]:
    """Level C: where greedy answers turn from those with exact keys and values.

    Args:
        prompts: token ids [n_prompts, n].
        n_tokens: of an answer.
        arms, windows, step_tokens, progress: as in :func:`tensors`.

    Returns:
        {name: {"first_divergence_mean", "first_divergence_median", "identical", "repetition", "kl_mean", ...}}
    """
    prompts = np.asarray(prompts)
    total = prompts.shape[1] + n_tokens
    _check(arms, total, 0, step_tokens)
    found = {}
    for name, maker in arms.items():
        one = lambda maker=maker: maker(model, windows, total, step_tokens)
        exact = lambda: Library("exact")(model, windows, total, step_tokens)
        parts = free.run(model, prompts, one, exact, n_tokens, step_tokens, progress(f"C: {name}"))
        found[name] = free.summary(parts)
    return found


def found_again(
    model: Model,
    documents: Sequence[recall.Document],
    arms: Mapping[str, MakeArm],
    *,
    windows: Windows = WINDOWS["stress"],
    step_tokens: int = STEP_TOKENS,
    progress: Titled = _silent,
) -> dict[str, dict[str, Any]]:
    """Level D: copies, needles and pairs that are far back (:func:`oscar.evaluate.document`); of what exact keys and
    values answer, how much is right.

    Returns:
        {name: {"copy", "needle", "pair": {"n_items", "n_kept", "right_of_kept", "right_of_all", "groups"}}}
    """
    with_exact: dict[str, MakeArm] = {"": Library("exact"), **arms}
    right: dict[str, list[Array]] = {name: [] for name in with_exact}
    for doc in documents:
        n = len(doc.tokens)
        _check(arms, n, 0, step_tokens)
        with contextlib.ExitStack() as stack:
            made: dict[str, Arm] = {
                name: stack.enter_context(make(maker, model, windows, n, step_tokens))
                for name, maker in with_exact.items()
            }
            for name, hits in recall.read(model, doc, made, step_tokens, progress("D")).items():
                right[name].append(hits)
    return {name: recall.summary(list(documents), right[""], right[name]) for name in arms}

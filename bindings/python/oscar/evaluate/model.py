"""What a model has to look like, and how it is read through arms."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np

from .arm import Arm, Shape
from .attention import Array

#: Stores the new keys and values of a layer and attends to all so far:
#: (layer, k [n, n_kv_heads, d], v, q [n, n_q_heads, d]) -> [n, n_q_heads, d]. Positions are applied already.
Attend = Callable[[int, Array, Array, Array], Array]
#: Wraps what is iterated over, to show how far it is.
Progress = Callable[[Iterable[int]], Iterable[int]]


def silent(items: Iterable[int]) -> Iterable[int]:
    """Shows nothing."""
    return items


class Model(Shape, Protocol):
    """A causal language model whose attention is given to it."""

    def forward(self, tokens: Array, positions: Array, attend: Attend) -> Array:
        """Final hidden states [n, width] of tokens [n] at positions [n], each row for itself but for ``attend``."""

    def logits(self, hidden: Array) -> Array:
        """[n, width] -> [n, vocabulary]"""


class Tokenizer(Protocol):
    """Of level D's documents."""

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Any) -> str: ...


def forward(model: Model, arms: list[Arm], tokens: Array) -> Array:
    """One step of all arms together, so that the weights are read once: tokens [n_arms, n] -> [n_arms, n, width]."""
    n_arms, n = np.shape(tokens)
    positions = np.concatenate([np.arange(arm.length, arm.length + n) for arm in arms])
    with contextlib.ExitStack() as stack:
        steps = [stack.enter_context(arm.step(n)) for arm in arms]

        def attend(layer: int, k: Array, v: Array, q: Array) -> Array:
            rows = [slice(i * n, (i + 1) * n) for i in range(n_arms)]
            return np.concatenate([step.layer(layer, k[r], v[r], q[r]) for step, r in zip(steps, rows)])

        hidden = model.forward(np.ravel(tokens), positions, attend)
    return hidden.reshape(n_arms, n, -1)

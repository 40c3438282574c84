"""Queries, keys and values of every layer, with positions (RoPE) applied, as a model made them."""

from __future__ import annotations

import dataclasses
import importlib
import os
from typing import Any

import numpy as np

from .arm import LibraryArm
from .attention import Array, to_bf16
from .model import Model, Progress, silent
from .windows import WINDOWS


def read_safetensors(path: str | os.PathLike[str]) -> dict[str, Array]:
    """{name: array}; BF16, which numpy does not have, as float32.

    Raises:
        ModuleNotFoundError: the package safetensors is not installed.
        ValueError: another type than F32, F16 and BF16.
    """
    safetensors: Any = importlib.import_module("safetensors")  # who has such a file has it, others need not
    with open(path, "rb") as file:
        try:
            parts = safetensors.deserialize(file.read())
        except safetensors.SafetensorError as error:
            raise ValueError(f"{os.fspath(path)}: {error}") from None
    types: dict[str, Any] = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}
    found = {}
    for name, part in parts:
        if part["dtype"] not in types:
            raise ValueError(f"{os.fspath(path)}: {name} is {part['dtype']}, wanted one of {', '.join(types)}")
        array: Array = np.frombuffer(part["data"], types[part["dtype"]]).reshape(part["shape"])
        found[name] = (array.astype(np.uint32) << 16).view(np.float32) if part["dtype"] == "BF16" else array
    return found


@dataclasses.dataclass
class Capture:
    """A text's tensors, in float32, k and v rounded to BF16.

    Args:
        q: [n_layers, n_tokens, n_q_heads, head_dim], of tokens at positions 0, 1, ...
        k: [n_layers, n_tokens, n_kv_heads, head_dim]
        v: like k.

    Raises:
        ValueError: other shapes, or an element that is not finite.
    """

    q: Array
    k: Array
    v: Array

    def __post_init__(self) -> None:
        for name in "qkv":
            x = np.asarray(getattr(self, name), np.float32)
            if x.ndim != 4:
                raise ValueError(f"{name} is {x.shape}, wanted [n_layers, n_tokens, n_heads, head_dim]")
            if not np.isfinite(x).all():
                raise ValueError(f"{name} has elements that are not finite")
            setattr(self, name, x if name == "q" else to_bf16(x))
        self.n_layers, self.n_tokens, self.n_q_heads, self.head_dim = self.q.shape
        self.n_kv_heads = self.k.shape[2]
        if self.k.shape != (self.n_layers, self.n_tokens, self.n_kv_heads, self.head_dim):
            raise ValueError(f"q is {self.q.shape}, k is {self.k.shape}: wanted the same layers, tokens and head_dim")
        if self.v.shape != self.k.shape:
            raise ValueError(f"k is {self.k.shape}, v is {self.v.shape}: wanted the same")
        if not self.n_kv_heads or self.n_q_heads % self.n_kv_heads:
            raise ValueError(f"{self.n_q_heads} query heads, {self.n_kv_heads} KV heads: wanted a multiple of these")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Capture:
        """From an .npz or .safetensors file with q, k and v.

        Raises:
            OSError: there is no such file.
            ValueError: it holds something else.
        """
        name = os.fspath(path)
        if name.endswith(".safetensors"):
            arrays = read_safetensors(path)
        else:
            file = np.load(path, allow_pickle=False)
            if isinstance(file, np.ndarray):
                raise ValueError(f"{name} holds one array, wanted an .npz or .safetensors file with q, k and v")
            with file:
                arrays = dict(file)
        missing = {"q", "k", "v"} - set(arrays)
        if missing:
            raise ValueError(f"{name} lacks {', '.join(sorted(missing))}, wanted q, k and v")
        return cls(arrays["q"], arrays["k"], arrays["v"])

    def save(self, path: str | os.PathLike[str]) -> None:
        """As an .npz file."""
        with open(path, "wb") as file:
            np.savez(file, q=self.q, k=self.k, v=self.v)

    def forward(self, tokens: Any, positions: Any, attend: Any) -> None:
        """Stands for a model where only its attention is looked at."""
        for layer in range(self.n_layers):
            attend(layer, self.k[layer], self.v[layer], self.q[layer])


def read_exactly(
    model: Model, tokens: Array, step_tokens: int, keep: bool, progress: Progress = silent
) -> tuple[Array, Capture | None]:
    """Final hidden states [n, width] of a text with exact keys and values, and, with ``keep``, a Capture."""
    arm = LibraryArm(model, "exact", WINDOWS["stress"], len(tokens), step_tokens)
    hidden: list[Array] = []
    rows: list[list[tuple[Array, Array, Array]]] = [[] for _ in range(model.n_layers)]
    for start in progress(range(0, len(tokens), step_tokens)):
        chunk = tokens[start : start + step_tokens]
        with arm.step(len(chunk)) as step:

            def attend(layer: int, k: Array, v: Array, q: Array) -> Array:
                if keep:
                    rows[layer].append((q, k, v))
                out: Array = step.layer(layer, k, v, q)
                return out

            hidden.append(model.forward(chunk, np.arange(start, start + len(chunk)), attend))
    arm.close()
    if not keep:
        return np.concatenate(hidden), None

    def of(kind: int) -> Array:
        return np.stack([np.concatenate([step[kind] for step in layer]) for layer in rows])

    return np.concatenate(hidden), Capture(of(0), of(1), of(2))

"""Queries, keys and values of every layer, with positions (RoPE) applied, as a model made them."""

import dataclasses

import numpy as np
from smollm2.published_oscar import to_bf16

from .arm import LibraryArm
from .windows import WINDOWS


def read_safetensors(path):
    """{name: array}; BF16, which numpy does not have, as float32."""
    import safetensors  # the only use of it: who has such a file has it, others need not

    with open(path, "rb") as file:
        parts = safetensors.deserialize(file.read())
    types = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}
    found = {}
    for name, part in parts:
        if part["dtype"] not in types:
            raise SystemExit(f"error: {path}: {name} is {part['dtype']}, wanted one of {', '.join(types)}")
        array = np.frombuffer(part["data"], types[part["dtype"]]).reshape(part["shape"])
        found[name] = (array.astype(np.uint32) << 16).view(np.float32) if part["dtype"] == "BF16" else array
    return found


@dataclasses.dataclass
class Capture:
    """q [n_layers, n_tokens, n_q_heads, d]; k, v [n_layers, n_tokens, n_kv_heads, d]; k and v rounded to BF16."""

    q: np.ndarray
    k: np.ndarray
    v: np.ndarray

    def __post_init__(self):
        self.n_layers, self.n_tokens, self.n_q_heads, self.head_dim = self.q.shape
        self.n_kv_heads = self.k.shape[2]
        if self.k.shape != (self.n_layers, self.n_tokens, self.n_kv_heads, self.head_dim):
            raise ValueError(f"q is {self.q.shape}, k is {self.k.shape}: wanted the same layers, tokens and head_dim")
        if self.v.shape != self.k.shape:
            raise ValueError(f"k is {self.k.shape}, v is {self.v.shape}: wanted the same")

    @classmethod
    def load(cls, path):
        """From an .npz or .safetensors file with q, k and v."""
        arrays = read_safetensors(path) if str(path).endswith(".safetensors") else dict(np.load(path))
        missing = {"q", "k", "v"} - set(arrays)
        if missing:
            raise SystemExit(f"error: {path} lacks {', '.join(sorted(missing))}, wanted q, k and v")
        q, k, v = (np.asarray(arrays[name], np.float32) for name in "qkv")
        return cls(q, to_bf16(k), to_bf16(v))

    def forward(self, tokens, positions, attend):
        """Stands for a model where only its attention is looked at: published_oscar.Calibration's."""
        for layer in range(self.n_layers):
            attend(layer, self.k[layer], self.v[layer], self.q[layer])


def read_exactly(model, tokens, step_tokens, keep, progress=lambda items: items):
    """Final hidden states [n, width] of a text with exact keys and values, and, with `keep`, a Capture."""
    arm = LibraryArm(model, "exact", WINDOWS["stress"], len(tokens), step_tokens)
    hidden, rows = [], [[] for _ in range(model.n_layers)]
    for start in progress(range(0, len(tokens), step_tokens)):
        chunk = tokens[start : start + step_tokens]
        with arm.step(len(chunk)) as step:

            def attend(layer, k, v, q):
                if keep:
                    rows[layer].append((q, k, v))
                return step.layer(layer, k, v, q)

            hidden.append(model.forward(chunk, np.arange(start, start + len(chunk)), attend))
    arm.close()
    hidden = np.concatenate(hidden)
    if not keep:
        return hidden, None
    q, k, v = (np.stack([np.concatenate(parts) for parts in zip_rows]) for zip_rows in _by_kind(rows))
    return hidden, Capture(q, to_bf16(k), to_bf16(v))


def _by_kind(rows):
    """[layer][step] of (q, k, v) -> for q, k and v: [layer][step]"""
    return [[[step[kind] for step in layer] for layer in rows] for kind in range(3)]

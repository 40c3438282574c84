"""A decoder in plain PyTorch with the shape of Qwen3 (huggingface.co/Qwen/Qwen3-8B and Qwen3-4B, config.json) and
random BF16 weights. Attention is the caller's: everything else is the same for every cache that is timed."""

from dataclasses import dataclass

import torch
from torch.nn import functional as F


@dataclass(frozen=True)
class Shape:
    name: str
    hidden: int
    intermediate: int
    tied: bool  # the output layer shares the embedding's weights
    n_layers: int = 36
    n_q_heads: int = 32
    n_kv_heads: int = 8
    head_dim: int = 128
    vocabulary: int = 151936
    rope_theta: float = 1e6
    epsilon: float = 1e-6


SHAPES = {
    "qwen3-8b": Shape("qwen3-8b", 4096, 12288, tied=False),
    "qwen3-4b": Shape("qwen3-4b", 2560, 9728, tied=True),
}


class Transformer:
    """One new token a sequence and call. `attend(layer, q, k, v)` takes [batch, heads, head_dim], positions applied,
    and returns [batch, n_q_heads, head_dim]."""

    def __init__(self, shape, max_positions, device="cuda", seed=1, dtype=torch.bfloat16):
        self.shape = shape
        self._random = torch.Generator(device).manual_seed(seed)
        self._device = device
        self._dtype = dtype
        self._embedding = self._weight(shape.vocabulary, shape.hidden)
        self._output = self._embedding if shape.tied else self._weight(shape.vocabulary, shape.hidden)
        self._norm = self._ones(shape.hidden)
        self._layers = [self._layer() for _ in range(shape.n_layers)]
        half = shape.head_dim // 2
        frequency = shape.rope_theta ** (-torch.arange(half, device=device, dtype=torch.float64) / half)
        angle = torch.arange(max_positions, device=device, dtype=torch.float64)[:, None] * frequency
        cos, sin = angle.cos(), angle.sin()
        # Channel i turns with channel i + half: x cos + roll(x, half) (-sin, sin).
        self._cos = torch.cat([cos, cos], 1).to(dtype)
        self._sin = torch.cat([-sin, sin], 1).to(dtype)

    def _layer(self):
        s = self.shape
        n_heads = s.n_q_heads + 2 * s.n_kv_heads
        return {
            "input_norm": self._ones(s.hidden),
            "qkv": self._weight(n_heads * s.head_dim, s.hidden),
            "qk_norm": self._ones(s.n_q_heads + s.n_kv_heads, s.head_dim),
            "o": self._weight(s.hidden, s.n_q_heads * s.head_dim),
            "post_norm": self._ones(s.hidden),
            "gate_up": self._weight(2 * s.intermediate, s.hidden),
            "down": self._weight(s.hidden, s.intermediate),
        }

    def _weight(self, n_out, n_in):
        weight = torch.empty(n_out, n_in, dtype=self._dtype, device=self._device)
        return weight.normal_(0, 0.02, generator=self._random)

    def _ones(self, *shape):
        return torch.ones(*shape, dtype=self._dtype, device=self._device)

    def _add(self, x, h, weight):
        x.addmm_(h, weight.t())

    def _logits(self, x):
        return F.linear(x, self._output)

    def forward(self, ids, positions, attend):
        """Logits [batch, vocabulary] for the tokens `ids` [batch] at `positions` [batch]."""
        s = self.shape
        batch = ids.shape[0]
        n_qk = s.n_q_heads + s.n_kv_heads
        x = F.embedding(ids, self._embedding)
        cos = self._cos[positions].unsqueeze(1)
        sin = self._sin[positions].unsqueeze(1)
        for i, layer in enumerate(self._layers):
            h = F.rms_norm(x, (s.hidden,), layer["input_norm"], s.epsilon)
            heads = F.linear(h, layer["qkv"]).view(batch, -1, s.head_dim)
            qk = F.rms_norm(heads[:, :n_qk], (s.head_dim,), None, s.epsilon) * layer["qk_norm"]
            qk = torch.addcmul(qk * cos, qk.roll(s.head_dim // 2, -1), sin)
            out = attend(i, qk[:, : s.n_q_heads], qk[:, s.n_q_heads :], heads[:, n_qk:])
            self._add(x, out.reshape(batch, -1), layer["o"])
            h = F.rms_norm(x, (s.hidden,), layer["post_norm"], s.epsilon)
            gate, up = F.linear(h, layer["gate_up"]).chunk(2, dim=-1)
            self._add(x, F.silu(gate) * up, layer["down"])
        return self._logits(F.rms_norm(x, (s.hidden,), self._norm, s.epsilon))

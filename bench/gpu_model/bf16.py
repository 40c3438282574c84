"""The baseline: keys and values in preallocated BF16 tensors, attention by PyTorch's kernels."""

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

#: Ways to call SDPA with grouped heads and one query: by enable_gqa, or the query heads of a KV head as query rows.
WAYS = {
    "cudnn-gqa": (SDPBackend.CUDNN_ATTENTION, False),
    "flash-gqa": (SDPBackend.FLASH_ATTENTION, False),
    "flash-rows": (SDPBackend.FLASH_ATTENTION, True),
    "cudnn-rows": (SDPBackend.CUDNN_ATTENTION, True),
}


class Bf16Cache:
    """Room for `n_tokens` tokens; every step writes the last place, so that the whole step is one fixed CUDA graph."""

    def __init__(self, shape, batch, n_tokens, way="cudnn-gqa", device="cuda"):
        self.way = way
        self.batch = batch
        size = (batch, shape.n_kv_heads, n_tokens, shape.head_dim)
        self.layers = []
        for _ in range(shape.n_layers):
            pair = [torch.empty(size, dtype=torch.bfloat16, device=device) for _ in range(2)]
            for tensor in pair:
                for sequence in tensor:  # one at a time: normal_ may want scratch memory
                    sequence.normal_()
            self.layers.append(pair)

    @property
    def n_bytes(self):
        return sum(2 * tensor.numel() for pair in self.layers for tensor in pair)

    def attend(self, layer, q, k, v):
        keys, values = self.layers[layer]
        keys[:, :, -1].copy_(k)
        values[:, :, -1].copy_(v)
        backend, as_rows = WAYS[self.way]
        batch, n_q_heads, head_dim = q.shape
        q = q.reshape(batch, keys.shape[1], -1, head_dim) if as_rows else q.unsqueeze(2)
        with sdpa_kernel(backend):
            out = scaled_dot_product_attention(q, keys, values, enable_gqa=not as_rows)
        return out.reshape(batch, n_q_heads, head_dim)

    # What a step costs outside its graph: nothing.
    def begin(self, replay):
        pass

    def end(self):
        pass

    def close(self):
        self.layers.clear()


class NoAttention:
    """Attention replaced by nothing: what the rest of the step takes."""

    n_bytes = 0

    def attend(self, layer, q, k, v):
        return q

    def begin(self, replay):
        pass

    def end(self):
        pass

    def close(self):
        pass

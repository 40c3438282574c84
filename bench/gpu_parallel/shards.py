"""Tensor parallelism: each rank has its query and KV heads, its part of the intermediate layer and of the vocabulary."""

from dataclasses import replace

import torch
import torch.distributed as dist
from torch.nn import functional as F
from transformer import Transformer


def shard_of(shape, n_ranks):
    return replace(
        shape,
        n_q_heads=shape.n_q_heads // n_ranks,
        n_kv_heads=shape.n_kv_heads // n_ranks,
        intermediate=shape.intermediate // n_ranks,
    )


class ShardedTransformer(Transformer):
    """A rank's slice of Transformer(shape, seed): the same weights, so that all ranks together are that model."""

    def __init__(self, shape, max_positions, rank, n_ranks, **options):
        self._rank, self._n_ranks = rank, n_ranks
        super().__init__(shape, max_positions, **options)
        self._output = self._part(self._output)
        self.shape = shard_of(shape, n_ranks)

    def _part(self, tensor, dim=0):
        """This rank's equal part."""
        return tensor.chunk(self._n_ranks, dim)[self._rank].contiguous()

    def _parts(self, tensor, sizes):
        """This rank's equal part of each of several groups of rows."""
        return torch.cat([self._part(group) for group in tensor.split(sizes)])

    def _layer(self):
        layer, s = super()._layer(), self.shape
        q, kv = s.n_q_heads * s.head_dim, s.n_kv_heads * s.head_dim
        layer["qkv"] = self._parts(layer["qkv"], [q, kv, kv])
        layer["qk_norm"] = self._parts(layer["qk_norm"], [s.n_q_heads, s.n_kv_heads])
        layer["o"] = self._part(layer["o"], 1)
        layer["gate_up"] = self._parts(layer["gate_up"], [s.intermediate, s.intermediate])
        layer["down"] = self._part(layer["down"], 1)
        return layer

    def _add(self, x, h, weight):
        partial = F.linear(h, weight)
        dist.all_reduce(partial)
        x.add_(partial)

    def _logits(self, x):
        own = F.linear(x, self._output)
        parts = own.new_empty(self._n_ranks * own.shape[0], own.shape[1])
        dist.all_gather_into_tensor(parts, own)
        return torch.cat(parts.chunk(self._n_ranks), dim=-1)

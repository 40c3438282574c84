"""Context parallelism: each rank holds all heads of a part of the tokens. The last rank gets the new ones, the others
answer queries; the results are joined by their log-sum-exp."""

import torch
import torch.distributed as dist
from packed import PackedCache

import oscar


def join(outs, lses):
    """out = sum_p exp(lse_p - lse) out_p over the first dimension: oscar.merge's formula on tensors of any device."""
    weights = lses.softmax(dim=0).unsqueeze(-1)
    return (weights * outs).sum(dim=0)


class ContextCache(PackedCache):
    """PackedCache's interface, over all ranks."""

    def __init__(self, shape, batch, n_tokens, rank, n_ranks, **options):
        super().__init__(shape, batch, n_tokens, **options)
        self._n_ranks = n_ranks
        self.is_last = rank == n_ranks - 1
        self.store(self.is_last)

    def store(self, stores):
        """Whether the coming steps' tokens are this rank's."""
        self.stores = stores
        self._entries = [(sequence, 1, 0 if stores else oscar.QUERY_ONLY) for sequence in self.sequences]

    def attend(self, layer, q, k, v):
        batch, n_heads, dim = q.shape
        n_out, n_lse = batch * n_heads * dim, batch * n_heads
        own = torch.empty(n_out + n_lse, device=q.device)  # output, then log-sum-exp: one message
        out, lse = own[:n_out].view(batch, n_heads, dim), own[n_out:].view(batch, n_heads)
        self.step.layer(layer, k, v, q, out=out, lse=lse)
        parts = own.new_empty(self._n_ranks * own.shape[0])
        dist.all_gather_into_tensor(parts, own)
        outs, lses = parts.view(self._n_ranks, -1).split([n_out, n_lse], dim=1)
        return join(outs.reshape(-1, batch, n_heads, dim), lses.reshape(-1, batch, n_heads)).to(q.dtype)

"""Do several ranks give what one gives? A tiny model with random weights writes the same tokens."""

import torch
import torch.distributed as dist
from context import ContextCache
from packed import PackedCache
from shards import ShardedTransformer, shard_of
from transformer import Shape, Transformer

N_PROMPT, N_TOKENS, BATCH = 300, 200, 2
TINY = Shape(
    "tiny", 256, 512, tied=False, n_layers=3, n_q_heads=16, n_kv_heads=8, head_dim=64, vocabulary=1024, rope_theta=1e4
)


def write_tokens(model, cache, device):
    """Greedy: [N_TOKENS, BATCH] ids, and the last step's logits. The model computes in double precision, so that the order
    of a sum over ranks does not decide how a key is rounded for the cache."""

    def attend(layer, q, k, v):
        return cache.attend(layer, q.float(), k.float(), v.float()).double()

    ids = torch.arange(BATCH, device=device)
    written = []
    for i in range(N_PROMPT + N_TOKENS):
        cache.begin(replay=False)
        logits = model.forward(ids, torch.full((BATCH,), i, device=device), attend)
        cache.end()
        # The prompt is the same for all; then the model writes.
        ids = (ids * 37 + 11) % 1000 if i < N_PROMPT else logits.argmax(-1)
        written.append(ids)
    cache.close()
    return torch.stack(written[N_PROMPT:]), logits


def compare(got, wanted, rank):
    (tokens, logits), (same_tokens, same_logits) = got, wanted
    error = ((logits - same_logits).norm() / same_logits.norm()).item()
    if not torch.equal(tokens, same_tokens):
        first = (tokens != same_tokens).any(1).nonzero()[0].item()
        raise AssertionError(f"rank {rank}: token {first} of {N_TOKENS} differs from that of one process")
    return {"tokens": N_TOKENS * BATCH, "different_tokens": 0, "logits_error": error}


def single(device, profile):
    model = Transformer(TINY, N_PROMPT + N_TOKENS, device=device, dtype=torch.float64)
    cache = PackedCache(TINY, BATCH, N_PROMPT + N_TOKENS, profile, device, batch_invariant=True, windows=(4, 32))
    return write_tokens(model, cache, device)


def tensor(rank, n_ranks, device):
    """A rank's heads of the 2-bit cache; sums over the ranks are rounded in another order."""
    model = ShardedTransformer(TINY, N_PROMPT + N_TOKENS, rank, n_ranks, device=device, dtype=torch.float64)
    cache = PackedCache(
        shard_of(TINY, n_ranks), BATCH, N_PROMPT + N_TOKENS, "2bit", device, batch_invariant=True, windows=(4, 32)
    )
    return compare(write_tokens(model, cache, device), single(device, "2bit"), rank)


class SplitCache(ContextCache):
    """A ContextCache whose ranks get the tokens one after the other, each its share of the prompt."""

    def __init__(self, rank, n_ranks, device):
        n_tokens = N_PROMPT + N_TOKENS
        super().__init__(TINY, BATCH, n_tokens, rank, n_ranks, profile="exact", device=device, batch_invariant=True)
        self._share = (rank * N_PROMPT // n_ranks, n_tokens if self.is_last else (rank + 1) * N_PROMPT // n_ranks)
        self._n_seen = 0

    def begin(self, replay):
        first, end = self._share
        self.store(first <= self._n_seen < end)
        self._n_seen += 1
        super().begin(replay)


def context(rank, n_ranks, device):
    """Exact rows: which cache a token is in must not matter, and blocks would begin elsewhere."""
    model = Transformer(TINY, N_PROMPT + N_TOKENS, device=device, dtype=torch.float64)
    return compare(write_tokens(model, SplitCache(rank, n_ranks, device), device), single(device, "exact"), rank)


def heads(rank, n_ranks, device):
    """Attention of a rank's heads has the bits of one cache with all heads."""
    shard = shard_of(TINY, n_ranks)
    options = {"profile": "2bit", "device": device, "batch_invariant": True, "windows": (4, 32)}
    whole, own = PackedCache(TINY, 1, 2000, **options), PackedCache(shard, 1, 2000, **options)
    random = torch.Generator(device).manual_seed(9)
    n_compared = 0
    for n_new in (700, 1, 1, 5, 60, 1):
        q, k, v = (
            torch.randn(TINY.n_layers, n_new, n_heads, TINY.head_dim, device=device, generator=random)
            for n_heads in (TINY.n_q_heads, TINY.n_kv_heads, TINY.n_kv_heads)
        )
        outs = []
        for cache, part in ((whole, 1), (own, n_ranks)):
            qs, ks, vs = (t.chunk(part, 2)[rank if part > 1 else 0].contiguous() for t in (q, k, v))
            out = torch.empty_like(qs)
            with cache.cache.step([(cache.sequences[0], n_new)], stream=cache.stream()) as step:
                for layer in range(TINY.n_layers):
                    step.layer(layer, ks[layer], vs[layer], qs[layer], out=out[layer])
            outs.append(out)
        wanted = outs[0].chunk(n_ranks, 2)[rank]
        if not torch.equal(outs[1], wanted):
            raise AssertionError(f"rank {rank}: {n_new} tokens: other bits than in one cache")
        n_compared += wanted.numel()
    whole.close(), own.close()
    dist.barrier()
    return {"bit_equal_elements": n_compared}


ALL = {"heads": heads, "tensor": tensor, "context": context}

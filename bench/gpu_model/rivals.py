"""What PyTorch's BF16 attention takes on this card: decode over a long cache, and a chunk of a prefill."""

import torch
from bf16 import WAYS
from timing import time_replays
from torch.nn.attention import sdpa_kernel
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention

N_Q_HEADS, N_KV_HEADS, DIM = 32, 8, 128


def random(*size):
    return torch.randn(*size, dtype=torch.bfloat16, device="cuda")


def time_graph(calls, n_replays=7):
    """Median us of a call; a graph holds all of them, one after the other, and each reads its own memory."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        calls[0]()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            for call in calls:
                call()
        graph.replay()
        us = time_replays(graph, len(calls), n_replays)
    torch.cuda.current_stream().wait_stream(stream)
    return us


def attend(way, q, k, v, **arguments):
    backend, as_rows = WAYS[way]
    if as_rows:
        q = q.reshape(q.shape[0], N_KV_HEADS, -1, DIM)
    with sdpa_kernel(backend):
        return scaled_dot_product_attention(q, k, v, enable_gqa=not as_rows, **arguments)


def decode(batch, n_tokens):
    """A line for every way to call SDPA. Copies of the cache in turn, a gigabyte together or two, find a cold L2."""
    bytes_kv = 2 * 2 * batch * n_tokens * N_KV_HEADS * DIM
    n_copies = max(2, -(-(1 << 30) // bytes_kv))
    caches = [[random(batch, N_KV_HEADS, n_tokens, DIM) for _ in range(2)] for _ in range(n_copies)]
    q = random(batch, N_Q_HEADS, 1, DIM)
    for way in WAYS:
        line = {"what": "rival decode", "rival": way, "batch": batch, "context": n_tokens, "copies": n_copies}
        try:
            calls = [lambda way=way, k=k, v=v: attend(way, q, k, v) for k, v in caches] * max(1, 16 // n_copies)
            us = time_graph(calls)
            line.update(us=us, gb_per_s=bytes_kv / us / 1e3)
        except RuntimeError as error:
            line["failed"] = str(error)[:200]
        yield line


def prefill(n_new, n_tokens):
    """`n_new` queries, the last tokens of `n_tokens`. PyTorch does not ask cuDNN for a causal mask from the lower right
    corner, so cuDNN gets what it can do: all pairs, and the prefix and the causal chunk apart (not joined)."""
    n_old = n_tokens - n_new
    q = random(1, N_Q_HEADS, n_new, DIM)
    k, v = (random(1, N_KV_HEADS, n_tokens, DIM) for _ in range(2))
    old = [x[:, :, :n_old].contiguous() for x in (k, v)]
    new = [x[:, :, n_old:].contiguous() for x in (k, v)]
    all_pairs, causal_pairs = n_new * n_tokens, n_new * n_old + n_new * (n_new + 1) // 2
    corner = causal_lower_right(n_new, n_tokens)

    def apart(way):
        attend(way, q, *old)
        attend(way, q, *new, is_causal=True)

    cases = {
        "cudnn-gqa, all pairs": (all_pairs, lambda: attend("cudnn-gqa", q, k, v)),
        "cudnn-gqa, prefix and causal chunk": (causal_pairs, lambda: apart("cudnn-gqa")),
        "flash-gqa, all pairs": (all_pairs, lambda: attend("flash-gqa", q, k, v)),
        "flash-gqa, causal": (causal_pairs, lambda: attend("flash-gqa", q, k, v, attn_mask=corner)),
    }
    for name, (pairs, call) in cases.items():
        line = {"what": "rival prefill", "rival": name, "new": n_new, "context": n_tokens}
        try:
            us = time_graph([call] * 4)
            line.update(us=us, tflop_per_s=4 * DIM * N_Q_HEADS * pairs / us / 1e6)
        except RuntimeError as error:
            line["failed"] = str(error)[:200]
        yield line


def lines(context):
    for batch in (1, 4, 16):
        yield from decode(batch, context)
        torch.cuda.empty_cache()
    yield from prefill(2048, 2048 + 32768)
    torch.cuda.empty_cache()

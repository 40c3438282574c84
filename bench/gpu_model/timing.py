"""Decode steps as one CUDA graph, from the tokens' embeddings to the next tokens, timed one after the other."""

import statistics
import time

import torch


class Decoder:
    """A model, a cache and the graph of their step. Used within `with torch.cuda.stream(decoder.stream)`."""

    def __init__(self, model, cache, batch, n_tokens):
        self.cache = cache
        self.stream = torch.cuda.current_stream()
        self.ids = torch.randint(0, 1000, (batch,), device="cuda")
        self.positions = torch.full((batch,), n_tokens, device="cuda")
        self._model = model
        self.graph = torch.cuda.CUDAGraph()
        for _ in range(2):  # loads kernels and lets the libraries choose theirs
            cache.begin(replay=False)
            self._compute()
            cache.end()
        torch.cuda.synchronize()
        cache.begin(replay=False)
        with torch.cuda.graph(self.graph, stream=self.stream, capture_error_mode="thread_local"):
            self._compute()
        self.graph.replay()
        cache.end()
        torch.cuda.synchronize()

    def _compute(self):
        logits = self._model.forward(self.ids, self.positions, self.cache.attend)
        self.ids.copy_(logits.argmax(dim=-1))
        self.positions.add_(1)


def time_replays(graph, n_calls, n_replays):
    """Median us of one of the n_calls calls that a graph holds, on the current stream."""
    times = []
    for _ in range(n_replays):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(1e3 * start.elapsed_time(end) / n_calls)
    return statistics.median(times)


def time_attention(shape, cache, batch, n_replays=20):
    """Median us of a layer's attention (with append and votes), all layers in one graph. They hold different memory, as
    large as the cache: every launch finds a cold L2 where that is large."""
    q, k, v = (
        torch.randn(batch, n_heads, shape.head_dim, dtype=torch.bfloat16, device="cuda")
        for n_heads in (shape.n_q_heads, shape.n_kv_heads, shape.n_kv_heads)
    )
    stream, graph = torch.cuda.current_stream(), torch.cuda.CUDAGraph()
    cache.begin(replay=False)
    cache.attend(0, q, k, v)  # loads what is loaded on first use
    torch.cuda.synchronize()
    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
        for layer in range(1, shape.n_layers):
            cache.attend(layer, q, k, v)
    us = time_replays(graph, shape.n_layers - 1, n_replays)
    cache.end()
    return us


def time_steps(decoder, n_steps):
    """Steps issued without waiting for the device; the device's own clock. Milliseconds, and microseconds on the host.

    ms           mean over all steps, packing included
    graph_ms     median of the graph's part
    between_ms   median of what the device does between two graphs: the step's tables
    slowest_ms   the slowest step
    host_*_us    median time of the calls on the host
    """
    cache, graph = decoder.cache, decoder.graph
    events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(n_steps)]
    last = torch.cuda.Event(enable_timing=True)
    host = {"begin": [], "replay": [], "end": []}
    torch.cuda.synchronize()
    for before, begun in events:
        before.record()
        t0 = time.perf_counter()
        cache.begin(replay=True)
        t1 = time.perf_counter()
        begun.record()
        t2 = time.perf_counter()
        graph.replay()
        t3 = time.perf_counter()
        cache.end()
        t4 = time.perf_counter()
        for name, seconds in (("begin", t1 - t0), ("replay", t3 - t2), ("end", t4 - t3)):
            host[name].append(1e6 * seconds)
    last.record()
    last.synchronize()
    after = [before for before, _ in events[1:]] + [last]
    steps = [before.elapsed_time(end) for (before, _), end in zip(events, after)]
    between = [before.elapsed_time(begun) for before, begun in events]
    graphs = [begun.elapsed_time(end) for (_, begun), end in zip(events, after)]
    result = {
        "ms": statistics.fmean(steps),
        "graph_ms": statistics.median(graphs),
        "between_ms": statistics.median(between),
        "slowest_ms": max(steps),
    }
    result.update({f"host_{name}_us": statistics.median(values) for name, values in host.items()})
    return result


def time_tokens(decoder, n_steps):
    """Mean ms of a step whose tokens the host waits for, as an inference server does: "waiting" begins the next step
    after it has seen them, "ahead" before, since begin does not depend on them."""
    cache, graph = decoder.cache, decoder.graph
    tokens = torch.empty(decoder.ids.shape, dtype=decoder.ids.dtype, pin_memory=True)
    arrived = torch.cuda.Event()
    result = {}
    for order in ("waiting", "ahead"):
        torch.cuda.synchronize()
        start = time.perf_counter()
        cache.begin(replay=True)
        for i in range(n_steps):
            graph.replay()
            tokens.copy_(decoder.ids, non_blocking=True)
            arrived.record()
            cache.end()
            if order == "waiting":
                arrived.synchronize()
            if i + 1 < n_steps:
                cache.begin(replay=True)
            arrived.synchronize()
        result[order + "_ms"] = 1e3 * (time.perf_counter() - start) / n_steps
    return result

#!/usr/bin/env python3
"""Whole decode steps of Qwen3-shaped transformers on one GPU, attention by liboscar and by PyTorch over BF16.

    python bench/gpu_model/run.py [--models qwen3-8b,qwen3-4b] [--batches 1,4,max] [--context 102400] [--rivals]

One JSON object a line, on stdout; exit status 1 where a result was wrong. Needs torch with CUDA, and `oscar` built with
CUDA. Weights, keys and values are random: nothing is downloaded. bench/gpu_model/README.md says what is measured.
"""

import argparse
import datetime
import gc
import json
import subprocess
import sys
import time

import check
import rivals
import torch
from bf16 import WAYS, Bf16Cache, NoAttention
from packed import PackedCache, config
from timing import Decoder, time_steps, time_tokens
from transformer import SHAPES, Transformer

import oscar

#: A step packs once in 128 of them: a mean over 128 steps holds exactly one packing of every sequence.
N_STEPS = 128
#: Tokens that a sequence grows by while it is timed, and some more.
GROWTH = 1024

start = time.perf_counter()


def rounded(value):
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    return float(f"{value:.5g}") if isinstance(value, float) else value


def write(**line):
    at = round(time.perf_counter() - start, 1)
    print(json.dumps({"bench": "gpu_model", **rounded(line), "at_s": at}), flush=True)


def driver():
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def release():
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.empty_cache()


def rest(model, batch):
    """ms of a step without attention."""
    decoder = Decoder(model, NoAttention(), batch, 0)
    return time_steps(decoder, 32)["graph_ms"]


def measure_bf16(model, batch, context, ways):
    """The best of the ways to call SDPA; the times of all."""
    cache = Bf16Cache(model.shape, batch, context)
    best, tried = None, {}
    for way in ways:
        cache.way = way
        try:
            decoder = Decoder(model, cache, batch, context)
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            tried[way] = str(error)[:120]
            continue
        tried[way] = time_steps(decoder, 16)["ms"]
        if best is None or tried[way] < best[0]:
            best = (tried[way], way, decoder)
    if best is None:
        raise RuntimeError(f"no way to call SDPA ran: {tried}")
    _, way, decoder = best
    result = time_steps(decoder, N_STEPS // 2) | time_tokens(decoder, 16)
    return result | {"way": way, "tried_ms": tried, "cache_gb": cache.n_bytes / 1e9}


def measure_packed(model, batch, context, profile):
    cache = PackedCache(model.shape, batch, context + GROWTH, profile)
    try:
        torch.cuda.synchronize()
        begin = time.perf_counter()
        cache.fill(context)
        torch.cuda.synchronize()
        result = {"fill_s": time.perf_counter() - begin}
        decoder = Decoder(model, cache, batch, context)
        time_steps(decoder, 4)
        result |= time_steps(decoder, N_STEPS) | time_tokens(decoder, N_STEPS)
        result |= {"cache_gb": cache.n_bytes / 1e9} | check.check_attention(cache)
        return result
    finally:
        cache.close()


def largest(n_bytes_of, measure):
    """Measures the largest batch that fits, found by trying downwards from what its cache needs; (batch, result)."""
    free = torch.cuda.mem_get_info()[0]
    batch = 1
    while n_bytes_of(batch + 1) <= free:
        batch += 1
    while True:
        try:
            return batch, measure(batch)
        except (torch.OutOfMemoryError, oscar.NoMemoryError) as error:
            if batch == 1:
                raise
            print(f"batch {batch} does not fit: {str(error)[:100]}", file=sys.stderr)
        batch -= 1
        release()


def measure(model, batch, context, profile, ways):
    """One line for the baseline, one for liboscar, one for their ratio. batch None: the largest that fits each."""
    name = model.shape.name
    s = model.shape
    bf16_bytes = 4 * s.n_layers * s.n_kv_heads * s.head_dim * context

    def packed_bytes(b):
        c = config(s, b, context + GROWTH, profile)
        return c.capacity_bytes + oscar.check(c, context).bytes_fixed

    tokens_per_s = {}
    measures = {
        "bf16": (lambda b: b * bf16_bytes, lambda b: measure_bf16(model, b, context, ways)),
        profile: (packed_bytes, lambda b: measure_packed(model, b, context, profile)),
    }
    for cache, (n_bytes_of, run) in measures.items():
        n, result = (batch, run(batch)) if batch else largest(n_bytes_of, run)
        release()
        without = rest(model, n)
        release()
        tokens_per_s[cache] = 1e3 * n / result["ms"]
        write(
            what="step", model=name, context=context, batch=n, largest=batch is None, cache=cache,
            tokens_per_s=tokens_per_s[cache], rest_ms=without,
            attention_us=1e3 * (result["ms"] - without) / s.n_layers, **result,
        )  # fmt: skip
    speedup = tokens_per_s[profile] / tokens_per_s["bf16"]
    write(what="ratio", model=name, context=context, batch=batch or "largest", speedup=speedup)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="qwen3-8b,qwen3-4b")
    parser.add_argument("--batches", default="1,4,max", help="max: the largest that fits each cache")
    parser.add_argument("--context", type=int, default=102400)
    parser.add_argument("--profile", default="2bit")
    parser.add_argument("--ways", default=",".join(WAYS), help="of calling SDPA, the fastest of which counts")
    parser.add_argument("--rivals", action="store_true", help="also times PyTorch's attention alone")
    arguments = parser.parse_args()
    write(
        what="card", card=torch.cuda.get_device_name(), driver=driver(), torch=torch.__version__,
        cuda=torch.version.cuda, cudnn=torch.backends.cudnn.version(), liboscar=oscar.version(),
        date=datetime.date.today().isoformat(),
    )  # fmt: skip
    with torch.no_grad(), torch.cuda.stream(torch.cuda.Stream()):
        for name in filter(None, arguments.models.split(",")):
            model = Transformer(SHAPES[name], arguments.context + GROWTH)
            write(what="logits", model=name, **check.check_logits(model))
            release()
            for batch in arguments.batches.split(","):
                number = None if batch == "max" else int(batch)
                measure(model, number, arguments.context, arguments.profile, arguments.ways.split(","))
            del model
            release()
        if arguments.rivals:
            for line in rivals.lines(arguments.context):
                write(**line)


if __name__ == "__main__":
    main()

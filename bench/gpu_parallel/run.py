#!/usr/bin/env python3
"""Decode over one or several GPUs of a host: tensor and context parallelism over NCCL.

    torchrun --nproc-per-node N bench/gpu_parallel/run.py [check] [tensor] [context] [--model qwen3-8b] ...

Rank 0 writes one JSON object a line, on stdout; a wrong result ends the run. Needs torch and `oscar`. `check` runs on CPUs
and on one GPU, too (gloo); the rest needs a GPU for every rank and NCCL. Weights, keys and values are random. README.md says what is measured.
"""

import argparse
import datetime
import gc
import json
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "gpu_model"))

import checks  # noqa: E402
import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from bf16 import Bf16Cache  # noqa: E402
from check import check_attention  # noqa: E402
from context import ContextCache  # noqa: E402
from packed import PackedCache  # noqa: E402
from shards import ShardedTransformer, shard_of  # noqa: E402
from timing import Decoder, time_attention, time_steps  # noqa: E402
from transformer import SHAPES, Transformer  # noqa: E402

import oscar  # noqa: E402

#: Room for what is decoded while timing, in tokens.
GROWTH = 1024


class Run:
    def __init__(self, arguments):
        self.rank, self.n_ranks = dist.get_rank(), dist.get_world_size()
        self.shape = SHAPES[arguments.model]
        self.arguments = arguments

    def write(self, **line):
        if self.rank == 0:
            line = {name: float(f"{value:.5g}") if isinstance(value, float) else value for name, value in line.items()}
            print(json.dumps({"bench": "gpu_parallel", "ranks": self.n_ranks, **line}), flush=True)

    def card(self):
        self.write(
            what="card", card=torch.cuda.get_device_name(), torch=torch.__version__, cuda=torch.version.cuda,
            nccl=".".join(map(str, torch.cuda.nccl.version())), liboscar=oscar.version(),
            date=datetime.date.today().isoformat(),
        )  # fmt: skip

    def step(self, what, cache_name, model, cache, batch, context):
        """Times attention of all layers alone, then the whole step."""
        try:
            if isinstance(cache, PackedCache):
                cache.fill(context // self.n_ranks if isinstance(cache, ContextCache) else context)
            result = {"attention_us": time_attention(model.shape, cache, batch)}
            result |= time_steps(Decoder(model, cache, batch, context), 64)
            if isinstance(cache, PackedCache):
                result |= check_attention(cache)
            self.write(
                what=what, model=self.shape.name, cache=cache_name, context=context, batch=batch,
                tokens_per_s=1e3 * batch / result["ms"], cache_gb_per_rank=cache.n_bytes / 1e9, **result,
            )  # fmt: skip
        finally:
            cache.close()
            del cache
            gc.collect()
            torch.cuda.empty_cache()
            dist.barrier()

    def tensor(self):
        """Each rank has its heads of every token."""
        context = self.arguments.context
        model = ShardedTransformer(self.shape, context + GROWTH, self.rank, self.n_ranks)
        shape = shard_of(self.shape, self.n_ranks)
        for batch in self.arguments.batches:
            self.step("tensor", "2bit", model, PackedCache(shape, batch, context + GROWTH), batch, context)
        for batch in self.arguments.bf16_batches:
            self.step("tensor", "bf16", model, Bf16Cache(shape, batch, context), batch, context)

    def context(self):
        """Each rank has its tokens of every head; the weights are not shared out."""
        context = self.arguments.long_context
        model = Transformer(self.shape, context + GROWTH)
        for batch in self.arguments.long_batches:
            n_tokens = context // self.n_ranks + GROWTH
            cache = ContextCache(self.shape, batch, n_tokens, self.rank, self.n_ranks)
            self.step("context", "2bit", model, cache, batch, context)

    def check(self):
        device = "cuda" if torch.cuda.is_available() else "cpu"
        for name, check in checks.ALL.items():
            self.write(what="check", name=name, **check(self.rank, self.n_ranks, device))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="+", choices=("check", "tensor", "context"))
    parser.add_argument("--model", default="qwen3-8b", choices=SHAPES)
    parser.add_argument("--context", type=int, default=102400)
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 4, 16])
    parser.add_argument("--bf16-batches", type=int, nargs="*", default=[1, 4])
    parser.add_argument("--long-context", type=int, default=1 << 20)
    parser.add_argument("--long-batches", type=int, nargs="*", default=[1, 4])
    arguments = parser.parse_args()
    n_gpus = torch.cuda.device_count()
    own_gpu = n_gpus >= int(os.environ.get("WORLD_SIZE", "1"))
    if not own_gpu and arguments.what != ["check"]:
        parser.error(f"every rank needs a GPU, there are {n_gpus}; `check` does without")
    if n_gpus:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % n_gpus)
    dist.init_process_group("nccl" if own_gpu else "gloo")
    try:
        run = Run(arguments)
        with torch.no_grad():
            if not n_gpus:
                return run.check()
            run.card()
            with torch.cuda.stream(torch.cuda.Stream()):
                for what in run.arguments.what:
                    getattr(run, what)()
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()

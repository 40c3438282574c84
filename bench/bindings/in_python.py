"""What calls cost from Python, beside in_c.c: the same calls and the same numbers.

    in_python.py numpy|views|torch      one JSON object a line: the least time of a call in ns
"""

import gc
import json
import sys
import time

import numpy as np
import oscar

CALLS, BATCHES, HEADS, KV_HEADS, DIM = 256, 300, 4, 2, 64


def tensors(kind):
    """The output as numpy sees it; q, k, v and the output as calls get them."""
    q = np.arange(HEADS * DIM) * 37 % 64 / 32 - 1
    k = np.arange(KV_HEADS * DIM) * 29 % 50 / 32 - 1
    q, k, v = (x.astype(np.float32).reshape(1, -1, DIM) for x in (q, k, k))
    out = np.zeros_like(q)
    if kind == "torch":
        import torch

        torch.set_num_threads(1)
        return out, [torch.from_numpy(x) for x in (q, k, v, out)]
    if kind == "views":
        return out, [oscar.View(q), oscar.View(k), oscar.View(v), oscar.View(out, writable=True)]
    return out, [q, k, v, out]


class Loops:
    def __init__(self, kind):
        self.seen, (self.q, self.k, self.v, self.out) = tensors(kind)
        config = oscar.Config(
            "2bit",
            n_layers=CALLS,
            n_q_heads=HEADS,
            n_kv_heads=KV_HEADS,
            key_dim=DIM,
            max_tokens=4096,
            max_step_tokens=16,
            capacity_bytes=256 << 20,
        )
        self.cache = oscar.Cache(config)
        self.sequence = self.cache.open()

    def length(self):
        sequence = self.sequence
        start = time.perf_counter_ns()
        for _ in range(CALLS):
            sequence.length
        return time.perf_counter_ns() - start

    def step(self):
        cache = self.cache
        start = time.perf_counter_ns()
        for _ in range(CALLS):
            cache.step([(oscar.PADDING, 1)]).abort()
        return time.perf_counter_ns() - start

    def append(self):
        k, v, step = self.k, self.v, self.cache.step([(oscar.PADDING, 1)])
        start = time.perf_counter_ns()
        for _ in range(CALLS):
            step.append(0, k, v)
        took = time.perf_counter_ns() - start
        step.abort()
        return took

    def attend(self):
        q, out, step = self.q, self.out, self.cache.step([(oscar.PADDING, 1)])
        step.append(0, self.k, self.v)
        start = time.perf_counter_ns()
        for _ in range(CALLS):
            step.attend(0, q, out)
        took = time.perf_counter_ns() - start
        step.abort()
        return took

    def layer(self):
        q, k, v, out, step = self.q, self.k, self.v, self.out, self.cache.step([(oscar.PADDING, 1)])
        start = time.perf_counter_ns()
        for layer in range(CALLS):
            step.layer(layer, k, v, q, out)
        took = time.perf_counter_ns() - start
        step.abort()
        return took

    def report(self, call, time_batch):
        least = min(time_batch() for _ in range(BATCHES))
        print(json.dumps({"call": call, "ns": round(least / CALLS, 1)}))

    def report_sum(self):
        step = self.cache.step([(self.sequence, 1)])
        step.layer(0, self.k, self.v, self.q, self.out)
        step.abort()
        print(json.dumps({"sum": round(float(self.seen.sum()), 3)}))


def main():
    loops = Loops(sys.argv[1])
    gc.disable()
    loops.report("length", loops.length)
    loops.report("begin, abort", loops.step)
    loops.report("append", loops.append)
    loops.report("attend", loops.attend)
    loops.report("layer", loops.layer)
    loops.report_sum()


if __name__ == "__main__":
    main()

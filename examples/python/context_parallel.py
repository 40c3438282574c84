#!/usr/bin/env python3
"""Attention over a context that is shared out among processes: each has a part of the tokens, and `oscar.merge` joins.

    torchrun --nproc-per-node 2 examples/python/context_parallel.py [TOKENS]

Random tensors; a query attends to every process's part; `out` and the log-sum-exp of the parts are gathered and merged. The
last process also takes the new tokens; those of the others are queries only.
"""

import sys

import numpy as np
import torch
import torch.distributed as distributed

import oscar

N_Q_HEADS, N_KV_HEADS, DIM = 8, 2, 64


def open_cache(profile, max_tokens):
    config = oscar.Config(
        profile,
        n_layers=1,
        n_q_heads=N_Q_HEADS,
        n_kv_heads=N_KV_HEADS,
        key_dim=DIM,
        n_sink=0,
        max_tokens=max_tokens,
        max_step_tokens=max_tokens,
    )
    return oscar.Cache(config)


class Part:
    """A process's tokens of one sequence."""

    def __init__(self, profile, max_tokens, takes_new_tokens):
        self.cache = open_cache(profile, max_tokens)
        self.sequence = self.cache.open()
        self.takes_new_tokens = takes_new_tokens

    def append(self, k, v):
        with self.cache.step([(self.sequence, len(k))]) as step:
            step.append(0, k, v)

    def attend(self, q, k, v):
        """Attention of a new token over this part, and its log-sum-exp."""
        out, lse = torch.empty(1, N_Q_HEADS, DIM), torch.empty(1, N_Q_HEADS)
        with self.cache.step([(self.sequence, 1, 0 if self.takes_new_tokens else oscar.QUERY_ONLY)]) as step:
            step.layer(0, k, v, q, out=out, lse=lse)
        return out, lse


def merged(out, lse):
    """Attention over all parts, in every process."""
    outs, lses = ([torch.empty_like(x) for _ in range(distributed.get_world_size())] for x in (out, lse))
    distributed.all_gather(outs, out)
    distributed.all_gather(lses, lse)
    whole = torch.empty_like(out)
    oscar.merge(torch.stack(outs), torch.stack(lses), whole)
    return whole


def dense(q, k, v):
    """Attention of the last token in double precision, over keys and values as an exact cache has them."""
    k, v = (x.bfloat16().double().repeat_interleave(N_Q_HEADS // N_KV_HEADS, 1) for x in (k, v))
    weights = (torch.einsum("hd,thd->ht", q[0].double(), k) / DIM**0.5).softmax(-1)
    return torch.einsum("ht,thd->hd", weights, v)[None]


def main(n_tokens=2000, n_new=32):
    distributed.init_process_group("gloo")
    rank, n_ranks = distributed.get_rank(), distributed.get_world_size()
    generator = torch.Generator().manual_seed(1)  # the same in every process
    k, v = (torch.randn(n_tokens + n_new, N_KV_HEADS, DIM, generator=generator) for _ in range(2))
    q = torch.randn(n_new, N_Q_HEADS, DIM, generator=generator)
    own = slice(n_tokens * rank // n_ranks, n_tokens * (rank + 1) // n_ranks)
    for profile in ("exact", "4bit"):
        part = Part(profile, n_tokens + n_new, takes_new_tokens=rank == n_ranks - 1)
        part.append(k[own], v[own])
        single = Part(profile, n_tokens + n_new, takes_new_tokens=True)  # all tokens in one cache, to compare with
        single.append(k[:n_tokens], v[:n_tokens])
        errors = []
        for i in range(n_new):
            new = slice(n_tokens + i, n_tokens + i + 1)
            token = q[i : i + 1], k[new], v[new]
            wanted = dense(token[0], k[: new.stop], v[: new.stop])
            outs = merged(*part.attend(*token)), single.attend(*token)[0]
            errors.append([float((out - wanted).norm() / wanted.norm()) for out in outs])
        if rank == 0:
            parts, one = np.mean(errors, 0)
            print(f"{profile}: {n_tokens} tokens in {n_ranks} parts, relative error {parts:.2g}; in one cache {one:.2g}")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

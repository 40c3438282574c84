"""Bytes of a cache: what one holds here, and what the library predicts for longer contexts."""

import dataclasses

import oscar

from .arms import cache_config

PREDICTED_CONTEXTS = (8 << 10, 32 << 10, 128 << 10)


@dataclasses.dataclass
class Memory:
    n_tokens: int
    bytes_bf16: int
    bytes_cache: int  # all that grows with tokens: codes, scales, exact windows, scores, tables, padding
    bytes_fixed: int  # workspace and bookkeeping, whatever the context
    bits_per_element: float

    @property
    def times_smaller(self):
        return self.bytes_bf16 / self.bytes_cache


def predicted(model, n_tokens):
    report = oscar.check(cache_config(model, "2bit", n_tokens + 1, 32), n_tokens)
    if not report.served:
        raise SystemExit(f"error: oscar.check: {report.reason}")
    return Memory(
        n_tokens, report.bytes_bf16, report.bytes_sequences, report.bytes_fixed, report.bits_per_element
    )


def held(model, arm):
    """Of a sequence that exists."""
    stats = arm.stats
    bytes_bf16 = 2 * 2 * stats.n_tokens * model.n_layers * model.n_kv_heads * model.head_dim
    return Memory(stats.n_tokens, bytes_bf16, stats.bytes_sequences, stats.bytes_fixed, stats.bits_per_element)


def block_bits_per_element(model):
    """Of packed tokens alone: codes, scales, means and the ids of refined tokens."""
    return oscar.check(cache_config(model, "2bit", 8192, 32), 8192).block_bits_per_element

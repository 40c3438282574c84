"""Time of one attention call over a long context: packed blocks against exact BF16 rows, in the same library."""

import dataclasses
import statistics
import time

import numpy as np
import oscar

from .arms import STRESS

FILL_TOKENS = 128  # of one step while the cache is filled: each step packs what the one before has aged
LEAST_COSINE = 0.7  # Gaussian tokens are the hardest case for two bits: about 0.9, against 0 for a wrong result


@dataclasses.dataclass
class AttentionTime:
    n_q_heads: int
    n_kv_heads: int
    head_dim: int
    n_tokens: int
    exact_ms: float
    packed_ms: float
    cosine: float  # between the outputs of the two caches, so that we know both computed attention

    @property
    def speedup(self):
        return self.exact_ms / self.packed_ms


def filled_cache(profile, n_q_heads, n_kv_heads, head_dim, n_tokens, n_calls, seed):
    """A cache of one layer with n_tokens random tokens in one sequence."""
    config = oscar.Config(
        profile=profile,
        n_layers=1,
        n_q_heads=n_q_heads,
        n_kv_heads=n_kv_heads,
        key_dim=head_dim,
        **STRESS,
        max_sequences=1,
        max_tokens=n_tokens + n_calls,
        max_step_tokens=FILL_TOKENS,
        capacity_bytes=2 * (n_tokens + n_calls) * n_kv_heads * head_dim * 4 + (64 << 20),
    )
    cache = oscar.Cache(config)
    sequence = cache.open()
    random = np.random.default_rng(seed)
    for start in range(0, n_tokens, FILL_TOKENS):
        n = min(FILL_TOKENS, n_tokens - start)
        k, v = random.standard_normal((2, n, n_kv_heads, head_dim), np.float32)
        with cache.step([(sequence, n)]) as step:
            step.append(0, k, v)
    return cache, sequence


def decode_once(cache, sequence, k, v, q):
    """Output and seconds of the attention of one new token."""
    with cache.step([(sequence, 1)]) as step:
        step.append(0, k, v)
        started = time.perf_counter()
        out = step.attend(0, q)
        return out, time.perf_counter() - started


def measure(n_q_heads, n_kv_heads, head_dim, n_tokens, n_calls, progress=lambda items: items):
    """Medians of n_calls calls, the two caches by turns so that a noisy machine disturbs both alike."""
    shape = (n_q_heads, n_kv_heads, head_dim, n_tokens, n_calls)
    caches = {profile: filled_cache(profile, *shape, seed=1) for profile in ("exact", "2bit")}
    seconds = {profile: [] for profile in caches}
    random = np.random.default_rng(2)
    for _ in progress(range(n_calls)):
        k, v = random.standard_normal((2, 1, n_kv_heads, head_dim), np.float32)
        q = random.standard_normal((1, n_q_heads, head_dim), np.float32)
        out = {}
        for profile, (cache, sequence) in caches.items():
            out[profile], elapsed = decode_once(cache, sequence, k, v, q)
            seconds[profile].append(elapsed)
    for cache, _ in caches.values():
        cache.close()
    milliseconds = {profile: 1e3 * statistics.median(times) for profile, times in seconds.items()}
    cosine = float(np.vdot(out["2bit"], out["exact"]) / np.linalg.norm(out["2bit"]) / np.linalg.norm(out["exact"]))
    if not cosine > LEAST_COSINE:
        raise SystemExit(f"error: the caches disagree: cosine {cosine:.3f}, wanted more than {LEAST_COSINE}")
    return AttentionTime(
        n_q_heads, n_kv_heads, head_dim, n_tokens, milliseconds["exact"], milliseconds["2bit"], cosine
    )

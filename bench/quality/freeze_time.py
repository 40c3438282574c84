#!/usr/bin/env python3
"""How long a cache of a large model's shape takes to calibrate itself: 36 layers of 8 KV heads of 128, random tensors,
one thread. Processor time, since machines are shared; the wall clock beside it."""

import argparse
import time

import numpy as np
import oscar

N_LAYERS, N_KV_HEADS, GROUP, DIM, N_TOKENS = 36, 8, 4, 128, 512


def clocks():
    return np.array([time.process_time(), time.perf_counter()])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=N_LAYERS, metavar="N")
    n_layers = parser.parse_args().layers
    frequencies = np.float32(1e6 ** (-2 * np.arange(DIM // 2) / DIM))
    cache = oscar.Cache(oscar.Config(
        n_layers=n_layers, n_q_heads=N_KV_HEADS * GROUP, n_kv_heads=N_KV_HEADS, key_dim=DIM, max_tokens=4096,
        max_sequences=1, max_step_tokens=N_TOKENS, capacity_bytes=1 << 30,
        self_calibrate=oscar.SelfCalibration(frequencies, oscar.RopePairing.HALF)))
    sequence = cache.open()
    random = np.random.default_rng(0)
    spectrum = np.float32(1 / np.sqrt(1 + np.arange(DIM)))
    rows = lambda heads: np.float32(random.standard_normal((N_TOKENS, heads, DIM))) * spectrum
    before = clocks()
    with cache.step([(sequence, N_TOKENS)]) as step:
        for layer in range(n_layers):
            step.layer(layer, rows(N_KV_HEADS), rows(N_KV_HEADS), rows(N_KV_HEADS * GROUP))
    read = clocks()
    info = cache.freeze().info()
    end = clocks()
    for name, (processor, wall) in ((f"reading {N_TOKENS} tokens", read - before), ("freezing", end - read)):
        print(f"{name}: {processor:.1f} s of processor time, {wall:.1f} s by the clock")
    print(f"{info.n_heads} heads of {DIM}, {info.n_data_free_heads} data-free; liboscar {oscar.version()}")


if __name__ == "__main__":
    main()

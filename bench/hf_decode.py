#!/usr/bin/env python3
"""Decode steps of a Hugging Face model of Qwen3-8B's shape (random weights) over a long context on a GPU: OscarCache beside
transformers' own cache, both by the model's forward, without CUDA graphs.

    PYTHONPATH=build/cuda/bindings/python python bench/hf_decode.py [--context 102400] [--steps 24]

One JSON object a line. Needs torch with CUDA, transformers (pyproject.toml, extra "hf"), and `oscar` built with CUDA.
"""

import argparse
import datetime
import json
import statistics
import time

import torch
import transformers
from transformers import AutoModelForCausalLM, DynamicCache, Qwen3Config

from oscar.hf import OscarCache

SHAPE = {
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "max_position_embeddings": 131072,
}
CHUNK = 2048  # tokens of a step that reads the context


def seconds(call):
    torch.cuda.synchronize()
    start = time.perf_counter()
    result = call()
    torch.cuda.synchronize()
    return time.perf_counter() - start, result


def measure(model, cache, ids, n_steps):
    """Seconds to read `ids`, and the median ms of a step that writes a token."""
    def read():
        for piece in ids.split(CHUNK, dim=1):
            model.model(input_ids=piece, past_key_values=cache, use_cache=True)

    prefill, _ = seconds(read)
    token, steps = ids[:, -1:], []
    for _ in range(n_steps):
        took, out = seconds(lambda token=token: model(input_ids=token, past_key_values=cache, use_cache=True))
        token = out.logits[:, -1:].argmax(-1)
        steps.append(1e3 * took)
    free, total = torch.cuda.mem_get_info()  # of the whole device: liboscar's memory is not torch's
    return {"prefill_s": prefill, "step_ms": statistics.median(steps), "device_gb": (total - free) / 1e9}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--context", type=int, default=102400)
    parser.add_argument("--steps", type=int, default=24)
    arguments = parser.parse_args()
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(Qwen3Config(**SHAPE), dtype=torch.bfloat16).eval()
    ids = torch.randint(5, 1000, (1, arguments.context), device="cuda")
    about = {
        "card": torch.cuda.get_device_name(), "torch": torch.__version__, "transformers": transformers.__version__,
        "date": datetime.date.today().isoformat(), "context": arguments.context,
    }  # fmt: skip
    caches = {
        "DynamicCache": lambda: DynamicCache(config=model.config),
        "OscarCache 2bit": lambda: OscarCache(model, max_tokens=arguments.context + 4096, n_sink=64, n_recent=256),
    }
    with torch.no_grad():
        for name, make in caches.items():
            result = measure(model, make(), ids, arguments.steps)
            torch.cuda.empty_cache()
            rounded = {key: float(f"{value:.4g}") for key, value in result.items()}
            print(json.dumps({"bench": "hf_decode", "cache": name, **about, **rounded}), flush=True)


if __name__ == "__main__":
    main()

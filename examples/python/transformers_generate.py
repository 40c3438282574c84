#!/usr/bin/env python3
"""Generates with a transformers model through a 2-bit cache, and says what the cache took.

    python examples/python/transformers_generate.py MODEL [PROMPT]

MODEL is a folder or a name on the hub; pip install 'liboscar[hf]' first.
"""

import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

# snippet: generate
from oscar.hf import OscarCache


def generate(model, tokenizer, text, **options):
    inputs = tokenizer(text, return_tensors="pt").to(model.device)
    cache = OscarCache(model, profile="2bit")
    tokens = model.generate(**inputs, past_key_values=cache, **options)
    return tokenizer.decode(tokens[0], skip_special_tokens=True), cache
# end snippet


def main(name, text="The first thing that a reader of this book will notice is"):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForCausalLM.from_pretrained(name, dtype="auto").to(device).eval()
    said, cache = generate(model, AutoTokenizer.from_pretrained(name), text, max_new_tokens=200)
    stats = cache.stats()
    print(said)
    print(
        f"{stats.n_tokens} tokens, {stats.bytes_sequences} bytes: {stats.bits_per_element:.2f} bits per element "
        f"({stats.n_packed_tokens} tokens packed), and {stats.bytes_fixed} bytes that do not grow"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])

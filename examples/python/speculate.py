#!/usr/bin/env python3
"""Speculative decoding with SmolLM2-135M-Instruct: drafts are looked up in the text so far, verified in one step, and what the
model would not have written is taken back. The tokens must be those of plain decoding, or the exit status is 1.

scripts/demo installs all it needs; then: .venv/bin/python examples/python/speculate.py [--tokens N] [--json]
"""

import argparse
import dataclasses
import functools
import json
import os
import sys
import time

# Read when numpy is imported. One thread: more of them gain little on a small model, and lose much on a busy machine.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import oscar
from rich.progress import track

from smollm2 import arms, model as smollm2_model
from smollm2.tokenizer import Tokenizer

PROMPT = "Repeat this text word for word, twice:\n\n"
TEXT = (
    "It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of a wife. "
    "However little known the feelings or views of such a man may be on his first entering a neighbourhood, this truth is so "
    "well fixed in the minds of the surrounding families, that he is considered as the rightful property of some one or "
    "other of their daughters."
)
N_MATCH = 3  # tokens that have to be the same where a draft is looked up


@dataclasses.dataclass
class Written:
    tokens: list
    seconds: float
    n_steps: int
    n_drafted: int = 0


def look_up(tokens, n):
    """The n tokens that followed the latest earlier place with the same last N_MATCH tokens; [] where there is none."""
    tail = tokens[-N_MATCH:]
    for start in range(len(tokens) - N_MATCH - 1, -1, -1):
        if tokens[start : start + N_MATCH] == tail:
            return tokens[start + N_MATCH : start + N_MATCH + n]
    return []


class Decoder:
    """The model with a sequence in a cache of its own, and the text so far."""

    def __init__(self, model, prompt, n_tokens):
        config = arms.cache_config(model, "2bit", len(prompt) + n_tokens + 16, len(prompt))
        config.batch_invariant = True  # a row's attention has the same bits alone and beside drafts
        self._model = model
        self._cache = oscar.Cache(config)
        self._sequence = self._cache.open()
        self.tokens = list(prompt)
        self._forward(self.tokens[:-1], 0)

    def close(self):
        self._cache.close()

    def _forward(self, tokens, n_draft):
        n = self._sequence.length
        with self._cache.step([(self._sequence, len(tokens), n_draft)]) as step:
            hidden = self._model.forward(np.array(tokens), np.arange(n, n + len(tokens)), step.layer)
        return self._model.logits(hidden).argmax(-1).tolist()

    def step(self, draft):
        """Adds the draft's tokens that the model would have written, and one more. Returns how many it added."""
        # snippet: verify
        chosen = self._forward(self.tokens[-1:] + draft, len(draft))
        n_right = 0
        while n_right < len(draft) and draft[n_right] == chosen[n_right]:
            n_right += 1
        self._sequence.truncate(self._sequence.length - (len(draft) - n_right))
        # end snippet
        self.tokens += chosen[: n_right + 1]
        return n_right + 1


def write(model, prompt, n_tokens, n_draft, progress):
    decoder = Decoder(model, prompt, n_tokens)
    written = Written([], 0.0, 0)
    bar = iter(progress(range(n_tokens)))
    started = time.perf_counter()
    while len(decoder.tokens) < len(prompt) + n_tokens:
        draft = look_up(decoder.tokens, n_draft)
        for _ in range(decoder.step(draft)):
            next(bar, None)
        written.n_steps += 1
        written.n_drafted += len(draft)
    written.seconds = time.perf_counter() - started
    for _ in bar:
        pass
    written.tokens = decoder.tokens[len(prompt) : len(prompt) + n_tokens]
    decoder.close()
    return written


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=160, metavar="N", help="to write (default: 160)")
    parser.add_argument("--draft", type=int, default=7, metavar="N", help="tokens of a draft, at most 7 (default)")
    parser.add_argument("--json", action="store_true", help="the figures as JSON, nothing else on stdout")
    given = parser.parse_args()
    if not 1 <= given.draft <= 7 or given.tokens < 1:
        parser.error("--draft is 1 to 7, --tokens at least 1")
    progress = lambda text: functools.partial(track, description=f"{text:28}", disable=given.json)
    reader, model = smollm2_model.load(progress("loading SmolLM2-135M-Instruct"))
    tokenizer = Tokenizer(reader)
    prompt = tokenizer.chat(PROMPT + TEXT)
    plain = write(model, prompt, given.tokens, 0, progress("plain"))
    drafted = write(model, prompt, given.tokens, given.draft, progress("with drafts"))
    same = plain.tokens == drafted.tokens
    figures = {
        "tokens": given.tokens, "same": same, "plain_steps": plain.n_steps, "steps": drafted.n_steps,
        "drafted": drafted.n_drafted, "plain_s": round(plain.seconds, 2), "s": round(drafted.seconds, 2),
        "speedup": round(plain.seconds / drafted.seconds, 2),
    }  # fmt: skip
    if given.json:
        print(json.dumps(figures))
    else:
        print(tokenizer.decode(drafted.tokens))
        print(f"\n{given.tokens} tokens, {'the same' if same else 'OTHER ONES'} as without drafts: {drafted.n_steps} steps in "
              f"place of {plain.n_steps}, {figures['speedup']} times as fast")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())

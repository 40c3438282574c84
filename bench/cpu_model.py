#!/usr/bin/env python3
"""Decode steps of a whole small model on the CPU: SmolLM2-135M in numpy, its cache exact and at two bits, in turns.

  scripts/demo                                     # once: it makes .venv, with the model and this library
  .venv/bin/python bench/cpu_model.py [--context 1024 4096 8192] [--threads 1] [--json FILE] [--markdown FILE]

The model reads the demo's texts up to a context, then writes one token at a time through each cache, by turns. Times are
medians over the tokens: the whole step, and the part of it that is spent in the library. The products of the layers run
in numpy's BLAS, in float32, with as many threads as it likes.
"""
import argparse
import dataclasses
import json
import pathlib
import statistics
import sys
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "examples" / "python"))

from smollm2 import arms, model, provenance, tokenizer  # noqa: E402

PROFILES = ("exact", "2bit")
READ_TOKENS = 256  # of a step while the context is read


class TimedArm(arms.LibraryArm):
    """Counts the seconds that the library takes."""

    seconds = 0.0

    def step(self, n):
        return TimedStep(self, super().step(n))


class TimedStep:
    def __init__(self, arm, step):
        self._arm, self._step = arm, step

    def _timed(self, call, *arguments):
        started = time.perf_counter()
        result = call(*arguments)
        self._arm.seconds += time.perf_counter() - started
        return result

    def __enter__(self):
        self._timed(self._step.__enter__)
        return self

    def __exit__(self, *failure):
        return self._timed(self._step.__exit__, *failure)

    def layer(self, *arguments):
        return self._timed(self._step.layer, *arguments)


@dataclasses.dataclass
class Result:
    context: int
    profile: str
    threads: int
    tokens_per_s: float
    step_ms: float
    library_ms: float
    cache_mb: float
    bits_per_element: float


def decode(lm, arm, token):
    """Seconds of one step, those of the library in it, and the next token."""
    arm.seconds, started = 0.0, time.perf_counter()
    token = int(lm.logits(arms.forward(lm, [arm], [[token]])[:, -1]).argmax())
    return time.perf_counter() - started, arm.seconds, token


def measure(lm, text, context, threads, n_tokens):
    held = []
    for profile in PROFILES:
        config = arms.cache_config(lm, profile, context + n_tokens + 1, READ_TOKENS)
        config.n_threads = threads
        arm = TimedArm(config)
        for start in range(0, context, READ_TOKENS):
            hidden = arms.forward(lm, [arm], [text[start:min(start + READ_TOKENS, context)]])
            print(f"\r{profile}, {threads} thread{'s' * (threads > 1)}: {arm.length} of {context} tokens read", end="",
                  file=sys.stderr, flush=True)
        print(file=sys.stderr)
        held.append([profile, arm, int(lm.logits(hidden[:, -1]).argmax()), []])
    for _ in range(n_tokens):
        for of in held:
            whole, library, of[2] = decode(lm, of[1], of[2])
            of[3].append((whole, library))
    for profile, arm, _, times in held:
        whole, library = (statistics.median(t) * 1e3 for t in zip(*times[1:]))
        stats = arm.stats
        yield Result(context, profile, threads, round(1e3 / whole, 2), round(whole, 2), round(library, 2),
                     round(stats.bytes_sequences / 1e6, 2), round(stats.bits_per_element, 3))
        arm.__exit__()


def table(results):
    lines = ["| context | cache | threads | MB | bits per element | tokens/s | step, ms | in the library, ms |",
             "| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    lines += [f"| {r.context:,} | {r.profile} | {r.threads} | {r.cache_mb:.1f} | {r.bits_per_element:.2f} | "
              f"{r.tokens_per_s:.1f} | {r.step_ms:.1f} | {r.library_ms:.1f} |" for r in results]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--context", nargs="+", type=int, default=[1024, 2048, 4096, 8100])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--tokens", type=int, default=24, help="tokens written through each cache")
    parser.add_argument("--json")
    parser.add_argument("--markdown")
    args = parser.parse_args()
    reader, lm = model.load()
    text = "\n".join(p.read_text(encoding="utf-8") for p in sorted((ROOT / "examples/python/text").glob("*.txt")))
    tokens = np.array(tokenizer.Tokenizer(reader).encode(text))
    if max(args.context) + args.tokens >= min(lm.max_tokens, len(tokens)):
        sys.exit(f"error: {max(args.context)} + {args.tokens} tokens: the model takes {lm.max_tokens}, the texts have {len(tokens)}")
    results = [r for n in args.context for threads in args.threads
               for r in measure(lm, tokens, n, threads, args.tokens)]
    about = provenance.collect()
    text = (f"{about['date']}, commit {about['commit']}: {about['processor']}, {about['backend']}. SmolLM2-135M-Instruct, "
            f"9/3 heads of 64, in numpy {about['numpy']}; median of {args.tokens - 1} tokens, in turns.\n\n{table(results)}\n")
    print(text)
    if args.markdown:
        pathlib.Path(args.markdown).write_text(text)
    if args.json:
        pathlib.Path(args.json).write_text(
            json.dumps({**about, "results": [dataclasses.asdict(r) for r in results]}, indent=1) + "\n")


if __name__ == "__main__":
    main()

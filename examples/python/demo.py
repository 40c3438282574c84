#!/usr/bin/env python3
"""liboscar with a small real model: an answer through the 2-bit cache beside one through the exact cache, then memory,
divergence from exact attention beside the published OSCAR method, and time. scripts/demo installs all it needs."""

import argparse
import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import sys
import time

# Read when numpy is imported. One thread: more of them gain little on a small model, and lose much on a busy machine.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import oscar
from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.progress import track
from rich.table import Table
from rich.text import Text

from smollm2 import fidelity, memory, model as smollm2_model, provenance, published_oscar, timing
from smollm2.arms import STRESS, LibraryArm, SelfCalibratingArm, cache_config
from smollm2.generate import first_difference, generate
from smollm2.tokenizer import Tokenizer

TEXTS = pathlib.Path(__file__).parent / "text"
PROMPT = "Explain how plants make food from sunlight."
CONTEXT_TOKENS = 300  # of the text that precede the prompt, so that there is something to compress
FIDELITY_TOKENS = 1024
COLLECTED_TOKENS = 256  # of the text, that the 2-bit cache calibrates itself from
COLLECTED_ANSWER_TOKENS = STRESS["n_sink"] + 192  # the fewest that will do: the answer is to come from packed tokens
LEAST_TEXT_TOKENS = COLLECTED_TOKENS + 64  # and some that attend to what is packed
STEP_TOKENS = 32  # of a teacher-forced step
CALIBRATION_WINDOW = 1024  # tokens of one text that the rival calibrates on
ATTENTION_TOKENS, ATTENTION_CALLS = 16 << 10, 101
ATTENTION_GEOMETRIES = ((9, 3, 64), (32, 8, 128))  # this model's, and that of a model of 8 billion parameters
GATE_RATIO = 0.25  # of the rival's KL divergence, at fewer code bits
PAPER = "OSCAR as published"
UNCALIBRATED = "liboscar, not calibrated"

console = Console(highlight=False)
progress = lambda text: functools.partial(track, description=f"{text:42}", console=console)


def options():
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__)
    parser.add_argument("prompt", nargs="?", default=PROMPT, help=f'a question to the model (default: "{PROMPT}")')
    parser.add_argument("--text", type=pathlib.Path, default=TEXTS / "pride-and-prejudice.txt", metavar="FILE",
                        help="the text that the model reads before the prompt, and that the divergence is measured on")
    parser.add_argument("--tokens", type=int, default=128, metavar="N", help="tokens of the answer (default: 128)")
    parser.add_argument("--calibration", type=pathlib.Path, metavar="FILE",
                        help="what examples/python/calibrate.py wrote (default: the 2-bit cache calibrates itself)")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write every figure to FILE")
    parser.add_argument("--gate", action="store_true",
                        help=f"fail unless the divergence is at most {GATE_RATIO} of {PAPER}'s at fewer bits")
    given = parser.parse_args()
    if given.tokens < 1:
        parser.error(f"--tokens is {given.tokens}, wanted at least 1")
    try:
        given.text_content = given.text.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        parser.error(f"--text {given.text}: {error.strerror}")
    try:
        if given.calibration:
            given.calibration = oscar.Calibration.load(given.calibration.read_bytes())
    except (OSError, oscar.Error) as error:
        parser.error(f"--calibration {given.calibration}: {getattr(error, 'strerror', None) or error}")
    return given


def two_bit_arm(model, max_tokens, max_step_tokens, calibration, n_collected):
    if calibration:
        return LibraryArm(cache_config(model, "2bit", max_tokens, max_step_tokens, calibration))
    return SelfCalibratingArm(cache_config(model, "2bit", max_tokens, max_step_tokens, collects=True), n_collected)


def show_answers(model, tokenizer, prompt, text, n_tokens, calibration):
    """Streams both answers; returns their figures."""
    context = tokenizer.decode(tokenizer.encode(text)[:CONTEXT_TOKENS])
    context = context[: context.rfind("\n\n")] if "\n\n" in context else context
    tokens = tokenizer.chat(f"{context}\n\n{prompt}")
    room = len(tokens) + n_tokens
    if room > model.max_tokens:
        raise SystemExit(f"error: prompt and answer are {room} tokens, the model takes {model.max_tokens}")
    titles = ("exact cache (BF16)", "2-bit cache")
    console.print(f"The model has read the first lines of the text. Then: [bold]{prompt}[/bold]\n")

    def panels(answers):
        texts = [Text(tokenizer.decode(answer.tokens)) for answer in answers]
        grid = Table.grid(expand=True)
        for _ in titles:
            grid.add_column(ratio=1)
        grid.add_row(*(Panel(body, title=title) for body, title in zip(texts, titles)))
        return grid

    with contextlib.ExitStack() as stack:
        exact = LibraryArm(cache_config(model, "exact", room, len(tokens)))
        ours = two_bit_arm(model, room, len(tokens), calibration, COLLECTED_ANSWER_TOKENS)
        arms = [stack.enter_context(arm) for arm in (exact, ours)]
        stream = generate(model, tokens, arms, n_tokens, tokenizer.end)
        if console.is_terminal:
            with Live(console=console, refresh_per_second=12) as live:
                for answers in stream:
                    live.update(panels(answers))
        else:
            answers = list(stream)[-1]
            for title, answer in zip(titles, answers):
                console.print(f"[bold]{title}:[/bold]", Text(tokenizer.decode(answer.tokens)), "", sep="\n")
        n_packed, length = arms[1].n_packed, arms[1].length
    exact, packed = answers
    same = first_difference(exact, packed)
    console.print(f"{n_packed} of the {length} tokens were read from 2-bit blocks at the end.")
    return {
        "prompt": prompt,
        "n_prompt_tokens": len(tokens),
        "n_packed_tokens": n_packed,
        "answer_exact": tokenizer.decode(exact.tokens),
        "answer_2bit": tokenizer.decode(packed.tokens),
        "n_answer_tokens": len(exact.tokens),
        "n_same_tokens": same,
        "identical": exact.tokens == packed.tokens,
    }


def calibration_windows(tokenizer):
    """The other bundled texts, cut into windows [n, CALIBRATION_WINDOW]."""
    tokens = []
    for name in ("persuasion.txt", "opticks.txt"):
        ids = tokenizer.encode((TEXTS / name).read_text(encoding="utf-8"))
        tokens.append(np.array(ids[: len(ids) // CALIBRATION_WINDOW * CALIBRATION_WINDOW]))
    return np.concatenate(tokens).reshape(-1, CALIBRATION_WINDOW)


def show_fidelity(model, tokenizer, text, calibration):
    """Divergence of the 2-bit caches from the exact one, on the text; returns figures, the bytes that ours held, and its
    calibration."""
    tokens = np.array(tokenizer.encode(text)[:FIDELITY_TOKENS])
    n_sink = STRESS["n_sink"]
    of_rival = published_oscar.Calibration(
        model, calibration_windows(tokenizer), n_sink, progress(f"calibrating {PAPER}")
    )
    with contextlib.ExitStack() as stack:
        library = lambda *given: stack.enter_context(LibraryArm(cache_config(model, *given)))
        exact = library("exact", len(tokens), STEP_TOKENS)
        ours = stack.enter_context(two_bit_arm(model, len(tokens), STEP_TOKENS, calibration, COLLECTED_TOKENS))
        rival = published_oscar.PublishedOscarArm(model, of_rival, n_sink, len(tokens), lambda: ours.n_packed)
        arms = {"liboscar": ours, PAPER: rival, UNCALIBRATED: library("2bit", len(tokens), STEP_TOKENS)}
        label = progress("reading the text with every cache")
        results = fidelity.compare(model, tokens, exact, arms, STEP_TOKENS, label)
        held = memory.held(model, ours)
        n_packed = rival.n_packed

    code_bits = dict.fromkeys(arms, memory.block_bits_per_element(model))
    code_bits[PAPER] = published_oscar.bits_per_element(model.head_dim)
    packed_share = n_packed / len(tokens)
    total_bits = {name: bits * packed_share + 16 * (1 - packed_share) for name, bits in code_bits.items()}
    table = Table(title=f"against exact keys and values, {results['liboscar'].n_tokens} tokens of the text")
    for heading in ("", "code bits", "total bits", "KL mean", "median", "P99", "same top-1"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, r in results.items():
        table.add_row(name, f"{code_bits[name]:.2f}", f"{total_bits[name]:.2f}", f"{r.kl_mean:.4f}",
                      f"{r.kl_median:.4f}", f"{r.kl_p99:.3f}", f"{r.top1_agreement:.1%}")
    console.print(table)
    console.print(
        f"Bits are per element: of packed tokens (codes, scales, zeros or means), and of all {len(tokens)}, of which "
        f"all keep the same {len(tokens) - n_packed} in BF16. {PAPER} is calibrated on {of_rival.n_tokens} tokens of "
        f"other texts, liboscar {'as it was given' if calibration else f'by itself on the first {COLLECTED_TOKENS}'}."
    )
    figures = {
        name: {"code_bits": code_bits[name], "total_bits": total_bits[name], **dataclasses.asdict(r)}
        for name, r in results.items()
    }
    return figures, held, calibration or ours.calibration


def show_memory(model, held):
    """Bytes of the sequence that was read, and of longer ones; returns all."""
    rows = [held, *(memory.predicted(model, n) for n in memory.PREDICTED_CONTEXTS)]
    table = Table(title="memory of one sequence")
    for heading in ("tokens", "BF16", "liboscar", "bits per element", "times smaller"):
        table.add_column(heading, justify="right")
    for row in rows:
        name = f"{row.n_tokens} (measured)" if row is held else f"{row.n_tokens >> 10}K (predicted)"
        table.add_row(name, f"{row.bytes_bf16 / 2**20:.1f} MiB", f"{row.bytes_cache / 2**20:.1f} MiB",
                      f"{row.bits_per_element:.2f}", f"{row.times_smaller:.1f}")
    console.print(table)
    return rows


def show_time():
    results = []
    table = Table(title=f"attention of one new token over {ATTENTION_TOKENS >> 10}K tokens, one layer, one thread")
    for heading in ("query/KV heads", "head_dim", "exact BF16", "2-bit", "times faster"):
        table.add_column(heading, justify="right")
    for n_q, n_kv, dim in ATTENTION_GEOMETRIES:
        label = progress(f"timing {n_q}/{n_kv} heads of {dim}")
        r = timing.measure(n_q, n_kv, dim, ATTENTION_TOKENS, ATTENTION_CALLS, label)
        table.add_row(f"{n_q}/{n_kv}", str(dim), f"{r.exact_ms:.2f} ms", f"{r.packed_ms:.2f} ms", f"{r.speedup:.2f}")
        results.append(r)
    console.print(table)
    return results


def verdict(answers, quality, memories, times):
    """The figures in words, and whether the gate holds."""
    ours, rival = quality["liboscar"], quality[PAPER]
    ratio = ours["kl_mean"] / rival["kl_mean"]
    held = ratio <= GATE_RATIO and ours["code_bits"] < rival["code_bits"]
    middle = memories[2]
    if answers["identical"]:
        same = f"The same answer, all {answers['n_answer_tokens']} tokens of it."
    else:
        same = f"The same answer for the first {answers['n_same_tokens']} of {answers['n_answer_tokens']} tokens."
    speed = ", ".join(f"{t.speedup:.1f} (head_dim {t.head_dim})" for t in times)
    lines = [
        same,
        f"{middle.times_smaller:.1f}x less memory than BF16 at {middle.n_tokens >> 10}K tokens.",
        f"KL divergence from exact {ours['kl_mean']:.3f}, where {PAPER} has {rival['kl_mean']:.3f} "
        f"({ratio:.2f} of it), with {ours['code_bits']:.2f} bits instead of {rival['code_bits']:.2f}.",
        f"The likeliest next word stays the same {ours['top1_agreement']:.0%} of the time; there, "
        f"{rival['top1_agreement']:.0%}.",
        f"Attention over {ATTENTION_TOKENS >> 10}K tokens, times as fast as on exact BF16 in this library: {speed}.",
        f"Goal, at most {GATE_RATIO} of that divergence at fewer bits: {'reached' if held else 'NOT reached'}.",
    ]
    console.print(Panel("\n".join(lines), title="verdict"))
    return {"kl_ratio": ratio, "limit": GATE_RATIO, "reached": held, "text": lines}


def main():
    given = options()
    started = time.monotonic()
    reader, model = smollm2_model.load(progress("loading SmolLM2-135M-Instruct"))
    tokenizer = Tokenizer(reader)
    text = given.text_content[: 64 << 10]  # more than enough for the tokens that are used
    n_text = len(tokenizer.encode(text))
    if n_text < LEAST_TEXT_TOKENS:
        raise SystemExit(f"error: {given.text} has {n_text} tokens, wanted at least {LEAST_TEXT_TOKENS}")

    console.rule("1. an answer")
    answers = show_answers(model, tokenizer, given.prompt, text, given.tokens, given.calibration)
    console.rule("2. fidelity")
    quality, held, calibration = show_fidelity(model, tokenizer, text, given.calibration)
    console.rule("3. memory")
    memories = show_memory(model, held)
    console.rule("4. time")
    times = show_time()
    console.rule()
    gate = verdict(answers, quality, memories, times)

    if given.json:
        figures = {
            **provenance.collect(),
            "windows": STRESS,
            "calibration": dataclasses.asdict(calibration.info()),
            "answers": answers,
            "fidelity": quality,
            "memory": [dataclasses.asdict(m) | {"times_smaller": m.times_smaller} for m in memories],
            "attention_time": [dataclasses.asdict(t) | {"speedup": t.speedup} for t in times],
            "gate": gate,
            "seconds": time.monotonic() - started,
        }
        given.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 1 if given.gate and not gate["reached"] else 0


if __name__ == "__main__":
    sys.exit(main())

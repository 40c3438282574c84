#!/usr/bin/env python3
"""Attention on the CPU: liboscar beside llama.cpp and ik_llama.cpp, in turns, in one run.

  bench/cpu.py decode  [--shape 32/8x128] [--context 4096 65536] [--threads 1 2] [--json FILE] [--markdown FILE]
  bench/cpu.py prefill [--context 8192] ...

One program for each row of the table is started, fills its cache, and compares its output with double precision. Then
they take turns: a short burst of calls of each, again and again, so that what else the machine does hits all of them
alike. Times are medians. Wants build/release (cmake --preset release) and, for the rivals, bench/cpu_rivals/prepare; a rival that is not
built is left out, and the table says so.
"""
import argparse
import datetime
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
RIVALS = {"llama": ("f16", "q8_0", "q4_0"), "ik": ("f16", "q8_KV", "q4_0")}
NAMES = {"llama": "llama.cpp", "ik": "ik_llama.cpp"}
N_NEW = {"decode": 1, "prefill": 512}
PAUSE = 0.01  # seconds: the threads of a call that has ended may spin for a while
# Short calls come in bursts, of which the first does not count: threads that have slept take long to wake, in every
# program, and layers of a model follow one another.
BURST_CALLS, BURST_MS = 6, 60.0


class Row:
    """A program that waits to be asked for the time of one call."""

    def __init__(self, name, threads, command, environment=None):
        self.name, self.threads, self.times = name, threads, []
        self.process = subprocess.Popen(
            [str(x) for x in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, **(environment or {})})
        self.about = json.loads(self.answer())

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.name}: the program ended with status {self.process.wait()}")
        return line

    def call(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.answer())

    def turn(self):
        burst = []
        while len(burst) < BURST_CALLS and sum(burst) < BURST_MS:
            burst.append(self.call())
        time.sleep(PAUSE)
        return statistics.median(burst[1:] or burst)

    def close(self):
        self.process.stdin.close()
        self.process.wait()

    def result(self):
        ms = statistics.median(self.times)
        return {"name": self.name, "threads": self.threads, "ms": round(ms, 4), "ms_least": min(self.times),
                "gb_per_s": round(self.about["bytes"] / ms * 1e-6, 2), **self.about}


def rows_of(kind, shape, context, threads, backends):
    heads, dim = shape.split("x")
    q_heads, kv_heads = heads.split("/")
    geometry = [q_heads, kv_heads, dim, context]
    for n in threads:
        for backend in backends:
            yield Row(f"liboscar 2bit, {backend}", n, [ROOT / f"build/release/cpu_{kind}", "serve", *geometry, n],
                      {"OSCAR_BACKEND": backend})
        for rival, types in RIVALS.items():
            program = ROOT / f"build/cpu_rivals/ggml_{rival}"
            for type_ in types if program.exists() else ():
                yield Row(f"{NAMES[rival]} {type_}", n, [program, type_, *geometry, N_NEW[kind], n])


def measure(kind, shape, context, threads, backends, rounds):
    rows = list(rows_of(kind, shape, context, threads, backends))
    for done in range(rounds + 1):
        for row in rows:
            row.times.append(row.turn())
        if done == 0:
            for row in rows:
                row.times.clear()  # the first call of each warms up
        print(f"\r{shape}, {context} tokens: {done} of {rounds} rounds", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    for row in rows:
        row.close()
    return [{"kind": kind, "shape": shape, "context": context, **row.result()} for row in rows]


def machine():
    lines = open("/proc/cpuinfo").read().splitlines()
    get = lambda key: next((x.split(":", 1)[1].strip() for x in lines if x.startswith(key)), "unknown")
    flags = get("flags").split()
    known = [x for x in ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8") if x in flags]
    return f"{get('model name')} (family {get('cpu family')}, model {get('model')}), {os.cpu_count()} cores, {' '.join(known)}"


def table(results):
    out = []
    for shape, context in dict.fromkeys((r["shape"], r["context"]) for r in results):
        here = [r for r in results if (r["shape"], r["context"]) == (shape, context)]
        threads = sorted({r["threads"] for r in here})
        out += [f"### {shape}, {context} tokens", "",
                "| | MB | " + " | ".join(f"ms, {n} thread{'s' * (n > 1)} | GB/s" for n in threads) + " | error |",
                "| --- | ---: |" + " ---: |" * (2 * len(threads) + 1)]
        for name in dict.fromkeys(r["name"] for r in here):
            of = {r["threads"]: r for r in here if r["name"] == name}
            first = next(iter(of.values()))
            cells = [f"{of[n]['ms']:.2f} | {of[n]['gb_per_s']:.1f}" for n in threads]
            out.append(f"| {name} | {first['bytes'] / 1e6:.1f} | {' | '.join(cells)} | {first['error']:.0e} |")
        out.append("")
    return "\n".join(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=list(N_NEW))
    parser.add_argument("--shape", nargs="+", default=["32/8x128"])
    parser.add_argument("--context", nargs="+", type=int)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--backend", nargs="+", default=["avx512", "avx2"])
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--json")
    parser.add_argument("--markdown")
    args = parser.parse_args()
    contexts = args.context or ([4096, 16384, 65536, 131072] if args.kind == "decode" else [8192])
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    versions = [p.read_text().strip() for p in sorted((ROOT / "build/cpu_rivals").glob("*.version"))]
    about = {"date": str(datetime.date.today()), "commit": commit, "machine": machine(), "rivals": versions,
             "rounds": args.rounds}
    results = []
    for shape in args.shape:
        for context in contexts:
            results += measure(args.kind, shape, context, args.threads, args.backend, args.rounds)
    text = (f"{about['date']}, commit {commit}. {about['machine']}. Medians of {args.rounds} turns of each. "
            f"Rivals: {', '.join(versions) or 'none built'}.\n\n{table(results)}")
    print(text)
    if args.markdown:
        pathlib.Path(args.markdown).write_text(text)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps({**about, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()

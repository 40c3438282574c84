#!/usr/bin/env python3
"""What a call costs from Python, Rust and Go beyond what it costs from C: one table.

    bench/bindings/run.py [--build DIR] [--python EXECUTABLE] [--json FILE] [--gate FACTOR]

    --build DIR           a Release build of liboscar (default: build/release)
    --python EXECUTABLE   one that imports oscar (default: .venv/bin/python); where it has torch, tensors of it are timed too
    --json FILE           writes every figure, for programs
    --gate FACTOR         fails where a goal is missed by more than this factor (CI: 2, for its machines are shared)

Needs a C compiler, cargo, Go and pkg-config. The programs take turns, and the least time of all turns counts: other
programs on the machine only ever add time. All of them compute one attention too, which has to be the same.
"""
import argparse
import datetime
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TURNS = 7
# ns over the call from C.
GOALS = {
    "Python, numpy": 5_000,
    "Python, views": 5_000,
    "Python, torch": 25_000,
    "Rust": 50,
    "Go": 300,
}


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release", metavar="DIR")
    parser.add_argument("--python", type=pathlib.Path, default=ROOT / ".venv/bin/python", metavar="EXECUTABLE")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--gate", type=float, metavar="FACTOR")
    given = parser.parse_args()
    given.build = given.build.resolve()
    if not (given.build / "liboscar.so").exists():
        parser.error(f"there is no liboscar.so in {given.build}: cmake --preset release && cmake --build --preset release")
    return given


def run(*command, **more):
    return subprocess.run([str(word) for word in command], check=True, stdout=subprocess.PIPE, text=True, **more).stdout


def programs(given, work):
    """Name -> command, all against one installed library."""
    prefix = work / "prefix"
    run("cmake", "--install", given.build, "--prefix", prefix)
    found = next(prefix.rglob("oscar.pc")).parent
    os.environ["PKG_CONFIG_PATH"] = str(found)
    os.environ["LD_LIBRARY_PATH"] = os.environ["OSCAR_LIB_DIR"] = str(found.parent)
    os.environ["CARGO_TARGET_DIR"] = str(ROOT / "build/bench-bindings")
    flags = run("pkg-config", "--cflags", "--libs", "oscar").split()
    run("cc", "-std=c99", "-O2", HERE / "in_c.c", "-o", work / "in_c", *flags)
    run("cargo", "build", "--quiet", "--release", cwd=HERE / "rust")
    # Go's cache of builds knows neither where pkg-config found a library nor what is in it, but it knows this flag.
    os.environ["CGO_CPPFLAGS"] = f"-DOSCAR_GO_INSTALLED_{work.name}"
    run("go", "build", "-o", work / "in_go", ".", cwd=HERE / "go")
    python = {name: [given.python, HERE / "in_python.py", name] for name in ("numpy", "views", "torch")}
    if subprocess.run([given.python, "-c", "import torch"], stderr=subprocess.DEVNULL).returncode != 0:
        print(f"{given.python} has no torch: its tensors are not timed", file=sys.stderr)
        del python["torch"]
    return {
        "C": [work / "in_c"],
        **{f"Python, {name}": command for name, command in python.items()},
        "Rust": [ROOT / "build/bench-bindings/release/in_rust"],
        "Go": [work / "in_go"],
    }


def measure(commands):
    """Name -> call -> ns."""
    least, sums = {name: {} for name in commands}, {}
    for _ in range(TURNS):
        for name, command in commands.items():
            for line in map(json.loads, run(*command).splitlines()):
                if "sum" in line:
                    sums[name] = line["sum"]
                else:
                    least[name][line["call"]] = min(line["ns"], least[name].get(line["call"], float("inf")))
    if len(set(sums.values())) != 1 or sums.keys() != commands.keys():
        sys.exit(f"the programs do not agree on what attention gives: {sums}")
    return least


def version(*command):
    return run(*command).splitlines()[0]


def provenance(given):
    of_python = "import oscar, platform; print(f'liboscar {oscar.version()}, Python {platform.python_version()}')"
    versions = [version(given.python, "-c", of_python), version("cc", "--version"), version("rustc", "--version")]
    model = next((line.split(": ")[1] for line in open("/proc/cpuinfo") if line.startswith("model name")), "?").strip()
    return {
        "date": datetime.date.today().isoformat(),
        "commit": version("git", "-C", ROOT, "rev-parse", "--short", "HEAD"),
        "machine": f"{model}, {platform.machine()}, {os.cpu_count()} cores",
        "versions": [*versions, version("go", "version")],
    }


def table(least):
    in_c = least["C"]
    yield ["", *in_c, "goal"]
    yield ["---", *["---:"] * (len(in_c) + 1)]
    yield ["C, ns a call", *(f"{ns:,.0f}" for ns in in_c.values()), ""]
    for name, goal in GOALS.items():
        if name in least:
            yield [f"{name}: ns more", *(f"{least[name][call] - ns:,.0f}" for call, ns in in_c.items()), f"{goal:,}"]


def missed(least, factor=1.0):
    # A step is opened once for all layers of a pass; the goals are those of the calls within.
    calls = [call for call in least["C"] if call != "begin, abort"]
    return [f"{name}: {call} takes {least[name][call] - least['C'][call]:,.0f} ns more than from C, the goal is {goal:,}"
            for name, goal in GOALS.items() if name in least
            for call in calls if least[name][call] - least["C"][call] > factor * goal]


def main():
    given = options()
    with tempfile.TemporaryDirectory() as work:
        least = measure(programs(given, pathlib.Path(work)))
    about = provenance(given)
    print("; ".join([about["date"], f"commit {about['commit']}", about["machine"], *about["versions"]]) + "\n")
    for row in table(least):
        print("| " + " | ".join(row) + " |")
    if given.json:
        given.json.write_text(json.dumps({**about, "goals_ns": GOALS, "ns": least}, indent=1) + "\n")
    if found := missed(least):
        print("\n" + "\n".join(found))
    if given.gate and missed(least, given.gate):
        sys.exit(1)


if __name__ == "__main__":
    main()

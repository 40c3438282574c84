#!/usr/bin/env python3
"""Breaks liboscar on purpose, one change at a time, and sees the test fail that has to notice.

  run.py [--build DIR] [--python PROGRAM] [NAME ...]

All of tests/mutations/list.py, or those whose name contains one of NAME. The sources are copied to DIR/tree (default:
build/mutations); nothing here is changed. A mutation that no longer fits the sources, that does not compile, or that its
test does not notice is an error. PROGRAM (default: .venv-hf/bin/python) runs the tests of the Python package: it has pytest,
numpy, torch and transformers, and swig beside it.
"""
import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import time

from list import MUTATIONS

ROOT = pathlib.Path(__file__).resolve().parents[2]
COPIED = ["CMakeLists.txt", "CMakePresets.json", "cmake", "packaging", "pkgconfig", "include", "src", "cuda", "examples", "tests",
          "bench", "tools", "bindings/python", "README.md", "docs", "scripts", "LICENSE"]


def ignored(folder, names):
    return [n for n in names if n == "__pycache__" or n == "build" and pathlib.Path(folder, n).is_dir()]


def refresh(source, target):
    """A file that differs gets a new time, and the others keep theirs: what was built of a mutation is built again."""
    target = pathlib.Path(target)
    if not target.is_file() or target.read_bytes() != pathlib.Path(source).read_bytes():
        shutil.copy(source, target)


def copy(to):
    for name in COPIED:
        source, target = ROOT / name, to / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True, ignore=ignored, copy_function=refresh)
        elif source.exists():
            refresh(source, target)


def run(*words, cwd=None, env=None):
    return subprocess.run([str(w) for w in words], cwd=cwd, env=env, capture_output=True, text=True, errors="replace")


def build(folder, targets):
    # A test that does without a program of its own needs nothing built.
    return run("cmake", "--build", folder, "--target", *targets) if targets else run("true")


def pytest_passes(tree, folder, python, name):
    # The package as it was built, with links to the tree's Python files; no bytecode, which could be of another mutation.
    environment = os.environ | {"PYTHONPATH": str(folder / "bindings" / "python"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = run(python, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *name.split(), cwd=tree, env=environment)
    if done.returncode not in (0, 1) or "skipped" in done.stdout:
        sys.exit(f"{name} was not run:\n{done.stdout[-2000:]}{done.stderr[-500:]}")
    return done.returncode == 0


def test_passes(tree, folder, python, name):
    if ".py" in name:
        return pytest_passes(tree, folder, python, name)
    if "/" in name:
        return run(tree / name, cwd=tree).returncode == 0
    done = run("ctest", "--test-dir", folder, "-R", f"^{name}$".replace(".", r"\."), "--no-tests=error", "--timeout", 900)
    if "No tests were found" in done.stdout + done.stderr:
        sys.exit(f"there is no test {name}")
    return done.returncode == 0


def python_options(python):
    """For CMake: the Python package is built with this interpreter, and with the swig beside it where there is one."""
    swig = python.parent / "swig"
    return ["-DOSCAR_BUILD_PYTHON=ON", f"-DPython_EXECUTABLE={python}"] + ([f"-DSWIG_EXECUTABLE={swig}"] if swig.exists() else [])


def try_one(mutation, tree, folder, python):
    """None, or what is wrong."""
    file = tree / mutation.file
    text = file.read_text()
    if text.count(mutation.old) != 1:
        return f"{mutation.file} has {text.count(mutation.old)} times: {mutation.old.strip()}"
    file.write_text(text.replace(mutation.old, mutation.new))
    try:
        done = build(folder, mutation.targets)
        if done.returncode != 0:
            return "does not compile:\n" + done.stdout[-2000:] + done.stderr[-500:]
        return f"{mutation.test} does not notice" if test_passes(tree, folder, python, mutation.test) else None
    finally:
        file.write_text(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "mutations")
    parser.add_argument("--python", type=pathlib.Path, default=ROOT / ".venv-hf" / "bin" / "python")
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    chosen = [m for m in MUTATIONS if not args.names or any(n in m.name for n in args.names)]
    if not chosen:
        sys.exit("no mutation has such a name")

    tree, folder = args.build / "tree", args.build / "build"
    copy(tree)
    options = python_options(args.python) if any(".py" in m.test for m in chosen) else []
    done = run("cmake", "-G", "Ninja", "-S", tree, "-B", folder, "-DCMAKE_BUILD_TYPE=Release", "-DOSCAR_BUILD_TOOLS=ON",
               f"-DPython3_EXECUTABLE={sys.executable}", *options)
    if done.returncode != 0:
        sys.exit(done.stdout + done.stderr)
    done = build(folder, sorted({t for m in chosen for t in m.targets}))
    if done.returncode != 0:
        sys.exit(done.stdout[-3000:] + done.stderr[-1000:])
    failed, passing = 0, set()
    for mutation in chosen:
        if mutation.test not in passing:
            build(folder, mutation.targets)  # again, of whole sources
            if not test_passes(tree, folder, args.python, mutation.test):
                sys.exit(f"{mutation.test} fails without any mutation")
            passing.add(mutation.test)
        started = time.monotonic()
        wrong = try_one(mutation, tree, folder, args.python)
        failed += wrong is not None
        print(f"{'MISSED' if wrong else 'caught'}  {mutation.name}: {wrong or mutation.test} ({time.monotonic() - started:.0f} s)",
              flush=True)
    print(f"{len(chosen) - failed} of {len(chosen)} mutations are caught")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()

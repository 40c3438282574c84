#!/usr/bin/env python3
"""A number of an enum that changes in oscar.h must not get past any language: changes one of every enum, in a copy of the
tree, and sees each gate fail that passed before.

  changed_enum.py [BUILD_DIR]     BUILD_DIR (default: build/release) has a built liboscar

Gates of generated files: C's list of the ABI, Rust's bindings.rs, Go's constants.go, Python's _oscar.pyi. Gates of
programs, with a changed status: the golden vectors in C, and the Go package, which does not compile.
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
GATES = {
    "C": [sys.executable, "-B", "tests/abi/check_abi.py", "layout"],
    "Rust": ["bindings/rust/generate", "--check"],
    "Go": [sys.executable, "-B", "bindings/go/generate", "--check"],
    "Python": [sys.executable, "-B", "bindings/python/generate", "--check"],
}
# What a gate says, where it is not the number.
REASONS = {"C, golden vectors": "errors.txt:", "Go, compiler": "out of bounds"}


def copy_tree(target):
    listed = subprocess.run(["git", "ls-files", "-z", "include", "bindings", "tests", "scripts"], cwd=ROOT, check=True,
                            capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def passes(command, tree, **environment):
    done = subprocess.run([str(word) for word in command], cwd=tree, env={**os.environ, **environment},
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.returncode == 0, done.stdout


def changes(header):
    """(enumerator, its new number, header with it), for the last one of every enum."""
    for enum in re.finditer(r"^enum \w+ \{(.*?)\};", header, re.S | re.M):
        last = list(re.finditer(r"(OSCAR_\w+) = (-?)(\d+)", enum[1]))[-1]
        begin = enum.start(1) + last.start()
        number = f"{last[2]}{int(last[3]) + 40}"
        yield last[1], number, header[:begin] + f"{last[1]} = {number}" + header[begin + len(last[0]):]


def program_gates(tree, build):
    """Name -> function that says whether it passes."""
    flags = [f"-I{tree / 'include'}", f"-L{build}", f"-Wl,-rpath,{build}"]
    go_environment = {"CGO_CFLAGS": flags[0], "CGO_LDFLAGS": " ".join([*flags[1:], "-loscar"]), "GOFLAGS": "-mod=mod"}

    def vectors():
        compiled = passes(["cc", "-std=c99", "tests/c/vectors.c", *flags, "-loscar", "-lm", "-o", tree / "vectors"], tree)
        return passes([tree / "vectors", "tests/vectors/errors.txt"], tree) if compiled[0] else compiled

    def go_package():
        # Its `pkg-config: oscar` would find another header than the copy's.
        (tree / "no-pkg-config").write_text("#!/bin/sh\n")
        (tree / "no-pkg-config").chmod(0o755)
        return passes(["go", "build", "-a", "."], tree / "bindings/go", PKG_CONFIG=str(tree / "no-pkg-config"),
                      **go_environment)

    return {"C, golden vectors": vectors, "Go, compiler": go_package}


def main():
    build = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build/release").resolve()
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        tree = pathlib.Path(folder)
        copy_tree(tree)
        header_file = tree / "include/oscar/oscar.h"
        header = header_file.read_text()
        gates = {name: lambda command=command: passes(command, tree) for name, command in GATES.items()}
        programs = program_gates(tree, build)
        for name, gate in {**gates, **programs}.items():
            ok, output = gate()
            if not ok:
                sys.exit(f"{name}: the gate fails without any change\n{output}")
        for enumerator, number, changed in changes(header):
            header_file.write_text(changed)
            watching = {**gates, **programs} if enumerator.startswith("OSCAR_E_") else gates
            silent = []
            for name, gate in watching.items():
                ok, output = gate()
                # For this reason, and not because something is missing.
                if ok or REASONS.get(name, number) not in output:
                    silent.append(name)
                    print(output)
            print(f"{enumerator}: {'; '.join(watching)} " + (f"- not seen by {'; '.join(silent)}" if silent else "see it"))
            wrong += silent
    if wrong:
        sys.exit("a changed number would get past: " + ", ".join(sorted(set(wrong))))


if __name__ == "__main__":
    main()

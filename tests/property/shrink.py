#!/usr/bin/env python3
"""Makes a failure of tests/property/model.cpp short: leaves operations out as long as the rest still fails.

  shrink.py PROGRAM TEST_CASE SEED OPERATIONS      e.g. build/release/tests/oscar_property "*an exact layer" 7 10000
  shrink.py PROGRAM --log FILE                     takes the three from the output of a run that failed

The last line of the output is a command that fails. The program is oscar_property of any build.
"""
import os
import re
import subprocess
import sys


def as_list(numbers):
    """[3, 4, 5, 20] is "3-5,20"."""
    runs = []
    for n in numbers:
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def command(program, case, seed, operations):
    return {"OSCAR_PROPERTY_SEED": str(seed), "OSCAR_PROPERTY_ONLY": as_list(operations)}, [
        program, f"--test-case={case}", "--abort-after=1"]


def last_operation(output, operations):
    """The operation at which the run failed: what comes after it does not matter."""
    numbers = [int(n) for n in re.findall(r"logged: operation (\d+)", output)]
    return min(numbers, default=operations[-1])


class Failure:
    def __init__(self, program, case, seed):
        self.of, self.n_runs = (program, case, seed), 0

    def still(self, operations):
        """None where these operations pass; else those of them up to the failure."""
        if not operations:
            return None
        self.n_runs += 1
        variables, words = command(*self.of, operations)
        run = subprocess.run(words, env=os.environ | variables, capture_output=True, text=True, errors="replace")
        if "test cases: 0 " in run.stdout or "test cases:  0 " in run.stdout:
            sys.exit(f"no test case is called {self.of[1]}")
        if run.returncode == 0:
            return None
        last = last_operation(run.stdout, operations)
        return [n for n in operations if n <= last]


def suffix(failure, operations):
    """Histories are long and causes recent: the shortest of the last 1, 2, 4, ... operations that fails."""
    length = 1
    while length < len(operations):
        shorter = failure.still(operations[-length:])
        if shorter:
            return shorter
        length *= 2
    return operations


def shrink(failure, operations):
    """Delta debugging: drops pieces, ever smaller ones, until no single operation can be dropped."""
    n_pieces = 2
    while len(operations) > 1:
        size = -(-len(operations) // n_pieces)
        for at in range(0, len(operations), size):
            shorter = failure.still(operations[:at] + operations[at + size:])
            if shorter:
                operations, n_pieces = shorter, max(n_pieces - 1, 2)
                break
        else:
            if size == 1:
                break
            n_pieces = min(2 * n_pieces, len(operations))
    return operations


def from_log(file):
    text = open(file, errors="replace").read()
    found = re.search(r"this episode alone: OSCAR_PROPERTY_OPERATIONS=(\d+) OSCAR_PROPERTY_SEED=(\d+)", text)
    case = re.findall(r"TEST CASE:\s+(the cache behaves as a naive model.*)", text[:found.start()] if found else "")
    if not case:
        sys.exit(f"{file} has no failure of the model in it")
    return case[-1].strip().replace(",", "\\,"), int(found.group(2)), int(found.group(1))


def main(arguments):
    if len(arguments) == 3 and arguments[1] == "--log":
        program, (case, seed, n) = arguments[0], from_log(arguments[2])
    elif len(arguments) == 4:
        program, case, seed, n = arguments[0], arguments[1], int(arguments[2]), int(arguments[3])
    else:
        sys.exit(__doc__)
    failure = Failure(program, case, seed)
    operations = failure.still(list(range(n)))
    if not operations:
        sys.exit(f"{n} operations from seed {seed} pass: nothing to make shorter")
    print(f"fails at operation {operations[-1]} of {n}", flush=True)
    operations = shrink(failure, suffix(failure, operations))
    print(f"{len(operations)} operations left, after {failure.n_runs} runs")
    variables, words = command(program, case, seed, operations)
    print(" ".join([f"{k}={v}" for k, v in variables.items()] + words[:1] + [f"'{w}'" for w in words[1:]]))


if __name__ == "__main__":
    main(sys.argv[1:])

#!/usr/bin/env python3
"""What documents show of the program oscar is what it prints.

A fenced block after the line `<!-- oscar: ARGUMENTS -->` in README.md or docs/*.md must be what the program prints for these
arguments, called in tests/cli/models.

  documents.py PROGRAM             fails and shows the difference where one has drifted
  documents.py PROGRAM --update    writes the output into the documents
"""
import difflib
import os
import pathlib
import re
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"(<!-- oscar: (?P<arguments>[^\n]*) -->\n```\w*\n)(?P<output>.*?)(?P<end>^```$)", re.S | re.M)


def output(program, arguments):
    # The portable backend: workspace, which is part of what a plan shows, differs between instruction sets.
    done = subprocess.run([program, *shlex.split(arguments)], capture_output=True, text=True, cwd=ROOT / "tests/cli/models",
                          env={**os.environ, "OSCAR_BACKEND": "scalar"})
    if done.stderr:
        sys.exit(f"oscar {arguments}: {done.stderr}")
    return done.stdout


def main():
    program, update = sys.argv[1], "--update" in sys.argv[2:]
    n_blocks = n_drifted = 0
    for document in [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]:
        text = document.read_text()
        for block in BLOCK.finditer(text):
            n_blocks += 1
            wanted = output(program, block["arguments"])
            if block["output"] == wanted:
                continue
            n_drifted += 1
            print("\n".join(difflib.unified_diff(block["output"].splitlines(), wanted.splitlines(), document.name,
                                                 f"oscar {block['arguments']}", lineterm="")))
        if update:
            document.write_text(BLOCK.sub(lambda b: b[1] + output(program, b["arguments"]) + b["end"], text))
    if n_drifted and not update:
        sys.exit(f"{n_drifted} outputs have drifted; {pathlib.Path(__file__).relative_to(ROOT)} PROGRAM --update writes them")
    if n_blocks < 2:
        sys.exit("README.md and docs/cli.md should show what the program prints")
    print(f"{n_blocks} outputs are what the program prints")


if __name__ == "__main__":
    main()

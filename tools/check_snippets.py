#!/usr/bin/env python3
"""Keeps the code in the documentation equal to code that CI compiles and runs.

A fenced block after the line `<!-- snippet: FILE#NAME -->` in README.md, docs/*.md or bindings/*/README.md must be the region of FILE between
the comments `snippet: NAME` and `end snippet`, without its indentation.

  check_snippets.py             fails and shows the difference where one has drifted
  check_snippets.py --update    copies the regions into the documents
"""
import difflib
import pathlib
import re
import sys
import textwrap

ROOT = pathlib.Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"(<!-- snippet: (?P<file>[^#\s]+)#(?P<name>[\w-]+) -->\n```\w*\n)(?P<code>.*?)(?P<end>^```$)",
                   re.S | re.M)
MARK = re.compile(r"<!-- snippet:")


def region(file, name):
    text = (ROOT / file).read_text()
    found = re.search(rf"^[^\n]*\bsnippet: {re.escape(name)}\b[^\n]*\n(.*?)^[^\n]*\bend snippet\b", text, re.S | re.M)
    if not found:
        sys.exit(f"{file}: no region 'snippet: {name}' ... 'end snippet'")
    return textwrap.dedent(found[1])


def main():
    update, n_blocks, n_drifted = "--update" in sys.argv[1:], 0, 0
    for document in [ROOT / "README.md", *sorted([*ROOT.glob("docs/*.md"), *ROOT.glob("bindings/*/README.md")])]:
        text = document.read_text()
        blocks = list(BLOCK.finditer(text))
        n_blocks += len(blocks)
        if len(MARK.findall(text)) != len(blocks):
            sys.exit(f"{document.name}: a snippet comment without a fenced block right after it")
        for block in blocks:
            wanted = region(block["file"], block["name"])
            if block["code"] == wanted or update:
                continue
            n_drifted += 1
            print("\n".join(difflib.unified_diff(block["code"].splitlines(), wanted.splitlines(), document.name,
                                                 f"{block['file']}#{block['name']}", lineterm="")))
        if update:
            document.write_text(BLOCK.sub(lambda b: b[1] + region(b["file"], b["name"]) + b["end"], text))
    if n_drifted:
        sys.exit(f"{n_drifted} snippets have drifted from their source; tools/check_snippets.py --update copies them")
    if not n_blocks:
        sys.exit("no snippets found: README.md should show compiled code")
    print(f"{n_blocks} snippets equal their source")


if __name__ == "__main__":
    main()

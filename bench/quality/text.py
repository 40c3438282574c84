"""Texts, and the windows of tokens that are read from them."""

import pathlib
import re
import sysconfig

import numpy as np

STANDARD_LIBRARY = "python"  # the name that stands for Python's own source code


def plain(text):
    """WikiText's spaced-out punctuation put back as people write it; other texts are not changed."""
    if " @-@ " not in text:
        return text
    text = re.sub(r" @([-,.])@ ", r"\1", text)
    text = re.sub(r" ([.,;:!?%)\]])", r"\1", text)
    text = re.sub(r"([(\[]) ", r"\1", text)
    text = re.sub(r" ('s|n't)\b", r"\1", text)
    text = re.sub(r'" ([^"]*) "', r'"\1"', text)
    return text.replace("<unk>", "it")


def standard_library():
    """Source of the modules of Python's standard library whose names begin with a to d."""
    folder = pathlib.Path(sysconfig.get_paths()["stdlib"])
    files = sorted(folder.glob("[a-d]*.py"))
    return "".join(file.read_text(encoding="utf-8", errors="replace") for file in files)


def read(source):
    """A file's text, or the standard library's for the name "python"."""
    if source == STANDARD_LIBRARY:
        return standard_library()
    return plain(pathlib.Path(source).read_text(encoding="utf-8", errors="replace"))


def tokens(tokenizer, sources, wanted):
    """All tokens of some sources, at least `wanted`."""
    ids = np.array(tokenizer.encode("".join(map(read, sources))))
    if len(ids) < wanted:
        raise SystemExit(f"error: {', '.join(sources)}: {len(ids)} tokens, wanted at least {wanted}")
    return ids


def windows(ids, n_windows, n_tokens):
    """n_windows pieces of n_tokens, spread evenly over the text."""
    starts = np.linspace(0, len(ids) - n_tokens, n_windows + 2)[1:-1].astype(int)
    return np.stack([ids[start : start + n_tokens] for start in starts])

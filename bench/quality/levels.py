"""Runs what is missing of each level, arm by arm, and stores it."""

import contextlib
import functools

import numpy as np
from oscar.evaluate import WINDOWS, Capture, free, read_exactly, recall, teacher, tensor
from smollm2 import published_oscar

from .roster import published_rotations


class Levels:
    def __init__(self, given, store, progress):
        """progress(text): a function that wraps an iterable and shows how far it is."""
        self._given, self._store, self._progress = given, store, progress

    def rotations(self, model, windows):
        """Of OSCAR as published, calibrated once."""
        store, n_sink = self._store, WINDOWS["stress"].n_sink
        if not store.has("rotations", "all"):
            show = self._progress("calibrating OSCAR as published")
            k, v = published_rotations(published_oscar.Calibration(model, windows(), n_sink, show))
            store.save("rotations", "all", k=k, v=v)
        found = store.load("rotations", "all")
        return found["k"], found["v"]

    def exact(self, model, texts):
        """Hidden states of all windows with exact keys and values; a capture of the first window of each text."""
        for name, windows in texts.windows.items():
            for i, tokens in enumerate(windows):
                keep = i == 0 and "A" in self._given.levels
                if self._store.has("exact", name, str(i)) and (not keep or self._store.has("capture", name)):
                    continue
                show = self._progress(f"exact, {name} {i}")
                hidden, captured = read_exactly(model, tokens, self._given.step_tokens, keep, show)
                if captured:
                    self._store.save("capture", name, q=captured.q, k=captured.k, v=captured.v)
                self._store.save("exact", name, str(i), hidden=hidden)

    def tensor(self, exact, entries, captures):
        """captures: {name: function that loads a Capture}"""
        windows = WINDOWS[exact]
        for text, load in captures.items():
            missing = [e for e in entries if not self._store.has("tensor", exact, text, e.name)]
            capture = load() if missing else None
            for entry in missing:
                with contextlib.closing(self._arm(entry, windows, capture.n_tokens)) as arm:
                    show = self._progress(f"A {exact}, {text}: {entry.name}")
                    found = tensor.measure(capture, arm, windows, self._given.step_tokens, self._given.first, show)
                self._store.save("tensor", exact, text, entry.name, **found)

    def stored_captures(self, texts):
        return {name: functools.partial(self._capture, name) for name in texts.windows}

    def _capture(self, name):
        return Capture(**self._store.load("capture", name))

    def model(self, exact, entries, model, texts):
        for name, windows in texts.windows.items():
            for i, tokens in enumerate(windows):
                key = ("model", exact, name, str(i))
                for group in self._groups(entries, key):
                    hidden = self._store.load("exact", name, str(i))["hidden"]
                    with self._arms(group, exact, len(tokens)) as arms:
                        show = self._progress(f"B {exact}, {name} {i}: {', '.join(arms)}")
                        found, nll = teacher.compare(model, tokens, hidden, arms, self._given.step_tokens, show)
                    for arm, arrays in found.items():
                        self._store.save(*key, arm, exact_nll=nll, **arrays)

    def free(self, exact, entries, baseline, model, texts):
        given = self._given
        n_tokens = given.prompt_tokens + given.answer_tokens
        prompts = texts.prompts(given.prompts, given.prompt_tokens)
        for entry in entries:
            if self._store.has("free", exact, entry.name):
                continue
            make = lambda entry: functools.partial(self._arm, entry, WINDOWS[exact], n_tokens)
            show = self._progress(f"C {exact}: {entry.name}")
            found = free.run(model, prompts, make(entry), make(baseline), given.answer_tokens, given.step_tokens, show)
            self._store.save("free", exact, entry.name, **found)

    def documents(self, tokenizer, texts):
        """Of level D; their filler is the first text's."""
        given, ids = self._given, next(iter(texts.ids.values()))
        parts = np.array_split(ids, given.documents)
        if len(parts[-1]) < given.document_tokens:
            wanted = given.documents * given.document_tokens
            raise SystemExit(f"error: the first text has {len(ids)} tokens, level D wants {wanted} of it as filler")
        return [recall.document(tokenizer, part, given.document_tokens, given.distances, seed)
                for seed, part in enumerate(parts)]

    def recall(self, exact, entries, model, docs):
        for i, doc in enumerate(docs):
            key = ("recall", exact, str(i))
            for group in self._groups(entries, key):
                with self._arms(group, exact, len(doc.tokens)) as arms:
                    show = self._progress(f"D {exact}, {i}: {', '.join(arms)}")
                    found = recall.read(model, doc, arms, self._given.step_tokens, show)
                for arm, right in found.items():
                    self._store.save(*key, arm, right=right)

    def _groups(self, entries, key):
        missing = [entry for entry in entries if not self._store.has(*key, entry.name)]
        size = self._given.group
        return [missing[i : i + size] for i in range(0, len(missing), size)]

    def _arm(self, entry, windows, n_tokens):
        return entry.make(windows, n_tokens, self._given.step_tokens)

    @contextlib.contextmanager
    def _arms(self, group, exact, n_tokens):
        with contextlib.ExitStack() as stack:
            yield {
                entry.name: stack.enter_context(contextlib.closing(self._arm(entry, WINDOWS[exact], n_tokens)))
                for entry in group
            }

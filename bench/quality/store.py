"""Finished parts of a run, a file each, so that a run that was stopped goes on where it stood."""

import json
import os
import pathlib

import numpy as np


class Store:
    """Parts are arrays under a key of strings, the first of which names a level."""

    def __init__(self, folder, settings, provenance=None):
        """settings: {level: what its parts depend on}; parts that were made with others are refused. provenance():
        where the figures come from, asked when the store is new."""
        self._folder = pathlib.Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._origin = self._folder / "provenance.json"
        if provenance and not self._origin.exists():
            self._origin.write_text(json.dumps(provenance(), indent=2) + "\n", encoding="utf-8")
        for level, wanted in settings.items():
            record = self._folder / level / "settings.json"
            if not record.exists():
                record.parent.mkdir(parents=True, exist_ok=True)
                record.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")
            self._compare(record, wanted)

    @staticmethod
    def _compare(record, wanted):
        found = json.loads(record.read_text(encoding="utf-8"))
        changed = sorted(name for name in found.keys() | wanted if found.get(name) != wanted.get(name))
        if changed:
            words = ", ".join(f"{name}: {found.get(name)} there, {wanted.get(name)} now" for name in changed)
            raise SystemExit(f"error: {record.parent} was made with other settings ({words}); give another --store")

    def provenance(self):
        return json.loads(self._origin.read_text(encoding="utf-8"))

    def path(self, *key):
        return self._folder.joinpath(*key[:-1], f"{key[-1]}.npz")

    def has(self, *key):
        return self.path(*key).exists()

    def save(self, *key, **arrays):
        path = self.path(*key)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            np.savez(file, **arrays)
        os.replace(part, path)

    def load(self, *key):
        with np.load(self.path(*key)) as arrays:
            return dict(arrays)

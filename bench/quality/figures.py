"""All figures of a run, from what is stored."""

from oscar.evaluate import WINDOWS, free, recall, teacher, tensor

from .gates import OSCAR, check
from .roster import EXACT

ALL = "all"  # texts together


class Figures:
    def __init__(self, given, store, entries, texts, docs):
        """entries: {name: Entry}; texts: {name: number of windows}; docs: level D's documents, or None."""
        self._given, self._store, self._entries, self._texts, self._docs = given, store, entries, texts, docs

    def collect(self, settings):
        """settings: by level, as plan.py gives them."""
        results = {exact: self._levels(exact) for exact in self._given.exact}
        seen = {arm for levels in results.values() for level in levels.values() for arm in level}
        calibrations = {name.partition("-")[2]: level["fingerprint"] for name, level in settings.items()
                        if name.startswith("calibration-")}
        levels = {name: level for name, level in settings.items() if not name.startswith("calibration-")}
        found = {
            **self._store.provenance(),
            "settings": {name: value for level in levels.values() for name, value in level.items()},
            "calibrations": calibrations,
            "note": self._given.note,
            "exact_windows": {name: vars(WINDOWS[name]) for name in self._given.exact},
            "arms": {
                e.name: {"label": e.label, "kind": e.kind, "code_bits": e.code_bits} | self._total_bits(e)
                for e in self._entries.values()
                if e.name in seen
            },
            "results": results,
        }
        found["gates"] = [gate.row() for gate in check(found)]
        return found

    def _total_bits(self, entry):
        n = self._given.tokens
        return {"total_bits": {name: WINDOWS[name].total_bits(entry.code_bits, n) for name in self._given.exact}}

    def _levels(self, exact):
        found = {"tensor": self._tensor(exact), "model": self._model(exact), "free": self._free(exact)}
        if self._docs:
            found["recall"] = self._recall(exact)
        return {name: level for name, level in found.items() if level}

    def _arms(self, *key):
        """Arms all of whose parts are there; key's last items are lists of names."""
        *head, rest = key
        return [name for name in self._entries if all(self._store.has(*head, *part, name) for part in rest)]

    def _tensor(self, exact):
        parts = [(text,) for text in self._texts]
        load = lambda arm: [self._store.load("tensor", exact, *part, arm) for part in parts]
        arms = self._arms("tensor", exact, parts)
        found = {arm: tensor.summary(load(arm)) for arm in arms if arm != EXACT}
        if OSCAR in found:
            rival = tensor.error_p95(load(OSCAR))
            for arm in found:
                found[arm]["n_pairs_worse_than_oscar"] = int((tensor.error_p95(load(arm)) > rival).sum())
        return found

    def _model(self, exact):
        parts = {text: [(text, str(i)) for i in range(n)] for text, n in self._texts.items()}
        parts[ALL] = [part for of_text in list(parts.values()) for part in of_text]
        load = lambda arm, of_text: [self._store.load("model", exact, *part, arm) for part in of_text]
        arms = self._arms("model", exact, parts[ALL])
        found = {arm: {} for arm in arms if arm != EXACT}
        for text, of_text in parts.items():
            rival = load(OSCAR, of_text) if OSCAR in arms else None
            for arm in found:
                got = load(arm, of_text)
                nll = [part["exact_nll"] for part in got]
                found[arm][text] = teacher.summary(got, nll, rival, self._given.first)
        return found

    def _free(self, exact):
        return {arm: free.summary(self._store.load("free", exact, arm)) for arm in self._arms("free", exact, [()])}

    def _recall(self, exact):
        parts = [(str(i),) for i in range(len(self._docs))]
        arms = self._arms("recall", exact, parts)
        right = {arm: [self._store.load("recall", exact, *part, arm)["right"] for part in parts] for arm in arms}
        if EXACT not in right or len(right) == 1:
            return {}
        return {arm: recall.summary(self._docs, right[EXACT], right[arm]) for arm in arms}


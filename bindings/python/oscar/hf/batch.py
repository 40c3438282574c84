"""The sequences behind the rows of a batch."""

from __future__ import annotations

import oscar

from .columns import Columns


class Batch:
    """Row i of a batch is sequence i. Forks share what they can, so rows are copied, reordered and dropped without
    reading keys or values."""

    def __init__(self, cache: oscar.Cache, sequences: list[oscar.Sequence]) -> None:
        self.cache = cache
        self.sequences = sequences
        self.columns = Columns()

    @classmethod
    def open(cls, cache: oscar.Cache, n_rows: int) -> Batch:
        return cls(cache, [cache.open() for _ in range(n_rows)])

    def __len__(self) -> int:
        return len(self.sequences)

    def __del__(self) -> None:
        # Other batches may live on in the same cache. One that an open step uses goes with the cache.
        for sequence in self.sequences:
            try:
                sequence.close()
            except oscar.Error:
                pass

    def longest(self) -> int:
        """Tokens of the row that has most."""
        return max(sequence.length for sequence in self.sequences)

    def crop(self, n_columns: int) -> None:
        """Forgets every column from index n_columns on."""
        for row, sequence in enumerate(self.sequences):
            removed = self.columns.n_tokens_from(row, n_columns)
            if removed:
                sequence.truncate(sequence.length - removed)
        self.columns.crop(n_columns)

    def select(self, rows: list[int]) -> None:
        """Row i becomes what row rows[i] was. The first to ask for a sequence keeps it, others get forks; the rest close.

        Raises:
            oscar.NoSpaceError: no room for more sequences. Rows that nobody asked for are closed, the others stay.
        """
        old = self.sequences
        self.sequences = [sequence for row, sequence in enumerate(old) if row in rows]
        for row, sequence in enumerate(old):
            if row not in rows:
                sequence.close()
        taken: set[int] = set()
        selected: list[oscar.Sequence] = []
        forks: list[oscar.Sequence] = []
        try:
            for row in rows:
                if row in taken:
                    forks.append(old[row].fork())
                selected.append(forks[-1] if row in taken else old[row])
                taken.add(row)
        except oscar.Error:
            for fork in forks:
                fork.close()
            raise
        self.sequences = selected
        self.columns.select(rows)

    def fork(self) -> Batch:
        """A batch of its own with the same rows."""
        child = Batch(self.cache, [])
        for sequence in self.sequences:
            child.sequences.append(sequence.fork())
        child.columns = self.columns.copy()
        return child

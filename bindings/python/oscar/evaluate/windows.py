"""Which tokens are exact at a position: the same for every arm, by liboscar's own rule, which each step checks."""

from __future__ import annotations

import dataclasses

BLOCK_TOKENS = 128


@dataclasses.dataclass(frozen=True)
class Windows:
    """Sinks and newest tokens are exact, and so are tokens that wait for a block to fill."""

    n_sink: int
    n_recent: int

    def packed_end(self, length: int) -> int:
        """Tokens ``[n_sink, packed_end)`` are compressed in a step that begins at ``length`` tokens."""
        n_aged = length - self.n_recent - self.n_sink
        return self.n_sink + max(n_aged, 0) // BLOCK_TOKENS * BLOCK_TOKENS

    def n_packed(self, length: int) -> int:
        """How many these are."""
        return self.packed_end(length) - self.n_sink

    def total_bits(self, code_bits: float, length: int) -> float:
        """Bits per element of all tokens, exact ones at 16, in the last step of a text of ``length`` tokens."""
        share = self.n_packed(length) / length
        return code_bits * share + 16 * (1 - share)


#: "stress": nearly everything that attention reads is really compressed. "paper": those of OSCAR's authors.
WINDOWS = {"stress": Windows(4, 32), "paper": Windows(64, 256)}

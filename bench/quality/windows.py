"""Which tokens are exact at a position. The same for every arm: liboscar's own rule, which each run checks."""

import dataclasses

BLOCK_TOKENS = 128


@dataclasses.dataclass(frozen=True)
class Windows:
    """Sinks and newest tokens are exact, and so are tokens that wait for a block to fill."""

    n_sink: int
    n_recent: int

    def packed_end(self, length):
        """Tokens [n_sink, packed_end) are compressed in a step that begins at `length` tokens."""
        n_aged = length - self.n_recent - self.n_sink
        return self.n_sink + max(n_aged, 0) // BLOCK_TOKENS * BLOCK_TOKENS

    def n_packed(self, length):
        return self.packed_end(length) - self.n_sink

    def total_bits(self, code_bits, length):
        """Bits per element of all tokens, exact ones at 16, in the last step of a text of `length` tokens."""
        share = self.n_packed(length) / length
        return code_bits * share + 16 * (1 - share)


WINDOWS = {"stress": Windows(4, 32), "paper": Windows(64, 256)}

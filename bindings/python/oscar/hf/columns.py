"""Which columns of transformers' padded batches are tokens."""

from __future__ import annotations

from typing import Any

import torch

import oscar


class Columns:
    """transformers counts columns, pads included; a sequence of the cache has its tokens only."""

    def __init__(self) -> None:
        self.n = 0
        #: [rows, n] bool on the CPU: where tokens are. None while there was no pad.
        self.is_token: torch.Tensor | None = None

    def new_tokens(self, attention_mask: Any, n_new: int) -> torch.Tensor | None:
        """``[rows, n_new]`` bool on the CPU: which of the new columns are tokens; None: all are.

        Args:
            attention_mask: transformers' 2D mask of all columns, or None: no pads.
            n_new: columns that the forward pass adds.

        Raises:
            oscar.UnsupportedError: the mask hides tokens that the cache holds, or shows pads that it does not.
        """
        if attention_mask is None or bool(attention_mask.all()):
            if self.is_token is not None:
                raise oscar.UnsupportedError(
                    "earlier steps had an attention_mask with pads, this one has none: pass the mask of all columns"
                )
            return None
        mask = attention_mask.detach().to("cpu", torch.bool)
        if mask.shape[1] != self.n + n_new:
            raise oscar.UnsupportedError(
                f"attention_mask has {mask.shape[1]} columns, wanted {self.n} that the cache has seen and {n_new} new ones"
            )
        past = mask[:, : self.n]
        if not bool(past.all() if self.is_token is None else torch.equal(past, self.is_token)):
            raise oscar.UnsupportedError(
                "attention_mask differs from that of earlier steps: tokens in the cache cannot be hidden, nor pads shown"
            )
        new = mask[:, self.n :]
        return None if bool(new.all()) else new

    def add(self, n_rows: int, n_new: int, is_token: torch.Tensor | None) -> None:
        """Counts the columns of a step that ended."""
        if is_token is not None or self.is_token is not None:
            past, new = (
                torch.ones(n_rows, n, dtype=torch.bool) if own is None else own
                for own, n in ((self.is_token, self.n), (is_token, n_new))
            )
            self.is_token = torch.cat([past, new], 1)
        self.n += n_new

    def n_tokens_from(self, row: int, first: int) -> int:
        """How many tokens a row has from column ``first`` on."""
        return self.n - first if self.is_token is None else int(self.is_token[row, first:].sum())

    def crop(self, n: int) -> None:
        self.n = n
        if self.is_token is not None:
            self.is_token = self.is_token[:, :n]

    def select(self, rows: list[int]) -> None:
        if self.is_token is not None:
            self.is_token = self.is_token[rows]

    def copy(self) -> Columns:
        copied = Columns()
        copied.n, copied.is_token = self.n, self.is_token
        return copied

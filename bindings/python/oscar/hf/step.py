"""One forward pass of a model: a step of the cache, and which rows of padded tensors are its tokens."""

from __future__ import annotations

from typing import Any

import torch

import oscar

from .batch import Batch


class ForwardPass:
    """Begins with the first layer's attention, ends after the last layer's; aborts where that never comes.

    Args:
        batch: whose sequences get tokens.
        n_new: columns of the pass.
        is_token: ``[rows, n_new]`` bool on the CPU, None: no pads.
        max_draft: of each sequence's new tokens, how many at the end may be cropped later.
        device: of the model's tensors.

    Raises:
        oscar.NoSpaceError: the pass does not fit; nothing has changed.
    """

    def __init__(
        self, batch: Batch, n_new: int, is_token: torch.Tensor | None, max_draft: int, device: torch.device
    ) -> None:
        self.batch = batch
        self.n_new = n_new
        self.is_token = is_token
        self.next_layer = 0
        counts = [n_new] * len(batch) if is_token is None else is_token.sum(1).tolist()
        entries = [(s, n, min(n, max_draft)) for s, n in zip(batch.sequences, counts) if n]
        self._index = None if is_token is None else is_token.flatten().nonzero().flatten().to(device)
        stream = torch.cuda.current_stream(device) if device.type == "cuda" else None
        # A chunk that is nothing but pads appends nothing.
        self._step = batch.cache.step(entries, stream=stream) if entries else None

    def attend(self, layer: int, q: Any, k: Any, v: Any, **arguments: Any) -> torch.Tensor:
        """Attention of the next layer: q ``[rows, heads, n_new, dim]``, k and v likewise; returns
        ``[rows, n_new, heads, dim]``, zero where pads are."""
        n_rows, n_heads = q.shape[:2]
        out = torch.zeros if self._index is not None else torch.empty
        full = out((n_rows * self.n_new, n_heads, v.shape[-1]), dtype=q.dtype, device=q.device)
        if self._step is not None:
            rows = full if self._index is None else full[self._index]
            self._step.layer(layer, self._tokens(k), self._tokens(v), self._tokens(q), rows, **arguments)
            if self._index is not None:
                full[self._index] = rows
        self.next_layer = layer + 1
        return full.view(n_rows, self.n_new, n_heads, v.shape[-1])

    def _tokens(self, x: Any) -> torch.Tensor:
        """[rows, heads, n_new, dim] -> [tokens, heads, dim], without a copy where there are no pads."""
        x = x.detach().transpose(1, 2).flatten(0, 1)
        if x.stride(-1) != 1:
            x = x.contiguous()
        return x if self._index is None else x[self._index]

    def end(self) -> None:
        if self._step is not None:
            self._step.end()
        self.batch.columns.add(len(self.batch), self.n_new, self.is_token)

    def abort(self) -> None:
        if self._step is not None:
            self._step.abort()


def check_call(module: Any, q: Any, attention_mask: Any, arguments: dict[str, Any]) -> None:
    """Refuses what an attention call can ask for and a cache does not do.

    Raises:
        oscar.UnsupportedError: with the reason.
    """
    reason = None
    if q.requires_grad:
        reason = "gradients: call the model under torch.no_grad()"
    elif arguments.get("dropout"):
        reason = "dropout: call model.eval()"
    elif arguments.get("output_attentions"):
        reason = "output_attentions: there are no attention weights to return"
    elif arguments.get("position_bias") is not None:
        reason = "a position bias"
    elif arguments.get("is_causal") is False or not getattr(module, "is_causal", True):
        reason = "attention that is not causal"
    elif attention_mask is not None and attention_mask.ndim != 2:
        reason = f"a mask of its own ({attention_mask.ndim}D); pass a 2D attention_mask of tokens and pads"
    if reason is not None:
        raise oscar.UnsupportedError(f"OscarCache does not serve {reason}")

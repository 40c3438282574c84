"""Calibrates a model: what its layers compute for some text, streamed into a calibrator."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Callable, Iterable, Iterator

import torch

import oscar

from . import attention, rope
from .geometry import Geometry

#: Longer texts are read in pieces of this many tokens, each a sequence of its own.
PIECE = 2048


def calibrate(
    model: Any,
    tokenizer: Callable[[str], Any],
    texts: Iterable[str],
    *,
    profile: str = "2bit",
    max_tokens: int | None = None,
    n_tokens: int | None = None,
    name: str | None = None,
    note: str | None = None,
    allow_untested: bool = False,
    **options: Any,
) -> oscar.Calibration:
    """The transforms in which an :class:`OscarCache` of this model stores keys and values.

    Any ordinary text will do: 256 tokens are enough, a few thousand are plenty. Queries, keys and values are those that
    attention gets, after RoPE; nothing but their second moments is kept. Under tensor parallelism every rank gets the
    calibration of its own heads.

    Args:
        model: a transformers model.
        tokenizer: gives ``input_ids`` for a text.
        texts: read until ``n_tokens``.
        profile, options: of the caches that will use it, as for :class:`OscarCache`.
        max_tokens: the longest sequence that will be served; None: the model's positions.
        n_tokens: how many are enough; None: all of the texts.
        name, note: for the calibration's file, at most 63 and 127 bytes; name None: the model's own.

    Raises:
        oscar.UnsupportedError: the model is not served; the text says why.
        oscar.StateError: too little text.
    """
    geometry = Geometry(model, allow_untested)
    if name is None:
        name = str(model.config.name_or_path).rstrip("/").rsplit("/", 1)[-1].encode()[:63].decode(errors="ignore")
    config = geometry.config(profile, max_tokens=max_tokens or geometry.max_positions, **options)
    calibrator = oscar.Calibrator(config, rope.frequencies(model, geometry.n_layers), model=name or None, note=note)
    with _listening(model, lambda layer, q, k, v: calibrator.feed(layer, 0, *(_rows(x) for x in (q, k, v)))):
        for piece in _pieces(tokenizer, texts, min(PIECE, geometry.max_positions), n_tokens):
            ids = torch.tensor([piece], device=next(model.parameters()).device)
            model.get_decoder()(input_ids=ids, use_cache=False)
    return calibrator.finish()


def _rows(x: torch.Tensor) -> torch.Tensor:
    """[1, heads, tokens, dim] -> [tokens, heads, dim] on the CPU."""
    return x[0].detach().transpose(0, 1).cpu()


def _pieces(
    tokenizer: Callable[[str], Any], texts: Iterable[str], length: int, n_tokens: int | None
) -> Iterator[list[int]]:
    n_read = 0
    for text in texts:
        ids = list(tokenizer(text)["input_ids"])
        for first in range(0, len(ids), length):
            if n_tokens is not None and n_read >= n_tokens:
                return
            piece = ids[first : first + length]
            n_read += len(piece)
            yield piece


@contextmanager
def _listening(model: Any, listener: Callable[..., None]) -> Iterator[None]:
    """Within, the listener hears every attention call of the model; afterwards the model is as it was."""
    before = model.config.get_text_config(decoder=True)._attn_implementation
    was_training = model.training
    attention.install(model)
    model.eval()
    attention.word.listener = listener
    try:
        with torch.no_grad():
            yield
    finally:
        attention.word.listener = None
        model.train(was_training)
        model.set_attn_implementation(before)

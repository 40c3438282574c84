"""How a model's positions turn its keys: what a calibration must know."""

from __future__ import annotations

from typing import Any

import numpy
import torch

import oscar

#: Kinds whose frequencies depend on how long a sequence has become.
_CHANGING = ("dynamic", "longrope")


def frequencies(model: Any, n_layers: int) -> numpy.ndarray[Any, Any]:
    """``[n_layers, n_pairs]`` float32: radians by which pair i turns from one position to the next; RoPE pairs halves.

    Raises:
        oscar.UnsupportedError: the model keeps its frequencies elsewhere, or they change with the sequence.
    """
    config = model.config.get_text_config(decoder=True)
    rotary = getattr(model.get_decoder(), "rotary_emb", None)
    kinds = getattr(config, "layer_types", None) or ["full_attention"] * n_layers
    rows = []
    for kind in kinds:
        own = getattr(rotary, "rope_type", "default")
        rope_type = own.get(kind, "default") if isinstance(own, dict) else own
        turning = getattr(rotary, f"{kind}_inv_freq", getattr(rotary, "inv_freq", None))
        if not isinstance(turning, torch.Tensor):
            raise oscar.UnsupportedError(f"{type(model).__name__} has no rotary_emb.inv_freq to calibrate with")
        if rope_type in _CHANGING:
            raise oscar.UnsupportedError(f"RoPE of type {rope_type} turns differently as a sequence grows: no calibration")
        rows.append(turning.detach().float().cpu().numpy())
    if len({len(row) for row in rows}) != 1:
        raise oscar.UnsupportedError("layers whose RoPE turns different numbers of elements cannot be calibrated")
    return numpy.stack(rows)

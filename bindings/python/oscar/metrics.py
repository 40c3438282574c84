"""What a cache holds and has done, as text for Prometheus (exposition format 0.0.4)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .report import LayerStats, Stats

#: Parts of a cache's memory that do not overlap. "workspace" is what does not depend on tokens, the transforms aside.
_KINDS = ("base", "refined", "exact", "scores", "tables", "calibration")
_GAUGES = {
    "sequences": ("n_sequences", "Open sequences."),
    "open_steps": ("n_open_steps", "Open steps."),
    "tokens": ("n_tokens", "Accepted tokens of all sequences."),
    "packed_tokens": ("n_packed_tokens", "Tokens read from blocks, summed over sequences."),
    "blocks": ("n_blocks", "Blocks of 128 tokens in use; shared ones count once."),
    "shared_blocks": ("n_shared_blocks", "Blocks that more than one sequence holds."),
    "block_references": ("n_block_references", "Holds of blocks by sequences and open steps."),
    "exact_pages": ("n_exact_pages", "Pages of 16 exact rows in use."),
    "bits_per_element": ("bits_per_element", "Bits of memory for each element of keys and values, all bytes counted."),
    "shared_bytes": ("bytes_shared", "Bytes saved by sharing blocks."),
    "slab_bytes": ("bytes_slabs", "Bytes of capacity in slabs that hold something."),
    "free_bytes": ("bytes_free", "Bytes of capacity in empty slabs."),
}
_COUNTERS = {
    "steps": ("n_steps", "Steps that have ended."),
    "blocks_packed": ("n_blocks_packed", "Blocks packed."),
    "rollbacks": ("n_rollbacks", "Truncations and accepted paths that forgot tokens."),
    "tokens_forgotten": ("n_tokens_forgotten", "Tokens that these forgot."),
    "non_finite_elements": ("n_non_finite", "Elements that were NaN or infinite when packed, stored as 0."),
}
#: Of a layer: its fields, by side.
_SIDES = {
    "key": ("n_key_elements", "n_keys_clipped", "n_blocks", "n_keys_worse"),
    "value": ("n_value_elements", "n_values_clipped", "n_blocks", "n_values_worse"),
}
_OF_LAYER = {
    "packed_elements": "Elements packed, by layer and side.",
    "clipped_elements": "Of these, beyond the outermost level's cell.",
    "packed_head_blocks": "Blocks packed, of each KV head by itself.",
    "worse_head_blocks": "Of these, those that the calibration is expected to make worse than none would.",
}
_RESERVED = ("kind", "layer", "side")


def prometheus(stats: Stats, prefix: str = "oscar", *, layer_stats: Iterable[LayerStats] = (), **labels: str) -> str:
    """The text of one scrape: ``prometheus(cache.stats(), model="qwen3", rank="0")``.

    Args:
        stats: of :meth:`Cache.stats`.
        prefix: of the metrics' names.
        layer_stats: of :meth:`Cache.layer_stats`, for the layers that are to be shown.
        labels: of every sample.

    Raises:
        ValueError: a prefix or label that Prometheus does not take.
    """
    if not re.fullmatch("[a-zA-Z_:][a-zA-Z0-9_:]*", prefix):
        raise ValueError(f"prefix is {prefix!r}, wanted letters, digits, _ and :")
    for label in labels:
        if not re.fullmatch("[a-zA-Z_][a-zA-Z0-9_]*", label) or label.startswith("__") or label in _RESERVED:
            raise ValueError(f"{label!r} cannot be a label")
    lines: list[str] = []

    def add(name: str, kind: str, text: str, samples: list[tuple[dict[str, str], float]]) -> None:
        lines.extend((f"# HELP {prefix}_{name} {text}", f"# TYPE {prefix}_{name} {kind}"))
        for own, value in samples:
            pairs = {**own, **labels}
            shown = ",".join(f'{key}="{_escaped(str(text))}"' for key, text in pairs.items())
            lines.append(f"{prefix}_{name}{{{shown}}} {value!r}" if shown else f"{prefix}_{name} {value!r}")

    of_kind: dict[str, float] = {kind: getattr(stats, f"bytes_{kind}") for kind in _KINDS}
    of_kind["workspace"] = stats.bytes_fixed - stats.bytes_calibration
    add("bytes", "gauge", "Memory in use, by what it is for.", [({"kind": kind}, n) for kind, n in of_kind.items()])
    for name, (field, text) in _GAUGES.items():
        add(name, "gauge", text, [({}, getattr(stats, field))])
    for name, (field, text) in _COUNTERS.items():
        add(f"{name}_total", "counter", text, [({}, getattr(stats, field))])
    layers = list(layer_stats)
    for i, (name, text) in enumerate(_OF_LAYER.items()):
        samples = [
            ({"layer": str(layer.layer), "side": side}, float(getattr(layer, fields[i])))
            for layer in layers
            for side, fields in _SIDES.items()
        ]
        if samples:
            add(f"{name}_total", "counter", text, samples)
    return "\n".join(lines) + "\n"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

"""Figures that the library reports about itself."""

from __future__ import annotations

from dataclasses import dataclass

from . import _oscar
from .config import Config, RawConfig
from .errors import NotFoundError


@dataclass(frozen=True)
class Report:
    """What a configuration costs for one sequence of ``context`` tokens, before any memory is taken."""

    #: oscar.Cache will accept it, memory permitting.
    served: bool
    context: int
    #: All that grows with tokens: codes, scales, means, windows, scores, tables, padding.
    bytes_sequences: int
    #: The rest: calibration, workspace, bookkeeping.
    bytes_fixed: int
    #: The same tokens as BF16 keys and values.
    bytes_bf16: int
    #: One block of 128 tokens of one KV head of layer 0; 0 for exact storage.
    block_bytes: int
    #: 8 bytes_sequences / elements of keys and values.
    bits_per_element: float
    #: Of packed tokens alone: codes, scales, mean and ids.
    block_bits_per_element: float
    #: Why it is not served, or advice; may be empty.
    reason: str
    #: Once a collecting cache is frozen; the fields above speak of it while it collects. The same for any other cache.
    bytes_sequences_frozen: int
    #: At most: KV heads that stay data-free take less.
    bytes_fixed_frozen: int


def check(config: Config, context: int) -> Report:
    """Says whether a configuration is served, and predicts its memory exactly.

    ``bytes_sequences`` is what :meth:`Cache.stats` reports when one sequence holds ``context`` tokens and a step for
    one more has begun. A configuration that is understood and not served has ``served`` False and the reason.

    Raises:
        InvalidError: the configuration is malformed.
    """
    given = RawConfig(config)
    raw = _oscar.cache_check(given.struct, *given.self_calibrate, context)
    return Report(
        served=bool(raw.served),
        context=raw.context,
        bytes_sequences=raw.bytes_sequences,
        bytes_fixed=raw.bytes_fixed,
        bytes_bf16=raw.bytes_bf16,
        block_bytes=raw.block_bytes,
        bits_per_element=raw.bits_per_element,
        block_bits_per_element=raw.block_bits_per_element,
        reason=raw.reason,
        bytes_sequences_frozen=raw.bytes_sequences_frozen,
        bytes_fixed_frozen=raw.bytes_fixed_frozen,
    )


@dataclass(frozen=True)
class Stats:
    """What a cache holds now."""

    n_sequences: int
    n_open_steps: int
    #: An :class:`oscar.CacheState`.
    state: int
    #: Accepted tokens of all sequences.
    n_tokens: int
    #: Summed over sequences: the most tokens that any one layer reads from blocks.
    n_packed_tokens: int
    #: Blocks of 128 tokens in use (reserved, while collecting), over all layer classes; shared ones count once.
    n_blocks: int
    #: Pages of 16 exact rows in use, over all layer classes.
    n_exact_pages: int
    #: Elements that were NaN or infinite when packed, and were stored as 0.
    n_non_finite: int
    #: As in :class:`Report`, for all sequences.
    bytes_sequences: int
    bytes_fixed: int
    #: Capacity in slabs that hold something of a sequence: bytes_sequences and free places for more of the same kind.
    bytes_slabs: int
    #: Capacity in empty slabs, free for anything.
    bytes_free: int
    #: 8 bytes_sequences / elements of n_tokens; 0 without tokens.
    bits_per_element: float
    #: Part of bytes_fixed: the transforms, and what is gathered while collecting.
    bytes_calibration: int
    #: bytes_sequences by what they are for. Of blocks: 2-bit codes, scales, means, headers, and padding.
    bytes_base: int
    #: Of blocks: refinement codes and ids.
    bytes_refined: int
    #: Pages of exact rows.
    bytes_exact: int
    #: Votes of tokens that are not packed yet.
    bytes_scores: int
    #: Where a sequence has its blocks and pages.
    bytes_tables: int
    #: What would come on top of bytes_sequences if nobody shared blocks.
    bytes_shared: int
    #: Of n_blocks, those that more than one sequence holds.
    n_shared_blocks: int
    #: Holds of blocks by sequences (and open steps): n_blocks where nothing is shared.
    n_block_references: int
    #: Since the cache was created: steps that have ended.
    n_steps: int
    #: Blocks packed by steps that have begun or ended, and by freeze, over all layer classes.
    n_blocks_packed: int
    #: Calls of truncate and accept that forgot tokens.
    n_rollbacks: int
    #: Tokens that these forgot.
    n_tokens_forgotten: int


@dataclass(frozen=True)
class LayerStats:
    """What was packed of one layer since its cache was created, by any sequence.

    An element is clipped where it lies beyond the outermost level's cell of its token's code: 4.6 % of a Gaussian's at 2 bits.
    A block is worse where its transform is expected to lead to a larger error than a data-free one: the calibration was made
    from another distribution.
    """

    layer: int
    #: Packed, of each KV head by itself.
    n_blocks: int
    #: Packed.
    n_key_elements: int
    #: Of these.
    n_keys_clipped: int
    #: Of n_blocks, by their keys; 0 for heads whose keys are data-free.
    n_keys_worse: int
    #: Likewise of values.
    n_value_elements: int
    n_values_clipped: int
    n_values_worse: int
    #: Elements of both that were NaN or infinite, and were stored as 0.
    n_non_finite: int


@dataclass(frozen=True)
class Backend:
    """One way of computing."""

    name: str
    #: Can run on this machine.
    available: bool
    #: What a cache created now would use.
    selected: bool
    #: Why it is not available; empty where it is.
    reason: str


def backends() -> list[Backend]:
    """All that this library was built with. The environment variable OSCAR_BACKEND forces one by name."""
    found: list[Backend] = []
    while True:
        try:
            raw = _oscar.oscar_backend_get(len(found))
        except NotFoundError:
            return found
        found.append(Backend(raw.name, bool(raw.available), bool(raw.selected), raw.reason))


def version() -> str:
    """The version of the library inside, "major.minor.patch"."""
    text: str = _oscar.oscar_version()
    return text


def abi_version() -> int:
    """The number of the C ABI of the library inside."""
    number: int = _oscar.oscar_abi_version()
    return number

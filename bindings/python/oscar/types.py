"""What may be passed as a tensor, and the constants of the C ABI."""

from __future__ import annotations

import enum
from typing import Any, Protocol, Union, runtime_checkable

from . import _oscar

#: In a field of a layer: the cache's value.
DEFAULT: int = _oscar.OSCAR_DEFAULT

#: As ``n_draft`` of a step entry: its rows are queries only. They attend to every token of the sequence and append nothing;
#: their keys and values are not read.
QUERY_ONLY: int = _oscar.OSCAR_QUERY_ONLY

#: The padding sequence: rows given to it are not stored, their output is 0 and their log-sum-exp -infinity.
PADDING: int = 0


class Storage(enum.IntEnum):
    """How tokens are kept once they leave the recent window."""

    BLOCKS = _oscar.OSCAR_STORAGE_BLOCKS
    EXACT = _oscar.OSCAR_STORAGE_EXACT


class Writer(enum.IntEnum):
    """How values are rounded to codes."""

    AUTO = _oscar.OSCAR_WRITER_AUTO
    PLAIN = _oscar.OSCAR_WRITER_PLAIN
    SHAPED = _oscar.OSCAR_WRITER_SHAPED


class RopePairing(enum.IntEnum):
    """Which elements RoPE turns together, of the first ``2 * n_pairs`` of a head; the others do not turn."""

    #: ``x[i]`` with ``x[i + n_pairs]``: Hugging Face's rotate_half, NeoX.
    HALF = _oscar.OSCAR_ROPE_HALF
    #: ``x[2 * i]`` with ``x[2 * i + 1]``: GPT-J; llama.cpp's order of Llama's heads.
    INTERLEAVED = _oscar.OSCAR_ROPE_INTERLEAVED


class ValueBasis(enum.IntEnum):
    """In which basis values are stored."""

    #: A transform for the values of every KV head.
    BALANCED = _oscar.OSCAR_VALUE_BASIS_BALANCED
    #: As without calibration: fewer bytes, a faster map, somewhat larger errors.
    HADAMARD = _oscar.OSCAR_VALUE_BASIS_HADAMARD


class CacheState(enum.IntEnum):
    """What a cache does with tokens that leave the recent window."""

    #: Transforms are fixed, and what ages is packed.
    FROZEN = _oscar.OSCAR_CACHE_FROZEN
    #: Every token is exact, and moments are gathered for :meth:`oscar.Cache.freeze`.
    COLLECTING = _oscar.OSCAR_CACHE_COLLECTING


class CalibrationSource(enum.IntEnum):
    """What made a calibration."""

    MATRICES = _oscar.OSCAR_CALIBRATION_MATRICES
    DATA_FREE = _oscar.OSCAR_CALIBRATION_DATA_FREE
    IDENTITY = _oscar.OSCAR_CALIBRATION_IDENTITY
    #: Published rotations.
    IMPORTED = _oscar.OSCAR_CALIBRATION_IMPORTED
    #: :meth:`oscar.Calibrator.finish`.
    CALIBRATOR = _oscar.OSCAR_CALIBRATION_CALIBRATOR
    #: :meth:`oscar.Cache.freeze`.
    CACHE = _oscar.OSCAR_CALIBRATION_CACHE


@runtime_checkable
class SupportsDLPack(Protocol):
    """numpy arrays, torch tensors and the like."""

    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any: ...

    def __dlpack_device__(self) -> tuple[Any, int]: ...


View = _oscar.View

#: An array that is borrowed for the duration of one call, never copied and never converted: anything with
#: ``__dlpack__``, or with the buffer protocol and native elements of float32, float16 or uint8. The last dimension must
#: be dense, the others may have any stride. Outputs must be writable. A :class:`View` of such an array stands for it.
Tensor = Union[SupportsDLPack, Any]

"""What may be passed as a tensor, and the constants of the C ABI."""

from __future__ import annotations

import enum
from typing import Any, Protocol, Union, runtime_checkable

from . import _oscar

#: In a field of a layer: the cache's value.
DEFAULT: int = _oscar.OSCAR_DEFAULT

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


@runtime_checkable
class SupportsDLPack(Protocol):
    """numpy arrays, torch tensors and the like."""

    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any: ...

    def __dlpack_device__(self) -> tuple[Any, int]: ...


#: An array that is borrowed for the duration of one call, never copied and never converted: anything with
#: ``__dlpack__``, or with the buffer protocol and native elements of float32, float16 or uint8. The last dimension must
#: be dense, the others may have any stride. Outputs must be writable.
Tensor = Union[SupportsDLPack, Any]

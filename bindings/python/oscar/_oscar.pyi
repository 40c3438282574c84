# Written by bindings/python/generate from oscar.h. Do not edit.
# The raw module that SWIG writes: one to one with oscar/oscar.h, for the inside of this package only.
from typing import Any, Literal, final

OSCAR_OK: Literal[0]
OSCAR_E_INVALID: Literal[-1]
OSCAR_E_NO_MEMORY: Literal[-2]
OSCAR_E_NO_SPACE: Literal[-3]
OSCAR_E_NOT_FOUND: Literal[-4]
OSCAR_E_STATE: Literal[-5]
OSCAR_E_UNSUPPORTED: Literal[-6]
OSCAR_E_CORRUPT: Literal[-7]
OSCAR_E_BACKEND: Literal[-8]
OSCAR_E_INTERNAL: Literal[-9]
OSCAR_E_DEVICE: Literal[-10]
OSCAR_DEVICE_CPU: Literal[1]
OSCAR_DEVICE_CUDA: Literal[2]
OSCAR_DTYPE_INT: Literal[0]
OSCAR_DTYPE_UINT: Literal[1]
OSCAR_DTYPE_FLOAT: Literal[2]
OSCAR_DTYPE_BFLOAT: Literal[4]
OSCAR_STORAGE_BLOCKS: Literal[0]
OSCAR_STORAGE_EXACT: Literal[1]
OSCAR_WRITER_AUTO: Literal[0]
OSCAR_WRITER_PLAIN: Literal[1]
OSCAR_WRITER_SHAPED: Literal[2]
OSCAR_ROPE_HALF: Literal[0]
OSCAR_ROPE_INTERLEAVED: Literal[1]
OSCAR_VALUE_BASIS_BALANCED: Literal[0]
OSCAR_VALUE_BASIS_HADAMARD: Literal[1]
OSCAR_CALIBRATION_MATRICES: Literal[0]
OSCAR_CALIBRATION_DATA_FREE: Literal[1]
OSCAR_CALIBRATION_IDENTITY: Literal[2]
OSCAR_CALIBRATION_IMPORTED: Literal[3]
OSCAR_CALIBRATION_CALIBRATOR: Literal[4]
OSCAR_CALIBRATION_CACHE: Literal[5]
OSCAR_CACHE_FROZEN: Literal[0]
OSCAR_CACHE_COLLECTING: Literal[1]
OSCAR_LOG_INFO: Literal[1]
OSCAR_LOG_WARNING: Literal[2]
OSCAR_EVENT_FREEZE: Literal[1]
OSCAR_EVENT_DATA_FREE: Literal[2]
OSCAR_EVENT_NO_SPACE: Literal[3]
OSCAR_EVENT_NON_FINITE: Literal[4]
OSCAR_EVENT_DRIFT: Literal[5]

@final
class View:
    """An array whose memory is borrowed once, for many calls."""

    def __new__(cls, array: Any, *, writable: bool = False) -> View: ...

def __getattr__(name: str) -> Any: ...

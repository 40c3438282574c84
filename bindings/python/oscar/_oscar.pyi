# The raw module that SWIG writes: one to one with oscar/oscar.h, for the inside of this package only.
from typing import Any

def __getattr__(name: str) -> Any: ...

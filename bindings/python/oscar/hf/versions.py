"""Which transformers this was tested with, and a clear word where it or torch is missing."""

from __future__ import annotations

#: As in the extra "hf" of pyproject.toml: the interfaces of caches, masks and attention change between minor versions.
FIRST, END = (5, 24), (5, 25)


def require() -> None:
    """Raises ImportError where torch or transformers is missing, or transformers is of a version that was not tested."""
    try:
        import torch  # noqa: F401
        import transformers
    except ImportError as error:
        raise ImportError(f"oscar.hf needs torch and transformers (pip install 'liboscar[hf]'): {error}") from error
    version = tuple(int(part) for part in transformers.__version__.split(".")[:2])
    if not FIRST <= version < END:
        raise ImportError(
            f"transformers is {transformers.__version__}; oscar.hf was tested with "
            f">= {'.'.join(map(str, FIRST))}, < {'.'.join(map(str, END))}, whose interfaces it uses"
        )

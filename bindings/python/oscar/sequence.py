"""One sequence of tokens in a cache."""

from __future__ import annotations

import os
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO

from . import _oscar
from .errors import InvalidError, NotFoundError
from .transport import write_whole, writer

if TYPE_CHECKING:
    from .cache import Cache


class Sequence:
    """Made by :meth:`Cache.open` and :meth:`fork`; as a context manager it closes itself.

    A sequence that is only forgotten stays open until its cache closes. After a close every other call raises
    :class:`NotFoundError` (or :class:`StateError` where the cache itself is closed).
    """

    __slots__ = ("_cache", "_id", "_open")

    def __init__(self, cache: Cache, number: int) -> None:
        self._cache = cache
        self._id = number
        self._open = True

    @property
    def cache(self) -> Cache:
        """The cache that holds it."""
        return self._cache

    @property
    def id(self) -> int:
        """Its number in the C ABI."""
        return self._id

    @property
    def length(self) -> int:
        """Number of accepted tokens.

        Raises:
            NotFoundError: it is closed.
        """
        number: int = _oscar.oscar_seq_length(self._cache._handle, self._id)
        return number

    def __len__(self) -> int:
        return self.length

    def __bool__(self) -> bool:
        return True  # an empty sequence is a sequence

    def fork(self, n: int | None = None) -> Sequence:
        """A new sequence with the first ``n`` tokens (None: all). Blocks are shared, exact rows copied.

        Raises:
            NotFoundError: it is closed.
            StateError: it is in an open step, or a sliding window has dropped tokens that the child would see.
            InvalidError: ``n`` is larger than the length.
            NoSpaceError: no sequence, or no memory, is left.
        """
        child = _oscar.oscar_seq_fork(self._cache._handle, self._id, self.length if n is None else n)
        return Sequence(self._cache, child)

    def truncate(self, n: int) -> None:
        """Forgets every token from index ``n`` on; the others keep their bits.

        Raises: as :meth:`fork`.
        """
        _oscar.oscar_seq_truncate(self._cache._handle, self._id, n)

    def accept(self, base: int, indices: Iterable[int]) -> None:
        """Keeps an accepted path of a drafted tree.

        Of the tokens from index ``base`` on, those at ``base + indices[i]`` stay and move to ``base + i``; the others
        are forgotten. ``indices`` ascend strictly.

        Raises: as :meth:`fork`; StateError also where a token from ``base`` on is packed already.
        """
        _oscar.oscar_seq_accept(self._cache._handle, self._id, base, indices)

    def write_to(self, file: BinaryIO, n: int | None = None) -> int:
        """Writes the first ``n`` tokens (None: all) to a binary stream, piece by piece, as :meth:`Cache.read_from` reads
        them. The bytes say of which geometry, profile and calibration they are; they are as secret as the text.

        Returns:
            How many bytes that were.

        Raises:
            NotFoundError: it is closed.
            StateError: it is in an open step, the cache is collecting, or a sliding window has dropped tokens that a
                sequence of ``n`` would see.
            InvalidError: ``n`` is not 1 to the length.
            UnsupportedError: the cache is on a device.
            Whatever ``file.write`` raises.
        """
        size: int = _oscar.seq_export(self._cache._handle, self._id, self._prefix(n), writer(file))
        return size

    def exported_bytes(self, n: int | None = None) -> int:
        """How many bytes :meth:`write_to` would write. Raises: as that."""
        size: int = _oscar.seq_export(self._cache._handle, self._id, self._prefix(n), None)
        return size

    def save(self, path: str | os.PathLike[str], n: int | None = None) -> int:
        """Writes a file for :meth:`Cache.load`, whole or not at all: whenever the process is killed, ``path`` is the old
        file or the new one. (It may leave a file of another name behind, which ends in ".part".)

        Returns:
            How many bytes it has.

        Raises: as :meth:`write_to`, and OSError.
        """
        return write_whole(path, lambda file: self.write_to(file, n))

    @staticmethod
    def _prefix(n: int | None) -> int:
        if n == 0:
            raise InvalidError("n is 0, wanted 1 or more, or None for all")
        return 0 if n is None else n

    def close(self) -> None:
        """Frees the sequence. A second time, or after its cache was closed, does nothing.

        Raises:
            StateError: it is in an open step.
        """
        if self._open and not self._cache.closed:
            try:
                _oscar.oscar_seq_close(self._cache._handle, self._id)
            except NotFoundError:
                pass  # closed by its id
        self._open = False

    def __enter__(self) -> Sequence:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<oscar.Sequence {self._id}{'' if self._open and not self._cache.closed else ', closed'}>"

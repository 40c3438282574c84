"""Sequences as bytes: binary streams, and files that are whole or not there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from typing import BinaryIO


def writer(file: BinaryIO) -> Callable[[bytes], None]:
    """A function that writes all of its argument to a binary stream, which may take it in parts."""

    def write(piece: bytes) -> None:
        rest = memoryview(piece)
        while rest:
            n = file.write(rest)
            rest = rest[len(rest) if n is None else n :]

    return write


def reader(file: BinaryIO) -> Callable[[int], bytes]:
    """A function that reads so many bytes from a binary stream, fewer only where it ends."""

    def read(size: int) -> bytes:
        piece = file.read(size) or b""
        if len(piece) == size:
            return piece
        pieces = [piece]
        while piece and size > sum(map(len, pieces)):
            piece = file.read(size - sum(map(len, pieces))) or b""
            pieces.append(piece)
        return b"".join(pieces)

    return read


def write_whole(path: str | os.PathLike[str], write: Callable[[BinaryIO], int]) -> int:
    """Writes a file beside `path`, waits until it is on the disk, and gives it the name.

    Whatever happens meanwhile, `path` is the old file or the new one. A process that is killed may leave a file behind
    whose name ends in ".part".
    """
    target = os.path.abspath(os.fspath(path))
    folder, name = os.path.split(target)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=name + ".", suffix=".part", delete=False) as file:
        try:
            size = write(file)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
            os.replace(file.name, target)
        except BaseException:
            os.unlink(file.name)
            raise
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
    return size

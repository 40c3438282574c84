"""One exception class per status of the C ABI."""

from __future__ import annotations

from . import _oscar


class Error(RuntimeError):
    """Base of everything that liboscar raises. The text says what was got and what was wanted.

    A failed call leaves the cache as it was.
    """

    #: The status of the C ABI, a negative integer.
    status: int = _oscar.OSCAR_E_INTERNAL

    def __init__(self, text: str = "", status: int | None = None) -> None:
        super().__init__(text)
        if status is not None:
            self.status = status


class InvalidError(Error, ValueError):
    """An argument is wrong."""

    status = _oscar.OSCAR_E_INVALID


class NoMemoryError(Error, MemoryError):
    """The machine has no memory for what was asked."""

    status = _oscar.OSCAR_E_NO_MEMORY


class NoSpaceError(Error):
    """The cache's capacity is used up: close sequences or create a larger cache."""

    status = _oscar.OSCAR_E_NO_SPACE


class NotFoundError(Error, LookupError):
    """A sequence or step that does not exist, or no longer."""

    status = _oscar.OSCAR_E_NOT_FOUND


class StateError(Error):
    """The call is not allowed now: the cache is closed, or an open step uses the sequence."""

    status = _oscar.OSCAR_E_STATE


class UnsupportedError(Error, NotImplementedError):
    """Understood, and not served; the text says why."""

    status = _oscar.OSCAR_E_UNSUPPORTED


class CorruptError(Error, ValueError):
    """Bytes that are not what they claim to be."""

    status = _oscar.OSCAR_E_CORRUPT


class BackendError(Error):
    """The backend that OSCAR_BACKEND names is unknown or cannot run here."""

    status = _oscar.OSCAR_E_BACKEND


class InternalError(Error):
    """A bug in liboscar: please report it."""

    status = _oscar.OSCAR_E_INTERNAL


class DeviceError(Error):
    """The device reported an error; its cache can then only be closed."""

    status = _oscar.OSCAR_E_DEVICE


_CLASSES: dict[int, type[Error]] = {
    cls.status: cls
    for cls in (
        InvalidError,
        NoMemoryError,
        NoSpaceError,
        NotFoundError,
        StateError,
        UnsupportedError,
        CorruptError,
        BackendError,
        InternalError,
        DeviceError,
    )
}


def from_status(status: int, text: str) -> Error:
    """The exception for a status; a number that this version does not know gives a plain :class:`Error`."""
    return _CLASSES.get(status, Error)(text, status)


_oscar.set_error_factory(from_status)

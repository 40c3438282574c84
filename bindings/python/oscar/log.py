"""What a cache has to tell whoever runs it."""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable
from dataclasses import dataclass

from . import _oscar


class LogLevel(enum.IntEnum):
    """How much a record matters."""

    INFO = _oscar.OSCAR_LOG_INFO
    #: All is well defined, and somebody should know.
    WARNING = _oscar.OSCAR_LOG_WARNING


class LogEvent(enum.IntEnum):
    """What has happened."""

    #: Info: what :meth:`oscar.Cache.freeze` has made.
    FREEZE = _oscar.OSCAR_EVENT_FREEZE
    #: Warning: KV heads of a layer that freeze left data-free, and why.
    DATA_FREE = _oscar.OSCAR_EVENT_DATA_FREE
    #: Warning: a call was refused with NoSpaceError.
    NO_SPACE = _oscar.OSCAR_EVENT_NO_SPACE
    #: Warning: elements of a layer that were NaN or infinite were packed as 0. CPU only.
    NON_FINITE = _oscar.OSCAR_EVENT_NON_FINITE
    #: Warning: for most blocks of a layer packed last, the calibration does worse than none. CPU only.
    DRIFT = _oscar.OSCAR_EVENT_DRIFT


@dataclass(frozen=True)
class LogRecord:
    """One thing that has happened."""

    #: A :class:`LogLevel`.
    level: int
    #: A :class:`LogEvent`.
    event: int
    #: None: of no one layer.
    layer: int | None
    text: str


def to_logger(logger: logging.Logger) -> Callable[[LogRecord], None]:
    """For :meth:`oscar.Cache.log_to`: records go to a logger of the standard library, with ``event`` and ``layer`` as extra
    attributes ``oscar_event`` and ``oscar_layer``."""

    def write(record: LogRecord) -> None:
        level = logging.INFO if record.level < LogLevel.WARNING else logging.WARNING
        logger.log(level, "%s", record.text, extra={"oscar_event": record.event, "oscar_layer": record.layer})

    return write

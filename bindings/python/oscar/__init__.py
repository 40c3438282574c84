"""liboscar: a language model's key/value cache at about two bits per element, and attention straight from its bits.

    import numpy, oscar

    config = oscar.Config("2bit", n_layers=1, n_q_heads=8, n_kv_heads=2, key_dim=64)
    with oscar.Cache(config) as cache, cache.open() as sequence:
        with cache.step([(sequence, n_tokens)]) as step:
            out = step.layer(0, k, v, q)

Tensors are numpy arrays, torch tensors or anything else with ``__dlpack__`` or the buffer protocol. They are borrowed
for the call, never copied and never converted; torch is never imported. In hot loops, :class:`View` borrows one once.
"""

from .cache import Cache
from .calibration import Calibration, CalibrationHead, CalibrationInfo, CalibrationLayer
from .calibrator import Calibrator
from .config import Config, LayerConfig, SelfCalibration
from .errors import (
    BackendError,
    CorruptError,
    DeviceError,
    Error,
    InternalError,
    InvalidError,
    NoMemoryError,
    NoSpaceError,
    NotFoundError,
    StateError,
    UnsupportedError,
)
from .log import LogEvent, LogLevel, LogRecord
from .merge import merge
from .report import Backend, LayerStats, Report, Stats, abi_version, backends, check, version
from .sequence import Sequence
from .step import Step
from .types import (
    DEFAULT,
    PADDING,
    QUERY_ONLY,
    CacheState,
    CalibrationSource,
    RopePairing,
    Storage,
    Tensor,
    ValueBasis,
    View,
    Writer,
)

__version__ = version()

__all__ = [
    "DEFAULT",
    "PADDING",
    "QUERY_ONLY",
    "Backend",
    "BackendError",
    "Cache",
    "CacheState",
    "Calibration",
    "CalibrationHead",
    "CalibrationInfo",
    "CalibrationLayer",
    "CalibrationSource",
    "Calibrator",
    "Config",
    "CorruptError",
    "DeviceError",
    "Error",
    "InternalError",
    "InvalidError",
    "LayerConfig",
    "LayerStats",
    "LogEvent",
    "LogLevel",
    "LogRecord",
    "NoMemoryError",
    "NoSpaceError",
    "NotFoundError",
    "Report",
    "RopePairing",
    "SelfCalibration",
    "Sequence",
    "StateError",
    "Stats",
    "Step",
    "Storage",
    "Tensor",
    "UnsupportedError",
    "ValueBasis",
    "View",
    "Writer",
    "abi_version",
    "backends",
    "check",
    "merge",
    "version",
]

"""Every status has its exception, with the library's own text."""

import os
import subprocess
import sys

import numpy as np
import pytest
from binding_support import exact_config, plain_memory, small_config

import oscar
from oscar import _oscar, errors

CLASSES = {
    "INVALID": (oscar.InvalidError, ValueError),
    "NO_MEMORY": (oscar.NoMemoryError, MemoryError),
    "NO_SPACE": (oscar.NoSpaceError, RuntimeError),
    "NOT_FOUND": (oscar.NotFoundError, LookupError),
    "STATE": (oscar.StateError, RuntimeError),
    "UNSUPPORTED": (oscar.UnsupportedError, NotImplementedError),
    "CORRUPT": (oscar.CorruptError, ValueError),
    "BACKEND": (oscar.BackendError, RuntimeError),
    "INTERNAL": (oscar.InternalError, RuntimeError),
    "DEVICE": (oscar.DeviceError, RuntimeError),
}


@pytest.mark.parametrize("name", CLASSES)
def test_a_status_has_a_class(name):
    status = getattr(_oscar, f"OSCAR_E_{name}")
    error = errors.from_status(status, "text")
    assert type(error) is CLASSES[name][0] and isinstance(error, (oscar.Error, CLASSES[name][1]))
    assert isinstance(error, CLASSES[name][1]) and isinstance(error, RuntimeError)
    assert error.status == status == type(error).status and str(error) == "text"


def test_every_status_of_the_header_is_known():
    statuses = {getattr(_oscar, name) for name in dir(_oscar) if name.startswith("OSCAR_E_")}
    assert statuses == {cls.status for cls, _ in CLASSES.values()}


def test_an_unknown_status_is_an_error():
    error = errors.from_status(-1000, "text")
    assert type(error) is oscar.Error and error.status == -1000


def test_invalid():
    with pytest.raises(oscar.InvalidError, match="nonsense") as caught:
        oscar.Config("nonsense")
    assert caught.value.status == _oscar.OSCAR_E_INVALID


def run(program, **environment):
    """What a program says that is run by another interpreter, with binding_support within reach."""
    preamble = "import sys; sys.path.insert(0, sys.argv[1]); import oscar; from binding_support import exact_config\n"
    return subprocess.run(
        [sys.executable, "-c", preamble + program, os.path.dirname(__file__)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@plain_memory
def test_no_memory():
    said = run(
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))\n"
        "try: oscar.Cache(exact_config(capacity_bytes=16 << 30))\n"
        "except oscar.NoMemoryError as error: print(error.status, error)"
    )
    assert said.startswith(f"{_oscar.OSCAR_E_NO_MEMORY} oscar_cache_create")


def test_no_space():
    with oscar.Cache(exact_config(max_sequences=1)) as cache, cache.open():
        with pytest.raises(oscar.NoSpaceError):
            cache.open()


def test_not_found():
    with oscar.Cache(exact_config()) as cache:
        with pytest.raises(oscar.NotFoundError):
            cache.step([(12345 << 32 | 1, 1)])


def test_state():
    with oscar.Cache(exact_config()) as cache, cache.open() as sequence:
        step = cache.step([(sequence, 1)])
        with pytest.raises(oscar.StateError):
            sequence.close()
        step.abort()


def test_unsupported():
    config = exact_config(key_dim=72)
    with pytest.raises(oscar.UnsupportedError, match="72"):
        oscar.Cache(config)
    report = oscar.check(config, 100)
    assert not report.served and "72" in report.reason


def test_corrupt():
    for data in (b"", b"not a calibration", bytearray(100), memoryview(np.zeros(64, np.uint8))):
        with pytest.raises(oscar.CorruptError):
            oscar.Calibration.load(data)


def test_backend():
    said = run(
        "try: oscar.Cache(exact_config())\nexcept oscar.BackendError as error: print(error.status, error)",
        OSCAR_BACKEND="nonsense",
    )
    assert said.startswith(str(_oscar.OSCAR_E_BACKEND)) and "nonsense" in said


def test_a_failed_call_leaves_the_cache_as_it_was():
    with oscar.Cache(small_config(max_sequences=1)) as cache, cache.open() as sequence:
        before = cache.stats()
        for call in (cache.open, lambda: sequence.truncate(1), lambda: cache.step([(sequence, 10**6)])):
            with pytest.raises(oscar.Error):
                call()
        assert cache.stats() == before

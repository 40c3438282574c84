"""100,000 calls leave nothing behind: no reference, no object of Python, no memory of C."""

import ctypes
import gc
import sys

import numpy as np
import pytest
from binding_support import Producer, VersionedProducer, plain_memory, random_qkv, small_config

import oscar

CALLS = 100_000
WARM_UP = 3000  # rounds, until caches and free lists have their size: Python 3.11.2 takes more than 300
q, k, v = random_qkv(1, 1)
out, lse = np.zeros_like(q), np.zeros(q.shape[:2], np.float32)


class _MallInfo2(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks".split()]
    _fields_ += [(name, ctypes.c_size_t) for name in ("uordblks", "fordblks", "keepcost")]


def c_bytes():
    """Bytes that malloc has given out, and that are not freed."""
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = _MallInfo2
    info = mallinfo2()
    return info.uordblks + info.hblkhd


def steps(cache, sequence):
    """Everything that a decode loop calls, in every way in for tensors; 16 calls."""
    views = [oscar.View(x) for x in (k, v, q)]
    writable = oscar.View(out, writable=True)
    with cache.step([(sequence, 1)]) as step:
        step.append(0, k, v)
        step.attend(0, q)
        step.attend(0, q, out, lse)
        step.abort()
    with cache.step([(sequence, 1), (oscar.PADDING, 1)]) as step:
        step.abort()
    with cache.step([(sequence, 1)]) as step:
        step.layer(0, *views, out=writable)
    with cache.step([(sequence, 1)]) as step:
        step.append(0, Producer(k), VersionedProducer(v))
        step.abort()
    sequence.truncate(sequence.length - 1)
    return 16


def sequences(cache, sequence):
    """Ids, reads and structs; 9 calls."""
    child = sequence.fork()
    cache.read(child, 0, 0)
    cache.read(child, 0, 1, 0, 3)
    cache.scores(child, 0, 0)
    assert child.length == 40
    child.close()
    cache.stats()
    cache.capacity()
    oscar.merge(np.ones((2, 1, 8), np.float32), np.zeros((2, 1), np.float32))
    return 9


def failures(cache, sequence):
    """Calls that are refused, by the library and by the binding; 8 calls."""
    refused = [
        lambda: cache.step([(sequence, 0)]),
        lambda: cache.step([(12345, 1)]),
        lambda: cache.step([(sequence, "x")]),
        lambda: sequence.truncate(1 << 40),
        lambda: cache.read(sequence, 7, 0),
        lambda: oscar.View(3),
        lambda: oscar.View(np.zeros((1, 1, 1, 1, 1), np.float32)),
        lambda: oscar.Config("no such profile"),
    ]
    for call in refused:
        with pytest.raises((oscar.Error, TypeError)):
            call()
    return len(refused)


def objects(cache, sequence):
    """What lives shorter than the process: a configuration, a check, a calibration, a cache; 6 calls."""
    config = small_config(max_tokens=256, capacity_bytes=1 << 20)
    oscar.check(config, 256)
    calibration = oscar.Calibration.load(oscar.Calibration.data_free(config).save())
    calibration.info
    oscar.Cache(config)  # freed by Python alone
    return 6


@plain_memory
@pytest.mark.parametrize(
    "use, n_calls",
    [(steps, CALLS), (sequences, CALLS), (failures, CALLS), (objects, CALLS // 20)],
    ids=lambda x: getattr(x, "__name__", None),
)
def test_no_call_leaves_anything(use, n_calls):
    with oscar.Cache(small_config()) as cache, cache.open() as sequence:
        for _ in range(40):
            with cache.step([(sequence, 1)]) as step:
                step.layer(0, k, v, q)
        for _ in range(WARM_UP):
            use(cache, sequence)

        def levels():
            gc.collect()
            arrays = [sys.getrefcount(x) for x in (q, k, v, out, lse, cache, sequence)]
            return arrays, sys.getallocatedblocks(), c_bytes()

        references, blocks, in_c = levels()
        n = rounds = 0
        while n < n_calls:
            n += use(cache, sequence)
            rounds += 1
        references_after, blocks_after, in_c_after = levels()
    assert references_after == references
    # Less than one object, and less than 8 bytes of C, in ten rounds.
    assert blocks_after - blocks < rounds / 10
    assert in_c_after - in_c < 8 * rounds / 10

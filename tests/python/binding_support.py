"""What the binding is compared with: attention in double precision, and a DLPack producer of our own."""

import ctypes

import numpy as np
import pytest

import oscar

with open("/proc/self/maps") as _maps:
    _sanitized = "libasan" in _maps.read()
#: For tests that look at the process's own memory, most of which a sanitizer takes.
plain_memory = pytest.mark.skipif(_sanitized, reason="AddressSanitizer is loaded")


def bf16(x):
    """float32 values rounded to BF16, to nearest even (no NaN among them)."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32).astype(np.uint64)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return bits.astype(np.uint32).view(np.float32)


def attention(q, k, v, visible=None, scale=None, softcap=0.0, sink_logits=None):
    """softmax(scale q k^T) v in double precision.

    q [n, n_q_heads, d]; k, v [n_tokens, n_kv_heads, d]; the queries are the last n tokens. visible [n, n_tokens] says
    what a query sees; None: all tokens up to its own. Returns (out, log-sum-exp).
    """
    n, n_q_heads, dim = q.shape
    n_tokens = len(k)
    group = n_q_heads // k.shape[1]
    k, v = (np.repeat(x.astype(np.float64), group, axis=1) for x in (k, v))
    logits = np.einsum("qhd,thd->hqt", q.astype(np.float64), k) * (scale or dim**-0.5)
    if softcap:
        logits = softcap * np.tanh(logits / softcap)
    if visible is None:
        visible = np.arange(n_tokens)[None, :] <= (n_tokens - n + np.arange(n))[:, None]
    logits = np.where(visible[None], logits, -np.inf)
    top = logits.max(axis=-1)
    weights = np.exp(logits - top[..., None])
    total = weights.sum(axis=-1)
    if sink_logits is not None:
        total = total + np.exp(sink_logits.astype(np.float64)[:, None] - top)
    out = np.einsum("hqt,thd->qhd", weights / total[..., None], v)
    return out, (top + np.log(total)).T


def exact_config(**changes):
    """A small cache that keeps every token in BF16."""
    return small_config("exact", **changes)


def small_config(profile="2bit", **changes):
    """A small cache that packs early."""
    values = dict(
        n_layers=1,
        n_q_heads=4,
        n_kv_heads=2,
        key_dim=64,
        n_sink=4,
        n_recent=32,
        max_rollback=8,
        max_sequences=4,
        max_step_tokens=512,
        max_tokens=2048,
        capacity_bytes=32 << 20,
    )
    values.update(changes)
    return oscar.Config(profile, **values)


def random_qkv(seed, n, n_q_heads=4, n_kv_heads=2, key_dim=64, value_dim=None):
    rng = np.random.default_rng(seed)
    shapes = (n, n_q_heads, key_dim), (n, n_kv_heads, key_dim), (n, n_kv_heads, value_dim or key_dim)
    return tuple(rng.standard_normal(shape).astype(np.float32) for shape in shapes)


def fill(cache, sequence, k, v, q=None, chunk=64):
    """Appends k and v to layer 0 in steps of at most `chunk` tokens; returns the outputs for q."""
    outs = []
    for first in range(0, len(k), chunk):
        rows = slice(first, min(first + chunk, len(k)))
        with cache.step([(sequence, rows.stop - rows.start)]) as step:
            if q is None:
                step.append(0, k[rows], v[rows])
            else:
                outs.append(step.layer(0, k[rows], v[rows], q[rows]))
    return np.concatenate(outs) if outs else None


# ---------------------------------------------------------------------------------------- a DLPack producer ----

FLOAT, BFLOAT = 2, 4
CPU, CUDA = 1, 2


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class _Managed(ctypes.Structure):
    _fields_ = [("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p)]


class _Versioned(ctypes.Structure):
    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", _Tensor),
    ]


_Destructor = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)
_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, _Destructor]


class Producer:
    """Exports a numpy array's memory through DLPack under a dtype and a device of choice, and counts.

    No buffer protocol. `exported` capsules were handed out, of which `released` are gone again.
    """

    def __init__(self, array, code=FLOAT, bits=None, device=(CPU, 0), dense=False, byte_offset=0):
        self.array = array
        self.exported = 0
        self.released = 0
        self._name = b"dltensor"
        self._strides = None if dense else (ctypes.c_int64 * array.ndim)(*(s // array.itemsize for s in array.strides))
        self._shape = (ctypes.c_int64 * array.ndim)(*array.shape)
        self._tensor = _Tensor(
            array.ctypes.data - byte_offset,
            *device,
            array.ndim,
            code,
            bits or 8 * array.itemsize,
            1,
            self._shape,
            self._strides,
            byte_offset,
        )
        self._managed = _Managed(self._tensor, None, None)
        self._destructor = _Destructor(self._release)

    def _release(self, capsule):
        self.released += 1

    def __dlpack_device__(self):
        return self._tensor.device_type, self._tensor.device_id

    def __dlpack__(self, stream=None):
        self.exported += 1
        return _new_capsule(ctypes.addressof(self._managed), self._name, self._destructor)


class VersionedProducer(Producer):
    """Speaks DLPack 1.x, which can say that memory is read-only."""

    def __init__(self, array, read_only=False, major=1, **options):
        super().__init__(array, **options)
        self._name = b"dltensor_versioned"
        self._managed = _Versioned(major, 0, None, None, int(read_only), self._tensor)

    def __dlpack__(self, stream=None, max_version=None):
        return super().__dlpack__(stream)


def bf16_producer(x):
    """BF16 numbers that numpy has no dtype for."""
    return Producer((bf16(x).view(np.uint32) >> 16).astype(np.uint16), code=BFLOAT)

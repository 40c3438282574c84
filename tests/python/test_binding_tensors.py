"""Tensors are borrowed: any exporter, any strides, no copy, and given back after the call."""

import gc
import sys

import numpy as np
import pytest
from binding_support import (
    CPU,
    CUDA,
    Producer,
    VersionedProducer,
    attention,
    bf16,
    bf16_producer,
    exact_config,
    plain_memory,
    random_qkv,
)

import oscar


@pytest.fixture
def cache():
    with oscar.Cache(exact_config()) as cache:
        yield cache


@pytest.fixture
def step(cache):
    """A step of six new tokens of one sequence."""
    step = cache.step([(cache.open(), 6)])
    yield step
    step.abort()


q, k, v = random_qkv(1, 6)
wanted = attention(q, bf16(k), bf16(v))[0]


def check(got, reference=wanted, tolerance=1e-5):
    np.testing.assert_allclose(got, reference, rtol=tolerance, atol=tolerance)


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def heads_first(x):
    return np.ascontiguousarray(x.swapaxes(0, 1)).swapaxes(0, 1)


def every_other_row(x):
    return np.repeat(x, 2, axis=0)[::2]


def backwards(x):
    return np.ascontiguousarray(x[::-1])[::-1]


def part_of_a_wider_row(x):
    return np.concatenate([x, x], axis=2)[:, :, : x.shape[2]]


@pytest.mark.parametrize("view", [read_only, heads_first, every_other_row, backwards, part_of_a_wider_row])
def test_inputs_of_any_stride(step, view):
    check(step.layer(0, view(k), view(v), view(q)))


@pytest.mark.parametrize("view", [heads_first, every_other_row, backwards, part_of_a_wider_row])
def test_outputs_of_any_stride(step, view):
    out = view(np.full_like(q, 7))
    assert step.layer(0, k, v, q, out=out) is out
    check(out)


def test_output_leaves_its_neighbours_alone(step):
    wide = np.full((6, 4, 96), 7, np.float32)
    step.layer(0, k, v, q, out=wide[:, :, 16:80])
    check(wide[:, :, 16:80])
    assert (wide[:, :, :16] == 7).all() and (wide[:, :, 80:] == 7).all()


def test_float16_in_and_out(step):
    half = [x.astype(np.float16) for x in (k, v, q)]
    out = np.zeros_like(q, np.float16)
    step.layer(0, *half, out=out)
    hk, hv, hq = (x.astype(np.float32) for x in half)
    check(out, attention(hq, bf16(hk), bf16(hv))[0], 2e-3)


def test_memoryviews_are_tensors(step):
    out = np.zeros_like(q)
    step.layer(0, memoryview(k), memoryview(v), memoryview(q), out=memoryview(out))
    check(out)


@pytest.mark.parametrize("producer", [Producer, VersionedProducer])
@pytest.mark.parametrize("options", [{}, {"dense": True}, {"byte_offset": 64}])
def test_dlpack(step, producer, options):
    out = np.zeros_like(q)
    step.layer(0, *(producer(x, **options) for x in (k, v, q)), out=producer(out, **options))
    check(out)


def test_bfloat16_through_dlpack(step):
    out = Producer(np.zeros(q.shape, np.uint16), code=4)
    step.layer(0, bf16_producer(k), bf16_producer(v), bf16_producer(q), out=out)
    got = (out.array.astype(np.uint32) << 16).view(np.float32)
    check(got, attention(bf16(q), bf16(k), bf16(v))[0], 1e-2)


def test_bfloat16_of_ml_dtypes_is_refused_with_the_reason(step):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    with pytest.raises(oscar.InvalidError, match="k cannot be borrowed"):
        step.append(0, k.astype(ml_dtypes.bfloat16), v)


def test_a_producer_on_a_device_is_asked_not_to_synchronise(step):
    class Recorder(Producer):
        streams: list = []

        def __dlpack__(self, **keywords):
            self.streams.append(keywords.get("stream"))
            return super().__dlpack__()

    for device, stream in (((CUDA, 3), -1), ((CPU, 0), None)):
        Recorder.streams.clear()
        try:
            step.append(0, Recorder(k, device=device), v)
        except oscar.InvalidError as error:
            assert device[0] == CUDA and "device is {type 2, id 3}" in str(error)
        assert Recorder.streams == [stream]


def test_a_device_is_passed_through_and_refused_by_the_library(step):
    with pytest.raises((oscar.InvalidError, oscar.UnsupportedError), match="device"):
        step.append(0, Producer(k, device=(CUDA, 3)), v)


@pytest.mark.parametrize(
    "bad, text",
    [
        (k.astype(np.float64), "k"),
        (k.astype(np.int32), "k"),
        (k.astype(">f4"), "native byte order"),
        (k.astype(object), "k cannot be borrowed"),
        (k.astype(np.complex64), "k"),
        (np.broadcast_to(np.float32(0), k.shape), "repeats one element"),
        (np.zeros((1, 1, 1, 6, 64), np.float32), "k has 5 dimensions, wanted 1 to 4"),
        (np.zeros((), np.float32), "k has 0 dimensions, wanted 1 to 4"),
        (k[:, :, ::2], "k"),
        (k[:5], r"k.*5.*6"),
        (None, "k"),
        (b"bytes", "k"),
    ],
)
def test_what_is_not_served_is_refused_and_never_copied(step, bad, text):
    with pytest.raises(oscar.InvalidError, match=text):
        step.append(0, bad, v)
    check(step.layer(0, k, v, q))  # the step goes on


def test_a_stride_of_half_an_element_is_refused(step):
    packed = np.zeros((6, 2), dtype=[("x", np.float32, 64), ("pad", np.uint8, 2)])["x"]
    with pytest.raises(oscar.InvalidError, match="k: the stride of dimension 1 is 258 bytes, wanted a multiple"):
        step.append(0, packed, v)


@pytest.mark.parametrize("bad", [[[1.0]], 3, "text", object()])
def test_what_is_no_array_is_a_type_error(step, bad):
    with pytest.raises(TypeError, match="v is a .*, wanted an array"):
        step.append(0, k, bad)


def test_a_capsule_of_another_name_is_a_type_error(step):
    producer = Producer(k)
    producer._name = b"used_dltensor"
    with pytest.raises(TypeError, match="dltensor"):
        step.append(0, producer, v)


def test_a_later_dlpack_is_refused(step):
    with pytest.raises(oscar.UnsupportedError, match="DLPack version is 2.0, wanted 1.x"):
        step.append(0, VersionedProducer(k, major=2), v)


@pytest.mark.parametrize(
    "out",
    [read_only(q), VersionedProducer(q, read_only=True), memoryview(q.tobytes())],
    ids=["numpy", "dlpack", "bytes"],
)
def test_an_output_must_be_writable(step, out):
    before = q.copy()
    with pytest.raises(oscar.InvalidError, match="out is read-only, an output must be writable"):
        step.layer(0, k, v, q, out=out)
    np.testing.assert_array_equal(q, before)


def test_a_read_only_versioned_capsule_is_an_input(step):
    check(step.layer(0, VersionedProducer(k, read_only=True), v, q))


def test_out_is_allocated_for_numpy_only(step):
    with pytest.raises(TypeError, match="out is missing"):
        step.layer(0, k, v, Producer(q))


def test_an_error_of_the_exporter_comes_through(step):
    class Broken:
        def __dlpack__(self, **keywords):
            raise ZeroDivisionError("broken exporter")

        def __dlpack_device__(self):
            return 1, 0

    with pytest.raises(ZeroDivisionError, match="broken exporter"):
        step.append(0, Broken(), v)


def test_capsules_are_released_after_every_call(step):
    good = [Producer(x) for x in (k, v, q)]
    out = Producer(np.zeros_like(q))
    # Also where the call fails, in the library or at a later argument.
    short = Producer(k[:3])
    with pytest.raises(oscar.InvalidError):
        step.append(0, short, v)
    with pytest.raises(TypeError):
        step.append(0, short, 3)
    assert short.exported == short.released == 2
    step.layer(0, *good, out=out)
    for producer in (*good, out):
        assert producer.exported == producer.released == 1


def test_reference_counts_do_not_change(cache):
    arrays = [x.copy() for x in (k, v, q)] + [np.zeros_like(q), np.zeros((6, 4), np.float32)]
    ak, av, aq, out, lse = arrays
    sequence = cache.open()

    def use():
        with cache.step([(sequence, 6)]) as step:
            step.append(0, ak, av)
            with pytest.raises(oscar.InvalidError):
                step.append(0, ak, out)
            with pytest.raises(TypeError):
                step.append(0, ak, 3)
            step.attend(0, aq, out, lse)
            step.abort()
        with cache.step([(sequence, 6)]) as step:
            step.layer(0, ak, av, aq, out, lse)
            step.abort()

    use()
    gc.collect()
    before = [sys.getrefcount(x) for x in arrays] + [sys.getrefcount(None)]
    for _ in range(1000):
        use()
    gc.collect()
    after = [sys.getrefcount(x) for x in arrays] + [sys.getrefcount(None)]
    assert after[:-1] == before[:-1]
    assert abs(after[-1] - before[-1]) < 100  # None is everyone's
    # No export is left: an array with an exported buffer cannot be resized.
    ak.resize((12, 2, 64), refcheck=False)


@plain_memory
def test_memory_does_not_grow(cache):
    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    def use(n):
        for _ in range(n):
            with cache.open() as sequence:
                with cache.step([(sequence, 6, 2)]) as step:
                    step.layer(0, k, v, q)
                cache.stats()
                cache.read(sequence, 0, 1)
                sequence.fork(3).close()
                oscar.Calibration.data_free(exact_config()).save()
                with pytest.raises(oscar.InvalidError):
                    sequence.truncate(7)

    use(200)
    before = resident()
    use(2000)
    assert resident() - before < 2 << 20

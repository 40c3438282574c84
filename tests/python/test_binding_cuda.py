"""Caches on a CUDA device, with torch tensors: streams, DLPack, graphs, refusals. Skipped where there is no device."""

import numpy as np
import pytest
from binding_support import CUDA, Producer, random_qkv, small_config

import oscar

torch = pytest.importorskip("torch")


def reason_to_skip():
    if not torch.cuda.is_available():
        return "torch sees no CUDA device"
    cuda = [backend for backend in oscar.backends() if backend.name == "cuda"]
    if not cuda:
        return "the library was built without CUDA"
    return "" if cuda[0].available else cuda[0].reason


pytestmark = pytest.mark.skipif(bool(reason_to_skip()), reason=reason_to_skip() or "there is a device")

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
N_TOKENS = 400
q, k, v = random_qkv(1, N_TOKENS)


def cuda_config(profile="2bit-plain", **changes):
    return small_config(profile, device="cuda", **changes)


def worst_row(got, wanted):
    """Largest |got - wanted| / |wanted| of a row of the last dimension."""
    got, wanted = (np.asarray(x, np.float64) for x in (got, wanted))
    return (np.linalg.norm(got - wanted, axis=-1) / np.linalg.norm(wanted, axis=-1)).max()


def on_device(*arrays, dtype=torch.float32):
    return [torch.from_numpy(x).to("cuda", dtype) for x in arrays]


def on_host(tensor):
    return tensor.detach().float().cpu().numpy()


def decode(cache, sequence, tensors, out, chunk=50, stream=None):
    """All tokens in steps of `chunk`, each attending."""
    tk, tv, tq = tensors
    for first in range(0, len(tk), chunk):
        rows = slice(first, first + chunk)
        with cache.step([(sequence, chunk)], stream=stream) as step:
            step.layer(0, tk[rows], tv[rows], tq[rows], out=out[rows])


@pytest.mark.parametrize("profile, tolerance", [("exact", 1e-3), ("2bit-plain", 2e-3), ("2bit", 2e-2)])
def test_output_is_that_of_the_cpu(profile, tolerance):
    # "2bit" refines what got most attention: a tie may be broken otherwise on a device, hence its tolerance.
    with oscar.Cache(small_config(profile)) as host, oscar.Cache(cuda_config(profile)) as device:
        wanted = np.zeros_like(q)
        decode(host, host.open(), (k, v, q), wanted)
        out = torch.zeros_like(torch.from_numpy(q), device="cuda")
        decode(device, device.open(), on_device(k, v, q), out)
        assert worst_row(on_host(out), wanted) < tolerance
        assert device.stats().n_packed_tokens == host.stats().n_packed_tokens
        assert (device.stats().n_packed_tokens > 0) == (profile != "exact")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dtypes(dtype):
    # The same numbers in another dtype: queries of all three are computed alike.
    values = [x.to(torch.bfloat16).float().numpy() for x in map(torch.from_numpy, (k, v, q))]
    with oscar.Cache(small_config("2bit-plain")) as host, oscar.Cache(cuda_config()) as device:
        wanted = np.zeros_like(q)
        decode(host, host.open(), values, wanted)
        out = torch.zeros(q.shape, dtype=dtype, device="cuda")
        decode(device, device.open(), on_device(*values, dtype=dtype), out)
        tolerance = {torch.float32: 2e-3, torch.float16: 3e-3, torch.bfloat16: 8e-3}[dtype]
        assert worst_row(on_host(out), wanted) < tolerance


def test_nothing_is_copied():
    tensors = on_device(k, v, q, dtype=torch.bfloat16)
    out = torch.zeros_like(tensors[2])
    lse = torch.zeros(50, 4, device="cuda")
    rows = [x[:50] for x in (*tensors, out)]
    with oscar.Cache(cuda_config()) as cache:
        with cache.step([(cache.open(), 50)]) as step:
            address = rows[3].data_ptr()
            before = torch.cuda.memory_stats()["allocation.all.allocated"]
            assert step.layer(0, *rows[:3], out=rows[3], lse=lse) is rows[3]
            assert torch.cuda.memory_stats()["allocation.all.allocated"] == before
            assert rows[3].data_ptr() == address
        torch.cuda.synchronize()
        assert (on_host(out[:50]) != 0).all() and (on_host(out[50:]) == 0).all()
        assert torch.isfinite(lse).all()


def test_strides():
    tensors = on_device(k[:50], v[:50], q[:50])
    heads_first = [x.transpose(0, 1).contiguous().transpose(0, 1) for x in tensors]
    wide = torch.full((50, 4, 96), 7.0, device="cuda")
    out = torch.zeros_like(tensors[2])
    with oscar.Cache(cuda_config()) as cache:
        for inputs, output in ((tensors, out), (heads_first, wide[:, :, 16:80])):
            with cache.step([(cache.open(), 50)]) as step:
                step.layer(0, *inputs, out=output)
    assert torch.equal(wide[:, :, 16:80], out)
    assert (wide[:, :, :16] == 7).all() and (wide[:, :, 80:] == 7).all()


def test_side_stream():
    # The inputs come into being on the stream, behind something slow: a call in any other order reads zeros.
    sources = on_device(k, v, q)
    outs = [torch.zeros_like(sources[2]) for _ in range(2)]
    side = torch.cuda.Stream()
    with oscar.Cache(cuda_config()) as cache:
        decode(cache, cache.open(), sources, outs[0], stream=torch.cuda.current_stream())
        late = [torch.zeros_like(x) for x in sources]
        sequence = cache.open()
        torch.cuda.synchronize()
        with torch.cuda.stream(side):
            torch.cuda._sleep(200_000_000)
            for x, source in zip(late, sources):
                x.copy_(source)
            decode(cache, sequence, late, outs[1], stream=side)
            is_still_running = not side.query()
        side.synchronize()
        assert is_still_running  # the calls came back before the device had done them
    assert torch.equal(*outs)


def test_stream_as_an_address():
    side = torch.cuda.Stream()
    tensors = on_device(k[:50], v[:50], q[:50])
    out = torch.zeros_like(tensors[2])
    torch.cuda.synchronize()
    with oscar.Cache(cuda_config()) as cache:
        with cache.step([(cache.open(), 50)], stream=side.cuda_stream) as step:
            step.layer(0, *tensors, out=out)
        side.synchronize()
        assert (on_host(out) != 0).all()
        with pytest.raises(TypeError, match="stream"):
            cache.step([(cache.open(), 1)], stream="side")


class Borrowed:
    """Nothing but __dlpack__ of a tensor; keeps what it was asked for."""

    def __init__(self, tensor):
        self.tensor = tensor
        self.streams = []

    def __dlpack_device__(self):
        return self.tensor.__dlpack_device__()

    def __dlpack__(self, stream=None, **keywords):
        self.streams.append(stream)
        return self.tensor.__dlpack__(stream=stream, **keywords)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dlpack(dtype):
    tensors = on_device(k[:50], v[:50], q[:50], dtype=dtype)
    outs = [torch.zeros_like(tensors[2]) for _ in range(2)]
    borrowed = [Borrowed(x) for x in (*tensors, outs[1])]
    with oscar.Cache(cuda_config()) as cache:
        with cache.step([(cache.open(), 50)]) as step:
            step.layer(0, *tensors, out=outs[0])
        with cache.step([(cache.open(), 50)]) as step:
            step.layer(0, *borrowed[:3], out=borrowed[3])
    assert torch.equal(*outs)
    assert all(x.streams == [-1] for x in borrowed)  # the producer was asked not to synchronise


def test_cupy():
    cupy = pytest.importorskip("cupy")
    arrays = [cupy.asarray(x[:50]) for x in (k, v, q)]
    tensors = on_device(k[:50], v[:50], q[:50])
    out, wanted = cupy.zeros_like(arrays[2]), torch.zeros_like(tensors[2])
    stream = cupy.cuda.Stream(non_blocking=True)
    cupy.cuda.Device().synchronize()
    with oscar.Cache(cuda_config()) as cache:
        with cache.step([(cache.open(), 50)], stream=torch.cuda.current_stream()) as step:
            step.layer(0, *tensors, out=wanted)
        with cache.step([(cache.open(), 50)], stream=stream) as step:
            step.layer(0, *arrays, out=out)
        stream.synchronize()
    np.testing.assert_array_equal(cupy.asnumpy(out), wanted.cpu().numpy())


def test_read_and_scores_come_to_the_host():
    with oscar.Cache(small_config("2bit-plain")) as host, oscar.Cache(cuda_config()) as device:
        sequences = []
        for cache, tensors in ((host, (k, v, q)), (device, on_device(k, v, q))):
            sequences.append(cache.open())
            decode(cache, sequences[-1], tensors, np.zeros_like(q) if cache is host else torch.zeros_like(tensors[2]))
        for got, wanted in zip(device.read(sequences[1], 0, 1), host.read(sequences[0], 0, 1)):
            np.testing.assert_array_equal(got, wanted)
        tk = torch.zeros(4, 64, device="cuda")
        with pytest.raises(oscar.InvalidError, match=r"k_out: device is \{type 2, id 0\}, wanted \{1, 0\}"):
            device.read(sequences[1], 0, 1, 0, 4, k_out=tk)
    with oscar.Cache(cuda_config("2bit")) as cache:
        sequence = cache.open()
        tensors = on_device(k[:50], v[:50], q[:50])
        decode(cache, sequence, tensors, torch.zeros_like(tensors[2]))
        assert (cache.scores(sequence, 0, 1)[4:40] > 0).all()


class Model:
    """Layers whose inputs are computed by torch from one tensor, with everything at fixed addresses."""

    def __init__(self, n_layers=3, n_rows=2):
        self.stream = torch.cuda.Stream()
        self.cache = oscar.Cache(cuda_config("2bit", n_layers=n_layers))
        self.x = torch.zeros(n_rows, 8, 64, device="cuda")
        self.out = torch.zeros(n_layers, n_rows, 4, 64, device="cuda", dtype=torch.bfloat16)
        self.graph = None

    def layers(self, step):
        x = self.x
        for i, out in enumerate(self.out):
            tq, tk, tv = (part.to(torch.bfloat16) for part in torch.split(x * (1 + i), (4, 2, 2), dim=1))
            step.layer(i, tk, tv, tq, out=out)
            x = x + out.float().mean(dim=1, keepdim=True)

    def eager(self, entries):
        with torch.cuda.stream(self.stream), self.cache.step(entries, stream=self.stream) as step:
            self.layers(step)

    def captured(self, entries):
        """Captures in its first step and replays in later ones."""
        with self.cache.step(entries, stream=self.stream, replay=self.graph is not None) as step:
            if self.graph is None:
                self.graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(self.graph, stream=self.stream):
                    self.layers(step)
            with torch.cuda.stream(self.stream):
                self.graph.replay()


def test_graph_replays_are_bit_equal_while_sequences_grow_and_pack():
    eager, captured = Model(), Model()
    models = (eager, captured)
    sequences = [[model.cache.open() for _ in range(2)] for model in models]
    random = torch.Generator("cuda").manual_seed(1)
    for i in range(420):
        for own in sequences:
            if i == 200:
                own[1].truncate(90)
            if i == 300:
                own[1].close()
                own[1] = own[0].fork(150)
        x = torch.randn(eager.x.shape, generator=random, device="cuda")
        for model in models:
            model.x.copy_(x)
        torch.cuda.synchronize()
        eager.eager([(sequence, 1) for sequence in sequences[0]])
        captured.captured([(sequence, 1) for sequence in sequences[1]])
        torch.cuda.synchronize()
        assert torch.equal(eager.out, captured.out), f"step {i}"
        assert (eager.out != 0).any(dim=-1).all()
    stats = [model.cache.stats() for model in models]
    assert stats[0] == stats[1] and stats[0].n_packed_tokens >= 384
    for model in models:
        model.cache.close()


def test_a_replay_takes_no_layers():
    tensors = on_device(k[:1], v[:1], q[:1])
    with oscar.Cache(cuda_config()) as cache:
        with cache.step([(cache.open(), 1)], replay=True) as step:
            with pytest.raises(oscar.StateError):
                step.layer(0, *tensors, out=torch.zeros_like(tensors[2]))
            step.abort()
    with oscar.Cache(small_config()) as host, pytest.raises(oscar.InvalidError, match="the CPU has no graphs"):
        host.step([(host.open(), 1)], replay=True)


def test_tensors_of_another_device_are_refused():
    tk, tv, tq = on_device(k[:2], v[:2], q[:2])
    out = torch.zeros_like(tq)
    with oscar.Cache(cuda_config()) as cache:
        with cache.step([(cache.open(), 2)]) as step:
            on_cpu = r"device is \{type 1, id 0\}, wanted \{2, 0\} \(type 1: CPU, 2: CUDA\)"
            with pytest.raises(oscar.InvalidError, match="k: " + on_cpu):
                step.layer(0, tk.cpu(), tv, tq, out=out)
            with pytest.raises(oscar.InvalidError, match="v: " + on_cpu):
                step.layer(0, tk, v[:2], tq, out=out)
            with pytest.raises(oscar.InvalidError, match="out: " + on_cpu):
                step.layer(0, tk, tv, tq, out=out.cpu())
            with pytest.raises(oscar.InvalidError, match=r"k: device is \{type 2, id 7\}, wanted \{2, 0\}"):
                step.layer(0, Producer(k[:2], device=(CUDA, 7)), tv, tq, out=out)
            with pytest.raises(TypeError, match="out is missing"):
                step.layer(0, tk, tv, tq)
            step.layer(0, tk, tv, tq, out=out)  # the step goes on
        assert (on_host(out) != 0).all()
    with oscar.Cache(small_config()) as host, host.step([(host.open(), 2)]) as step:
        with pytest.raises(oscar.InvalidError, match=r"k: device is \{type 2, id 0\}, wanted \{1, 0\}"):
            step.append(0, tk, tv)
        step.append(0, k[:2], v[:2])


def test_a_cache_gives_its_memory_back():
    def used():
        free, total = torch.cuda.mem_get_info(0)
        return total - free

    with oscar.Cache(cuda_config()):  # whatever the first one loads stays
        pass
    before = used()
    with oscar.Cache(small_config(device="cuda:0", capacity_bytes=1 << 30)) as cache:
        assert used() - before >= 1 << 30
        assert not cache.closed
    assert cache.closed and used() - before < 64 << 20
    with pytest.raises(oscar.StateError, match="closed"):
        cache.open()


def test_a_device_that_is_not_there_is_refused():
    before = torch.cuda.current_device()
    number = torch.cuda.device_count() + 90
    with pytest.raises((oscar.UnsupportedError, oscar.BackendError, oscar.DeviceError), match=str(number)):
        oscar.Cache(small_config(device=f"cuda:{number}"))
    assert torch.cuda.current_device() == before
    assert (torch.ones(3, device="cuda") == 1).all()  # the error is nobody else's

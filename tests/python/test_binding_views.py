"""Views: tensors that are borrowed once for many calls."""

import gc
import sys

import numpy as np
import pytest
from binding_support import attention, bf16, exact_config, random_qkv

import oscar

q, k, v = random_qkv(1, 6)


@pytest.fixture
def step():
    with oscar.Cache(exact_config()) as cache:
        step = cache.step([(cache.open(), 6)])
        yield step
        step.abort()


def test_a_view_stands_for_its_array(step):
    out, lse = np.zeros_like(q), np.zeros(q.shape[:2], np.float32)
    out_view = oscar.View(out, writable=True)
    result = step.layer(0, *map(oscar.View, (k, v, q)), out=out_view, lse=oscar.View(lse, writable=True))
    assert result is out_view
    wanted, wanted_lse = attention(q, bf16(k), bf16(v))
    np.testing.assert_allclose(out, wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(lse, wanted_lse, rtol=1e-5, atol=1e-5)


def test_a_view_sees_what_is_written_later(step):
    moving = np.zeros_like(k)
    view = oscar.View(moving)
    moving[:] = k
    step.append(0, view, v)
    out = step.attend(0, q)
    np.testing.assert_allclose(out, attention(q, bf16(k), bf16(v))[0], rtol=1e-5, atol=1e-5)


def test_strides_are_kept(step):
    turned = np.ascontiguousarray(k.transpose(1, 0, 2)).transpose(1, 0, 2)
    step.append(0, oscar.View(turned), oscar.View(v))
    np.testing.assert_allclose(step.attend(0, q), attention(q, bf16(k), bf16(v))[0], rtol=1e-5, atol=1e-5)


def test_a_view_keeps_the_memory():
    array = q.copy()
    gc.collect()
    before = sys.getrefcount(array)
    view = oscar.View(array)
    assert sys.getrefcount(array) == before + 1
    del view
    assert sys.getrefcount(array) == before


def test_torch_tensors(step):
    torch = pytest.importorskip("torch")
    tensors = [torch.from_numpy(x.copy()).to(torch.bfloat16) for x in (k, v, q)]
    out = torch.zeros(6, 4, 64)
    step.layer(0, *map(oscar.View, tensors), out=oscar.View(out, writable=True))
    rk, rv, rq = (x.float().numpy() for x in tensors)
    np.testing.assert_allclose(out.numpy(), attention(rq, rk, rv)[0], rtol=1e-5, atol=1e-5)


def test_refusals(step):
    with pytest.raises(oscar.InvalidError, match="out is a view for reading"):
        step.layer(0, k, v, q, out=oscar.View(np.zeros_like(q)))
    read_only = np.zeros_like(q)
    read_only.flags.writeable = False
    with pytest.raises(oscar.InvalidError, match="array is read-only"):
        oscar.View(read_only, writable=True)
    oscar.View(read_only)
    for wrong in (None, 5, "text", oscar.View(q)):
        with pytest.raises(TypeError):
            oscar.View(wrong)
    with pytest.raises(TypeError):
        oscar.View(q, True)
    with pytest.raises(oscar.InvalidError, match="5 dimensions"):
        oscar.View(np.zeros((1, 1, 1, 1, 1), np.float32))
    with pytest.raises(TypeError, match="out is missing"):
        step.layer(0, k, v, oscar.View(q))
    with pytest.raises(TypeError):
        type("Sub", (oscar.View,), {})


def test_repr():
    assert repr(oscar.View(q)) == "<oscar.View (6, 4, 64)>"
    assert repr(oscar.View(q.copy(), writable=True)) == "<oscar.View (6, 4, 64), writable>"

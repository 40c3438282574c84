"""torch tensors in and out, with no copy. Skipped where there is no torch."""

import numpy as np
import pytest
from binding_support import attention, bf16, exact_config, random_qkv

import oscar

torch = pytest.importorskip("torch")

q, k, v = random_qkv(1, 6)


@pytest.fixture
def step():
    with oscar.Cache(exact_config()) as cache:
        step = cache.step([(cache.open(), 6)])
        yield step
        step.abort()


@pytest.mark.parametrize(
    "dtype, tolerance", [(torch.float32, 1e-5), (torch.float16, 2e-3), (torch.bfloat16, 1e-2)], ids=str
)
def test_dtypes(step, dtype, tolerance):
    tk, tv, tq = (torch.from_numpy(x).to(dtype) for x in (k, v, q))
    out = torch.zeros_like(tq)
    lse = torch.zeros(6, 4)
    assert step.layer(0, tk, tv, tq, out=out, lse=lse) is out
    rk, rv, rq = (x.float().numpy() for x in (tk, tv, tq))
    wanted, wanted_lse = attention(rq, bf16(rk), bf16(rv))
    np.testing.assert_allclose(out.float().numpy(), wanted, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(lse.numpy(), wanted_lse, rtol=1e-5, atol=1e-5)


def test_strides(step):
    tk, tv, tq = (torch.from_numpy(x).transpose(0, 1).contiguous().transpose(0, 1) for x in (k, v, q))
    out = torch.zeros(4, 6, 64).transpose(0, 1)
    step.layer(0, tk, tv, tq, out=out)
    np.testing.assert_allclose(out.numpy(), attention(q, bf16(k), bf16(v))[0], rtol=1e-5, atol=1e-5)


def test_refusals(step):
    tk, tv, tq = (torch.from_numpy(x.copy()) for x in (k, v, q))
    with pytest.raises(TypeError, match="out is missing"):
        step.layer(0, tk, tv, tq)
    with pytest.raises(oscar.InvalidError):
        step.append(0, tk.double(), tv)
    with pytest.raises(oscar.InvalidError):
        step.append(0, tk[:, :, ::2], tv)
    with pytest.raises(oscar.InvalidError):
        step.append(0, tk.transpose(1, 2), tv)
    with pytest.raises(Exception, match="[Gg]rad"):
        step.append(0, tk.requires_grad_(), tv)


def test_tree_mask(step):
    mask = torch.tril(torch.ones(6, 6), -1)
    tk, tv, tq = (torch.from_numpy(x) for x in (k, v, q))
    out = torch.zeros_like(tq)
    step.layer(0, tk, tv, tq, out=out, mask=mask.to(torch.uint8))
    np.testing.assert_allclose(out.numpy(), attention(q, bf16(k), bf16(v))[0], rtol=1e-5, atol=1e-5)

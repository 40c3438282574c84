"""Captured tensors of other models."""

import numpy as np
import pytest
from oscar.evaluate import Capture
from oscar.evaluate.attention import to_bf16
from safetensors.numpy import save_file

SHAPES = {"q": (2, 5, 4, 64), "k": (2, 5, 2, 64), "v": (2, 5, 2, 64)}


@pytest.fixture
def arrays():
    random = np.random.default_rng(1)
    return {name: random.standard_normal(shape, np.float32) for name, shape in SHAPES.items()}


def check(capture, arrays):
    np.testing.assert_array_equal(capture.q, arrays["q"])
    for name in "kv":
        np.testing.assert_array_equal(getattr(capture, name), to_bf16(arrays[name]))
    assert (capture.n_layers, capture.n_tokens, capture.n_q_heads, capture.n_kv_heads) == (2, 5, 4, 2)


def test_npz_and_safetensors_hold_the_same(tmp_path, arrays):
    np.savez(tmp_path / "a.npz", **arrays)
    save_file(arrays, tmp_path / "a.safetensors")
    check(Capture.load(tmp_path / "a.npz"), arrays)
    check(Capture.load(tmp_path / "a.safetensors"), arrays)


def test_halves_and_bf16_are_read(tmp_path, arrays):
    save_file({name: x.astype(np.float16) for name, x in arrays.items()}, tmp_path / "half.safetensors")
    check(Capture.load(tmp_path / "half.safetensors"),
          {name: x.astype(np.float16).astype(np.float32) for name, x in arrays.items()})
    # numpy has no BF16: the same bits as 16-bit integers, and the type's name of the same length in the header.
    bits = {name: (to_bf16(x).view(np.uint32) >> 16).astype(np.uint16) for name, x in arrays.items()}
    save_file(bits, tmp_path / "bits.safetensors")
    data = (tmp_path / "bits.safetensors").read_bytes().replace(b'"U16"', b'"BF16"')
    size = int.from_bytes(data[:8], "little") + len(SHAPES)
    (tmp_path / "bf16.safetensors").write_bytes(size.to_bytes(8, "little") + data[8:])
    check(Capture.load(tmp_path / "bf16.safetensors"), {name: to_bf16(x) for name, x in arrays.items()})


def test_what_is_missing_or_of_another_type_is_refused_by_name(tmp_path, arrays):
    save_file({"q": arrays["q"]}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="lacks k, v"):
        Capture.load(tmp_path / "a.safetensors")
    save_file(arrays | {"k": arrays["k"].astype(np.float64)}, tmp_path / "b.safetensors")
    with pytest.raises(ValueError, match="k is F64"):
        Capture.load(tmp_path / "b.safetensors")

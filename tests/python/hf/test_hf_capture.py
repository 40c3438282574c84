"""examples/python/capture.py: what it writes is what the model's attention gets."""

import pathlib
import sys

import pytest
from hf_support import prompt, tiny_model

import torch
from oscar.hf.rope import frequencies

sys.path.insert(0, str(pathlib.Path(__file__).parents[3] / "examples" / "python"))
import capture  # noqa: E402


def test_attention_of_what_is_captured_is_the_models_own():
    model = tiny_model("llama", dtype=torch.bfloat16)
    inputs = {}
    for i, layer in enumerate(model.model.layers):
        layer.self_attn.o_proj.register_forward_pre_hook(lambda _, given, i=i: inputs.update({i: given[0][0]}))
    found = capture.capture(model, prompt(50)[0].tolist())
    assert found["q"].shape == (2, 50, 4, 64) and found["k"].shape == found["v"].shape == (2, 50, 2, 64)
    for layer in range(2):
        q, k, v = (found[name][layer].float().transpose(0, 1) for name in "qkv")
        k, v = (x.repeat_interleave(2, 0) for x in (k, v))
        logits = q @ k.transpose(1, 2) / 8 + torch.full((50, 50), -torch.inf).triu(1)
        wanted = (logits.softmax(-1) @ v).transpose(0, 1).reshape(50, 256)
        assert (inputs[layer].float() - wanted).norm() < 0.01 * wanted.norm()
    assert (found["rope_frequencies"].numpy() == frequencies(model, 2)).all()


def test_layers_of_different_geometry_are_refused():
    model = tiny_model("llama")
    attention = model.model.layers[1].self_attn
    attention.k_proj = torch.nn.Linear(64, 64)
    attention.v_proj = torch.nn.Linear(64, 64)
    attention.num_key_value_groups = 4
    with pytest.raises(SystemExit, match="2 layers of 2 geometries"):
        capture.capture(model, prompt(20)[0].tolist())

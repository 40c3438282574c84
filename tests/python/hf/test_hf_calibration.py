"""Calibration from a model: by text, by the first prompt, and by the command."""

import subprocess
import sys

import numpy as np
import pytest
from hf_support import VOCABULARY, generate, prompt, rounded_cache, tiny_model
from test_hf_generate import teacher_forced

import oscar
import torch
import transformers
from oscar.hf import OscarCache, calibrate
from oscar.hf.rope import frequencies

SMALL = {"n_sink": 4, "n_recent": 32, "max_rollback": 8}


def tokenizer(text):
    return {"input_ids": [3 + byte % (VOCABULARY - 3) for byte in text.encode()]}


TEXTS = [" ".join(str(n * n * 7919) for n in range(first, first + 120)) for first in (1, 300)]


def biased_model():
    """Keys with biases, as Qwen2's have: where a calibration is worth most."""
    model = tiny_model("qwen2", initializer_range=0.08)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.k_proj.bias *= 3
    return model


def divergence(model, **options):
    ids = torch.tensor([tokenizer(" ".join(str(n * n * 104729) for n in range(900)))["input_ids"][:900]])
    wanted = teacher_forced(model, ids, rounded_cache(model))
    cache = OscarCache(model, **SMALL, **options)
    got = teacher_forced(model, ids, cache)
    assert cache.stats().n_packed_tokens >= 512
    return (wanted.exp() * (wanted - got)).sum(-1)[:, 400:].mean().item(), cache


def test_a_calibration_makes_the_cache_better():
    model = biased_model()
    before = model.config._attn_implementation
    calibration = calibrate(model, tokenizer, TEXTS, max_tokens=4096, name="made up", **SMALL)
    assert model.config._attn_implementation == before
    info = calibration.info()
    assert info.knows_rope and info.model == "made up" and info.n_data_free_heads == 0 and info.n_tokens > 900
    data_free, _ = divergence(model)
    calibrated, _ = divergence(model, calibration=calibration)
    itself, cache = divergence(model, self_calibrate=True)
    assert cache.calibration is not None and cache.calibration.info().source == oscar.CalibrationSource.CACHE
    assert calibrated < 0.5 * data_free, (calibrated, itself, data_free)
    assert itself < 0.5 * data_free, (calibrated, itself, data_free)


def test_the_calibrator_sees_what_attention_sees():
    """Beside a calibrator that is fed from transformers' own cache and a hook of the query projection."""
    model = tiny_model("llama")
    text = TEXTS[0]
    got = calibrate(model, tokenizer, [text], max_tokens=4096)
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    queries = {}

    def remember(layer):
        def hook(module, inputs, output):
            queries[layer] = output[0].view(ids.shape[1], 4, 64)

        return hook

    hooks = [layer.self_attn.q_proj.register_forward_hook(remember(i)) for i, layer in enumerate(model.model.layers)]
    own = transformers.DynamicCache(config=model.config)
    with torch.no_grad():
        model(ids, past_key_values=own)
        cos, sin = model.model.rotary_emb(torch.zeros(1), torch.arange(ids.shape[1])[None])
    for hook in hooks:
        hook.remove()
    config = oscar.Config("2bit", n_layers=2, n_q_heads=4, n_kv_heads=2, key_dim=64, max_tokens=4096)
    by_hand = oscar.Calibrator(config, frequencies(model, 2))
    for layer in range(2):
        q = queries[layer]
        turned = q * cos[0, :, None] + torch.cat([-q[..., 32:], q[..., :32]], -1) * sin[0, :, None]
        k, v = (x[0].transpose(0, 1).contiguous() for x in (own.layers[layer].keys, own.layers[layer].values))
        by_hand.feed(layer, 0, turned.contiguous(), k, v)
    assert got.info().fingerprint == by_hand.finish().info().fingerprint


def test_long_texts_are_read_in_pieces_and_enough_is_enough():
    model = tiny_model("llama")
    info = calibrate(model, tokenizer, TEXTS * 20, n_tokens=3000, max_tokens=4096).info()
    assert 3000 - 16 * 4 - 128 <= info.n_tokens <= 3000 + 2048
    with pytest.raises(oscar.StateError):
        calibrate(model, tokenizer, ["too little"], max_tokens=4096)


def test_frequencies_are_those_of_each_layer():
    model = tiny_model("gemma3")
    rows = frequencies(model, 4)
    assert rows.shape == (4, 32)
    assert np.array_equal(rows[0], rows[2]) and not np.array_equal(rows[0], rows[1])  # sliding and full attention
    scaled = tiny_model("llama", rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0})
    np.testing.assert_allclose(frequencies(scaled, 2)[0], frequencies(tiny_model("llama"), 2)[0] / 4, rtol=1e-6)
    dynamic = tiny_model("llama", rope_parameters={"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0})
    with pytest.raises(oscar.UnsupportedError, match="dynamic"):
        OscarCache(dynamic, self_calibrate=True)


@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt_oss"])
def test_a_cache_calibrates_itself_on_the_first_prompt(name):
    model = tiny_model(name)
    cache = OscarCache(model, self_calibrate=True, **SMALL)
    first = generate(model, prompt(500), cache, n_new=2)
    assert first.shape == (1, 502) and cache.calibration is not None
    assert cache.stats().state == oscar.CacheState.FROZEN and cache.stats().n_packed_tokens > 0
    fingerprint = cache.calibration.info().fingerprint
    cache.reset()
    generate(model, prompt(200), cache, n_new=2)
    assert cache.calibration.info().fingerprint == fingerprint


def test_a_short_first_prompt_is_collected_on():
    model = tiny_model("llama")
    cache = OscarCache(model, self_calibrate=True, max_tokens=2048, **SMALL)
    generate(model, prompt(100), cache, n_new=4)
    assert cache.calibration is None and cache.stats().state == oscar.CacheState.COLLECTING
    generate(model, prompt(400, seed=2), cache, n_new=4)
    assert cache.calibration is not None


def saved_model(folder):
    """A model and a tokenizer of one token a character, as from_pretrained reads them."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    characters = {chr(32 + i): i for i in range(95)} | {"?": 31}
    raw = Tokenizer(models.WordLevel(characters, unk_token="?"))
    raw.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    transformers.PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="?").save_pretrained(folder)
    model = tiny_model("llama")
    model.save_pretrained(folder)
    return model


def command(*arguments):
    return subprocess.run([sys.executable, "-m", "oscar.hf", *map(str, arguments)], capture_output=True, text=True)


def test_the_command_writes_a_calibration_that_a_cache_takes(tmp_path):
    model = saved_model(tmp_path / "model")
    text, output = tmp_path / "text.txt", tmp_path / "tiny.oscarcal"
    text.write_text(" ".join(TEXTS))
    ran = command("calibrate", tmp_path / "model", text, "-o", output, "--n-tokens", 1500, "--note", "by a test")
    assert ran.returncode == 0, ran.stderr
    calibration = oscar.Calibration.load(output.read_bytes())
    assert f"{calibration.info().fingerprint:016x}" in ran.stdout
    assert (calibration.info().model, calibration.info().note) == ("model", "by a test")
    generate(model, prompt(300), OscarCache(model, calibration=calibration), n_new=3)


def test_the_command_says_what_is_wrong(tmp_path):
    saved_model(tmp_path / "model")
    ran = command("calibrate", tmp_path / "model", tmp_path / "absent.txt", "-o", tmp_path / "x")
    assert ran.returncode == 1 and "absent.txt" in ran.stderr and "Traceback" not in ran.stderr
    (tmp_path / "short.txt").write_text("short")
    ran = command("calibrate", tmp_path / "model", tmp_path / "short.txt", "-o", tmp_path / "x")
    assert ran.returncode == 1 and "error:" in ran.stderr and not (tmp_path / "x").exists()

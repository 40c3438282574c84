"""What OscarCache does not serve is refused at once, with the reason, and leaves the cache as it was."""

import subprocess
import sys

import pytest
from hf_support import generate, prompt, rounded_cache, tiny_model

import oscar
import torch
import transformers
from oscar.hf import OscarCache
from transformers.masking_utils import create_causal_mask
from oscar.hf.versions import FIRST


def test_models_are_refused_at_construction():
    with pytest.raises(oscar.UnsupportedError, match="stablelm was not tested"):
        config = transformers.StableLmConfig(
            vocab_size=99, hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=1
        )
        OscarCache(transformers.AutoModelForCausalLM.from_config(config))
    with pytest.raises(oscar.UnsupportedError, match="head_dim|key_dim"):
        OscarCache(tiny_model("llama", head_dim=48))
    with pytest.raises(oscar.UnsupportedError, match="encoder"):
        t5 = transformers.T5Config(vocab_size=99, d_model=64, d_kv=64, d_ff=64, num_layers=1, num_heads=1)
        OscarCache(transformers.T5ForConditionalGeneration(t5), allow_untested=True)
    with pytest.raises(oscar.UnsupportedError, match="cannot be replaced"):
        qwen = transformers.Qwen3NextConfig(
            vocab_size=99, hidden_size=64, intermediate_size=64, num_hidden_layers=4, num_experts=2
        )
        OscarCache(transformers.AutoModelForCausalLM.from_config(qwen), allow_untested=True)
    with pytest.raises(oscar.UnsupportedError, match="layer 1 is of type chunked_attention"):
        chunked = tiny_model("llama")
        chunked.config.layer_types = ["full_attention", "chunked_attention"]
        chunked.config.attention_chunk_size = 16
        OscarCache(chunked)


def test_bad_arguments_are_refused_at_construction():
    model = tiny_model("llama")
    with pytest.raises(oscar.InvalidError, match="profile"):
        OscarCache(model, profile="1bit")
    with pytest.raises(TypeError, match="n_sinks"):
        OscarCache(model, n_sinks=4)
    other = oscar.Calibration.data_free(oscar.Config("2bit", n_layers=3, n_q_heads=1, n_kv_heads=1, key_dim=64))
    with pytest.raises(oscar.Error):
        OscarCache(model, calibration=other)
    with pytest.raises(oscar.UnsupportedError, match="flex_attention"):
        model.set_attn_implementation("flex_attention")
        OscarCache(model)


@pytest.fixture
def filled():
    model = tiny_model("llama")
    cache = OscarCache(model, profile="exact")
    ids = prompt(40, rows=2)
    with torch.no_grad():
        model(ids, past_key_values=cache)
    yield model, cache
    # Whatever was refused left no trace.
    with torch.no_grad():
        more = prompt(5, rows=2, seed=3)
        got = model(more, past_key_values=cache).logits
        own = rounded_cache(model)
        model(ids, past_key_values=own)
        wanted = model(more, past_key_values=own).logits
    torch.testing.assert_close(got, wanted, rtol=2e-3, atol=2e-3)


def test_calls_are_refused_with_the_reason(filled):
    model, cache = filled
    ids = prompt(4, rows=2)
    with pytest.raises(oscar.UnsupportedError, match="no_grad"):
        model(ids, past_key_values=cache)
    with torch.no_grad():
        with pytest.raises(oscar.UnsupportedError, match="4D"):
            model(ids, past_key_values=cache, attention_mask=torch.zeros(2, 1, 4, 44))
        with pytest.raises(oscar.UnsupportedError, match="cannot be hidden"):
            mask = torch.ones(2, 44, dtype=torch.long)
            mask[0, :3] = 0
            model(ids, past_key_values=cache, attention_mask=mask)
        with pytest.raises(oscar.UnsupportedError, match="columns"):
            model(ids, past_key_values=cache, attention_mask=torch.tensor([[0, 1, 1, 1]] * 2))
        with pytest.raises(oscar.InvalidError, match="3 rows"):
            model(prompt(4, rows=3), past_key_values=cache)
        with pytest.raises(oscar.InvalidError, match="max_step_tokens"):
            model(prompt(3000, rows=2), past_key_values=cache)
        with pytest.raises(ValueError, match="crop"):
            cache.crop(3)
    with pytest.raises(oscar.UnsupportedError, match="not causal"):
        embeddings = torch.zeros(2, 4, 64)
        create_causal_mask(model.config, embeddings, None, cache, or_mask_function=lambda *indices: torch.tensor(True))
    with pytest.raises(oscar.UnsupportedError, match="stays on its device"):
        cache.offload(0)
    with pytest.raises(TypeError, match="oscar.Cache.read"):
        list(cache)


def test_another_attention_than_the_cache_s_is_noticed(filled):
    model, cache = filled
    model.set_attn_implementation("sdpa")
    with torch.no_grad(), pytest.raises(oscar.StateError, match="sdpa"):
        model(prompt(4, rows=2), past_key_values=cache)
    model.set_attn_implementation("oscar_over_sdpa")


def test_a_pass_that_breaks_off_in_the_middle_leaves_no_trace(filled):
    model, cache = filled

    def broken(*_):
        raise ZeroDivisionError

    hook = model.model.layers[1].register_forward_pre_hook(broken)
    with torch.no_grad(), pytest.raises(ZeroDivisionError):
        model(prompt(4, rows=2), past_key_values=cache)
    hook.remove()
    assert cache.get_seq_length() == 40


def test_training_is_refused():
    model = tiny_model("llama", attention_dropout=0.1).train()
    with torch.no_grad(), pytest.raises(oscar.UnsupportedError, match="eval"):
        model(prompt(4), past_key_values=OscarCache(model))


def test_the_core_imports_without_torch():
    code = "import sys; sys.modules['torch'] = sys.modules['transformers'] = None; import oscar; print(oscar.version())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    code = code.replace("print(oscar.version())", "import oscar.hf")
    failed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert failed.returncode and "pip install 'liboscar[hf]'" in failed.stderr


def test_another_version_of_transformers_is_refused(monkeypatch):
    from oscar.hf import versions

    monkeypatch.setattr("transformers.__version__", "5.0.0")
    with pytest.raises(ImportError, match=f"5.0.0.*{FIRST[0]}.{FIRST[1]}"):
        versions.require()


def test_memory_goes_with_the_cache():
    import gc
    import weakref

    model = tiny_model("llama")
    cache = OscarCache(model)
    generate(model, prompt(20), cache, n_new=3)
    native = weakref.ref(cache._batch.cache)
    gc.disable()
    try:
        del cache
        assert native() is None  # at once, not when the collector comes
    finally:
        gc.enable()

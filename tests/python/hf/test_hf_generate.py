"""generate with an OscarCache: the same tokens as with transformers' cache where everything stays exact, close to it at
two bits."""

import pytest
from hf_support import ARCHITECTURES, both, generate, prompt, rounded_cache, tiny_model

import oscar
import torch
from oscar.hf import OscarCache

SMALL = {"n_sink": 4, "n_recent": 32, "max_rollback": 8}
ALL = pytest.mark.parametrize("name", ARCHITECTURES)


@ALL
def test_greedy_generates_the_same_tokens(name):
    model = tiny_model(name)
    wanted, got, cache = both(model, prompt(90))
    assert got.tolist() == wanted.tolist()
    assert len(set(got[0, 90:].tolist())) > 2  # not one token for ever
    assert cache.get_seq_length() == 90 + 23


@ALL
def test_sampling_generates_the_same_tokens(name):
    wanted, got, _ = both(tiny_model(name), prompt(70, rows=3), do_sample=True, top_k=20, temperature=0.7)
    assert got.tolist() == wanted.tolist()


@ALL
@pytest.mark.parametrize("chunk", [16, 60])
def test_chunked_prefill_generates_the_same_tokens(name, chunk):
    wanted, got, _ = both(tiny_model(name), prompt(150), prefill_chunk_size=chunk)
    assert got.tolist() == wanted.tolist()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_models_are_served(dtype):
    model = tiny_model("llama", dtype=dtype)
    ids = prompt(90)
    logits = []
    for cache in (rounded_cache(model), OscarCache(model, profile="exact")):
        with torch.no_grad():
            logits.append(model(ids, past_key_values=cache).logits.float())
    assert logits[1].dtype == torch.float32 and torch.isfinite(logits[1]).all()
    assert (logits[1] - logits[0]).norm() / logits[0].norm() < 0.03  # two ways of rounding to this type


def teacher_forced(model, ids, cache, chunk=32):
    """Log-probabilities at every position, read in small steps, so that most keys come from the cache."""
    rows = []
    with torch.no_grad():
        for first in range(0, ids.shape[1], chunk):
            rows.append(model(ids[:, first : first + chunk], past_key_values=cache).logits)
    return torch.cat(rows, 1).log_softmax(-1)


@pytest.mark.parametrize("name", ["llama", "qwen3", "mistral-wide", "gemma2", "gemma3", "gpt_oss"])
def test_two_bits_are_close(name):
    model = tiny_model(name, initializer_range=0.08)  # a random model magnifies every error: not too much
    ids = prompt(800)
    wanted = teacher_forced(model, ids, rounded_cache(model))
    divergence = {}
    for profile in ("2bit", "4bit"):
        cache = OscarCache(model, profile=profile, **SMALL)
        got = teacher_forced(model, ids, cache)
        assert cache.stats().n_packed_tokens >= 384
        divergence[profile] = (wanted.exp() * (wanted - got)).sum(-1)[:, 300:].mean().item()
    divergence["another token's"] = (wanted.exp() * (wanted - wanted.roll(1, 1))).sum(-1)[:, 300:].mean().item()
    # Keys and values of a random model are white noise: 2 bits leave about an eighth of its variance, 4 bits a hundredth.
    assert 0 < divergence["4bit"] < 0.2 * divergence["2bit"], divergence
    assert divergence["2bit"] < 0.6 * divergence["another token's"], divergence
    assert divergence["4bit"] < 0.06 * divergence["another token's"], divergence


def test_what_is_generated_at_two_bits_is_what_the_cache_s_logits_say():
    model = tiny_model("llama")
    cache = OscarCache(model, **SMALL)
    got = generate(model, prompt(400), cache, n_new=100)
    assert cache.stats().n_packed_tokens >= 384
    by_hand = OscarCache(model, **SMALL)
    with torch.no_grad():
        steps = [got[:, :400], *got[:, 400:-1].split(1, 1)]
        best = [model(step, past_key_values=by_hand).logits[0, -1].argmax() for step in steps]
    assert torch.equal(torch.stack(best), got[0, 400:])
    assert cache.stats() == by_hand.stats()


def test_a_cache_that_is_filled_to_the_last_token_fits():
    model = tiny_model("gemma3")
    for profile in ("2bit", "exact"):
        cache = OscarCache(model, profile=profile, max_tokens=700)
        generate(model, prompt(650, rows=4), cache, n_new=51)
        assert cache.get_seq_length() == 700 == cache.get_max_length()
    with pytest.raises(oscar.Error, match="700"):
        with torch.no_grad():
            model(prompt(1, rows=4), past_key_values=cache)
    assert cache.get_seq_length() == 700


def test_a_conversation_goes_on_in_the_same_cache():
    model = tiny_model("qwen3")
    caches = rounded_cache(model), OscarCache(model, profile="exact")
    texts = []
    for cache in caches:
        ids = prompt(60)
        for turn in range(3):
            ids = generate(model, ids, cache, n_new=10)
            ids = torch.cat([ids, prompt(12, seed=7 + turn)], 1)
        texts.append(ids.tolist())
    assert texts[0] == texts[1]


def test_without_an_oscar_cache_the_model_attends_as_before():
    for name in ("llama", "gemma2"):
        model = tiny_model(name)
        ids = prompt(50, rows=2)
        mask = torch.ones_like(ids)
        mask[0, :20] = 0
        with torch.no_grad():
            before = model(ids, attention_mask=mask).logits
            OscarCache(model)
            after = model(ids, attention_mask=mask).logits
        assert torch.equal(before, after)
        assert generate(model, ids, None).shape == (2, 74)


def test_a_reset_cache_takes_a_batch_of_another_size():
    model = tiny_model("llama")
    cache = OscarCache(model, profile="exact")
    generate(model, prompt(40, rows=2), cache)
    cache.reset()
    assert cache.get_seq_length() == 0
    got = generate(model, prompt(40, rows=5), cache)
    assert got.tolist() == generate(model, prompt(40, rows=5), rounded_cache(model)).tolist()

"""OscarCache on a CUDA device: the tokens that transformers' own cache gives there."""

import pytest
from hf_support import ARCHITECTURES, both, generate, prompt, tiny_model

torch = pytest.importorskip("torch")
oscar_hf = pytest.importorskip("oscar.hf")

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_greedy_tokens_are_those_of_an_exact_cache(name):
    model = tiny_model(name).cuda()
    wanted, got, _ = both(model, prompt(150, rows=2).cuda(), 40)
    assert torch.equal(got, wanted)


@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma2"])
def test_packed_tokens_are_close_to_exact_ones(name):
    model = tiny_model(name).cuda()
    ids = prompt(600).cuda()
    logits = []
    for profile in ("exact", "4bit"):
        cache = oscar_hf.OscarCache(model, profile=profile, n_sink=4, n_recent=32)
        with torch.no_grad():
            model(ids[:, :599], past_key_values=cache, use_cache=True)
            logits.append(model(ids[:, 599:], past_key_values=cache, use_cache=True).logits[0, -1].log_softmax(-1))
    divergence = (logits[0].exp() * (logits[0] - logits[1])).sum().item()
    assert 0 < divergence < 0.1

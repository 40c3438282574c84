"""Tiny random models of every architecture that OscarCache is tested with, and what their generation is compared with."""

import warnings

import pytest

try:
    import oscar.hf  # noqa: F401
except ImportError as error:
    pytest.skip(str(error), allow_module_level=True)

import torch
import transformers
from transformers import DynamicCache

# generate calls it cache from 5.24 on; the older name works until 5.40.
warnings.filterwarnings("ignore", message=".*past_key_values.*")

VOCABULARY = 131
_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 4096,
    # Large enough that attention is anything but uniform.
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": None,
    "tie_word_embeddings": False,  # a random model with tied ones repeats its last token
}
_ALTERNATING = {"num_hidden_layers": 4, "layer_types": ["sliding_attention", "full_attention"] * 2}
#: Name: (class of the configuration, what differs from _SIZES).
ARCHITECTURES = {
    "llama": ("LlamaConfig", {}),
    "smollm": ("LlamaConfig", {"hidden_size": 96, "num_attention_heads": 3, "num_key_value_heads": 1}),
    "qwen2": ("Qwen2Config", {}),
    "qwen3": ("Qwen3Config", {}),
    "mistral": ("MistralConfig", {"sliding_window": 40}),
    "mistral-wide": ("MistralConfig", {"sliding_window": 500}),
    "gemma": ("GemmaConfig", {}),
    "gemma2": ("Gemma2Config", {"sliding_window": 40, "attn_logit_softcapping": 3.0, **_ALTERNATING}),
    "gemma3": ("Gemma3TextConfig", {"sliding_window": 40, **_ALTERNATING}),
    "gpt_oss": (
        "GptOssConfig",
        {"sliding_window": 40, "num_local_experts": 2, "num_experts_per_tok": 1, **_ALTERNATING},
    ),
}


def tiny_model(name, seed=0, dtype=torch.float32, **changes):
    """A model with random weights, the same for the same seed."""
    kind, own = ARCHITECTURES[name]
    config = getattr(transformers, kind)(**{**_SIZES, **own, **changes})
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    if name == "gpt_oss":
        for layer in model.model.layers:  # not left at nothing: sinks that take a share
            torch.nn.init.normal_(layer.self_attn.sinks, mean=1.0)
    if name == "qwen2":
        for layer in model.model.layers:
            torch.nn.init.normal_(layer.self_attn.k_proj.bias)
    return model


class RoundedCache(DynamicCache):
    """transformers' own cache, whose keys and values are rounded to BF16 as a cache of exact profile does it."""

    def update(self, key_states, value_states, *args, **kwargs):
        key_states, value_states = (x.bfloat16().to(x.dtype) for x in (key_states, value_states))
        return super().update(key_states, value_states, *args, **kwargs)


def rounded_cache(model):
    return RoundedCache(config=model.config)


def prompt(n, rows=1, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, VOCABULARY, (rows, n), generator=generator)


def generate(model, ids, cache, n_new=24, **options):
    options = {"do_sample": False, "max_new_tokens": n_new, "use_cache": True, **options}
    return model.generate(ids, past_key_values=cache, **options)


def both(model, ids, n_new=24, options=None, **arguments):
    """What transformers' own cache generates, and what an exact OscarCache does."""
    torch.manual_seed(5)
    wanted = generate(model, ids, rounded_cache(model), n_new, **arguments)
    cache = oscar.hf.OscarCache(model, profile="exact", **(options or {}))
    torch.manual_seed(5)
    return wanted, generate(model, ids, cache, n_new, **arguments), cache

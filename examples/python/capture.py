#!/usr/bin/env python3
"""Captures what a model's layers compute for a text, for `oscar calibrate`, `oscar evaluate` and `oscar map`.

MODEL is a folder or a name on the hub that transformers loads, or a GGUF file of an architecture that it can read (then the
package gguf is needed). The file gets q [n_layers, n_tokens, n_q_heads, dim], k and v [n_layers, n_tokens, n_kv_heads, dim],
after RoPE, in BF16, and rope_frequencies [n_layers, n_pairs]. Needs torch, transformers and this project's package.
"""

import argparse
import pathlib
import sys

import torch
import transformers
from safetensors.torch import save_file
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

import oscar
from oscar.hf.rope import frequencies


def capture(model, ids):
    """{name: tensor} of one text's tokens."""
    rows = {}

    def attend(module, query, key, value, attention_mask, **arguments):
        rows[module.layer_idx] = [x[0].detach().transpose(0, 1).to("cpu", torch.bfloat16) for x in (query, key, value)]
        return sdpa_attention_forward(module, query, key, value, attention_mask, **arguments)

    ALL_ATTENTION_FUNCTIONS.register("capture", attend)
    ALL_MASK_ATTENTION_FUNCTIONS.register("capture", sdpa_mask)
    model.set_attn_implementation("capture")
    with torch.no_grad():
        model.get_decoder()(input_ids=torch.tensor([ids], device=model.device), use_cache=False)
    shapes = {tuple(x.shape for x in layer) for layer in rows.values()}
    if len(shapes) != 1:
        raise SystemExit(f"error: {len(rows)} layers of {len(shapes)} geometries; a file holds layers of one")
    found = {name: torch.stack([rows[layer][i] for layer in sorted(rows)]) for i, name in enumerate("qkv")}
    return found | {"rope_frequencies": torch.from_numpy(frequencies(model, len(rows)))}


def load(name, device):
    path = pathlib.Path(name)
    where = (path.parent, {"gguf_file": path.name}) if path.suffix == ".gguf" else (name, {})
    tokenizer = transformers.AutoTokenizer.from_pretrained(where[0], **where[1])
    model = transformers.AutoModelForCausalLM.from_pretrained(where[0], dtype="auto", **where[1])
    return model.to(device).eval(), tokenizer


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("text", type=pathlib.Path, metavar="TEXT", help="a file of ordinary text, UTF-8")
    parser.add_argument("-o", "--output", type=pathlib.Path, required=True, metavar="FILE", help="a .safetensors file")
    parser.add_argument("--skip", type=int, default=0, metavar="N", help="tokens of the text to leave out before")
    parser.add_argument("--tokens", type=int, default=2048, metavar="N", help="how many to take (default: %(default)s)")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    try:
        text = given.text.read_text(encoding="utf-8")
        model, tokenizer = load(given.model, given.device)
        ids = tokenizer(text)["input_ids"][given.skip : given.skip + given.tokens]
        if len(ids) < given.tokens:
            raise SystemExit(f"error: {given.text} has {len(ids)} tokens from {given.skip} on, wanted {given.tokens}")
        found = capture(model, ids)
        save_file(found, given.output)
    except (OSError, UnicodeDecodeError, oscar.Error) as error:
        raise SystemExit(f"error: {error}") from None
    print(f"{given.output}: q {list(found['q'].shape)}, k {list(found['k'].shape)}, v {list(found['v'].shape)}")


if __name__ == "__main__":
    sys.exit(main())

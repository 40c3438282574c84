"""Run by torchrun: a rank of a model whose heads are shared out generates with an OscarCache of its own heads.

    torchrun --nproc-per-node N tensor_parallel.py MODEL CALIBRATION PROFILE ROWS

Rank 0 prints what was generated as JSON: tokens, KV heads of its cache, and what its calibration's heads are.
"""

import json
import os
import sys
import warnings

import torch
import torch.distributed
import transformers
from hf_support import generate, prompt
from transformers.distributed import DistributedConfig

import oscar
from oscar.hf import OscarCache


def main(folder, calibration, profile, rows):
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    n_ranks = int(os.environ["WORLD_SIZE"])
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, distributed_config=DistributedConfig(tp_size=n_ranks) if n_ranks > 1 else None
    )
    given = None
    if calibration != "-":
        with open(calibration, "rb") as file:
            given = oscar.Calibration.load(file.read())
    cache = OscarCache(model, profile=profile, calibration=given, n_sink=4, n_recent=32)
    tokens = generate(model, prompt(300, rows=int(rows)), cache, n_new=40).tolist()
    heads = [cache.calibration.head(1, i).fingerprint for i in range(cache._n_kv_heads)] if given else []
    said = {"tokens": tokens, "n_kv_heads": cache._n_kv_heads, "heads": heads}
    everyone = [None] * n_ranks
    if n_ranks > 1:
        torch.distributed.all_gather_object(everyone, said)
        torch.distributed.destroy_process_group()
    else:
        everyone = [said]
    if int(os.environ["RANK"]) == 0:
        print(json.dumps(everyone))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Several processes: heads shared out (tensor parallel), and tokens shared out (context parallel)."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest
from hf_support import generate, prompt, tiny_model
from test_hf_calibration import TEXTS, tokenizer

import oscar
from oscar.hf import OscarCache, calibrate

HERE = pathlib.Path(__file__).resolve().parent
EXAMPLES = HERE.parents[2] / "examples" / "python"


def torchrun(n, program, *arguments):
    """By the loopback address: the machine's own name need not be known to it."""
    meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1"]
    command = [sys.executable, "-m", "torch.distributed.run", *meeting, "--nproc-per-node", str(n), str(program)]
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo"}
    ran = subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, cwd=HERE, timeout=300, env=environment
    )
    assert ran.returncode == 0, ran.stderr[-4000:]
    return ran.stdout


LONG = [pytest.param(name, marks=pytest.mark.long) for name in ("qwen3", "gemma2", "gpt_oss")]


@pytest.mark.parametrize("name", ["llama", *LONG])
def test_two_ranks_generate_what_one_process_does(name, tmp_path):
    pytest.importorskip("accelerate", reason="accelerate is not installed: transformers wants it for tensor parallelism")
    # A random model magnifies the rounding of sums in another order, which 2 bits can turn into another code: not too much.
    model = tiny_model(name, num_attention_heads=8, num_key_value_heads=4, initializer_range=0.08)
    model.save_pretrained(tmp_path / "model")
    calibration = calibrate(model, tokenizer, TEXTS, n_sink=4, n_recent=32)
    (tmp_path / "calibration").write_bytes(calibration.save())
    for profile, file in (("exact", "-"), ("2bit", tmp_path / "calibration")):
        cache = OscarCache(
            model, profile=profile, calibration=None if file == "-" else calibration, n_sink=4, n_recent=32
        )
        wanted = generate(model, prompt(300, rows=2), cache, n_new=40).tolist()
        ranks = json.loads(torchrun(2, HERE / "tensor_parallel.py", tmp_path / "model", file, profile, 2))
        assert [rank["tokens"] for rank in ranks] == [wanted, wanted]
        # transformers leaves the attention of gpt-oss whole: every rank has all heads. Of the others, each has its slice.
        assert [rank["n_kv_heads"] for rank in ranks] == ([4, 4] if name == "gpt_oss" else [2, 2])
        if file != "-" and name != "gpt_oss":
            assert ranks[0]["heads"] + ranks[1]["heads"] == [calibration.head(1, i).fingerprint for i in range(4)]


def test_heads_that_cannot_be_shared_out_are_refused(monkeypatch):
    monkeypatch.setattr("oscar.hf.geometry._tensor_parallel", lambda model: (0, 3))
    with pytest.raises(oscar.UnsupportedError, match="3 ranks"):
        OscarCache(tiny_model("llama"))


def test_the_context_parallel_example_agrees_with_one_cache():
    said = torchrun(2, EXAMPLES / "context_parallel.py")
    errors = {profile: tuple(map(float, found)) for profile, *found in re.findall(r"(\w+): .* error (\S+); .* (\S+)", said)}
    assert errors.keys() == {"exact", "4bit"}, said
    assert max(errors["exact"]) < 1e-5, said
    parts, one = errors["4bit"]
    assert 0 < parts < 1.2 * one, said

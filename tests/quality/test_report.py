"""What is stored, judged and told."""

import numpy as np
import pytest

from quality import gates, table
from quality.store import Store


def figures(kl):
    """Of a run with these mean KL divergences {arm: kl}."""
    fidelity = lambda x: {
        "n_windows": 1, "n_tokens": 512, "kl_mean": x, "kl_interval": [x, x], "kl_median": x, "kl_p99": x, "kl_p999": x,
        "top1": 0.9, "delta_nll": 0.0,
    }
    share = lambda right: {"n_items": 4, "n_kept": 2, "right_of_kept": right, "right_of_all": right}
    recall = {kind: share(0.5) | {"groups": {"0": share(0.5), "1": share(None)}} for kind in ("copy", "needle", "pair")}
    bits = {"2bit": 2.23, "4bit": 4.16, "oscar": 2.5, "int4": 4.5}
    return {
        "date": "2026-01-01", "commit": "0", "version": "0", "backend": "b", "python": "3", "numpy": "2",
        "processor": "p", "model": "m", "calibrations": {}, "note": "",
        "settings": {"windows": 1, "tokens": 1024, "first": 512, "step_tokens": 32, "rival_windows": 2,
                     "rival_tokens": 4096, "rival_calibration": "book", "documents": 1, "document_tokens": 2300},
        "exact_windows": {"stress": {"n_sink": 4, "n_recent": 32}},
        "arms": {arm: {"label": f"<{arm}>", "kind": "ours" if "bit" in arm else "rival", "code_bits": bits[arm],
                       "total_bits": {"stress": bits[arm] + 1}} for arm in kl},
        "results": {"stress": {"model": {arm: {"book": fidelity(x), "all": fidelity(x)} for arm, x in kl.items()},
                               "recall": {arm: recall for arm in kl}}},
        "gates": [],
    }


def judged(kl):
    return {(g.arm, g.promise, g.text): g.met for g in gates.check(figures(kl))}


def test_gates_are_ratios_to_the_rival_of_the_same_run():
    promise = "mean KL divergence over that of oscar"
    assert judged({"2bit": 0.016, "oscar": 0.1})["2bit", promise, "book"]
    assert not judged({"2bit": 0.0161, "oscar": 0.1})["2bit", promise, "book"]
    assert ("2bit", promise, "book") not in judged({"2bit": 0.016, "int4": 0.1})
    assert not judged({"4bit": 0.005, "int4": 0.01})["4bit", "mean KL divergence over that of int4", "all"]


def test_four_bits_must_copy_all_that_exact_copies():
    assert not judged({"4bit": 0.001, "int4": 0.01})["4bit", "copies right, of those that exact answers", "all"]


def test_table_shows_every_arm_by_bits():
    found = figures({"2bit": 0.02, "oscar": 0.1, "int4": 0.01})
    words = table.markdown(found)
    assert words.index("<int4>") < words.index("<oscar>") < words.index("<2bit>")


def test_a_store_goes_on_where_it_stood_and_refuses_other_settings(tmp_path):
    store = Store(tmp_path, {"model": {"tokens": 2048}}, lambda: {"commit": "first"})
    assert not store.has("model", "stress", "2bit+self")
    store.save("model", "stress", "2bit+self", kl=np.arange(3))
    again = Store(tmp_path, {"model": {"tokens": 2048}, "recall": {"documents": 1}}, lambda: {"commit": "later"})
    assert again.provenance() == {"commit": "first"}
    assert again.has("model", "stress", "2bit+self")
    np.testing.assert_array_equal(again.load("model", "stress", "2bit+self")["kl"], range(3))
    with pytest.raises(SystemExit, match="tokens: 2048 there, 4096 now"):
        Store(tmp_path, {"model": {"tokens": 4096}})

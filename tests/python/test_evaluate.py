"""The four levels as users call them, and the command."""

import json
import subprocess
import sys

import numpy as np
import pytest
from evaluate_support import Copier, Letters, TinyModel
from oscar import SelfCalibration, evaluate
from oscar.evaluate import WINDOWS, Capture, Library, NumpyArm, Windows

STEP = 32


def rows_arm(**method):
    return lambda shape, windows, n, n_step: NumpyArm(shape, windows, n, **method)


def silenced(k, v):
    return k, v * 0


@pytest.fixture(scope="module")
def captures():
    random = np.random.default_rng(7)
    normal = lambda *shape: random.standard_normal(shape).astype(np.float32)
    return [Capture(normal(2, n, 4, 64), normal(2, n, 2, 64), normal(2, n, 2, 64)) for n in (700, 600)]


@pytest.fixture(scope="module")
def model():
    return TinyModel()


def texts(*lengths):
    random = np.random.default_rng(8)
    return [random.integers(0, TinyModel.n_vocabulary, n) for n in lengths]


def test_tensors_rank_arms_by_their_bits_and_find_no_error_in_exact_ones(captures):
    frequencies = np.zeros(32, np.float32)  # rows that were never turned
    itself = Library("2bit", self_calibrate=SelfCalibration(frequencies, n_positions=1024))
    arms = {name: Library(name) for name in ("exact", "4bit", "3bit", "2bit-plain")}
    found = evaluate.tensors(captures, arms | {"itself": itself, "silent": rows_arm(quantizer=silenced)})
    assert {got["n_pairs"] for got in found.values()} == {2 * 2 * 2}
    errors = [found[name]["error"]["median"] for name in ("exact", "4bit", "3bit", "2bit-plain")]
    assert errors[0] < 5e-3 and 5 * errors[0] < errors[1] < errors[2] < errors[3]
    assert found["exact"]["kl"]["mean"] < 1e-4
    assert found["silent"]["kl"]["mean"] < 1e-4 and found["silent"]["error"]["median"] > 0.5  # keys are exact
    assert errors[1] < found["itself"]["error"]["median"] < errors[3] * 1.1


def test_the_documented_calls_work(captures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    captures[0].save("qkv.npz")
    # snippet: evaluate
    capture = evaluate.Capture.load("qkv.npz")  # q, k and v of every layer, positions (RoPE) applied
    arms = {"2bit": Library("2bit"), "8 refined": Library("2bit", settings={"n_refined": 8})}
    found = evaluate.tensors(capture, arms)
    print({name: got["error"]["median"] for name, got in found.items()})
    # end snippet
    assert 0 < found["8 refined"]["error"]["median"] < found["2bit"]["error"]["median"]


def test_tensors_take_one_text_or_several(captures):
    one = evaluate.tensors(captures[0], {"2bit": Library("2bit")})
    both = evaluate.tensors(captures, {"2bit": Library("2bit")})
    other = evaluate.tensors(captures[1:], {"2bit": Library("2bit")})
    mean = (one["2bit"]["kl"]["mean"] + other["2bit"]["kl"]["mean"]) / 2
    assert both["2bit"]["kl"]["mean"] == pytest.approx(mean, rel=1e-5)


def test_predictions_are_compared_with_a_rival_of_the_same_texts(model):
    arms = {"same": rows_arm(), "silent": rows_arm(quantizer=silenced), "2bit": Library("2bit")}
    found = evaluate.predictions(model, texts(700, 600), arms, rival="silent")
    assert found["same"]["n_windows"] == 2 and found["same"]["n_tokens"] == 700 + 600 - 2 * 512
    assert found["same"]["kl_mean"] < 1e-3 < found["2bit"]["kl_mean"] < found["silent"]["kl_mean"]
    assert found["silent"]["kl_ratio"] == pytest.approx(1)
    ratio = found["2bit"]["kl_mean"] / found["silent"]["kl_mean"]
    assert found["2bit"]["kl_ratio"] == pytest.approx(ratio)


def test_answers_turn_where_keys_and_values_are_not_exact(model):
    prompts = np.stack(texts(200, 200, 200))
    arms = {"exact": Library("exact"), "silent": rows_arm(quantizer=silenced)}
    found = evaluate.answers(model, prompts, arms, n_tokens=40)
    assert (found["exact"]["identical"], found["exact"]["first_divergence_mean"]) == (1, 40)
    assert found["exact"]["kl_mean"] < 1e-4
    assert found["silent"]["first_divergence_mean"] < 40 and found["silent"]["kl_mean"] > 1e-2


class Forgetful:
    """Drops all that has aged."""

    needs_mass = False

    def keep(self, kept, n_sink, end):
        kept[..., n_sink:end] = False


def test_what_is_far_back_is_found_again_unless_it_was_dropped():
    letters = Letters()
    filler = letters.encode("the quick brown fox jumps over a lazy dog; " * 80)
    document = evaluate.document(letters, filler, 3200, [2000, 1000], seed=1, ordinary_tokens=(200, 4000))
    arms = {"2bit": Library("2bit"), "forgetful": rows_arm(eviction=Forgetful())}
    found = evaluate.found_again(Copier(), [document], arms)
    copies = found["2bit"]["copy"]
    assert copies["n_items"] == 2 * 28 and copies["n_kept"] > 50  # the head does find them
    assert set(copies["groups"]) == {"1000", "2000"}
    assert copies["right_of_kept"] > 0.9
    assert found["forgetful"]["copy"]["right_of_kept"] < 0.1


def test_what_a_document_cannot_hold_is_refused():
    letters = Letters()
    with pytest.raises(ValueError, match="a document of 1000 tokens, wanted at least"):
        evaluate.document(letters, letters.encode("x" * 9000), 1000, [], seed=1)
    with pytest.raises(ValueError, match="100 tokens of filler, wanted"):
        evaluate.document(letters, letters.encode("x" * 100), 4000, [], seed=1)


def test_what_would_measure_nothing_is_refused(captures, model):
    arms = {"2bit": Library("2bit")}
    with pytest.raises(ValueError, match="no arms"):
        evaluate.tensors(captures, {})
    with pytest.raises(ValueError, match="first is 600, wanted less than the 600 tokens"):
        evaluate.tensors(captures, arms, first=600)
    with pytest.raises(ValueError, match="step_tokens is 64, wanted 1 to 32"):
        evaluate.predictions(model, texts(700), arms, step_tokens=64)
    with pytest.raises(KeyError, match="oscar"):
        evaluate.predictions(model, texts(700), arms, rival="oscar")


def test_windows_are_those_that_are_asked_for(captures):
    near, far = (evaluate.tensors(captures[0], {"2bit": Library("2bit")}, windows=windows)["2bit"]["error"]["median"]
                 for windows in (Windows(64, 400), WINDOWS["stress"]))
    assert near < 0.9 * far


def run(*arguments):
    return subprocess.run([sys.executable, "-m", "oscar.evaluate", *map(str, arguments)], capture_output=True, text=True)


def test_the_command_prints_what_the_call_returns(captures, tmp_path):
    captures[1].save(tmp_path / "qkv.npz")
    done = run(tmp_path / "qkv.npz", "--profile", "2bit", "4bit", "--rope-theta", "1e4", "--json", tmp_path / "a.json")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "a.json").read_text())
    assert list(found) == ["2bit", "4bit", "2bit, by itself", "4bit, by itself"]
    wanted = evaluate.tensors(captures[1], {"2bit": Library("2bit")})["2bit"]
    assert found["2bit"]["error"] == pytest.approx(wanted["error"])
    assert found["2bit"]["bits"] == pytest.approx(2.234, abs=1e-3)
    row = next(line for line in done.stdout.splitlines() if line.startswith("2bit  "))
    assert f"{wanted['error']['median']:.4f}" in row


def test_the_command_says_what_is_wrong(tmp_path):
    np.save(tmp_path / "one.npy", np.zeros(3))
    np.savez(tmp_path / "short.npz", q=np.zeros((1, 20, 2, 64)), k=np.zeros((1, 20, 1, 64)), v=np.zeros((1, 20, 1, 64)))
    np.savez(tmp_path / "nan.npz", q=np.full((1, 20, 2, 64), np.nan), k=np.zeros(1), v=np.zeros(1))
    for name, words in (("none.npz", "No such file"), ("one.npy", "holds one array"), ("short.npz", "first is 512"),
                        ("nan.npz", "q has elements that are not finite")):
        done = run(tmp_path / name)
        assert done.returncode == 1 and done.stderr.startswith("error: ") and words in done.stderr, done.stderr
    done = run(tmp_path / "short.npz", "--profile", "5bit")
    assert done.returncode == 1 and "5bit" in done.stderr

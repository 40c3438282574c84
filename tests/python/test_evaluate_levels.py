"""The figures of all levels, on a model that is computed again in double precision."""

import numpy as np
import pytest
from evaluate_support import Letters, TinyModel, naive_attention
from oscar import evaluate
from oscar.evaluate import WINDOWS, LibraryArm, NumpyArm, Windows, read_exactly, recall, teacher, tensor
from oscar.evaluate.attention import attend

STRESS = WINDOWS["stress"]
N_TOKENS, STEP = 400, 32
CLOSE = dict(rtol=2e-3, atol=2e-3)  # float32 against double, BF16 rows


def halved(k, v):
    return k, v / 2


@pytest.fixture(scope="module")
def model():
    return TinyModel()


@pytest.fixture(scope="module")
def tokens():
    return np.random.default_rng(1).integers(0, TinyModel.n_vocabulary, N_TOKENS)


def test_attention_is_causal_and_skips_what_was_dropped():
    random = np.random.default_rng(2)
    q, k, v = (random.standard_normal(s).astype(np.float32) for s in ((3, 4, 64), (2, 20, 64), (2, 20, 64)))
    kept = random.random((2, 20)) < 0.5
    kept[:, 10:] = True
    out, weights = attend(q, k, v, np.array([10, 14, 19]), kept)
    for row, position in enumerate((10, 14, 19)):
        for head in range(4):
            seen = np.flatnonzero(kept[head // 2, : position + 1])
            wanted, paid = naive_attention(q[row, head], k[head // 2, seen], v[head // 2, seen])
            np.testing.assert_allclose(out[row, head], wanted, **CLOSE)
            np.testing.assert_allclose(weights[head // 2, head % 2, row, seen], paid, **CLOSE)
    assert weights[..., 0, 11:].max() == 0


@pytest.mark.parametrize("windows", WINDOWS.values())
def test_liboscar_packs_the_tokens_that_the_windows_say(model, windows):
    arm = LibraryArm(model, "2bit", windows, 1000, STEP)
    random = np.random.default_rng(3)
    for n in (32, 17, 1, 32, 31) * 8:  # the arm itself compares, at every step
        with arm.step(n) as step:
            k, v = random.standard_normal((2, n, 2, 64), np.float32)
            step.layer(0, k, v, random.standard_normal((n, 4, 64), np.float32))
    assert arm.length == 904
    arm.close()


def test_an_arm_that_packs_other_tokens_is_refused(model):
    class Late(Windows):
        def n_packed(self, length):
            return super().n_packed(length - 1)

    arm = LibraryArm(model, "2bit", Late(4, 32), 300, 1)
    rows = np.ones((1, 2, 64), np.float32), np.ones((1, 2, 64), np.float32), np.ones((1, 4, 64), np.float32)
    with pytest.raises(RuntimeError, match="packed 128 of 164 tokens, the other arms 0"):
        for _ in range(300):
            with arm.step(1) as step:
                step.layer(0, *rows)
    arm.close()


def test_tensor_level_agrees_with_double_precision(model, tokens):
    _, capture = read_exactly(model, tokens, STEP, keep=True)
    arm = NumpyArm(model, STRESS, N_TOKENS, quantizer=halved)
    found = tensor.measure(capture, arm, STRESS, STEP, 200)
    wanted_at = tensor.positions(N_TOKENS, 200)
    assert list(wanted_at[-200:]) == list(range(200, 400))
    for column in (0, 50, len(wanted_at) - 1):
        at = wanted_at[column]
        packed = slice(STRESS.n_sink, STRESS.packed_end(at // STEP * STEP))
        error = norm = 0.0
        for head in (2, 3):  # of KV head 1
            k, v = capture.k[0, : at + 1, 1], capture.v[0, : at + 1, 1].copy()
            expected, _ = naive_attention(capture.q[0, at, head], k, v)
            v[packed] /= 2
            got, _ = naive_attention(capture.q[0, at, head], k, v)
            error, norm = error + ((got - expected) ** 2).sum(), norm + (expected**2).sum()
        assert found["error"][0, 1, column] == pytest.approx(error, rel=1e-3)
        assert found["norm"][0, 1, column] == pytest.approx(norm, rel=1e-3)
    assert np.abs(found["kl"]).max() < 1e-5  # keys are exact
    assert found["mass_ratio"] == pytest.approx(np.ones_like(found["mass_ratio"]), abs=1e-4)
    assert np.abs(found["logit_rmse"]).max() < 1e-5


def test_tensor_level_sees_key_errors_in_logits_and_attention(model, tokens):
    _, capture = read_exactly(model, tokens, STEP, keep=True)
    arm = NumpyArm(model, STRESS, N_TOKENS, quantizer=lambda k, v: (k / 2, v))
    found = tensor.measure(capture, arm, STRESS, STEP, 200)
    at = tensor.positions(N_TOKENS, 200)[-1]
    packed = slice(STRESS.n_sink, STRESS.packed_end(at // STEP * STEP))
    kl, squares = [], []
    for head in (0, 1):
        k = capture.k[0, : at + 1, 0].copy()
        logits = k[packed].astype(np.float64) @ capture.q[0, at, head] / 8
        _, weights = naive_attention(capture.q[0, at, head], k, k)
        k[packed] /= 2
        _, own = naive_attention(capture.q[0, at, head], k, k)
        kl.append((weights * np.log(weights / own)).sum())
        squares.append(np.var(logits / 2))
    assert found["kl"][0, 0, -1] == pytest.approx(np.mean(kl), rel=1e-3)
    assert found["logit_rmse"][0, 0, -1] == pytest.approx(np.sqrt(np.mean(squares)), rel=1e-3)


def test_model_level_is_the_divergence_of_predictions(model, tokens):
    hidden, _ = read_exactly(model, tokens, STEP, keep=False)
    arms = {
        "same": NumpyArm(model, STRESS, N_TOKENS),
        "halved": NumpyArm(model, STRESS, N_TOKENS, quantizer=halved),
    }
    found, exact_nll = teacher.compare(model, tokens, hidden, arms, STEP)
    assert np.abs(found["same"]["kl"]).max() < 1e-3
    assert found["same"]["nll"] == pytest.approx(exact_nll, abs=1e-2)
    at = 320
    packed = slice(STRESS.n_sink, STRESS.packed_end(at))
    out = []
    for factor in (1, 0.5):
        v = model.v[tokens[: at + 1]].copy()
        v[packed] *= factor
        q, k = model.q[tokens[at]], model.k[tokens[: at + 1]]
        heads = [naive_attention(q[h], k[:, h // 2], v[:, h // 2])[0] for h in range(4)]
        logits = np.concatenate(heads) @ model.out.astype(np.float64)
        out.append(logits - np.log(np.exp(logits).sum()))
    exact, own = out
    assert found["halved"]["kl"][at] == pytest.approx((np.exp(exact) * (exact - own)).sum(), rel=2e-2)
    assert found["halved"]["nll"][at] == pytest.approx(-own[tokens[at + 1]], rel=1e-2)
    assert found["halved"]["same_top1"][at] == (exact.argmax() == own.argmax())


def test_bootstrap_draws_windows_when_there_are_enough_and_pairs_the_rival():
    random = np.random.default_rng(4)
    windows = [random.random(1000) + i for i in range(6)]
    assert len(teacher.blocks(windows)[0]) == 6
    assert len(teacher.blocks(windows[:2])[0]) == 2 * 8
    low, high = teacher.interval(windows)
    assert low < np.concatenate(windows).mean() < high
    # A rival that is always twice as far leaves no doubt about the ratio.
    assert teacher.interval(windows, [2 * w for w in windows]) == pytest.approx([0.5, 0.5])


def test_documents_ask_for_what_they_hold_at_the_promised_distance():
    letters = Letters()
    doc = recall.document(letters, letters.encode("lorem ipsum " * 900), 6000, [4000, 2000, 9000], seed=1)
    copies = [item for item in doc.items if item.kind == recall.COPY]
    assert len(copies) == 2 * (recall.COPY_TOKENS - recall.CUE_TOKENS)
    for item in copies:
        assert doc.tokens[item.answer[0]] == doc.tokens[item.answer[0] - int(item.group)]
    text = letters.decode(doc.tokens)
    needles = [item for item in doc.items if item.kind == recall.NEEDLE]
    assert sorted(item.group for item in needles) == pytest.approx(np.linspace(0, 1, recall.N_NEEDLES))
    for item in [item for item in doc.items if item.kind != recall.COPY]:
        answer = text[item.answer[0] : item.answer[-1] + 1]
        start = text.rindex("\n", 0, item.answer[0])
        question = text[start : item.answer[-1] + 2]
        assert question.endswith(f" {answer}.") and text.index(question) < start
        if item.kind == recall.NEEDLE:
            assert len(answer) == 5 and answer.isdigit()


def test_only_items_that_exact_answers_count():
    items = [recall.Item(recall.COPY, 1000.0, [i]) for i in range(4)]
    docs = [recall.Document(np.zeros(4, int), items)]
    exact, own = [np.array([True, True, True, False])], [np.array([True, False, True, True])]
    share = recall.summary(docs, exact, own)["copy"]
    assert (share["n_items"], share["n_kept"], share["right_of_kept"]) == (4, 3, pytest.approx(2 / 3))

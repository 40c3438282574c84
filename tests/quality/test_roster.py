"""All arms of a comparison."""

import numpy as np
from evaluate_support import TinyModel
from oscar.evaluate import WINDOWS
from quality.roster import roster

STRESS = WINDOWS["stress"]
N_TOKENS, STEP = 400, 32


def test_all_arms_read_the_same_exact_tokens():
    model = TinyModel()
    tokens = np.random.default_rng(1).integers(0, TinyModel.n_vocabulary, N_TOKENS)
    rotation = np.tile(np.eye(64, dtype=np.float32), (1, 2, 1, 1))
    entries = roster(model, (rotation, rotation), {})
    k, v = model.k[tokens].swapaxes(0, 1), model.v[tokens].swapaxes(0, 1)
    for name, entry in entries.items():
        arm = entry.make(STRESS, N_TOKENS, STEP)
        for start in range(0, N_TOKENS, STEP):
            new = tokens[start : start + STEP]
            packed = range(STRESS.n_sink, STRESS.packed_end(start))
            with arm.step(len(new)) as step:
                model.forward(new, None, step.layer)
        exact = np.setdiff1d(np.arange(N_TOKENS), packed)
        own_k, own_v, kept = arm.rows(0)
        np.testing.assert_allclose(own_k[:, exact], k[:, exact], rtol=2**-8, err_msg=name)
        np.testing.assert_allclose(own_v[:, exact], v[:, exact], rtol=2**-8, err_msg=name)
        if kept is not None:
            assert kept[:, STRESS.packed_end(start) :].all(), name
        elif name != "exact":
            assert np.abs(own_k[:, packed] - k[:, packed]).max() > 0.01, name
        arm.close()

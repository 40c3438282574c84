"""The variants of the studies: each of them is a cache that can be made, read through and counted."""

import numpy as np
import pytest
from evaluate_support import TinyModel
from quality import study
from quality.variant import CONTEXTS, Calibrations

N_TOKENS, STEP = 320, 32


class Turning(TinyModel):
    max_tokens = 4096
    rope_frequency = 1e5 ** (-np.arange(0, TinyModel.head_dim, 2) / TinyModel.head_dim)


@pytest.mark.parametrize("name", study.STUDIES)
def test_every_variant_of_a_study_reads_a_text_and_counts_its_bits(name):
    model = Turning()
    tokens = np.random.default_rng(1).integers(0, Turning.n_vocabulary, N_TOKENS)
    variants = list(study.STUDIES[name](Calibrations(model, tokens[None], lambda words: lambda items: items)))
    assert len({v.name for v in variants}) == len(variants) >= 5
    for v in variants:
        block_bits, total_bits = v.bits(model)
        assert 2 < block_bits < 4.3 and all(total_bits[c] > block_bits for c in CONTEXTS)
        arm = v.arm(model, N_TOKENS, STEP)
        for start in range(0, N_TOKENS, STEP):
            with arm.step(STEP) as step:
                assert np.isfinite(model.forward(tokens[start : start + STEP], None, step.layer)).all()
        arm.close()

"""A budget of bits over layers."""

import itertools

import numpy as np
import pytest
from evaluate_support import TinyModel
from quality import budget

BITS = np.array([2.0, 2.5, 3.0, 4.0])


def convex(n_layers, seed):
    """Errors that fall ever more slowly, by different factors a layer."""
    random = np.random.default_rng(seed)
    return random.uniform(0.1, 10, (n_layers, 1)) * 4.0 ** -(BITS * random.uniform(0.5, 1.5, (n_layers, 1)))


@pytest.mark.parametrize("seed", range(20))
def test_no_other_choice_of_the_same_bits_has_less_error(seed):
    errors = convex(5, seed)
    chosen = budget.spend(errors, BITS, 2.7)
    total = lambda c: errors[np.arange(5), list(c)].sum()
    spent = BITS[chosen].sum()
    assert spent <= 5 * 2.7 + 1e-9
    others = [c for c in itertools.product(range(4), repeat=5) if BITS[list(c)].sum() <= spent + 1e-9]
    # Greedy steps along convex curves are optimal but for what the last steps, which must fit, leave over.
    best = min(total(c) for c in others)
    assert total(chosen) <= best * 1.1


def test_bits_go_where_errors_are():
    errors = np.array([[1.0, 0.9, 0.8, 0.7], [100.0, 50.0, 20.0, 5.0]])
    assert budget.spend(errors, BITS, 3.0).tolist() == [0, 3]


def test_a_step_that_does_not_help_is_not_taken():
    assert budget.spend(np.array([[1.0, 1.0, 1.0, 1.0]]), BITS, 4.0).tolist() == [0]


def test_less_than_the_smallest_profile_is_refused():
    with pytest.raises(ValueError, match="the smallest profile has 2"):
        budget.spend(np.ones((2, 4)), BITS, 1.9)


def test_bits_are_those_that_the_library_counts():
    model = TinyModel()
    for profile in budget.PROFILES:
        wanted = budget.oscar.check(
            budget.cache_config(model, profile, budget.WINDOWS["stress"], 4096, 32), 4096).block_bits_per_element
        got = budget.block_bits(model, layers=budget.layers_of([profile] * model.n_layers))
        assert got == pytest.approx(wanted, rel=1e-2)  # slabs of a small model are not quite full

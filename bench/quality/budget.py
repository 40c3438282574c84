"""A budget of bits, spent over the layers of a model by measured errors."""

import numpy as np
import oscar
from oscar.evaluate import WINDOWS
from oscar.evaluate.arm import cache_config

PROFILES = ("2bit-plain", "2bit", "k3v2", "3bit", "4bit")
FIELDS = ("n_refined", "refined_key_bits", "refined_value_bits")


def spend(errors, bits, budget):
    """errors [n_layers, n_profiles], bits [n_profiles] -> the profile of every layer, of mean bits at most `budget`.

    Starts from the cheapest and takes, again and again, the step that lowers an error most for its bits; steps may skip
    profiles. Along the lower convex hulls of the layers' curves this is the least sum of errors for the bits it spends.
    """
    order = np.argsort(bits, kind="stable")
    n_layers = len(errors)
    chosen = np.full(n_layers, order[0])
    if bits[order[0]] > budget:
        raise ValueError(f"the budget is {budget:g} bits, the smallest profile has {bits[order[0]]:g}")
    left = (budget - bits[order[0]]) * n_layers + 1e-9
    while True:
        gain = errors[np.arange(n_layers), chosen][:, None] - errors
        cost = bits[None] - bits[chosen][:, None]
        fits = (cost > 0) & (cost <= left) & (gain > 0)
        if not fits.any():
            return chosen
        rate = np.where(fits, gain / np.where(fits, cost, 1), -1)
        layer, profile = np.unravel_index(rate.argmax(), rate.shape)
        left -= cost[layer, profile]
        chosen[layer] = profile


def layers_of(profiles):
    return [oscar.LayerConfig(**{field: getattr(oscar.Config(profile=p), field) for field in FIELDS}) for p in profiles]


def block_bits(shape, **settings):
    """Of an element of a packed token, a mean over layers: what a block more costs a long sequence."""
    bytes_at = lambda n: oscar.check(cache_config(shape, "2bit", WINDOWS["stress"], n, 32, **settings), n).bytes_sequences
    n_elements = 2 * shape.n_layers * shape.n_kv_heads * shape.head_dim
    return 8 * (bytes_at(1 << 20) - bytes_at(1 << 19)) / (n_elements << 19)

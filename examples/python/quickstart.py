# snippet: quickstart
import math

import numpy as np
import oscar

config = oscar.Config("2bit", n_layers=1, n_q_heads=1, n_kv_heads=1, key_dim=64)
with oscar.Cache(config) as cache, cache.open() as sequence:
    # To the query of token 1, key 0 has logit 0 and key 1 has logit ln 3: it sees 1/4 and 3/4 of the values.
    q, k, v = (np.zeros((2, 1, 64), np.float32) for _ in range(3))
    q[1, 0, 0], k[1, 0, 0], v[1, 0, 0] = math.log(3), 1, 1

    with cache.step([(sequence, 2)]) as step:  # two new tokens
        out = step.layer(0, k, v, q, scale=1.0)

    print(f"token 1 sees {out[1, 0, 0]:.3f}")
# end snippet

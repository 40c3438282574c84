"""liboscar's cache, through its Python package: torch tensors in and out without copies, on the current stream."""

import torch

import oscar

#: Tokens of a step that fills the cache.
FILL_STEP = 2048


#: Sinks and recent tokens of OSCAR's authors.
WINDOWS = (64, 256)


def config(shape, batch, n_tokens, profile, device="cuda", batch_invariant=False, windows=WINDOWS):
    """Room for `n_tokens` of every sequence."""
    c = oscar.Config(
        profile,
        n_layers=shape.n_layers,
        n_q_heads=shape.n_q_heads,
        n_kv_heads=shape.n_kv_heads,
        key_dim=shape.head_dim,
        n_sink=windows[0],
        n_recent=windows[1],
        max_sequences=batch,
        max_step_tokens=FILL_STEP,
        max_tokens=n_tokens + FILL_STEP,
        capacity_bytes=1 << 37,
        device=device,
        batch_invariant=batch_invariant,
    )
    report = oscar.check(c, n_tokens)
    if not report.served:
        raise oscar.UnsupportedError(report.reason)
    c.capacity_bytes = batch * report.bytes_sequences + (256 << 20)
    return c


class PackedCache:
    """`batch` sequences; `begin` and `end` bracket each replay of the step's graph."""

    #: Whether a step appends its tokens.
    stores = True

    def __init__(self, shape, batch, n_tokens, profile="2bit", device="cuda", **options):
        self.shape = shape
        self.batch = batch
        self.device = device
        self.cache = oscar.Cache(config(shape, batch, n_tokens, profile, device, **options))
        self.sequences = [self.cache.open() for _ in range(batch)]
        self.step = None
        self._entries = [(sequence, 1) for sequence in self.sequences]

    def stream(self):
        return torch.cuda.current_stream() if self.device == "cuda" else None

    def fill(self, n_tokens, source=None):
        """Appends tokens to every sequence, attending to nothing: random ones, or those of a Bf16Cache."""
        s = self.shape
        size = (FILL_STEP, s.n_kv_heads, s.head_dim)
        k, v = (torch.empty(size, dtype=torch.bfloat16, device=self.device) for _ in range(2))
        for i, sequence in enumerate(self.sequences):
            for first in range(0, n_tokens, FILL_STEP):
                n = min(FILL_STEP, n_tokens - first)
                with self.cache.step([(sequence, n)], stream=self.stream()) as step:
                    for layer in range(s.n_layers):
                        if source is None:
                            step.append(layer, k[:n].normal_(), v[:n].normal_())
                        else:
                            rows = [t[i, :, first : first + n].transpose(0, 1) for t in source.layers[layer]]
                            step.append(layer, *rows)

    @property
    def n_bytes(self):
        return self.cache.stats().bytes_sequences

    def begin(self, replay):
        self.step = self.cache.step(self._entries, stream=self.stream(), replay=replay)

    def attend(self, layer, q, k, v):
        out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
        return self.step.layer(layer, k, v, q, out=out)

    def end(self):
        self.step.end()

    def close(self):
        self.cache.close()

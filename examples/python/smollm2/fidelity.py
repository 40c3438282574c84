"""How far a compressed cache moves the model's predictions from those with exact keys and values."""

import dataclasses

import numpy as np

from .arms import forward


@dataclasses.dataclass
class Fidelity:
    """Over the tokens that had compressed tokens to attend to in every arm; the first few hundred have none, and do not
    count."""

    n_tokens: int
    kl_mean: float
    kl_median: float
    kl_p99: float
    top1_agreement: float
    kl_mean_all: float  # over every token of the text

    @classmethod
    def of(cls, kl, same_top1, first):
        kl, same_top1 = np.concatenate(kl), np.concatenate(same_top1)
        seen = kl[first:]
        return cls(
            n_tokens=len(seen),
            kl_mean=float(seen.mean()),
            kl_median=float(np.median(seen)),
            kl_p99=float(np.percentile(seen, 99)),
            top1_agreement=float(same_top1[first:].mean()),
            kl_mean_all=float(kl.mean()),
        )


def log_softmax(logits):
    logits = logits - logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def compare(model, tokens, exact, others, step_tokens, progress=lambda items: items):
    """Feeds `tokens` to all arms, step_tokens at a time: every token attends to the compressed past of its own arm.
    others: {name: arm}. Returns {name: Fidelity} of the other arms against `exact`.

    Small steps matter: within a step the new tokens are exact, so one big step would measure nothing.
    """
    arms = [exact, *others.values()]
    kl, same_top1 = {name: [] for name in others}, {name: [] for name in others}
    first = None  # the first token that had packed ones to attend to, whatever the arm
    for start in progress(range(0, len(tokens), step_tokens)):
        chunk = tokens[start : start + step_tokens]
        hidden = forward(model, arms, [chunk] * len(arms))
        if first is None and all(arm.n_packed for arm in others.values()):
            first = start
        expected = log_softmax(model.logits(hidden[0]))
        probability = np.exp(expected)
        for name, states in zip(others, hidden[1:]):
            got = log_softmax(model.logits(states))
            kl[name].append((probability * (expected - got)).sum(-1))
            same_top1[name].append(expected.argmax(-1) == got.argmax(-1))
    if first is None:
        raise SystemExit(f"error: {len(tokens)} tokens are too few: nothing was packed. Give a longer text.")
    return {name: Fidelity.of(kl[name], same_top1[name], first) for name in others}

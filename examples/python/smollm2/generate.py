"""Greedy answers to one prompt through several caches at once."""

import dataclasses

from .arms import forward


@dataclasses.dataclass
class Answer:
    tokens: list
    ended: bool = False  # the model said that it is done


def first_difference(a, b):
    """How many tokens two answers have in common from their start."""
    same = [x == y for x, y in zip(a.tokens, b.tokens)]
    return same.index(False) if False in same else len(same)


def generate(model, prompt_tokens, arms, n_tokens, end_token):
    """Yields the list of answers, one per arm, after every step; the prompt is one step of its own."""
    answers = [Answer([]) for _ in arms]
    hidden = forward(model, arms, [prompt_tokens] * len(arms))[:, -1]
    active = list(range(len(arms)))
    for n in range(n_tokens):
        choice = model.logits(hidden).argmax(-1)
        for i, token in zip(list(active), choice):
            if token == end_token:
                answers[i].ended = True
            else:
                answers[i].tokens.append(int(token))
        yield answers
        active = [i for i in active if not answers[i].ended]
        if not active or n + 1 == n_tokens:
            return
        hidden = forward(model, [arms[i] for i in active], [answers[i].tokens[-1:] for i in active])[:, -1]

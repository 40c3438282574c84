"""Level D: what is far back and must be found again: copies, needles, pairs. Read teacher-forced, as in level B.

One document holds all three, then asks for them. An item counts only where exact keys and values answer it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .arm import Arm
from .attention import Array
from .model import Model, Progress, Tokenizer, forward, silent

CITIES = (
    "Paris Oslo Cairo Lima Tokyo Delhi Rome Madrid Berlin Vienna Dublin Lisbon Athens Warsaw Prague Sydney Boston "
    "Denver Seattle Toronto Havana Nairobi Lagos Seoul"
).split()
NAMES = (
    "Anna Boris Clara David Emma Frank Grace Henry Irene Jack Karen Louis Maria Nora Oscar Peter Quinn Rosa Simon Tom "
    "Ursula Victor Wendy Yusuf"
).split()
ANIMALS = (
    "parrot horse rabbit snake turtle camel goat donkey pigeon spider lizard monkey tiger eagle whale sheep duck frog "
    "wolf fox bear crow owl bee"
).split()
N_NEEDLES, N_PAIRS = 11, 16
COPY_TOKENS, CUE_TOKENS = 32, 4  # a random string, and how much of its repeat is given
ORDINARY_TOKENS = (1000, 40000)  # of SmolLM2: ids of words, away from control tokens and single bytes
PAIRS_AT = 0.15  # of the document
NEEDLE, PAIR, COPY = "needle", "pair", "copy"


@dataclasses.dataclass
class Item:
    kind: str
    group: float  # depth of a needle, distance of a copy in tokens
    answer: list[int]  # indices in the document of the tokens to be predicted


@dataclasses.dataclass
class Document:
    tokens: Array
    items: list[Item]


def statement(tokenizer: Tokenizer, before: str, answer: Any) -> tuple[list[int], range]:
    """Tokens of a sentence, and which of them are the answer."""
    ids = tokenizer.encode(f"\n{before} {answer}.")
    start = len(tokenizer.encode(f"\n{before}"))
    while not tokenizer.decode([ids[start]]).strip():
        start += 1  # the space before a number is a token of its own
    return ids, range(start, len(ids) - 1)


def document(
    tokenizer: Tokenizer,
    filler: Sequence[int],
    n_tokens: int,
    distances: Sequence[int],
    seed: int,
    ordinary_tokens: tuple[int, int] = ORDINARY_TOKENS,
) -> Document:
    """About n_tokens long.

    Args:
        filler: tokens of an ordinary text, about as many.
        distances: after which copies come again; those that are too long for it are left out.
        ordinary_tokens: the first id that copies are drawn from, and the end of these.

    Raises:
        ValueError: too few tokens for what the document has to hold, or too little filler.
    """
    random = np.random.default_rng(seed)

    def choose(names: list[str], n: int) -> list[str]:
        return [str(name) for name in random.choice(names, n, replace=False)]

    needles = [
        statement(tokenizer, f"The magic number for {city} is", random.integers(10000, 99999))
        for city in choose(CITIES, N_NEEDLES)
    ]
    pairs = [
        statement(tokenizer, f"{name} owns the", animal)
        for name, animal in zip(choose(NAMES, N_PAIRS), choose(ANIMALS, N_PAIRS))
    ]
    tail_tokens = sum(len(ids) for ids, _ in needles + pairs)
    distances = [d for d in distances if d <= n_tokens - COPY_TOKENS]
    copies = random.integers(*ordinary_tokens, (len(distances), COPY_TOKENS)).tolist()

    body = n_tokens - tail_tokens - COPY_TOKENS * len(distances)
    if body < 2 * tail_tokens:
        raise ValueError(f"a document of {n_tokens} tokens, wanted at least {n_tokens - body + 2 * tail_tokens}")
    if len(filler) < body:
        raise ValueError(f"{len(filler)} tokens of filler, wanted {body}")
    depths = np.linspace(0, 1, N_NEEDLES)
    longest = max(len(ids) for ids, _ in needles)
    parts = [(int(depth * (body - longest)), ids) for depth, (ids, _) in zip(depths, needles)]
    parts.append((int(PAIRS_AT * body), [token for ids, _ in pairs for token in ids]))
    parts += [
        (n_tokens - COPY_TOKENS * (len(distances) - i) - d, ids) for i, (d, ids) in enumerate(zip(distances, copies))
    ]
    tokens: list[int] = []
    rest = iter(filler)
    for start, ids in sorted(parts, key=lambda part: part[0]):
        tokens += [next(rest) for _ in range(start - len(tokens))]
        tokens += ids
    tokens += [next(rest) for _ in range(body - len(tokens))]

    items = []
    questions = [(NEEDLE, depth, *needle) for depth, needle in zip(depths, needles)]
    random.shuffle(questions)
    asked = [(PAIR, 0.0, *pair) for pair in pairs]
    random.shuffle(asked)
    for kind, group, ids, answer in questions + asked:
        items.append(Item(kind, float(group), [len(tokens) + i for i in answer]))
        tokens += ids
    for distance, ids in zip(distances, copies):
        items += [Item(COPY, float(distance), [len(tokens) + i]) for i in range(CUE_TOKENS, COPY_TOKENS)]
        tokens += ids
    return Document(np.array(tokens), items)


def read(
    model: Model, doc: Document, arms: dict[str, Arm], step_tokens: int, progress: Progress = silent
) -> dict[str, Array]:
    """arms: {name: arm}. Returns {name: right [n_items]}."""
    predicted = {name: np.zeros(len(doc.tokens), int) for name in arms}
    asked = np.zeros(len(doc.tokens), bool)
    for item in doc.items:
        asked[np.array(item.answer) - 1] = True
    for start in progress(range(0, len(doc.tokens), step_tokens)):
        chunk = doc.tokens[start : start + step_tokens]
        hidden = forward(model, list(arms.values()), np.stack([chunk] * len(arms)))
        rows = np.flatnonzero(asked[start : start + len(chunk)])
        if len(rows):
            for name, states in zip(arms, hidden):
                predicted[name][start + rows + 1] = model.logits(states[rows]).argmax(-1)
    right = {}
    for name, tokens in predicted.items():
        hit = tokens == doc.tokens
        right[name] = np.array([hit[item.answer].all() for item in doc.items])
    return right


def summary(docs: list[Document], exact_right: list[Array], right: list[Array]) -> dict[str, Any]:
    """Shares of right items, over documents: of those that exact keys and values answer, and of all."""
    items = [item for doc in docs for item in doc.items]
    all_exact, all_right = np.concatenate(exact_right), np.concatenate(right)
    found: dict[str, Any] = {}
    for kind in (COPY, NEEDLE, PAIR):
        of_kind = np.array([item.kind == kind for item in items])
        groups = {}
        for group in sorted({item.group for item in items if item.kind == kind}):
            of_group = np.array([item.group == group for item in items])
            groups[f"{group:g}"] = _share(of_kind & of_group, all_exact, all_right)
        found[kind] = _share(of_kind, all_exact, all_right) | {"groups": groups}
    return found


def _share(chosen: Array, exact_right: Array, right: Array) -> dict[str, Any]:
    kept = chosen & exact_right
    return {
        "n_items": int(chosen.sum()),
        "n_kept": int(kept.sum()),
        "right_of_kept": float(right[kept].mean()) if kept.any() else None,
        "right_of_all": float(right[chosen].mean()) if chosen.any() else None,
    }

"""Level D: what is far back and must be found again: copies, needles, pairs. Read teacher-forced, as in level B.

One document holds all three, then asks for them. An item counts only where exact keys and values answer it.
"""

import dataclasses

import numpy as np
from smollm2.arms import forward

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
ORDINARY_TOKENS = (1000, 40000)  # ids of words, away from control tokens and single bytes
PAIRS_AT = 0.15  # of the document
NEEDLE, PAIR, COPY = "needle", "pair", "copy"


@dataclasses.dataclass
class Item:
    kind: str
    group: float  # depth of a needle, distance of a copy in tokens
    answer: list  # indices in the document of the tokens to be predicted


@dataclasses.dataclass
class Document:
    tokens: np.ndarray
    items: list


def statement(tokenizer, before, answer):
    """Tokens of a sentence, and which of them are the answer."""
    ids = tokenizer.encode(f"\n{before} {answer}.")
    start = len(tokenizer.encode(f"\n{before}"))
    while not tokenizer.decode([ids[start]]).strip():
        start += 1  # the space before a number is a token of its own
    return ids, range(start, len(ids) - 1)


def document(tokenizer, filler, n_tokens, distances, seed):
    """About n_tokens long; copies come again after the given distances, those that are too long for it left out."""
    random = np.random.default_rng(seed)
    choose = lambda names, n: random.choice(names, n, replace=False)
    needles = [statement(tokenizer, f"The magic number for {city} is", random.integers(10000, 99999))
               for city in choose(CITIES, N_NEEDLES)]
    pairs = [statement(tokenizer, f"{name} owns the", animal)
             for name, animal in zip(choose(NAMES, N_PAIRS), choose(ANIMALS, N_PAIRS))]
    tail_tokens = sum(len(ids) for ids, _ in needles + pairs)
    distances = [d for d in distances if d <= n_tokens - COPY_TOKENS]
    copies = random.integers(*ORDINARY_TOKENS, (len(distances), COPY_TOKENS)).tolist()

    body = n_tokens - tail_tokens - COPY_TOKENS * len(distances)
    depths = np.linspace(0, 1, N_NEEDLES)
    longest = max(len(ids) for ids, _ in needles)
    parts = [(int(depth * (body - longest)), ids) for depth, (ids, _) in zip(depths, needles)]
    parts.append((int(PAIRS_AT * body), sum((ids for ids, _ in pairs), [])))
    parts += [(n_tokens - COPY_TOKENS * (len(distances) - i) - d, ids)
              for i, (d, ids) in enumerate(zip(distances, copies))]
    tokens, filler = [], iter(filler)
    for start, ids in sorted(parts, key=lambda part: part[0]):
        tokens += [next(filler) for _ in range(start - len(tokens))]
        tokens += ids
    tokens += [next(filler) for _ in range(body - len(tokens))]

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


def read(model, doc, arms, step_tokens, progress=lambda items: items):
    """arms: {name: arm}. Returns {name: right [n_items]}."""
    predicted = {name: np.zeros(len(doc.tokens), int) for name in arms}
    asked = np.zeros(len(doc.tokens), bool)
    for item in doc.items:
        asked[np.array(item.answer) - 1] = True
    for start in progress(range(0, len(doc.tokens), step_tokens)):
        chunk = doc.tokens[start : start + step_tokens]
        hidden = forward(model, list(arms.values()), [chunk] * len(arms))
        rows = np.flatnonzero(asked[start : start + len(chunk)])
        if len(rows):
            for name, states in zip(arms, hidden):
                predicted[name][start + rows + 1] = model.logits(states[rows]).argmax(-1)
    right = {}
    for name, tokens in predicted.items():
        hit = tokens == doc.tokens
        right[name] = np.array([hit[item.answer].all() for item in doc.items])
    return right


def summary(docs, exact_right, right):
    """Shares of right items, over documents: of those that exact keys and values answer, and of all."""
    items = [item for doc in docs for item in doc.items]
    exact_right, right = np.concatenate(exact_right), np.concatenate(right)
    found = {}
    for kind in (COPY, NEEDLE, PAIR):
        of_kind = np.array([item.kind == kind for item in items])
        groups = {}
        for group in sorted({item.group for item in items if item.kind == kind}):
            of_group = np.array([item.group == group for item in items])
            groups[f"{group:g}"] = _share(of_kind & of_group, exact_right, right)
        found[kind] = _share(of_kind, exact_right, right) | {"groups": groups}
    return found


def _share(chosen, exact_right, right):
    kept = chosen & exact_right
    return {
        "n_items": int(chosen.sum()),
        "n_kept": int(kept.sum()),
        "right_of_kept": float(right[kept].mean()) if kept.any() else None,
        "right_of_all": float(right[chosen].mean()) if chosen.any() else None,
    }

"""Prometheus text: every number of the statistics, in a form that Prometheus reads."""

import re

import pytest
from binding_support import fill, random_qkv, small_config

import oscar
from oscar.metrics import prometheus

SAMPLE = re.compile(r'([a-z_]+)(?:\{((?:[a-z]+="(?:[^"\\\n]|\\["\\n])*",?)*)\})? (-?[0-9.e+-]+)')


def samples(text):
    """{(name, labels): value}, of a text whose every line is one that the format allows."""
    found, typed = {}, {}
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# "):
            _, word, name, rest = line.split(" ", 3)
            if word == "TYPE":
                typed[name] = rest
            continue
        name, labels, value = SAMPLE.fullmatch(line).groups()
        assert (typed[name] == "counter") == name.endswith("_total")
        assert (name, labels) not in found
        found[name, labels] = float(value)
    return found


@pytest.fixture
def stats():
    with oscar.Cache(small_config()) as cache:
        sequence = cache.open()
        q, k, v = random_qkv(1, 400)
        fill(cache, sequence, k, v, q)
        sequence.fork()
        sequence.truncate(395)
        yield cache.stats()


def test_every_statistic_is_there_and_bytes_of_kinds_add_up(stats):
    found = samples(prometheus(stats))
    kinds = {labels: value for (name, labels), value in found.items() if name == "oscar_bytes"}
    assert sum(kinds.values()) == stats.bytes_sequences + stats.bytes_fixed
    sums = {"bytes_sequences", "bytes_fixed", "state"}
    values = set(found.values())
    for field in stats.__dataclass_fields__.keys() - sums:
        assert getattr(stats, field) in values, field
    assert found["oscar_tokens_forgotten_total", None] == 5 and found["oscar_rollbacks_total", None] == 1
    assert found["oscar_shared_bytes", None] > 0


def test_labels_are_escaped_and_bad_ones_refused(stats):
    found = samples(prometheus(stats, model='a "b" \\ c\nd', rank="0"))
    assert all(labels.endswith(r'model="a \"b\" \\ c\nd",rank="0"') for _, labels in found)
    for labels in ({"kind": "x"}, {"__name": "x"}, {"a-b": "x"}):
        with pytest.raises(ValueError, match="cannot be a label"):
            prometheus(stats, **labels)
    with pytest.raises(ValueError, match="prefix"):
        prometheus(stats, prefix="9x")

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


def test_layers_are_counted_by_side(stats):
    with oscar.Cache(small_config()) as cache:
        sequence = cache.open()
        q, k, v = random_qkv(1, 400)
        fill(cache, sequence, k, v, q)
        layers = [cache.layer_stats(layer) for layer in range(small_config().n_layers)]
        found = samples(prometheus(cache.stats(), layer_stats=layers, rank="0"))
        for layer in layers:
            assert 0 < layer.n_values_clipped < 0.1 * layer.n_value_elements
            for name, field in (("packed", "n_key_elements"), ("clipped", "n_keys_clipped"), ("worse", "n_keys_worse")):
                what = "head_blocks" if name == "worse" else "elements"
                value = found[f"oscar_{name}_{what}_total", f'layer="{layer.layer}",side="key",rank="0"']
                assert value == getattr(layer, field)
        assert found["oscar_clipped_elements_total", 'layer="0",side="value",rank="0"'] == layers[0].n_values_clipped
        with pytest.raises(oscar.InvalidError, match="layer is"):
            cache.layer_stats(len(layers))


def test_labels_are_escaped_and_bad_ones_refused(stats):
    found = samples(prometheus(stats, model='a "b" \\ c\nd', rank="0"))
    assert all(labels.endswith(r'model="a \"b\" \\ c\nd",rank="0"') for _, labels in found)
    for labels in ({"kind": "x"}, {"layer": "x"}, {"__name": "x"}, {"a-b": "x"}):
        with pytest.raises(ValueError, match="cannot be a label"):
            prometheus(stats, **labels)
    with pytest.raises(ValueError, match="prefix"):
        prometheus(stats, prefix="9x")

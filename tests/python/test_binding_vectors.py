"""The golden vectors of tests/vectors (README.md there has the format), through the Python package."""

import os
import pathlib

import numpy as np
import pytest

import oscar
from oscar import _oscar

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "vectors"
NAMES = (FOLDER / "index").read_text().split()


def generate(state, shape):
    """The generator of the inputs; also its state after them."""
    values = np.empty(np.prod(shape), np.float32)
    for i in range(len(values)):
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        values[i] = ((state >> 24) - 127.5) / 64
    return values.reshape(shape), state


def integers(fields):
    return {name: int(value) for name, value in zip(fields[::2], fields[1::2])}


def frequencies(key_dim):
    """Pair i turns by 2^-i, which is exact in every language."""
    return 0.5 ** np.arange(key_dim // 2, dtype=np.float32)


class Player:
    """What the labels of a file stand for, and a method for every directive."""

    def __init__(self):
        self.tolerance = 0.0
        self.cache = self.calibrator = None
        self.next = {}  # what lines said of the next configuration
        self.forget()

    def forget(self):
        if self.cache is not None:
            self.cache.close()
        self.cache = self.config = None
        self.sequences = {0: oscar.PADDING}
        self.steps = {}
        self.results = {}

    def compare(self, got, words):
        wanted = np.array([int(word, 16) for word in words], np.uint32).view(np.float32)
        assert got.shape == wanted.shape
        with np.errstate(invalid="ignore"):
            near = (got == wanted) | (abs(got.astype(np.float64) - wanted) <= self.tolerance)
        assert near.all(), f"result {near.argmin()} is {got[near.argmin()]}, wanted {wanted[near.argmin()]}"

    def do_tolerance(self, value):
        self.tolerance = float(value)

    def do_status(self, name, number):
        known = {"OSCAR_OK": 0, **{n: getattr(_oscar, n) for n in dir(_oscar) if n.startswith("OSCAR_E_")}}
        assert known[name] == int(number) and _oscar.oscar_status_name(int(number)) == name

    def do_layer_config(self, layer, *fields):
        layers = self.next.setdefault("layers", [])
        assert int(layer) == len(layers), "this is the configuration of another layer"
        layers.append(oscar.LayerConfig(**integers(fields)))

    def do_self_calibrate(self):
        self.next["self_calibrate"] = oscar.SelfCalibration()

    def _read_config(self, profile, fields):
        values, self.next = {**integers(fields), **self.next}, {}
        self_calibrate = values.get("self_calibrate")
        if self_calibrate is not None:
            self_calibrate.rope_frequencies = frequencies(values["key_dim"])
        return oscar.Config(profile, **values)

    def do_cache(self, profile, *fields):
        self.forget()
        self.config = self._read_config(profile, fields)
        self.cache = oscar.Cache(self.config)

    def do_calibrator(self, profile, *fields):
        self.calibrated = self._read_config(profile, fields)
        self.calibrator = oscar.Calibrator(self.calibrated, frequencies(self.calibrated.key_dim))

    def do_feed(self, layer, first, n, seed):
        g, n = self.calibrated.layer(int(layer)), int(n)
        k, state = generate(int(seed), (n, g.n_kv_heads, g.key_dim))
        v, state = generate(state, (n, g.n_kv_heads, g.value_dim))
        q, state = generate(state, (n, g.n_q_heads, g.key_dim))
        self.calibrator.feed(int(layer), int(first), q, k, v)

    def do_finish(self):
        self.next["calibration"] = self.calibrator.finish()

    def do_backend(self, name, *cache):
        before = os.environ.get("OSCAR_BACKEND")
        os.environ["OSCAR_BACKEND"] = name
        try:
            self.do_cache(*cache)
        finally:
            del os.environ["OSCAR_BACKEND"]
            if before is not None:
                os.environ["OSCAR_BACKEND"] = before

    def do_load(self, data):
        oscar.Calibration.load(bytes.fromhex(data))

    def do_freeze(self):
        self.cache.freeze()

    def do_open(self, label):
        self.sequences[int(label)] = self.cache.open()

    def do_close(self, label):
        self.sequences[int(label)].close()

    def do_fork(self, parent, n, child):
        self.sequences[int(child)] = self.sequences[int(parent)].fork(int(n))

    def do_truncate(self, label, n):
        self.sequences[int(label)].truncate(int(n))

    def do_accept(self, label, base, *indices):
        self.sequences[int(label)].accept(int(base), [int(i) for i in indices])

    def do_length(self, label, *n):
        assert [self.sequences[int(label)].length] == [int(i) for i in n]

    def do_begin(self, label, *entries):
        numbers = [int(word) for word in entries]
        entries = zip((self.sequences[s] for s in numbers[::3]), numbers[1::3], numbers[2::3])
        self.steps[int(label)] = self.cache.step(list(entries))

    def do_append(self, label, layer, seed):
        self._compute(label, layer, seed, (), appends=True, attends=False)

    def do_attend(self, label, layer, seed, *options):
        self._compute(label, layer, seed, options, appends=False, attends=True)

    def do_layer(self, label, layer, seed, *options):
        self._compute(label, layer, seed, options, appends=True, attends=True)

    def _compute(self, label, layer, seed, options, appends, attends):
        step, g, state = self.steps[int(label)], self.config.layer(int(layer)), int(seed)
        n, inputs = step.n_rows, []
        shapes = [(n, g.n_kv_heads, g.key_dim), (n, g.n_kv_heads, g.value_dim)] * appends
        for shape in shapes + [(n, g.n_q_heads, g.key_dim)] * attends:
            values, state = generate(state, shape)
            inputs.append(values)
        arguments = {}
        if attends:
            arguments = self._options(options, n, g.n_q_heads)
            self.results["out"] = np.empty((n, g.n_q_heads, g.value_dim), np.float32)
            self.results["lse"] = np.empty((n, g.n_q_heads), np.float32)
            arguments.update(self.results)
        call = step.layer if appends and attends else step.append if appends else step.attend
        call(int(layer), *inputs, **arguments)

    def _options(self, words, n, n_q_heads):
        words, found = list(words), {}
        while words:
            option = words.pop(0)
            if option in ("scale", "softcap"):
                found[option] = float(words.pop(0))
            elif option == "sink":
                found["sink_logits"] = generate(int(words.pop(0)), (n_q_heads,))[0]
            elif option == "mask":
                found["mask"] = np.array([[int(bit) for bit in row] for row in words[:n]], np.uint8)
                del words[:n]
            else:
                pytest.fail(f"{option} is no option")
        return found

    def do_out(self, row, head, *words):
        self.compare(self.results["out"][int(row), int(head)], words)

    def do_lse(self, row, *words):
        self.compare(self.results["lse"][int(row)], words)

    def do_end(self, label):
        self.steps[int(label)].end()

    def do_abort(self, label):
        self.steps[int(label)].abort()

    def do_key(self, label, layer, head, token, *words):
        row = np.empty((1, self.config.layer(int(layer)).key_dim), np.float32)
        self.cache.read(self.sequences[int(label)], int(layer), int(head), int(token), 1, k_out=row)
        self.compare(row[0], words)

    def do_value(self, label, layer, head, token, *words):
        row = np.empty((1, self.config.layer(int(layer)).value_dim), np.float32)
        self.cache.read(self.sequences[int(label)], int(layer), int(head), int(token), 1, v_out=row)
        self.compare(row[0], words)

    def do_scores(self, label, layer, head, first, n, *words):
        scores = np.empty(int(n), np.float32)
        self.cache.scores(self.sequences[int(label)], int(layer), int(head), int(first), int(n), scores)
        self.compare(scores, words)

    def do_stats(self, *fields):
        stats = self.cache.stats()
        assert {name: getattr(stats, name) for name in fields[::2]} == dict(zip(fields[::2], map(int, fields[1::2])))

    def do_merge(self, seed, *words):
        n_parts, n, dim, n_empty = map(int, words[:4])
        outs, state = generate(int(seed), (n_parts, n, dim))
        lses, state = generate(state, (n_parts, n))
        lses[:n_empty, 0] = -np.inf
        out, lse = oscar.merge(outs, lses)
        self.compare(np.concatenate([out.ravel(), lse]), words[4:])


def replay(text):
    """Plays the lines of a file; how many lines of results agreed."""
    lines = text.splitlines()
    assert lines and lines[0] == "oscar-vectors 1", "the first line is not: oscar-vectors 1"
    assert lines[-1] == "done", "the last line is not: done"
    player, wanted, n_results = Player(), None, 0
    for number, line in enumerate(lines[1:-1], 2):
        words = line.split()
        if not words or line.startswith("#"):
            continue
        if words[0] == "fails":
            wanted = words[1], int(words[2])
            continue
        try:
            getattr(player, f"do_{words[0]}")(*words[1:])
            assert wanted is None, f"the call succeeds, wanted {wanted}"
        except oscar.Error as error:
            got = _oscar.oscar_status_name(error.status), error.status
            assert got == wanted, f"line {number}: got {got} ({error}), wanted {wanted}"
        except AssertionError as error:
            raise AssertionError(f"line {number}: {error}") from error
        results = "status", "out", "lse", "key", "value", "scores", "stats", "length", "merge"
        n_results += words[0] in results or wanted is not None
        wanted = None
    assert n_results, "the file compares nothing"
    player.forget()
    return n_results


def test_the_index_names_files():
    assert NAMES


@pytest.mark.parametrize("name", NAMES)
def test_results_and_statuses_are_the_oracles(name):
    assert replay((FOLDER / name).read_text()) > 0


def test_a_file_that_is_empty_cut_off_or_wrong_fails():
    text = (FOLDER / "errors.txt").read_text()
    for broken in (
        "",
        text.removesuffix("done\n"),
        "oscar-vectors 1\ndone\n",
        text.replace("OSCAR_E_STATE -5", "OSCAR_E_STATE -50"),
        text.replace("fails OSCAR_E_NOT_FOUND -4\nlength 2", "length 2"),
        text.replace("length 1 3", "length 1 4"),
    ):
        assert broken != text
        with pytest.raises((AssertionError, AttributeError)):
            replay(broken)

"""Calibrators: what they make of a model's queries, keys and values, and what they refuse."""

import threading

import numpy as np
import pytest

import oscar
from binding_support import attention, bf16_producer, fill, random_qkv, small_config

FREQUENCIES = np.float32(1e4) ** (-np.arange(0, 64, 2, dtype=np.float32) / 64)


def turned(x, pairing):
    """RoPE on [n, heads, dim], by its definition."""
    angle = np.arange(len(x))[:, None, None] * FREQUENCIES.astype(np.float64)
    n = len(FREQUENCIES)
    half = pairing == oscar.RopePairing.HALF
    first, second = (slice(0, n), slice(n, 2 * n)) if half else (slice(0, 2 * n, 2), slice(1, 2 * n, 2))
    a, b = x[..., first], x[..., second]
    out = x.astype(np.float32)
    out[..., first] = a * np.cos(angle) - b * np.sin(angle)
    out[..., second] = a * np.sin(angle) + b * np.cos(angle)
    return out


def made_up_qkv(seed, n, key_bias=0.0, pairing=oscar.RopePairing.HALF):
    """Post-RoPE tensors of a made-up model: queries look at some pairs, keys vary in others, as real ones do. key_bias
    is added to all keys before RoPE, on one fast and one slow pair, as Qwen2's do."""
    rng = np.random.default_rng(seed)
    pair = np.concatenate([np.arange(32), np.arange(32)])  # of an element, where pairs are halves
    q = rng.standard_normal((n, 4, 64)) * np.exp(-(pair * 7 % 32) / 8)
    k = rng.standard_normal((n, 2, 64)) * np.exp((pair * 7 % 32) / 16)
    k[..., [2, 34, 28, 60]] += key_bias
    v = rng.standard_normal((n, 2, 64)).astype(np.float32)
    if pairing == oscar.RopePairing.INTERLEAVED:
        q, k = (x.reshape(n, -1, 2, 32).swapaxes(2, 3).reshape(n, -1, 64) for x in (q, k))
    return turned(3 * q, pairing), turned(k, pairing), v


def calibrated(qkv, n_positions=2048, **options):
    calibrator = oscar.Calibrator(small_config(), FREQUENCIES, n_positions=n_positions, **options)
    calibrator.feed(0, 0, *qkv)
    return calibrator.finish()


def matrices(calibration, n_layers=1):
    """[n_layers, 3, n_kv_heads, 64, 64] of a saved calibration: F, the query moment and F_v of every layer."""
    header = -(-(32 + 304 + n_layers * (12 + 2 * 4)) // 8) * 8
    values = np.frombuffer(calibration.save()[header:-8], np.float32)
    return values.reshape(n_layers, 2, 3, 64, 64).swapaxes(1, 2).copy()


def error_of(calibration, q, k, v):
    """Relative error of attention through 2-bit keys and 4-bit values, over the second half of the tokens."""
    bits = {"n_refined": 128, "refined_key_bits": 2, "refined_value_bits": 4}
    with oscar.Cache(small_config(calibration=calibration, **bits)) as cache, cache.open() as sequence:
        out = fill(cache, sequence, k, v, q, chunk=32)
    wanted, _ = attention(q, k, v)
    half = len(q) // 2
    return np.linalg.norm(out[half:] - wanted[half:]) / np.linalg.norm(wanted[half:])


@pytest.mark.parametrize("pairing", oscar.RopePairing)
def test_a_calibrated_cache_is_closer_to_exact_attention(pairing):
    learned, seen = made_up_qkv(1, 512, pairing=pairing), made_up_qkv(2, 1024, pairing=pairing)
    ours = error_of(calibrated(learned, rope_pairing=pairing), *seen)
    assert ours < 0.3 * error_of(None, *seen)
    assert ours < 0.7 * error_of(calibrated(learned, rope_pairing=1 - pairing), *seen)


def test_key_biases_which_ruin_a_data_free_cache_do_no_harm_after_256_tokens():
    learned, seen = made_up_qkv(1, 256, key_bias=100.0), made_up_qkv(2, 1024, key_bias=100.0)
    ours = error_of(calibrated(learned), *seen)
    assert ours < 0.2 * error_of(None, *seen)
    assert ours < 1.1 * error_of(calibrated(made_up_qkv(1, 256)), *made_up_qkv(2, 1024))


def test_a_calibration_is_shaped_saved_and_loaded():
    calibration = calibrated(random_qkv(1, 300))
    info = calibration.info()
    assert info.is_shaped and not info.is_data_free and info.n_layers == 1
    assert oscar.Calibration.load(calibration.save()).info() == info
    plain = calibrated(random_qkv(1, 300), value_basis=oscar.ValueBasis.HADAMARD).info()
    assert plain.is_shaped and plain.bytes < info.bytes


def test_calls_may_be_split_anywhere():
    q, k, v = random_qkv(1, 300)
    whole = calibrated((q, k, v))
    calibrator = oscar.Calibrator(small_config(), FREQUENCIES, n_positions=2048)
    for first, end in ((0, 1), (1, 130), (130, 131), (131, 300)):
        calibrator.feed(0, first, q[first:end], k[first:end], v[first:end])
    # Sums in another order differ in their last bits, and eigenvectors have no sign: F F^T has none of that.
    ours, theirs = (matrices(c)[0] for c in (calibrator.finish(), whole))
    np.testing.assert_allclose(ours[1], theirs[1], atol=1e-6 * np.abs(theirs[1]).max())
    ours, theirs = (f @ f.swapaxes(-1, -2) for f in (ours, theirs))
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())


def test_positions_matter_only_where_rope_is_unknown():
    q, k, v = random_qkv(1, 300)
    still = np.zeros(32, np.float32)

    def finished(frequencies, first):
        calibrator = oscar.Calibrator(small_config(n_sink=0), frequencies, n_positions=300)
        calibrator.feed(0, first, q, k, v)
        return calibrator.finish().info().fingerprint

    assert finished(None, 0) == finished(still, 0) == finished(still, 5000)
    assert finished(FREQUENCIES, 0) != finished(still, 0)


def test_tensors_of_sixteen_bits():
    q, k, v = random_qkv(1, 300)
    halves = [x.astype(np.float16) for x in (q, k, v)]
    assert calibrated(halves).info() == calibrated([x.astype(np.float32) for x in halves]).info()
    assert calibrated([bf16_producer(x) for x in (q, k, v)]).info().is_shaped


def test_layers_with_frequencies_of_their_own():
    q, k, v = random_qkv(1, 300)
    frequencies = np.stack([FREQUENCIES, np.zeros(32, np.float32)])
    calibrator = oscar.Calibrator(small_config(n_layers=2), frequencies, n_positions=2048)
    for layer in range(2):
        calibrator.feed(layer, 0, q, k, v)
    turning, still = matrices(calibrator.finish(), 2)
    np.testing.assert_array_equal(turning, matrices(calibrated((q, k, v)))[0])
    assert not np.array_equal(turning[:2], still[:2])
    np.testing.assert_array_equal(turning[2], still[2])  # values do not turn


def test_a_layer_that_borrows_keys_is_fed_queries_only():
    q, k, v = random_qkv(1, 300)
    layers = [oscar.LayerConfig(), oscar.LayerConfig(kv_source=0), oscar.LayerConfig(storage=oscar.Storage.EXACT)]
    calibrator = oscar.Calibrator(small_config(layers=layers, n_layers=3), FREQUENCIES)
    calibrator.feed(0, 0, q, k, v)
    calibrator.feed(1, 0, q)
    with pytest.raises(oscar.InvalidError, match="layer 1 attends to the keys of layer 0: wanted absent k and v"):
        calibrator.feed(1, 0, q, k, v)
    calibration = calibrator.finish()
    oscar.Cache(small_config(layers=layers, n_layers=3, calibration=calibration, writer=oscar.Writer.SHAPED)).close()


def test_what_is_fed_is_checked():
    q, k, v = random_qkv(1, 300)
    calibrator = oscar.Calibrator(small_config(), FREQUENCIES)
    with pytest.raises(oscar.StateError, match="layer 0 has been fed nothing"):
        calibrator.finish()
    calibrator.feed(0, 0, q[:20], k[:20], v[:20])
    with pytest.raises(oscar.StateError, match=r"layer 0: 0 keys count, wanted at least 128.*first 4 of a sequence"):
        calibrator.finish()
    for wrong, words in (
        ((1, 0, q, k, v), "layer is 1, the configuration has 1 layers"),
        ((0, 0, q, k[:200], v), r"k: shape\[0\] is 200, wanted 300"),
        ((0, 0, q[:, :2], k, v), r"q: shape\[1\] is 2, wanted 4"),
        ((0, 0, q, k, v.astype(np.float64)), "v: dtype code 2, 64 bits"),
        ((0, 0, q, None, v), "k: data is NULL"),
        ((0, 0, q[:0], k[:0], v[:0]), r"q: shape\[0\] is 0, wanted at least 1"),
        ((0, 1 << 31, q, k, v), "first_position is 2147483648 and there are 300 tokens"),
    ):
        with pytest.raises(oscar.InvalidError, match=words):
            calibrator.feed(*wrong)
    broken = k.copy()
    broken[3, 1, 7] = np.nan
    with pytest.raises(oscar.InvalidError, match=r"layer 0: k\[3\]\[1\]\[7\] is nan, wanted finite numbers"):
        calibrator.feed(0, 20, q, broken, v)
    calibrator.feed(0, 20, q, k, v)
    assert calibrator.finish().info().is_shaped


def test_degenerate_keys_are_refused_with_layer_and_head():
    q, k, v = random_qkv(1, 300)
    k[:, 1] = 3.0
    with pytest.raises(oscar.InvalidError, match="layer 0, head 1: the keys of a block are all the same"):
        calibrated((q, k, v))
    q, k, v = random_qkv(1, 300)
    v[:, 0] = 0.0
    with pytest.raises(oscar.InvalidError, match="layer 0, head 0: the values are zero"):
        calibrated((q, k, v))
    assert calibrated((q, k, v), value_basis=oscar.ValueBasis.HADAMARD).info().is_shaped


def test_without_frequencies_only_positions_that_were_fed_are_served():
    q, k, v = random_qkv(1, 300)
    calibrator = oscar.Calibrator(small_config())
    calibrator.feed(0, 0, q, k, v)
    with pytest.raises(oscar.StateError, match="2048 positions are to be served and tokens come from the first 300"):
        calibrator.finish()
    calibrator.feed(0, 1748, q, k, v)
    assert calibrator.finish().info().is_shaped


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rope_frequencies": np.zeros(33, np.float32)}, r"shape\[0\] is 33, allowed: 1 .. key_dim / 2 = 32"),
        ({"rope_frequencies": np.zeros((2, 32), np.float32)}, r"shape\[0\] is 2, wanted 1"),
        ({"rope_frequencies": np.zeros((1, 1, 32), np.float32)}, "ndim is 3"),
        ({"rope_frequencies": np.zeros(32)}, "rope_frequencies: dtype code 2, 64 bits"),
        ({"rope_frequencies": np.full(32, np.inf, np.float32)}, "layer 0 has inf"),
        ({"rope_pairing": 2}, "rope_pairing is 2"),
        ({"value_basis": 2}, "value_basis is 2"),
        ({"n_positions": (1 << 31) + 1}, "n_positions is 2147483649"),
    ],
)
def test_a_wrong_argument_is_named(options, words):
    with pytest.raises(oscar.InvalidError, match=words):
        oscar.Calibrator(small_config(), **options)
    with pytest.raises(TypeError, match="config is a dict"):
        oscar.Calibrator({})


def test_threads_wait_for_one_another():
    q, k, v = random_qkv(1, 300)
    calibrator = oscar.Calibrator(small_config(n_layers=4), FREQUENCIES, n_positions=2048)
    threads = [threading.Thread(target=calibrator.feed, args=(layer, 0, q, k, v)) for layer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    of_layers = matrices(calibrator.finish(), 4)
    assert all(np.array_equal(of_layers[0], other) for other in of_layers)

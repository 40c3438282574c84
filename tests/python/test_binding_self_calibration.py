"""Caches that calibrate themselves: what freezing is worth, what it returns, and what is refused."""

import numpy as np
import pytest

import oscar
from binding_support import attention, bf16, exact_config, fill, random_qkv, small_config
from test_binding_calibrator import FREQUENCIES, made_up_qkv


def self_calibrated(**changes):
    return small_config(self_calibrate=oscar.SelfCalibration(FREQUENCIES, n_positions=2048, model="made up"), **changes)


def error_after(cache, sequence, qkv, n_read):
    """Relative error of attention over the tokens from n_read on."""
    q, k, v = qkv
    out = fill(cache, sequence, k[n_read:], v[n_read:], q[n_read:], chunk=32)
    wanted = attention(q, k, v)[0][n_read:]
    return np.linalg.norm(out - wanted) / np.linalg.norm(wanted)


@pytest.mark.parametrize("key_bias", [0.0, 100.0])
def test_256_tokens_make_the_rest_of_their_own_sequence_better(key_bias):
    qkv = made_up_qkv(1, 1024, key_bias=key_bias)
    bits = {"n_refined": 128, "refined_key_bits": 2, "refined_value_bits": 4}
    errors = {}
    for name, config in {"data-free": small_config(**bits), "self": self_calibrated(**bits)}.items():
        with oscar.Cache(config) as cache, cache.open() as sequence:
            fill(cache, sequence, *(x[:256] for x in (qkv[1], qkv[2], qkv[0])), chunk=32)
            if name == "self":
                assert cache.stats().state == oscar.CacheState.COLLECTING
                info = cache.freeze().info()
                assert info.n_data_free_heads == 0
            assert cache.stats().state == oscar.CacheState.FROZEN
            errors[name] = error_after(cache, sequence, qkv, 256)
    assert errors["self"] < (0.3 if key_bias == 0 else 0.2) * errors["data-free"]


def test_everything_is_exact_until_the_freeze():
    q, k, v = random_qkv(3, 600)
    with oscar.Cache(self_calibrated()) as cache, oscar.Cache(exact_config()) as exact:
        with cache.open() as a, exact.open() as b:
            assert np.array_equal(fill(cache, a, k, v, q), fill(exact, b, k, v, q))
            got = np.stack([cache.read(a, 0, head)[0] for head in range(2)], 1)
            assert np.array_equal(got, bf16(k))


def test_the_calibration_says_where_it_comes_from_and_packs_the_same_in_another_cache():
    qkv = made_up_qkv(1, 500)
    with oscar.Cache(self_calibrated(n_refined=0)) as cache, cache.open() as sequence:
        fill(cache, sequence, qkv[1], qkv[2], qkv[0])
        calibration = cache.freeze()
        mine = cache.read(sequence, 0, 1)
    info = calibration.info()
    assert info.source == oscar.CalibrationSource.CACHE and info.model == "made up" and info.note == ""
    assert (info.n_tokens, info.end_position, info.n_positions) == (496, 500, 2048)
    assert info.knows_rope and info.n_heads == 2 and "shaped" in info.objective
    loaded = oscar.Calibration.load(calibration.save())
    assert loaded.info() == info
    with oscar.Cache(small_config(n_refined=0, calibration=loaded)) as cache, cache.open() as sequence:
        fill(cache, sequence, qkv[1], qkv[2], qkv[0])
        for a, b in zip(mine, cache.read(sequence, 0, 1)):
            assert np.array_equal(a, b)
        assert cache.stats().bytes_calibration == info.bytes


def test_check_predicts_both_states():
    config = self_calibrated()
    report = oscar.check(config, 1000)
    plain = oscar.check(small_config(), 1000)
    assert report.served and report.bytes_sequences > 4 * report.bytes_sequences_frozen
    assert report.bytes_sequences_frozen == plain.bytes_sequences == plain.bytes_sequences_frozen
    assert plain.bytes_fixed == plain.bytes_fixed_frozen
    with oscar.Cache(config) as cache, cache.open() as sequence:
        assert cache.stats().bytes_fixed == report.bytes_fixed
        q, k, v = made_up_qkv(1, 1000)
        fill(cache, sequence, k, v, q)
        with pytest.raises(ZeroDivisionError), cache.step([(sequence, 1)]):
            assert cache.stats().bytes_sequences == report.bytes_sequences
            1 / 0  # aborts the step
        cache.freeze()
        with pytest.raises(ZeroDivisionError), cache.step([(sequence, 1)]):
            assert cache.stats().bytes_sequences == report.bytes_sequences_frozen
            assert cache.stats().bytes_fixed <= report.bytes_fixed_frozen
            1 / 0


def test_refusals():
    q, k, v = random_qkv(1, 100)
    with oscar.Cache(self_calibrated()) as cache, cache.open() as sequence:
        fill(cache, sequence, k, v, q)
        with pytest.raises(oscar.StateError, match="a sequence of 196 tokens has them"):
            cache.freeze()
        with pytest.raises(oscar.StateError, match="oscar_cache_freeze comes first"):
            cache.step([(sequence, 1)], replay=True)
        fill(cache, sequence, k, v, q)
        with pytest.raises(oscar.StateError, match="1 steps are open"), cache.step([(sequence, 1)]):
            cache.freeze()
        cache.freeze()
        with pytest.raises(oscar.StateError, match="frozen already"):
            cache.freeze()
    with oscar.Cache(small_config()) as cache, pytest.raises(oscar.StateError, match="without self_calibrate"):
        cache.freeze()
    with pytest.raises(oscar.UnsupportedError, match="on the CPU only"):
        oscar.Cache(self_calibrated(device="cuda"))
    assert "on the CPU only" in oscar.check(self_calibrated(device="cuda"), 100).reason
    free = oscar.Calibration.data_free(small_config())
    with pytest.raises(oscar.InvalidError, match="both given"):
        oscar.Cache(self_calibrated(calibration=free))
    with pytest.raises(TypeError, match="wanted an oscar.SelfCalibration"):
        oscar.Cache(small_config(self_calibrate=FREQUENCIES))
    with pytest.raises(oscar.InvalidError, match="dtype"):
        oscar.Cache(small_config(self_calibrate=oscar.SelfCalibration(np.zeros(32, np.float16))))
    with pytest.raises(oscar.InvalidError, match="model has more than 63 bytes"):
        oscar.Cache(small_config(self_calibrate=oscar.SelfCalibration(FREQUENCIES, model="\u00e9" * 32)))
    with pytest.raises(TypeError):
        oscar.Cache(small_config(self_calibrate=oscar.SelfCalibration(FREQUENCIES, note=3)))


def test_slices_keep_their_heads():
    qkv = made_up_qkv(1, 300)
    with oscar.Cache(self_calibrated()) as cache, cache.open() as sequence:
        fill(cache, sequence, qkv[1], qkv[2], qkv[0])
        whole = cache.freeze()
    part = whole.slice([(0, 1, 1)])
    assert part.info().n_heads == 1 and part.info().model == "made up"
    assert part.head(0, 0) == whole.head(0, 1) and part.head(0, 0).is_shaped
    assert whole.head(0, 0).fingerprint != whole.head(0, 1).fingerprint
    assert oscar.Calibration.load(part.save()).head(0, 0) == part.head(0, 0)
    config = small_config(n_q_heads=2, n_kv_heads=1, calibration=part)
    with oscar.Cache(config) as cache:
        assert cache.stats().bytes_calibration == part.info().bytes < whole.info().bytes
    for parts in ([(1, 0, 1)], [(0, 2, 1)], [(0, 1, 2)], []):
        with pytest.raises(oscar.InvalidError):
            whole.slice(parts)
    with pytest.raises(oscar.InvalidError, match="has 2 items, wanted 3"):
        whole.slice([(0, 1)])
    with pytest.raises(oscar.InvalidError):
        whole.head(0, 2)

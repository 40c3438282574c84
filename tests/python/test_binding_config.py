"""Configurations, reports and calibrations."""

import numpy as np
import pytest
from binding_support import attention, bf16, exact_config, fill, random_qkv, small_config

import oscar


def test_defaults_come_from_the_profile():
    plain, refined, exact = (oscar.Config(profile) for profile in ("2bit-plain", "2bit", "exact"))
    assert (plain.n_refined, refined.n_refined) == (0, 4)
    assert (refined.refined_key_bits, refined.refined_value_bits) == (4, 4)
    assert refined.storage == oscar.Storage.BLOCKS and exact.storage == oscar.Storage.EXACT
    assert oscar.Config() == refined != plain
    assert refined.n_recent > 0 and refined.max_rollback <= refined.n_recent


def test_what_is_given_replaces_the_default():
    config = oscar.Config("2bit", n_refined=7, window=0, writer=oscar.Writer.PLAIN, max_tokens=2**40)
    assert (config.n_refined, config.window, config.writer, config.max_tokens) == (7, 0, 1, 2**40)
    assert "n_refined=7" in repr(config)


def test_unknown_names_are_refused():
    with pytest.raises(TypeError, match="n_recant"):
        oscar.Config(n_recant=3)
    with pytest.raises(AttributeError):
        oscar.Config().n_recant = 3
    with pytest.raises(TypeError):
        oscar.LayerConfig(n_recant=3)


def test_numbers_out_of_range_are_named():
    for value in (-1, 2**32):
        with pytest.raises(oscar.InvalidError, match=f"n_sink is {value}, wanted an integer from 0 to 4294967295"):
            oscar.check(small_config(n_sink=value), 1)
    with pytest.raises(oscar.InvalidError, match="capacity_bytes"):
        oscar.check(small_config(capacity_bytes=2**64), 1)
    with pytest.raises(TypeError, match="n_sink is a float"):
        oscar.check(small_config(n_sink=1.5), 1)
    with pytest.raises(oscar.InvalidError, match="window is -2"):
        oscar.check(small_config(layers=[oscar.LayerConfig(window=-2)]), 1)
    with pytest.raises(TypeError, match="calibration is a str"):
        oscar.check(small_config(calibration="file"), 1)
    with pytest.raises(TypeError, match="wanted an oscar.Config"):
        oscar.check({}, 1)


def test_missing_geometry_is_refused():
    with pytest.raises(oscar.InvalidError):
        oscar.check(oscar.Config(), 1000)


def test_report():
    geometry = dict(n_layers=4, n_q_heads=32, n_kv_heads=8, key_dim=128, capacity_bytes=8 << 30)
    report = oscar.check(oscar.Config("2bit", max_tokens=32768, **geometry), 32000)
    assert report.served and report.context == 32000 and report.reason == ""
    assert report.bytes_bf16 == 4 * 32000 * 8 * (128 + 128) * 2
    assert 0 < report.bytes_sequences < 0.2 * report.bytes_bf16
    assert report.bits_per_element == pytest.approx(8 * report.bytes_sequences / (report.bytes_bf16 / 2))
    assert report.block_bytes > 0 and 2 < report.block_bits_per_element < 2.5
    exact = oscar.check(oscar.Config("exact", max_tokens=32768, **geometry), 32000)
    assert exact.block_bytes == 0 and exact.bits_per_element >= 16


def test_layers_may_differ():
    layers = [oscar.LayerConfig(), oscar.LayerConfig(n_q_heads=2, n_kv_heads=1, key_dim=128, value_dim=64, window=8)]
    config = exact_config(n_layers=None, layers=layers)
    assert config.n_layers == 2
    assert config.layer(0).value_dim == 64 and config.layer(1).key_dim == 128
    narrow, wide = random_qkv(1, 20), random_qkv(2, 20, 2, 1, 128, 64)
    with oscar.Cache(config) as cache, cache.open() as sequence:
        with cache.step([(sequence, 20)]) as step:
            outs = [step.layer(i, k, v, q) for i, (q, k, v) in enumerate((narrow, wide))]
            with pytest.raises(oscar.InvalidError, match="layer is 2, the cache has 2"):
                step.attend(2, narrow[0])
        assert cache.read(sequence, 1, 0, 15, 5)[0].shape == (5, 128)
    distance = np.arange(20)[:, None] - np.arange(20)[None, :]
    for got, (q, k, v), window in zip(outs, (narrow, wide), (20, 8)):
        wanted = attention(q, bf16(k), bf16(v), visible=(distance >= 0) & (distance < window))[0]
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


def test_a_layer_may_share_the_keys_of_another():
    layers = [oscar.LayerConfig(), oscar.LayerConfig(kv_source=0)]
    q, k, v = random_qkv(3, 12)
    with oscar.Cache(exact_config(n_layers=2, layers=layers)) as cache, cache.open() as sequence:
        with cache.step([(sequence, 12)]) as step:
            one = step.layer(0, k, v, q)
            other = step.attend(1, q)
    np.testing.assert_array_equal(one, other)


# ------------------------------------------------------------------------------------------ calibrations ----


def test_kinds_of_calibration():
    config = small_config(n_layers=2)
    free, identity = oscar.Calibration.data_free(config), oscar.Calibration.identity(config)
    assert free.info().is_data_free and not identity.info().is_data_free
    assert free.info().n_layers == identity.info().n_layers == 2
    assert free.info().fingerprint != identity.info().fingerprint
    assert free.info() == oscar.Calibration.data_free(config).info()
    assert not free.info().is_shaped and free.info().bytes > 0


def test_save_and_load():
    saved = oscar.Calibration.identity(small_config()).save()
    assert isinstance(saved, bytes)
    for data in (saved, bytearray(saved), memoryview(saved), np.frombuffer(saved, np.uint8)):
        loaded = oscar.Calibration.load(data)
        assert loaded.save() == saved
    for broken in (saved[:-1], saved + b"x", bytes([saved[0] ^ 1]) + saved[1:]):
        with pytest.raises(oscar.CorruptError):
            oscar.Calibration.load(broken)


def layer(seed=1, moment=True):
    rng = np.random.default_rng(seed)
    orthogonal = np.stack([np.linalg.qr(rng.standard_normal((64, 64)))[0] for _ in range(2)]).astype(np.float32)
    queries = rng.standard_normal((2, 500, 64))
    second = (queries.swapaxes(1, 2) @ queries / 500).astype(np.float32)
    return oscar.CalibrationLayer(orthogonal, second if moment else None, orthogonal)


def test_from_layers():
    shaped = oscar.Calibration.from_layers([layer()])
    assert shaped.info().is_shaped and not shaped.info().is_data_free
    plain = oscar.Calibration.from_layers([layer(moment=False)])
    assert not plain.info().is_shaped
    assert oscar.Calibration.load(shaped.save()).info() == shaped.info()


def test_absent_matrices_need_sizes():
    with pytest.raises(oscar.InvalidError, match=r"layers\[0\].n_kv_heads is not given"):
        oscar.Calibration.from_layers([oscar.CalibrationLayer()])
    sizes = oscar.CalibrationLayer(n_kv_heads=2, key_dim=64, value_dim=64)
    assert oscar.Calibration.from_layers([sizes]).info().n_layers == 1


def test_bad_matrices_are_named():
    good = layer()
    singular = oscar.CalibrationLayer(np.zeros((2, 64, 64), np.float32), None, good.value_transform)
    with pytest.raises(oscar.InvalidError, match="layer 1"):
        oscar.Calibration.from_layers([good, singular])
    with pytest.raises(TypeError, match="key_transform is a list"):
        oscar.Calibration.from_layers([oscar.CalibrationLayer([[1.0]], n_kv_heads=2, key_dim=64, value_dim=64)])


def test_a_cache_uses_its_calibration():
    q, k, v = random_qkv(4, 400)
    wanted = attention(q, bf16(k), bf16(v))[0]
    outs = []
    for calibration in (None, oscar.Calibration.identity(small_config()), oscar.Calibration.from_layers([layer()])):
        cache = oscar.Cache(small_config(calibration=calibration))
        del calibration  # the cache keeps what it needs
        with cache, cache.open() as sequence:
            outs.append(fill(cache, sequence, k, v, q, chunk=32))
    for i, out in enumerate(outs):
        assert np.linalg.norm(out[200:] - wanted[200:]) < 0.6 * np.linalg.norm(wanted[200:])
        assert all(not np.array_equal(out, other) for other in outs[:i])


def test_a_calibration_is_made_by_its_class_methods():
    with pytest.raises(TypeError):
        oscar.Calibration(b"bytes")


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:1", ""])
def test_a_device_that_does_not_exist_is_refused_by_name(device):
    with pytest.raises(oscar.InvalidError, match="device is"):
        oscar.check(oscar.Config(n_layers=1, n_q_heads=1, n_kv_heads=1, key_dim=64, device=device), 100)


def test_a_device_that_cannot_be_used_is_not_served_and_says_why():
    report = oscar.check(oscar.Config(n_layers=1, n_q_heads=1, n_kv_heads=1, key_dim=64, device="cuda:63"), 100)
    assert not report.served
    assert "CUDA" in report.reason


def test_a_stream_on_the_cpu_is_refused():
    cache = oscar.Cache(oscar.Config(n_layers=1, n_q_heads=1, n_kv_heads=1, key_dim=64))

    class Stream:
        cuda_stream = 4096

    with pytest.raises(oscar.InvalidError, match="no streams"):
        cache.step([(cache.open(), 1)], stream=Stream())
    with pytest.raises(oscar.InvalidError, match="graphs"):
        cache.step([(cache.open(), 1)], replay=True)

"""Each rival's numbers against cases computed by hand, and its bits against its stored fields counted one by one."""

import numpy as np
import pytest
from evaluate_support import TinyModel
from oscar.evaluate import Library
from quality.quantizer import Fp8, HadamardMinMax, Kivi, PublishedOscar, TurboQuant, min_max
from quality.roster import library_bits
from smollm2.published_oscar import hadamard

row = lambda *x: np.array(x, np.float32)
stack = lambda x: np.asarray(x, np.float32)[None, None]  # one layer, one KV head
ROUNDING = dict(rtol=0, atol=2e-5)  # of float32 rotations there and back


def test_fp8_has_three_mantissa_bits_ties_to_even_subnormals_and_saturates():
    given = row(1.0, 1.0625, 1.1875, -3.3, 448, 500, -1e6, 2**-9, 2**-10, 3 * 2**-10, 0)
    wanted = row(1.0, 1.0, 1.25, -3.25, 448, 448, -448, 2**-9, 0, 2**-8, 0)
    np.testing.assert_array_equal(Fp8().round(given), wanted)


def test_fp8_leaves_its_own_256_numbers_alone():
    codes = np.arange(256)
    sign, exponent, mantissa = codes >> 7, codes >> 3 & 15, codes & 7
    value = np.where(exponent == 0, mantissa * 2.0**-9, (8 + mantissa) * 2.0 ** (exponent - 10))
    value = (np.where(sign, -value, value)[(codes & 127) != 127]).astype(np.float32)  # 127 is NaN
    np.testing.assert_array_equal(Fp8().round(value), value)


def test_min_max_spreads_its_levels_from_minimum_to_maximum():
    # Scale 2: codes 0, 0.5 -> 0, 1, 3.
    np.testing.assert_array_equal(min_max(row(0, 1, 2, 6), 2), row(0, 0, 2, 6))
    np.testing.assert_array_equal(min_max(row(-7.5, 0.4, 7.5, -0.6), 4), row(-7.5, 0.5, 7.5, -0.5))
    np.testing.assert_array_equal(min_max(row(3, 3, 3, 3), 2), row(3, 3, 3, 3))


def test_min_max_stores_scale_and_minimum_in_sixteen_bits():
    # The minimum 1/3 is 0.333251953125 as float16, the scale (4/3 - 1/3) / 3 is the same number.
    third = np.float32(0.333251953125)
    np.testing.assert_array_equal(min_max(row(1 / 3, 4 / 3), 2), row(third, third + 3 * third))


@pytest.mark.parametrize("n_bits", [2, 4])
def test_hadamard_min_max_is_exact_where_rotated_rows_lie_on_its_levels(n_bits):
    levels = 2**n_bits
    rotated = np.arange(64, dtype=np.float32).reshape(1, 64) * 7 % levels - 1
    assert set(rotated.ravel()) == set(range(-1, levels - 1))
    x = stack(rotated @ hadamard(64).T)
    k, v = HadamardMinMax(n_bits)(x, 2 * x)
    np.testing.assert_allclose(k, x, **ROUNDING)
    np.testing.assert_allclose(v, 2 * x, **ROUNDING)


def test_kivi_groups_keys_along_tokens_and_values_along_channels():
    token, channel = np.arange(128)[:, None], np.arange(64)[None, :]
    along_tokens = stack((1 + channel) * (token % 4) + 100 * (token // 32))  # four levels in 32 tokens of a channel
    along_channels = stack((1 + token) * (channel % 4) + 100 * (channel // 32))
    k, v = Kivi(2)(along_tokens, along_channels)
    np.testing.assert_array_equal(k, along_tokens)
    np.testing.assert_array_equal(v, along_channels)
    k, v = Kivi(2)(along_channels, along_tokens)
    assert np.abs(k - along_channels).max() > 1 and np.abs(v - along_tokens).max() > 1


def test_turboquant_rounds_to_the_four_levels_of_a_gaussian():
    # The rms of (3, 1, -1, 1) is sqrt(3), 1.732421875 in float16; 1 / 1.73 lies below the threshold, 3 / 1.73 above.
    scale = 1.732421875
    wanted = row(1.510 * scale, 0.4528 * scale, -0.4528 * scale, 0.4528 * scale)
    np.testing.assert_allclose(TurboQuant().round(row(3, 1, -1, 1)), wanted, rtol=1e-6)


def test_turboquant_rotates_by_signs_and_hadamard():
    signs = np.random.default_rng(5).choice([-1.0, 1.0], 64)
    x = stack(np.eye(64)[:1] * 3)  # rotated: 64 elements of 3 / 8, all as far from 0 as the rms
    k, v = TurboQuant(seed=5)(x, x)
    np.testing.assert_allclose(k, 1.510 * x, rtol=1e-5, atol=1e-5)
    assert {-1.0, 1.0} == set(signs)


def test_published_oscar_clips_at_a_quantile_and_uses_four_levels():
    identity = np.eye(64, dtype=np.float32)[None, None]
    quantize = PublishedOscar(identity, identity)
    plain = np.arange(64) % 4 - 1.0  # -1 0 1 2: scale 1, zero 1
    outliers = plain.copy()
    outliers[[3, 7]] = 50, -50  # the 0.96 quantile of |x| is the 62nd of 64, the 0.92 quantile the 59th
    more = outliers.copy()
    more[[11, 15]] = 50, -50
    k, v = quantize(*[stack([plain, outliers, more])] * 2)
    np.testing.assert_allclose(k[0, 0, 0], plain, atol=1e-3)
    assert k[0, 0, 1].max() == pytest.approx(2, abs=0.01) and k[0, 0, 1].min() == pytest.approx(-2, abs=0.01)
    assert k[0, 0, 2].max() == pytest.approx(50, abs=0.1)
    assert v[0, 0, 2].max() == pytest.approx(2, abs=0.01)


def test_published_oscar_rotates_keys_and_values_by_their_own_rotation():
    turn = hadamard(64).astype(np.float32)[None, None]
    identity = np.eye(64, dtype=np.float32)[None, None]
    plain = stack([np.arange(64) % 4 - 1.0])
    k, v = PublishedOscar(turn, identity)(plain @ turn.swapaxes(-1, -2), plain)
    np.testing.assert_allclose(k, plain @ turn.swapaxes(-1, -2), atol=2e-3)
    np.testing.assert_allclose(v, plain, atol=1e-3)


def counted(head_dim, n_code_bits, n_float16):
    """Bits per element of 128 tokens of keys and values of one head."""
    n_elements = 2 * 128 * head_dim
    return n_code_bits + 16 * n_float16(head_dim) / n_elements


per_row = lambda n: lambda d: n * 2 * 128
IDENTITY = np.eye(64, dtype=np.float32)


@pytest.mark.parametrize("head_dim", [64, 128])
@pytest.mark.parametrize(
    ("quantizer", "n_code_bits", "n_float16"),
    [
        (Fp8(), 8, per_row(0)),
        (HadamardMinMax(4), 4, per_row(2)),
        (HadamardMinMax(2), 2, per_row(2)),
        (Kivi(2), 2, lambda d: 2 * (128 // 32 * d) + 2 * (128 * d // 32)),
        (Kivi(4), 4, lambda d: 2 * (128 // 32 * d) + 2 * (128 * d // 32)),
        (TurboQuant(), 2, per_row(1)),
        (PublishedOscar(IDENTITY, IDENTITY), 2, per_row(2)),
    ],
)
def test_bits_are_all_stored_bits(quantizer, n_code_bits, n_float16, head_dim):
    assert quantizer.bits(head_dim) == counted(head_dim, n_code_bits, n_float16)


def test_bits_at_head_dim_64_are_those_of_the_protocol():
    bits = [q.bits(64) for q in (Fp8(), HadamardMinMax(4), HadamardMinMax(2), Kivi(2), Kivi(4), TurboQuant())]
    assert bits == [8, 4.5, 2.5, 3, 5, 2.25]
    assert PublishedOscar(IDENTITY, IDENTITY).bits(64) == 2.5


def test_bits_of_liboscar_are_its_codes_scales_mean_and_ids():
    # Codes; an 8-bit scale a row; the key mean, 8 bits a channel, and its float32 scale; two float32 bases and flags.
    plain = 128 * 64 * 2 * 2 + 128 * 8 * 2 + 64 * 8 + 4 * 32
    refined = 4 * 64 * 2 * 2 + 16 * 8  # two more bits for four tokens, and ids padded to 16 bytes
    n_elements = 2 * 128 * 64
    assert library_bits(TinyModel, Library("2bit-plain")) == pytest.approx(plain / n_elements, abs=0.01)
    assert library_bits(TinyModel, Library("2bit")) == pytest.approx((plain + refined) / n_elements, abs=0.01)

"""The bits of profiles that docs/quality.md states are those that the library counts."""

import pathlib

import oscar
import pytest

DOCUMENT = pathlib.Path(__file__).resolve().parents[2] / "docs" / "quality.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")
TABLE = TEXT.partition("<!-- ladder -->")[2].partition("<!-- end ladder -->")[0]
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TABLE.strip().splitlines()[2:]]


def report(name, head_dim):
    profile, _, refined = name.partition(", n_refined = ")
    settings = {"n_refined": int(refined)} if refined else {}
    config = oscar.Config(profile=profile.strip("`"), n_layers=1, n_q_heads=8, n_kv_heads=8, key_dim=head_dim,
                          max_tokens=4096, capacity_bytes=1 << 30, **settings)
    return config, oscar.check(config, 4096)


def test_every_profile_has_a_row():
    with pytest.raises(oscar.InvalidError) as unknown:
        oscar.Config(profile="no such profile")
    known = str(unknown.value).partition("known: ")[2].split(", ")
    assert {row[0].split(",")[0].strip("`") for row in ROWS} == set(known) - {"exact"}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_profile_costs_what_its_row_says(row):
    name, n_refined, widths, *bits = (cell.removesuffix("`").replace("`,", ",") for cell in row)
    for head_dim, stated in zip((64, 128), bits, strict=True):
        config, got = report(name, head_dim)
        assert got.served
        assert f"{got.block_bits_per_element:.3f}" == stated
        assert str(config.n_refined) == n_refined
        assert f"{config.refined_key_bits}, {config.refined_value_bits}" == widths

"""Files filled from a template are what xarray makes of the same data, whatever came before."""

import io

import numpy as np
import pytest
import xarray

from flowlift.store import templates


@pytest.fixture(autouse=True)
def no_templates():
    templates._TEMPLATES.clear()
    yield
    templates._TEMPLATES.clear()


def cell(seed=0, seeds=3, number="float64", **attrs):
    """What a cell has: numbers, texts, coordinates, and now other numbers of the same layout."""
    rng = np.random.default_rng(seed)
    words = np.array(["", "Größe \n" * (seed + 1), "x" * (100 * seed + 1)] * seeds)[:seeds]
    values = rng.normal(size=(1, seeds, 4)).astype(number)
    values[0, 0, 1:] = [np.nan, np.inf, -0.0]
    return xarray.Dataset(
        {
            "loss": (("size", "seed", "time"), values, {"units": "loss"}),
            "steps": (("size", "seed"), rng.integers(0, 2**62, (1, seeds)), {"units": "1"}),
            "reason": (("size", "seed"), words[None], {"units": "1"}),
            "scalar": ((), rng.normal()),
            "none": (("nothing",), np.zeros(0)),
        },
        {
            "size": [4 + seed],
            "seed": ("seed", np.arange(seeds) + seed, {"units": "1"}),
            "time": rng.uniform(size=4),
            "beside": ("seed", words),
        },
        {"schema": 3, "cell": f"{seed:016d}", "study": "text " * 20_000 * seed} | attrs,
    )


def same(data: xarray.Dataset) -> None:
    content = templates.netcdf_bytes(data)
    with xarray.open_dataset(io.BytesIO(content), engine="h5netcdf") as file:
        ours = file.load()
    with xarray.open_dataset(io.BytesIO(templates.made(data)), engine="h5netcdf") as file:
        theirs = file.load()
    xarray.testing.assert_identical(ours, theirs)
    for name, variable in theirs.variables.items():
        assert ours[name].dtype == variable.dtype, name
        if variable.dtype.kind == "f":
            # Bits, signs of zeros included.
            assert ours[name].values.tobytes() == variable.values.tobytes(), name
        assert {k: type(v) for k, v in ours[name].attrs.items()} == {
            k: type(v) for k, v in variable.attrs.items()
        }


def test_cells_of_one_layout_share_a_template():
    for seed in range(3):
        same(cell(seed))
    assert len(templates._TEMPLATES) == 1


OTHERS = {
    "seeds": cell(1, seeds=2),
    "a type": cell(1, number="float32"),
    "an attribute": cell(1, schema=3.0),
    "one more": cell(1, more=1),
    "a name": cell(1).rename(loss="other"),
    "a coordinate": cell(1).reset_coords("beside"),
    "an order": cell(1).transpose("seed", "size", "time", "nothing"),
    "a list": cell(1, list=[1, 2]),
    "a unit": cell(1).assign(scalar=((), 1.0, {"units": "s"})),
}


@pytest.mark.parametrize("other", OTHERS)
def test_another_layout_has_a_template_of_its_own(other):
    same(cell(0))
    same(OTHERS[other])
    same(OTHERS[other])
    assert len(templates._TEMPLATES) == 2


NOT_PLAIN = {
    "booleans": cell().assign(flag=("seed", [True, False, True])),
    "complex numbers": cell().assign(z=("seed", [1j, 2.0, 3.0])),
    "dates": cell().assign(t=("x", np.array(["2026-01-01"], "datetime64[ns]"))),
    "a fill value": cell().assign(z=("seed", [1.0, np.nan, 2.0], {}, {"_FillValue": -1.0})),
    "many numbers": cell().assign(theta=("p", np.arange(2**18, dtype=float))),
}


@pytest.mark.parametrize("kind", NOT_PLAIN)
def test_what_is_not_plain_or_large_is_made_by_xarray(kind):
    same(NOT_PLAIN[kind])
    assert not templates._TEMPLATES


def test_few_templates_are_kept(monkeypatch):
    monkeypatch.setattr(templates, "_KEPT", 2)
    for seeds in (1, 2, 1, 3):
        same(cell(0, seeds=seeds))
    kept = [layout[2][2] for layout in templates._TEMPLATES]
    assert kept == [(1, 1, 4), (1, 3, 4)]


def test_a_template_is_filled_in_a_small_part_of_the_calls(monkeypatch):
    """xarray is not asked again, whatever the numbers are."""
    same(cell(0))
    monkeypatch.setattr(templates, "made", None)
    for seed in range(3):
        assert len(templates.netcdf_bytes(cell(seed)))

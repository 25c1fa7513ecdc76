"""Runs put in their places one variable at a time are what xarray's own joins make of them."""

import naive_assembly
import numpy as np
import pytest
import xarray
from made_up_store import made_up_cell
from study_text import TEXT

from flowlift import store, studies
from flowlift.store import cells as files
from flowlift.store import folding

PLAIN = ["lift.sizes=[8,4]", "seeds=5", "chunk=2"]
AXES = [*PLAIN, 'vary={"flow.rtol" = [1e-6, 1e-5], "flow.solver" = ["tsit5", "kvaerno5"]}']
HORIZONS = [*PLAIN, 'vary={"flow.horizon" = [5.0, 2.0]}']
FEWER = [*PLAIN, 'seeds_at_most={"8" = 2}']


def ragged(data, cell, number):
    """Observations of another length at each size, as theta is."""
    length = cell.size + number % 2
    values = np.arange(len(cell.seeds) * length, dtype=float).reshape(1, -1, length)
    return data.assign(theta=(("size", "seed", "theta_0"), values, {"units": "1"}))


def labelled(data, cell, number):
    """Axes with labels of their own, some of which others have too."""
    words = ["a", "b", "c", "d"][number % 2 :][:3]
    values = np.ones((1, len(cell.seeds), 3)) * number
    layers = (("size", "seed", "layer"), values, {"units": f"u{number % 2}", "long_name": "layer"})
    return data.assign(layers=layers).assign_coords(layer=words)


def times(data, cell, number):
    """Save times of their own, as of another horizon."""
    late = data.assign_coords(time=data["time"].values * (1 + number % 3))
    return late.assign(loss=late.loss.astype("float32")) if number % 2 else late


def kinds(data, cell, number):
    """Counts, flags and words that some cells lack, and an attribute that differs."""
    shape = (1, len(cell.seeds))
    data = data.assign_attrs(python=f"3.{number % 2}", machine="m", number=1.5)
    if number % 3 == 0:
        return data
    found = {
        "count": np.full(shape, 2**40 + number),
        "small": np.full(shape, number, "int16"),
        "flag": np.full(shape, bool(number % 2)),
        "word": np.full(shape, "w" * number),
    }
    return data.assign({name: (("size", "seed"), value) for name, value in found.items()})


def alike(data, cell, number):
    return data


WAYS = [alike, ragged, labelled, times, kinds]
STUDIES = {"plain": PLAIN, "axes": AXES, "horizons": HORIZONS, "fewer": FEWER}


def written(tmp_path, given, way, *, leave=()):
    file = tmp_path / "study.toml"
    file.write_text(TEXT)
    study = studies.read_study(file, given)
    folder = tmp_path / "results"
    files.write_study(study, folder)
    for number, cell in enumerate(studies.cells(study)):
        if number not in leave:
            files.write_cell(way(made_up_cell(cell), cell, number), cell, folder)
    contents = [files.read_file(path) for path in sorted((folder / "cells").glob("*.nc"))]
    return study, folder, naive_assembly.assembled(study, contents)


def same(ours, theirs):
    # What is said of the store as a whole is no part of any file.
    ours = ours.drop_attrs(deep=False).assign_attrs(
        {name: value for name, value in ours.attrs.items() if name != "remarks"}
    )
    xarray.testing.assert_identical(ours, theirs)
    for name, variable in theirs.variables.items():
        assert ours[name].dims == variable.dims, name
        assert ours[name].dtype.kind == variable.dtype.kind, name
        if variable.dtype.kind != "U":
            assert ours[name].dtype == variable.dtype, name
            assert ours[name].values.tobytes() == variable.values.tobytes(), name
    assert list(ours.coords)
    assert set(ours.coords) == set(theirs.coords)


CASES = [(given, way) for given in STUDIES for way in WAYS]
QUICK = [("plain", way) for way in WAYS] + [("horizons", alike)]


@pytest.mark.parametrize(
    ("given", "way"),
    [case if case in QUICK else pytest.param(*case, marks=pytest.mark.slow) for case in CASES],
)
@pytest.mark.parametrize("leave", [(), (1, 2)], ids=["all", "some missing"])
def test_assembled_equals_joined_by_xarray_and_folding_changes_nothing(tmp_path, given, way, leave):
    """Slow cases are further combinations of the same two lists."""
    study, folder, expected = written(tmp_path, STUDIES[given], way, leave=leave)
    same(store.load(folder), expected)
    folding.fold(folder)
    same(store.load(folder, study), expected)
    some = store.load(folder, variables=["loss", "result"])
    counts = [len(cell.runs) for cell in studies.cells(study)]
    absent, runs = sum(counts[number] for number in leave), sum(counts)
    begins = [f"{absent} of the {runs} runs that this study names are not stored"] * bool(leave)
    assert [sentence.partition(":")[0] for sentence in store.remarks(some)] == begins
    same(some, expected[["loss", "result"]])


@pytest.mark.slow  # Dask, and stores read twice
@pytest.mark.parametrize("way", [ragged, kinds])
def test_what_is_read_later_is_the_same(tmp_path, way):
    pytest.importorskip("dask", reason="optional extra")
    _, folder, expected = written(tmp_path, PLAIN, way, leave=(1,))
    for _ in range(2):
        lazy = store.load(folder, lazy=True)
        assert not isinstance(lazy["loss"].data, np.ndarray)
        # Where files have gone meanwhile, runs are found where they are now.
        folding.fold(folder)
        same(lazy.load(), expected)

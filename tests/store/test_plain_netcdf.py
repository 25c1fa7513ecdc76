"""Cells read by h5py alone are what xarray's own reader makes of them."""

import io

import h5netcdf
import h5py
import numpy as np
import pytest
import xarray
from xarray.backends import H5NetCDFStore

from flowlift.store import plain_netcdf


def written(data: xarray.Dataset) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file, h5netcdf.File(file, "w") as netcdf:
        data.dump_to_store(H5NetCDFStore(netcdf))
    return buffer.getvalue()


VARIABLES = {
    "doubles": (("a", "b"), np.array([[1.0, np.nan, -np.inf], [0.0, 5e-324, 2.0]]), {"units": "1"}),
    "singles": (("b",), np.arange(3, dtype="float32"), {"units": "s", "n": 3, "x": 0.5}),
    "integers": (("b", "bare"), np.full((3, 2), -(2**62)), {}),
    "small": (("a",), np.array([1, 255], "uint8"), {}),
    "flags": (("a", "b"), np.eye(2, 3).astype(bool), {"long_name": "yes or no"}),
    "texts": (("a", "b"), np.array([["", "Größe", "x"], ["yy", "", "\n"]]), {"units": "1"}),
    "empty": (("a",), np.array(["", ""]), {}),
    "number": ((), np.array(3.5), {}),
    "word": ((), np.array("word"), {}),
    "nothing": (("none",), np.zeros(0), {}),
}


def dataset(*names: str) -> xarray.Dataset:
    coords = {"a": [10, 20], "b": ("b", ["p", "q", "r"]), "beside": ("b", [0.1, 0.2, 0.3])}
    chosen = {name: VARIABLES[name] for name in names}
    return xarray.Dataset(chosen, coords, {"schema": 3, "text": "x", "f": 0.25})


PLAIN = [*([name] for name in VARIABLES), list(VARIABLES), []]
CODED = {
    "a date": xarray.Dataset({"t": ("x", np.array(["2026-01-01"], "datetime64[ns]"))}),
    "complex numbers": xarray.Dataset({"z": ("x", np.array([1 + 2j]))}),
    "a list as attribute": xarray.Dataset({"z": ("x", [1.0])}, attrs={"list": [1, 2]}),
    "a fill value": xarray.Dataset({"z": ("x", [1.0, np.nan], {}, {"_FillValue": -1.0})}),
}


def same(content: bytes) -> xarray.Dataset:
    with xarray.open_dataset(io.BytesIO(content), engine="h5netcdf") as file:
        theirs = file.load()
    ours = plain_netcdf.read_netcdf(content)
    xarray.testing.assert_identical(ours, theirs)
    assert set(ours.coords) == set(theirs.coords)
    for name in theirs.variables:
        assert ours[name].dtype == theirs[name].dtype, name
        assert ours[name].dims == theirs[name].dims, name
    for name, value in theirs.attrs.items():
        assert type(ours.attrs[name]) is type(value), name
    return ours


@pytest.mark.parametrize("names", PLAIN, ids=lambda names: " ".join(names) or "no variables")
def test_plain_files_are_read_by_h5py_alone(names, monkeypatch):
    content = written(dataset(*names))
    data = same(content)
    xarray.testing.assert_equal(data, dataset(*names))
    monkeypatch.setattr(plain_netcdf.xarray, "open_dataset", None)
    assert plain_netcdf.read_netcdf(content).identical(data)


@pytest.mark.parametrize("kind", CODED)
def test_what_is_not_plain_is_left_to_xarray(kind, monkeypatch):
    content = written(CODED[kind])
    same(content)
    monkeypatch.setattr(plain_netcdf.xarray, "open_dataset", None)
    with pytest.raises(TypeError, match="not callable"):
        plain_netcdf.read_netcdf(content)


def test_what_is_no_file_raises():
    for content in (b"", b"text", written(dataset("doubles"))[:200]):
        with pytest.raises(OSError, match="ile"):
            plain_netcdf.read_netcdf(content)

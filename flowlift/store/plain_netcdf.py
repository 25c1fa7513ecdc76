"""The plain part of NetCDF that cells are written in, read by h5py alone, a tenth of the time.

xarray's own reader looks every dimension of every variable up by name, several times. What is not
plain here (groups, packed numbers, fill values but NaN, attributes that are lists) is left to it.
"""

import io
from typing import Any, cast

import h5py
import numpy as np
import xarray

# Of HDF5's dimension scales and of NetCDF, no attributes of a user's.
_STRUCTURE = {"CLASS", "NAME", "DIMENSION_LIST", "REFERENCE_LIST", "DIMENSION_LABELS"}
_STRUCTURE |= {"_Netcdf4Dimid", "_Netcdf4Coordinates", "_NCProperties", "_nc3_strict"}
_NO_VARIABLE = b"This is a netCDF dimension but not a netCDF variable"
# Attributes by which a reader would have to change the numbers.
_CODED = {"scale_factor", "add_offset", "missing_value", "calendar", "_Unsigned", "_Encoding"}


class _NotPlain(Exception):
    """Raised for what is left to xarray."""


def read_netcdf(content: bytes) -> xarray.Dataset:
    """A NetCDF file in memory, as `xarray.open_dataset(...).load()` gives it, but for encodings.

    Args:
        content: the file.

    Returns:
        The dataset.

    Raises:
        Exception: of h5py or xarray, where the content is no NetCDF file.
    """
    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            return _dataset(file)
    except _NotPlain:
        with xarray.open_dataset(io.BytesIO(content), engine="h5netcdf") as data:
            return data.load()


def _dataset(file: h5py.File) -> xarray.Dataset:
    attrs, beside = _attributes(file.attrs), set()
    variables: dict[str, xarray.Variable] = {}
    for name, item in file.items():
        if not isinstance(item, h5py.Dataset):
            raise _NotPlain
        variable, others = _variable(name, item, file)
        if variable is not None:
            variables[name] = variable
        beside |= others
    beside |= set(str(attrs.pop("coordinates", "")).split())
    return xarray.Dataset(variables, attrs=attrs).set_coords(beside & set(variables))


def _variable(
    name: str, item: h5py.Dataset, file: h5py.File
) -> tuple[xarray.Variable | None, set[str]]:
    """The variable, None for a dimension without one; and the coordinates that stand beside it."""
    noted: Any = item.attrs
    if "NAME" in noted and bytes(noted["NAME"]).startswith(_NO_VARIABLE):
        return None, set()
    attrs = _attributes(noted)
    words = h5py.check_string_dtype(item.dtype) is not None
    values: Any = np.array(np.asarray(item.asstr()[()]).tolist(), str) if words else item[()]
    fill = attrs.pop("_FillValue", np.nan)
    dated = " since " in str(attrs.get("units", ""))
    none = isinstance(fill, float | np.floating) and np.isnan(fill)
    if _CODED & attrs.keys() or dated or not none:
        raise _NotPlain
    if "dtype" in attrs:
        if attrs.pop("dtype") != "bool":
            raise _NotPlain
        values = values.astype(bool)
    elif not words and item.dtype.kind not in "fiu":
        raise _NotPlain
    others = set(str(attrs.pop("coordinates", "")).split())
    return xarray.Variable(_dimensions(name, item, file), values, attrs), others


def _dimensions(name: str, item: h5py.Dataset, file: h5py.File) -> tuple[str, ...]:
    """A scale is its own dimension; others name theirs by references."""
    dimensions, noted = len(item.shape), cast(Any, item.attrs)
    if not dimensions:
        return ()
    if "DIMENSION_LIST" not in noted:
        if dimensions != 1 or noted.get("CLASS") != b"DIMENSION_SCALE":
            raise _NotPlain
        return (name,)
    references = (reference for (reference,) in noted["DIMENSION_LIST"])
    return tuple(h5py.h5r.get_name(r, file.id).decode().rpartition("/")[2] for r in references)


def _attributes(noted: h5py.AttributeManager) -> dict[str, Any]:
    return {name: _plain(noted[name]) for name in noted if name not in _STRUCTURE}


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        if value.shape != (1,) or value.dtype.kind not in "fiu":
            raise _NotPlain
        return value[0]
    if not isinstance(value, str | np.number):
        raise _NotPlain
    return value

"""The plain part of NetCDF that cells are written in, read by h5py alone, a tenth of the time.

xarray's own reader looks every dimension of every variable up by name, several times. What is not
plain here (groups, packed numbers, fill values but NaN, attributes that are lists) is left to it.
Attributes and references go through h5py's lower half, which asks HDF5 once for each.
"""

import io
from collections.abc import Collection
from typing import Any, cast

import h5py
import numpy as np
import xarray

# Of HDF5's dimension scales and of NetCDF, no attributes of a user's.
_STRUCTURE = {"CLASS", "NAME", "DIMENSION_LIST", "REFERENCE_LIST", "DIMENSION_LABELS"}
# Of those, the ones that say what a variable's dimensions are.
_ASKED = {"NAME", "DIMENSION_LIST"}
_STRUCTURE |= {"_Netcdf4Dimid", "_Netcdf4Coordinates", "_NCProperties", "_nc3_strict"}
_NO_VARIABLE = b"This is a netCDF dimension but not a netCDF variable"
# Attributes by which a reader would have to change the numbers.
_CODED = {"scale_factor", "add_offset", "missing_value", "calendar", "_Unsigned", "_Encoding"}
# Its stubs do not know it.
_H5O: Any = cast(Any, h5py).h5o


class _NotPlain(Exception):
    """Raised for what is left to xarray."""


def read_netcdf(content: bytes, names: Collection[str] | None = None) -> xarray.Dataset:
    """A NetCDF file in memory, as `xarray.open_dataset(...).load()` gives it, but for encodings.

    Args:
        content: the file.
        names: the variables to read, as far as they are there, beside the coordinates of
            dimensions; None reads all.

    Returns:
        The dataset.

    Raises:
        Exception: of h5py or xarray, where the content is no NetCDF file.
    """
    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            return _dataset(file.id, names)
    except _NotPlain:
        with xarray.open_dataset(io.BytesIO(content), engine="h5netcdf") as data:
            wanted = data if names is None else data[[n for n in names if n in data.variables]]
            return wanted.load()


def read_columns(content: bytes, names: Collection[str]) -> dict[str, np.ndarray]:
    """Values alone, without dimensions and attributes: those take most of the time.

    Args:
        content: a file of a layout that is known.
        names: the variables to read, as far as they are there.

    Returns:
        Values by name.

    Raises:
        Exception: of h5py, where the content is no NetCDF file or the values are not plain.
    """
    with h5py.File(io.BytesIO(content), "r") as file:
        there = {raw.decode(): raw for raw in file.id}
        return {n: _values(h5py.h5d.open(file.id, there[n])) for n in names if n in there}


def _dataset(file: h5py.h5f.FileID, names: Collection[str] | None) -> xarray.Dataset:
    attrs, _ = _attributes(file)
    items: dict[str, Any] = {raw.decode(): _H5O.open(file, raw) for raw in file}
    # Where a name's object lies in the file: references give no more.
    places = {_H5O.get_info(item).addr: name for name, item in items.items()}
    beside, variables = set(), {}
    for name, item in items.items():
        if not isinstance(item, h5py.h5d.DatasetID):
            raise _NotPlain
        if names is None or name in names or h5py.h5ds.is_scale(item):
            variable, others = _variable(name, item, places)
            if variable is not None:
                variables[name] = variable
            beside |= others
    beside |= set(str(attrs.pop("coordinates", "")).split())
    return xarray.Dataset(variables, attrs=attrs).set_coords(beside & set(variables))


def _variable(
    name: str, item: h5py.h5d.DatasetID, places: dict[int, str]
) -> tuple[xarray.Variable | None, set[str]]:
    """The variable, None for a dimension without one; and the coordinates that stand beside it."""
    attrs, structure = _attributes(item)
    if bytes(structure.get("NAME", b"")).startswith(_NO_VARIABLE):
        return None, set()
    fill = attrs.pop("_FillValue", np.nan)
    dated = " since " in str(attrs.get("units", ""))
    none = isinstance(fill, float | np.floating) and np.isnan(fill)
    if _CODED & attrs.keys() or dated or not none:
        raise _NotPlain
    values = _values(item)
    if "dtype" in attrs:
        if attrs.pop("dtype") != "bool":
            raise _NotPlain
        values = values.astype(bool)
    others = set(str(attrs.pop("coordinates", "")).split())
    dimensions = _dimensions(name, item, structure.get("DIMENSION_LIST"), places)
    return xarray.Variable(dimensions, values, attrs, fastpath=True), others


def _values(item: h5py.h5d.DatasetID) -> np.ndarray:
    kind = item.dtype
    if h5py.check_string_dtype(kind) is not None:
        # The upper half decodes texts of whatever length and encoding.
        texts: Any = h5py.Dataset(item).asstr()[()]
        return np.array(np.asarray(texts).tolist(), str)
    if kind.kind not in "fiu":
        raise _NotPlain
    values = np.empty(item.shape, kind)
    if values.size:
        item.read(h5py.h5s.ALL, h5py.h5s.ALL, values)
    return values


def _dimensions(
    name: str, item: h5py.h5d.DatasetID, references: Any, places: dict[int, str]
) -> tuple[str, ...]:
    """A scale is its own dimension; others name theirs by references."""
    if not item.shape:
        return ()
    if references is None:
        if len(item.shape) != 1 or not h5py.h5ds.is_scale(item):
            raise _NotPlain
        return (name,)
    scales = (h5py.h5r.dereference(reference, item) for (reference,) in references)
    return tuple(places[_H5O.get_info(scale).addr] for scale in scales)


def _attributes(item: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """A user's attributes, and those of the structure that are asked for."""
    plain, structure = {}, {}
    for number in range(h5py.h5a.get_num_attrs(item)):
        attribute = h5py.h5a.open(item, index=number)
        name = attribute.name.decode()
        if name not in _STRUCTURE:
            plain[name] = _plain(_value(attribute))
        elif name in _ASKED:
            structure[name] = _value(attribute)
    return plain, structure


def _value(attribute: h5py.h5a.AttrID) -> Any:
    """As h5py's upper half gives it."""
    kind = attribute.dtype
    if attribute.shape is None or kind.subdtype is not None:
        raise _NotPlain
    values: Any = np.zeros(attribute.shape, kind)
    attribute.read(values, mtype=h5py.h5t.py_create(kind))
    texts = h5py.check_string_dtype(kind)
    if texts is not None and texts.length is None and not values.ndim:
        return values[()].decode("utf-8", "surrogateescape")
    return values[()] if not values.ndim else values


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        if value.shape != (1,) or value.dtype.kind not in "fiu":
            raise _NotPlain
        return value[0]
    if not isinstance(value, str | np.number):
        raise _NotPlain
    return value

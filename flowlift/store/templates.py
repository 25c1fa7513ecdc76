"""NetCDF files in memory, made by xarray once per layout and filled by h5py after that.

Making a file costs xarray and h5netcdf a hundred calls a variable, whatever it holds. Cells of one
layout (names, dimensions, types, attributes) differ in their numbers alone: a file without texts
is kept of each, and the next cell is that file with its own numbers written over, a fiftieth of
the time. What every program reads is what xarray would have written.
"""

import collections
import io
import threading
from collections.abc import Hashable
from typing import Any, cast

import h5netcdf
import h5py
import numpy as np
import xarray
from xarray.backends import H5NetCDFStore

# Layouts kept: as many as a worker meets in turn, sizes of one study and parts of a cell.
_KEPT = 16
# Bytes of numbers up to which the layout costs more than they do.
_SMALL = 2**20
_TEMPLATES: collections.OrderedDict[Hashable, bytes] = collections.OrderedDict()
_LOCK = threading.Lock()
# Kinds of numbers that stand in a file as they stand in memory, and texts.
_PLAIN, _TEXT = "fiu", "U"


def netcdf_bytes(data: xarray.Dataset) -> bytes:
    """A NetCDF file, made in memory: HDF5 does not survive a full disk (it may crash).

    Args:
        data: what it shall hold.

    Returns:
        The content of the file.
    """
    layout = _layout(data) if data.nbytes <= _SMALL else None
    if layout is None:
        return made(data)
    with _LOCK:
        template = _TEMPLATES.get(layout)
        if template is None:
            template = _TEMPLATES[layout] = made(_without_texts(data))
        _TEMPLATES.move_to_end(layout)
        while len(_TEMPLATES) > _KEPT:
            _TEMPLATES.popitem(last=False)
    return _filled(template, data)


def made(data: xarray.Dataset) -> bytes:
    """As `netcdf_bytes`, by xarray, for a layout that does not come again."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file, h5netcdf.File(file, "w") as netcdf:
        data.dump_to_store(H5NetCDFStore(netcdf))
    return buffer.getvalue()


def _layout(data: xarray.Dataset) -> Hashable | None:
    """All that a file depends on but numbers and its own attributes' words; None: not plain."""
    # Dates, booleans, complex numbers and packed ones stand in files otherwise than in memory.
    parts: list[Hashable] = [tuple(sorted(map(str, data.coords))), _of_file(data.attrs)]
    if data.encoding:
        return None
    for name, variable in data.variables.items():
        kind = variable.dtype.kind
        if kind not in _PLAIN + _TEXT or variable.encoding:
            return None
        type_ = _TEXT if kind == _TEXT else variable.dtype.str
        noted = tuple((k, type(v), _plain(v)) for k, v in variable.attrs.items())
        parts.append((name, variable.dims, variable.shape, type_, noted))
    return tuple(parts)


def _of_file(attrs: dict[Any, Any]) -> Hashable:
    """Attributes of the file: of its words the names alone, since they are written over."""
    return tuple((k, type(v), None if type(v) is str else _plain(v)) for k, v in attrs.items())


def _plain(value: Any) -> Any:
    """Numbers by their bits: NaN is itself here, and zero has a sign."""
    if isinstance(value, np.generic | np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    return repr(value)


def _without_texts(data: xarray.Dataset) -> xarray.Dataset:
    """The same layout; what a longer text would leave unused in the file is not there."""
    texts = {
        name: (variable.dims, np.full(variable.shape, ""), variable.attrs)
        for name, variable in data.variables.items()
        if variable.dtype.kind == _TEXT
    }
    coords = {name: value for name, value in texts.items() if name in data.coords}
    return data.assign_coords(coords).assign({k: v for k, v in texts.items() if k not in coords})


def _filled(template: bytes, data: xarray.Dataset) -> bytes:
    buffer, words = io.BytesIO(template), h5py.h5t.py_create(h5py.string_dtype())
    with h5py.File(buffer, "r+") as file:
        for name, variable in data.variables.items():
            values = variable.values
            if values.size:
                there = h5py.h5d.open(file.id, str(name).encode())
                texts = values.dtype.kind == _TEXT
                values = values.astype(object) if texts else np.asarray(values, order="C")
                kind = words if texts else None
                there.write(h5py.h5s.ALL, h5py.h5s.ALL, values, kind)
        noted = cast(Any, file.attrs)
        for name, value in data.attrs.items():
            if type(value) is str and noted[name] != value:
                noted.modify(name, value)
    return buffer.getvalue()

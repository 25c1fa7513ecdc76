"""Runs of one layout side by side, whatever their shapes: what files hold, and answers join.

A cell's file holds runs of one size along `seed`, a folded one runs of many cells along `row`.
Both are read as blocks: flat arrays, one row a run.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray

ROW = "row"
# In folded files: of each row, the number of the cell that it comes from; of each such cell, the
# attributes of its file.
ORIGIN, ORIGINS = "row_origin", "origins"
_AXES = ("size", "seed")


@dataclasses.dataclass(frozen=True, eq=False)
class Block:
    """Runs side by side.

    Attributes:
        axes: `size` and `seed`, a number a row each.
        columns: further variables by name, the first dimension `row`.
        coords: coordinates that all rows share, such as times.
        beside: names of columns that are coordinates too.
        origins: attributes of the files that the rows come from.
        origin: which of those, for each row.
    """

    axes: Mapping[str, xarray.Variable]
    columns: Mapping[str, xarray.Variable]
    coords: Mapping[str, xarray.Variable]
    beside: frozenset[str]
    origins: Sequence[Mapping[str, Any]]
    origin: np.ndarray

    @property
    def runs(self) -> list[str]:
        """Identities, a row each."""
        return self.columns["run"].values.tolist()

    def taken(self, rows: np.ndarray) -> "Block":
        """The block of some of its rows.

        Args:
            rows: their numbers, in the order wanted.

        Returns:
            The block.
        """
        used, origin = np.unique(self.origin[rows], return_inverse=True)
        return dataclasses.replace(
            self,
            axes={name: variable[rows] for name, variable in self.axes.items()},
            columns={name: variable[rows] for name, variable in self.columns.items()},
            origins=[self.origins[i] for i in used],
            origin=origin,
        )


def is_folded(data: xarray.Dataset) -> bool:
    """Whether a file's content is that of a folded file."""
    return ORIGIN in data.variables


def block_of(data: xarray.Dataset) -> Block:
    """The content of a file as a block.

    Args:
        data: the content, of a cell or a folded file.

    Returns:
        The block; of a cell, sizes outside, seeds inside.
    """
    found = {str(name): variable for name, variable in data.variables.items()}
    coords = {n: v for n, v in found.items() if n in data.dims and n not in _AXES}
    if is_folded(data):
        origins = [_read_attributes(text) for text in found.pop(ORIGINS).values.tolist()]
        origin = found.pop(ORIGIN).values
        axes = {name: found[name] for name in _AXES}
    else:
        # The name of the file, nothing of the runs.
        origins = [{name: value for name, value in data.attrs.items() if name != "cell"}]
        origin = np.zeros(data.sizes["size"] * data.sizes["seed"], int)
        axes = _flat_axes(found["size"], found["seed"])
    columns = {name: v for name, v in found.items() if name not in {*coords, *_AXES}}
    if not is_folded(data):
        columns = {name: _flat(v, data.sizes) for name, v in columns.items()}
    beside = frozenset({str(name) for name in data.coords} & columns.keys())
    return Block(axes, columns, coords, beside, origins, origin)


def _flat_axes(size: xarray.Variable, seed: xarray.Variable) -> dict[str, xarray.Variable]:
    sizes = np.repeat(size.values, len(seed))
    seeds = np.tile(seed.values, len(size))
    return {
        "size": xarray.Variable((ROW,), sizes, dict(size.attrs)),
        "seed": xarray.Variable((ROW,), seeds, dict(seed.attrs)),
    }


def _flat(variable: xarray.Variable, sizes: Mapping[Any, int]) -> xarray.Variable:
    """Size and seed as one dimension; a variable without them is the same for all."""
    if variable.dims[:2] != _AXES:
        rest = {d: n for d, n in variable.sizes.items() if d not in _AXES}
        variable = variable.set_dims({d: sizes[d] for d in _AXES} | rest)
        variable = variable.transpose(*_AXES, *rest)
    # Said in full: where a further dimension has no length, nothing else would follow.
    values = variable.values.reshape(sizes["size"] * sizes["seed"], *variable.shape[2:])
    return xarray.Variable((ROW, *variable.dims[2:]), values, variable.attrs, fastpath=True)


def layout_of(block: Block) -> tuple | None:
    """What blocks have in common that can be put below one another.

    Args:
        block: the block.

    Returns:
        Names, dimensions, types, attributes and shared coordinates; None for what no folded file
        could hold: attributes that are no words or numbers.
    """
    parts: list[Any] = [block.beside]
    for kind in (block.axes, block.columns, block.coords):
        for name, variable in sorted(kind.items()):
            type_ = "U" if variable.dtype.kind == "U" else variable.dtype.str
            values = _bits(variable) if kind is block.coords else variable.shape[1:]
            noted = tuple((k, *_written(v)) for k, v in sorted(variable.attrs.items()))
            parts.append((name, variable.dims, type_, values, noted))
    simple = (str, np.integer, np.floating, int, float)
    kinds = (*block.axes.values(), *block.columns.values(), *block.coords.values())
    every = [*block.origins, *(variable.attrs for variable in kinds)]
    if any(type(v) is bool or not isinstance(v, simple) for attrs in every for v in attrs.values()):
        return None
    return tuple(parts)


def _bits(variable: xarray.Variable) -> bytes | tuple:
    words = variable.dtype.kind in "UO"
    return tuple(variable.values.tolist()) if words else variable.values.tobytes()


def together(blocks: Sequence[Block]) -> Block:
    """Blocks of one layout, below one another.

    Args:
        blocks: the blocks.

    Returns:
        One block; equal attributes of files are kept once.
    """
    first, numbers, origin = blocks[0], {}, []
    for block in blocks:
        known = [numbers.setdefault(_attributes_text(o), len(numbers)) for o in block.origins]
        origin.append(np.asarray(known)[block.origin])

    def joined(kind: str, name: str) -> xarray.Variable:
        parts = [getattr(block, kind)[name] for block in blocks]
        return xarray.Variable(
            parts[0].dims, np.concatenate([part.values for part in parts]), parts[0].attrs
        )

    return dataclasses.replace(
        first,
        axes={name: joined("axes", name) for name in first.axes},
        columns={name: joined("columns", name) for name in first.columns},
        origins=[_read_attributes(text) for text in numbers],
        origin=np.concatenate(origin),
    )


def folded(block: Block, name: str, schema: int) -> xarray.Dataset:
    """A block as the content of a folded file.

    Args:
        block: the block.
        name: the file's own name.
        schema: the number of the schema.

    Returns:
        The dataset; its variables are those of the cells, along `row`.
    """
    of_row = {"long_name": "number in `origins` of the cell that the run was computed in"}
    of_cells = {"long_name": "attributes of the files of these cells, as JSON", "units": "1"}
    texts = [_attributes_text(origin) for origin in block.origins]
    beside = {
        ORIGIN: ((ROW,), block.origin.astype("int32"), of_row | {"units": "1"}),
        ORIGINS: (("origin",), np.array(texts), of_cells),
    }
    data = xarray.Dataset({**block.columns, **beside}, dict(block.coords))
    data = data.assign(dict(block.axes)).set_coords(list(block.beside))
    title = f"gradient flows of random sparse lifts: {len(block.origin)} runs of folded cells"
    return data.assign_attrs(title=title, schema=schema, cell=name)


def _attributes_text(attrs: Mapping[str, Any]) -> str:
    return json.dumps({name: _written(value) for name, value in sorted(attrs.items())})


def _written(value: Any) -> tuple[str, Any]:
    """Type and value of an attribute; of a float its digits, which JSON keeps."""
    if isinstance(value, str):
        return "text", value
    number = np.asarray(value)
    return number.dtype.str, repr(number.item())


def _read_attributes(text: str) -> dict[str, Any]:
    return {
        name: value if kind == "text" else np.dtype(kind).type(value)
        for name, (kind, value) in json.loads(text).items()
    }

"""Values that stay on disk until they are computed with, in Dask's arrays."""

import functools
import itertools
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray

from .assembling import Fill, Placed, Shape, put
from .blocks import Block, block_of
from .cells import index, places, read_file
from .names import CELLS

# Files of which one variable is kept: its chunks are computed one after the other.
_OPEN = 1


def without_values(block: Block) -> Block:
    """A block with types, shapes and names, but for its runs without values.

    Args:
        block: the block.

    Returns:
        The block; it takes next to no memory.
    """
    columns = {
        name: v if name == "run" else xarray.Variable(v.dims, _nothing(v), v.attrs, fastpath=True)
        for name, v in block.columns.items()
    }
    return Block(block.axes, columns, block.coords, block.beside, block.origins, block.origin)


def _nothing(variable: xarray.Variable) -> np.ndarray:
    return np.broadcast_to(np.zeros((), variable.dtype), variable.shape)


def later(directory: Path) -> Fill:
    """How `assemble` makes arrays that are read when they are computed with.

    Args:
        directory: the folder of results.

    Returns:
        The maker: one chunk for each combination of all axes of runs but the last.
    """

    def fill(name: str, shape: Shape, parts: Sequence[tuple[Placed, tuple]]) -> Any:
        import dask.array
        from dask.highlevelgraph import HighLevelGraph

        seeds = shape.runs[-1]
        pieces: dict[int, list[tuple]] = {}
        for part, where in parts:
            chunk = part.at // seeds
            for number in np.unique(chunk).tolist():
                chosen = chunk == number
                runs = part.block.columns["run"].values[part.rows[chosen]]
                piece = (part.key, part.rows[chosen], runs, part.at[chosen] % seeds, where)
                pieces.setdefault(number, []).append(piece)
        label = f"{name}-{uuid.uuid4().hex}"
        grid = itertools.product(*(range(n) for n in shape.runs[:-1]))
        rest, graph = (0,) * (1 + len(shape.rest)), {}
        for number, place in enumerate(grid):
            chunk = _Chunk(directory, name, shape, pieces.get(number, []))
            graph[label, *place, *rest] = (chunk,)
        chunks = (*((1,) * n for n in shape.runs[:-1]), (seeds,), *((n,) for n in shape.rest))
        layers = HighLevelGraph({label: graph}, {label: set()})
        make: Any = dask.array.Array
        return make(layers, label, chunks, dtype=shape.dtype)

    return fill


class _Chunk:
    """A task of Dask's: the values of one variable, of all seeds at one place."""

    def __init__(self, directory: Path, name: str, shape: Shape, pieces: list[tuple]):
        self._directory, self._name, self._shape, self._pieces = directory, name, shape, pieces

    def __call__(self) -> np.ndarray:
        shape = self._shape
        values = np.empty((shape.runs[-1], *shape.rest), shape.dtype)
        if shape.missing is not None:
            values[...] = shape.missing
        for file, rows, runs, at, where in self._pieces:
            found = self._values(self._directory / CELLS / file, rows, runs)
            put(values, at, where, found.astype(shape.dtype, copy=False))
        return values.reshape((1,) * (len(shape.runs) - 1) + values.shape)

    def _values(self, path: Path, rows: np.ndarray, runs: np.ndarray) -> np.ndarray:
        block = _column(path, self._name)
        if block is not None and len(block.origin) > rows.max():
            taken = block.taken(rows)
            if taken.runs == runs.tolist():
                return taken.columns[self._name].values
        # Folded since, or replaced: the runs are where the index says now.
        _column.cache_clear()
        there = places(index(self._directory), self._directory)
        found = []
        for run in runs.tolist():
            block = _column(there[run], self._name)
            if block is None:
                raise FileNotFoundError(
                    f"Run {run} is no longer in {str(self._directory)!r}; load the folder again."
                )
            found.append(block.columns[self._name].values[block.runs.index(run)])
        return np.stack(found)


@functools.lru_cache(_OPEN)
def _column(path: Path, name: str) -> Block | None:
    data = read_file(path, {name, "run", "seed", "size", *_NEEDED})
    return None if data is None else block_of(data)


_NEEDED = ("result", "reason", "ended", "seconds", "versions", "row_origin", "origins")

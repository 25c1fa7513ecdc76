"""Cells read as they are finished, while others are computed: a look waits for little."""

import contextlib
from collections.abc import Collection
from pathlib import Path

import numpy as np
import xarray

from ..files import NotRead, read_bytes
from ..studies.grid import Cell
from .blocks import ROW, Block
from .cells import path_of
from .digests import Damaged, unsealed
from .plain_netcdf import read_columns

_AXES, _TIME, _RUN = ("size", "seed"), "time", "run"


class Ahead:
    """Numbers of finished cells, without units and meanings, which a count does not ask for."""

    def __init__(self, directory: Path, variables: Collection[str]):
        """Begin with nothing read.

        Args:
            directory: the folder of results.
            variables: numbers and words of a run, or of a run and a save time.
        """
        self._directory = directory
        self._names = tuple({*variables, *_AXES, _TIME, _RUN})
        self._read: dict[str, tuple[str, Block]] = {}

    def take(self, cell: Cell) -> None:
        """Read a cell that has been stored; one that cannot be read now is left for later.

        Args:
            cell: the cell.
        """
        path = path_of(cell, self._directory)
        # Folded since, damaged, of an old schema: whoever loads the cells reads it, and says so.
        with contextlib.suppress(Damaged, NotRead):
            content, digest = unsealed(read_bytes(path) or b"")
            block = _block(read_columns(content, self._names)) if digest else None
            if block is not None:
                self._read[path.name] = digest, block

    def given(self) -> dict[str, tuple[str, Block]]:
        """What was read, by file with its digest; it is kept here no longer."""
        read, self._read = self._read, {}
        return read


def _block(found: dict[str, np.ndarray]) -> Block | None:
    """Columns as a block; None for other shapes than those of a cell."""
    shape = (len(found["size"]), len(found["seed"]))
    along = {(*shape, len(found[_TIME])): (ROW, _TIME), shape: (ROW,)}
    sizes, seeds = np.repeat(found["size"], shape[1]), np.tile(found["seed"], shape[0])
    columns = {name: v for name, v in found.items() if name not in (*_AXES, _TIME)}
    if any(values.shape not in along for values in columns.values()):
        return None
    flat = {
        name: xarray.Variable(along[v.shape], v.reshape(-1, *v.shape[2:]))
        for name, v in columns.items()
    }
    axes = {n: xarray.Variable((ROW,), v) for n, v in (("size", sizes), ("seed", seeds))}
    coords = {_TIME: xarray.Variable((_TIME,), found[_TIME])}
    return Block(axes, flat, coords, frozenset(), [{}], np.zeros(len(sizes), int))

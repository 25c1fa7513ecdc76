"""Runs side by side that do not hold the same: other shapes, or no observations at all."""

from collections.abc import Sequence

import numpy as np
import xarray


def along_seeds(parts: Sequence[xarray.Dataset]) -> xarray.Dataset:
    """Join runs along `seed`; what a run does not hold is NaN there.

    Args:
        parts: runs of one size. A run that an exception ended has no observations, not even their
            times.

    Returns:
        All of them.
    """
    return xarray.concat(numbered(_with_all_axes(parts)), "seed", join="outer")


def _with_all_axes(parts: Sequence[xarray.Dataset]) -> list[xarray.Dataset]:
    """The same, each with an empty axis for every coordinate that only others have."""
    axes: dict[str, xarray.Variable] = {}
    for part in parts:
        names = [str(name) for name in part.indexes]
        axes |= {name: part.variables[name][:0] for name in names if name != "seed"}
    return [
        part.assign_coords({name: axis for name, axis in axes.items() if name not in part.coords})
        for part in parts
    ]


def numbered(parts: Sequence[xarray.Dataset]) -> list[xarray.Dataset]:
    """Datasets that xarray joins by filling with NaN, where axes without a coordinate are uneven.

    Args:
        parts: datasets; say theta of lifts of several sizes, which is longer for larger ones.

    Returns:
        The same datasets, numbered from 0 along each axis whose length is not the same in all, or
        that is numbered in some.
    """
    lengths: dict[str, set[tuple[int, bool]]] = {}
    for part in parts:
        for dim, length in part.sizes.items():
            lengths.setdefault(str(dim), set()).add((length, dim in part.coords))
    uneven = [dim for dim, found in lengths.items() if len(found) > 1]
    return [
        part.assign_coords(
            {
                dim: (dim, np.arange(part.sizes[dim]))
                for dim in uneven
                if dim in part.dims and dim not in part.coords
            }
        )
        for part in parts
    ]

"""Arrays of different lengths side by side: observations of models that differ in shape."""

from collections.abc import Sequence

import numpy as np
import xarray


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

"""Arrays of fixed size on disk: rows at their end that are still empty are not written.

A basis that grows has room for all its vectors from the start, most of them zeros for most of a
flow. Of a large array only what comes before its last rows of zeros is kept, with how many rows
there were: the array that is read has the same bits.
"""

import json

import numpy as np

Arrays = dict[str, np.ndarray]
# The entry that says how many rows arrays had.
_ROWS = "rows"
# Bytes of an array from which rows are worth looking at: less is written in no time.
_WORTH_A_LOOK = 1 << 16


def without_empty_rows(arrays: Arrays) -> Arrays:
    """Arrays as they are written.

    Args:
        arrays: by name, none of them named "rows".

    Returns:
        The same, where rows were cut with one entry more that says how many there were.
    """
    kept, rows = dict(arrays), {}
    for name, array in arrays.items():
        if array.ndim < 2 or array.nbytes < _WORTH_A_LOOK:
            continue
        filled = _filled(array)
        if filled < len(array):
            kept[name], rows[name] = array[:filled], len(array)
    return kept | {_ROWS: np.asarray(json.dumps(rows))} if rows else kept


def with_empty_rows(arrays: Arrays) -> Arrays:
    """Arrays as they were before, bit by bit. Memory: that of one filled part more than the arrays.

    Args:
        arrays: by name, as written; it is used up.

    Returns:
        Those that `without_empty_rows` was given.
    """
    rows = json.loads(str(arrays.pop(_ROWS))) if _ROWS in arrays else {}
    for name, count in rows.items():
        filled = arrays.pop(name)
        # Memory that is never written costs none.
        whole = np.zeros((count, *filled.shape[1:]), filled.dtype)
        whole[: len(filled)] = filled
        arrays[name] = whole
    return arrays


def _filled(array: np.ndarray) -> int:
    """Rows up to the last one that has a bit set: a negative zero counts as a number."""
    count = len(array)
    while count and not np.ascontiguousarray(array[count - 1]).view(np.uint8).any():
        count -= 1
    return count

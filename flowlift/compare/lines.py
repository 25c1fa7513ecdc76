"""Runs of a comparison as lines of a terminal, each printed when it ends."""

import math
from collections.abc import Mapping
from typing import Any

_WIDTHS = {"solver": 16, "ran": 10, "rtol": 8, "gradients": 10, "hvps": 8}
_WIDTHS |= {"cost": 19, "error": 9, "seconds": 9, "result": 0}


def head() -> str:
    """The names of the columns.

    Returns:
        A line.
    """
    return _joined({name: name for name in _WIDTHS})


def line(row: Mapping[str, Any]) -> str:
    """A run as a line.

    Args:
        row: the run, as `compare` knows it.

    Returns:
        A line. A run that was given up cost more than it says.
    """
    cost = f"{'more than ' * row['given_up']}{row['cost']}"
    words = {
        "ran": "" if row["ran"] == row["solver"] else row["ran"],
        "rtol": "" if math.isnan(row["rtol"]) else f"{row['rtol']:g}",
        "cost": cost,
        "error": f"{row['error']:.2g}",
        "seconds": f"{row['seconds']:.3g}",
        "result": "given up" if row["given_up"] else row["result"],
    }
    return _joined({name: str(words.get(name, row.get(name))) for name in _WIDTHS})


def _joined(words: Mapping[str, str]) -> str:
    """Names to the left, numbers to the right."""
    left = ("solver", "ran", "result")
    padded = [
        words[name].ljust(width) if name in left else words[name].rjust(width)
        for name, width in _WIDTHS.items()
    ]
    return "  ".join(padded).rstrip()

"""The file in which a flow is kept while it runs, and those of its legs where a graph changes."""

import io
import itertools
import json
import os
from pathlib import Path

import numpy as np

from ..files import NotRead, of_the_system, open_regular
from .filled import with_empty_rows

Arrays = dict[str, np.ndarray]
HEADER = "header"


class ForeignCheckpoint(ValueError):
    """Raised for a checkpoint file that is torn, or of another flow or version."""


def read(path: Path) -> Arrays:
    """The arrays of a checkpoint file.

    Args:
        path: the file.

    Returns:
        Arrays by name.

    Raises:
        FileNotFoundError: if there is none.
        NotRead: if the system refuses, which says nothing of the checkpoint.
        ForeignCheckpoint: if it is no readable checkpoint.
    """
    file = open_regular(path)
    if file is None and not path.exists():
        raise FileNotFoundError(path)
    try:
        # Array by array: a large file is not in memory beside what is made of it.
        with file or io.BytesIO() as content, np.load(content, allow_pickle=False) as archive:
            arrays = with_empty_rows(dict(archive))
        json.loads(str(arrays[HEADER]))["identity"]
        return arrays
    except Exception as error:
        if of_the_system(error):
            raise NotRead(path, OSError(f"{type(error).__name__}: {error}")) from error
        raise ForeignCheckpoint(
            f"Argument `checkpoints` must name a readable checkpoint, but {str(path)!r} is none "
            f"({error}); remove it or choose another name."
        ) from None


def save(path: str, arrays: Arrays) -> None:
    """Write the arrays of a checkpoint file.

    Args:
        path: the file.
        arrays: arrays by name.
    """
    with open(path, "wb") as file:
        np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]


def leg_path(path: Path, turn: int) -> Path:
    """The file of one leg, beside that of the whole flow."""
    return path.with_name(f"{path.stem}.{turn}{path.suffix}")


def leg_paths(path: Path) -> list[Path]:
    """The files of legs that are there, in their order, up to the first that is not."""
    paths = (leg_path(path, turn) for turn in itertools.count())
    return list(itertools.takewhile(Path.exists, paths))


def remove(path: Path) -> None:
    """Remove a checkpoint file that is no longer needed, with those of its legs, as far as there.

    Args:
        path: the file of the whole flow.
    """
    # The first leg goes last: without it no other would be found again.
    for each in (path, *reversed(leg_paths(path))):
        if each.exists():
            os.unlink(each)

"""Results on disk: one self-describing NetCDF file per finished cell, written atomically."""

import os
import tempfile
from pathlib import Path

import xarray

CELLS = "cells"


def write(data: xarray.Dataset, path: Path) -> None:
    """Write a dataset so that `path` either holds all of it or does not exist.

    Args:
        data: the dataset.
        path: the file; its folder is made if needed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
    os.close(handle)
    try:
        data.to_netcdf(temporary, engine="h5netcdf")
        _flush(temporary)
        os.replace(temporary, path)
        _flush(path.parent)
    finally:
        Path(temporary).unlink(missing_ok=True)


def write_text(text: str, path: Path) -> None:
    """Write a text file in the same way.

    Args:
        text: its content.
        path: the file; its folder is made if needed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_text(text)
        _flush(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def cell_path(directory: Path, name: str) -> Path:
    """Where a cell of this name is kept."""
    return directory / CELLS / f"{name}.nc"


def load(directory: str | Path) -> xarray.Dataset:
    """All finished cells of a folder of results, as one dataset.

    Args:
        directory: the folder that `run_study` wrote.

    Returns:
        Dimensions `size`, `seed` and `time`; NaN (or an empty string) where a combination of size
        and seed is not there.

    Raises:
        FileNotFoundError: if the folder holds no results.
    """
    files = sorted((Path(directory) / CELLS).glob("*.nc"))
    if not files:
        raise FileNotFoundError(
            f"Argument `results` must be a folder written by `flowlift run`, but "
            f"{str(directory)!r} holds no finished cell; run the study first."
        )
    cells = [xarray.load_dataset(file, engine="h5netcdf") for file in files]
    return xarray.combine_by_coords(cells, combine_attrs="drop_conflicts")  # pyright: ignore


def _flush(path: str | Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

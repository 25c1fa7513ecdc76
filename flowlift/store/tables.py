"""Results for other programs: tables of runs and of records along the flows, whole datasets."""

import importlib.util
from pathlib import Path

import pandas
import xarray

from ..files import write_whole, write_whole_folder

FORMATS = {"csv": ".csv", "parquet": ".parquet", "zarr": ".zarr", "netcdf": ".nc"}
_NEEDS = {"parquet": "pyarrow", "zarr": "zarr"}


def runs_table(results: xarray.Dataset) -> pandas.DataFrame:
    """One row per run that was done.

    Args:
        results: as given by `load`.

    Returns:
        Columns: the study's further axes, size and seed, then every quantity of a run; units and
        meanings are those of docs/store.md.
    """
    axes = results["final_loss"].dims
    names = [name for name, data in results.data_vars.items() if set(data.dims) == set(axes)]
    table = results[names].to_dataframe(dim_order=list(axes)).reset_index()
    return table.loc[table["end_time"].notna().to_numpy()].reset_index(drop=True)


def along_table(results: xarray.Dataset) -> pandas.DataFrame:
    """One row per run and save time that it reached.

    Args:
        results: as given by `load`.

    Returns:
        Columns: the study's further axes, size, seed and time, then every record along the flow.
    """
    axes = (*results["final_loss"].dims, "time")
    names = [name for name, data in results.data_vars.items() if set(data.dims) == set(axes)]
    table = results[names].to_dataframe(dim_order=list(axes)).reset_index()
    return table.loc[table["loss"].notna().to_numpy()].reset_index(drop=True)


def export(
    results: xarray.Dataset, path: str | Path, kind: str = "csv", *, along: bool = False
) -> Path:
    """Write results as one file.

    Args:
        results: as given by `load`.
        path: the file; the kind's ending is added where it lacks it.
        kind: "csv", "parquet", "zarr" or "netcdf".
        along: for the two kinds of tables: records along the flows instead of runs.

    Returns:
        The file's path.

    Raises:
        ValueError: for an unknown kind, or `along` with a whole dataset.
        ImportError: if the extra `export` is not installed.
        NotWritten: if the file cannot be written, e.g. because the disk is full; what stood there
            is untouched.
    """
    if kind not in FORMATS:
        raise ValueError(
            f"Argument `kind` must be one of {', '.join(FORMATS)}, but is {kind!r}; choose one."
        )
    if along and kind in ("zarr", "netcdf"):
        raise ValueError(
            f"Argument `along` must be False for {kind!r}, which holds all records anyway, but is "
            "True; leave it out."
        )
    package = _NEEDS.get(kind)
    if package and importlib.util.find_spec(package) is None:
        raise ImportError(
            f"Writing {kind} needs the package {package}; pip install 'flowlift[export]'."
        )
    path = Path(path)
    if path.suffix != FORMATS[kind]:
        path = path.with_name(path.name + FORMATS[kind])
    if kind == "zarr":
        write_whole_folder(path, lambda part: results.to_zarr(part, mode="w"))
    else:
        write_whole(path, lambda part: _write(results, part, kind, along=along))
    return path


def _write(results: xarray.Dataset, path: str, kind: str, *, along: bool) -> None:
    if kind == "netcdf":
        # Made in memory: HDF5 does not survive a full disk (it may crash).
        Path(path).write_bytes(results.to_netcdf(engine="h5netcdf"))
        return
    table = along_table(results) if along else runs_table(results)
    table.to_csv(path, index=False) if kind == "csv" else table.to_parquet(path, index=False)

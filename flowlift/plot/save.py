"""Writing the figures of a study."""

from pathlib import Path

import matplotlib.pyplot as plt
import xarray

from ..compare import comparison_table
from ..studies import Question
from .figures import figures
from .style import figure_of
from .work_precision import work_precision


def save_figures(
    results: xarray.Dataset,
    directory: str | Path,
    *,
    suffix: str = "png",
    question: Question | None = None,
) -> list[Path]:
    """Draw every figure of a study.

    Args:
        results: as given by `flowlift.store.load`.
        directory: where to write, made if needed.
        suffix: "png", "pdf" or "svg".
        question: whose losses and times; None leaves out the figures of probabilities.

    Returns:
        The files. Further axes of the study become panels or lines.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    files = []
    for name, _, figure in figures(results, question):
        files.append(directory / f"{name}.{suffix}")
        figure.savefig(files[-1], dpi=200)
    return files


def save_comparison(results: xarray.Dataset, directory: str | Path) -> list[Path]:
    """Keep a comparison of solvers: its data as NetCDF, its table as CSV, its figure.

    Args:
        results: as given by `flowlift.compare.compare`.
        directory: where to write, made if needed.

    Returns:
        The files.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    files = [directory / name for name in ("runs.nc", "table.csv", "work_precision.png")]
    results.to_netcdf(files[0], engine="h5netcdf")
    comparison_table(results).to_csv(files[1], index=False)
    figure = figure_of(work_precision(results))
    figure.savefig(files[2], dpi=200)
    plt.close(figure)
    return files

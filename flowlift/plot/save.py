"""Writing the figures of a study."""

import itertools
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import xarray
from matplotlib.figure import Figure

from ..experiments import comparison_table, further_axes
from .loss_vs_size import loss_vs_size
from .loss_vs_time import loss_vs_time
from .style import COLUMN, figure_of
from .work_precision import work_precision

FIGURES = {"loss_vs_time": loss_vs_time, "loss_vs_size": loss_vs_size}


def save_figures(
    results: xarray.Dataset, directory: str | Path, *, suffix: str = "png"
) -> list[Path]:
    """Draw every figure of a study.

    Args:
        results: as given by `flowlift.experiments.load`.
        directory: where to write, made if needed.
        suffix: "png", "pdf" or "svg".

    Returns:
        The files. Further axes of the study become panels.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    files = []
    for name, draw in FIGURES.items():
        figure = _panels(results, draw)
        files.append(directory / f"{name}.{suffix}")
        figure.savefig(files[-1], dpi=200)
        plt.close(figure)
    return files


def save_comparison(results: xarray.Dataset, directory: str | Path) -> list[Path]:
    """Keep a comparison of solvers: its data as NetCDF, its table as CSV, its figure.

    Args:
        results: as given by `flowlift.experiments.compare`.
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


def _panels(results: xarray.Dataset, draw: Callable) -> Figure:
    """One panel, or one for each combination along the study's further axes."""
    axes = further_axes(results)
    chosen = [
        dict(zip(axes, values, strict=True))
        for values in itertools.product(*(results[axis].values for axis in axes))
    ]
    width, height = COLUMN
    figure = plt.figure(figsize=(width * len(chosen), height), layout="constrained")
    panels = figure.subplots(1, len(chosen), sharey=True, squeeze=False)[0]
    for panel, selection in zip(panels, chosen, strict=True):
        draw(results.sel(selection), panel)
        panel.set_title(", ".join(f"{k} = {v}" for k, v in selection.items()), fontsize=9)
    return figure

"""Writing the figures of a study."""

from pathlib import Path

import matplotlib.pyplot as plt
import xarray

from .loss_vs_size import loss_vs_size
from .loss_vs_time import loss_vs_time
from .style import figure_of

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
        The files.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    files = []
    for name, draw in FIGURES.items():
        figure = figure_of(draw(results))
        files.append(directory / f"{name}.{suffix}")
        figure.savefig(files[-1], dpi=200)
        plt.close(figure)
    return files

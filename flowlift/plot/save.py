"""Writing the figures of a study."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import xarray
from matplotlib.figure import Figure

from ..compare import comparison_table
from ..files import write_text, write_whole
from ..studies import Question
from .figures import figures
from .style import caption_of, figure_of, paper
from .work_precision import work_precision


def save_figures(
    results: xarray.Dataset,
    directory: str | Path,
    *,
    suffix: str = "png",
    question: Question | None = None,
    more: Sequence[str] = (),
    width: str = "screen",
) -> list[Path]:
    """Draw every figure of a study.

    Args:
        results: as given by `flowlift.store.load`.
        directory: where to write, made if needed.
        suffix: "png", "pdf" or "svg".
        question: whose losses and times; None leaves out the figures of probabilities.
        more: further figures by name, as for `figures`.
        width: "screen", or "single" or "double": a column of a paper (`paper`), captions in a
            file `captions.txt` beside the figures.

    Returns:
        The files. Further axes of the study become panels or lines.
    """
    directory = Path(directory)
    files, captions = [], []
    with contextlib.nullcontext() if width == "screen" else paper(width):
        for name, _, figure in figures(results, question, more):
            files.append(directory / f"{name}.{suffix}")
            _save(figure, files[-1], 200 if width == "screen" else 600)
            captions.append(f"{files[-1].name}: {caption_of(figure)}\n")
    if width != "screen":
        files.append(directory / "captions.txt")
        write_text(files[-1], "\n".join(captions))
    return files


def _save(figure: Figure, path: Path, dpi: int = 200) -> None:
    """Whole or not at all."""
    kind = path.suffix.removeprefix(".")
    write_whole(path, lambda part: figure.savefig(part, dpi=dpi, format=kind), durable=False)


def save_comparison(results: xarray.Dataset, directory: str | Path) -> list[Path]:
    """Keep a comparison of solvers: its data as NetCDF, its table as CSV, its figure.

    Args:
        results: as given by `flowlift.compare.compare`.
        directory: where to write, made if needed.

    Returns:
        The files.
    """
    directory = Path(directory)
    files = [directory / name for name in ("runs.nc", "table.csv", "work_precision.png")]
    content = results.to_netcdf(engine="h5netcdf")
    write_whole(files[0], lambda part: Path(part).write_bytes(content))
    write_whole(files[1], lambda part: comparison_table(results).to_csv(part, index=False))
    figure = figure_of(work_precision(results))
    _save(figure, files[2])
    plt.close(figure)
    return files

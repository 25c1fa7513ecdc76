"""Do the numbers depend on the tolerances? A few seeds again at a tenth of them."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import xarray

from ..answers.questions import study_of
from ..answers.verdicts import NOT_OBSERVED, there, verdicts
from ..store import load
from ..store.cells import write_study
from ..studies.grid import axis_names
from ..studies.records import Question, Study
from ..studies.toml import variants
from .run import run_study

_FINER = 10.0


def check_tolerance(
    study: Study, directory: str | Path, *, seeds: int = 3, **options: Any
) -> pandas.DataFrame:
    """Run the first seeds of every size at a tenth of both tolerances, and compare.

    The finer runs are runs of their own, with their own identity, in the same folder: they are not
    repeated, and the study's results do not contain them.

    Args:
        study: the study.
        directory: the folder of its results.
        seeds: how many seeds of each size; those of the study that are missing are run, too.
        **options: `executor` and `progress`, as for `run_study`.

    Returns:
        As `compare_tolerances`, for every variant of the study and every size.

    Raises:
        ValueError: if `seeds` is below 1 or above the study's.
    """
    if not 1 <= seeds <= study.seeds:
        raise ValueError(
            f"Argument `seeds` must lie between 1 and the study's {study.seeds}, but is {seeds}; "
            "change it."
        )
    try:
        for _, variant in variants(study):
            few = dataclasses.replace(variant, seeds=seeds)
            for pair in (few, finer(few)):
                run_study(pair, directory, **options)
    finally:
        write_study(study, Path(directory))
    table = tolerances_there(study, Path(directory))
    assert table is not None
    return table


def tolerances_there(study: Study, directory: Path) -> pandas.DataFrame | None:
    """The comparison with finer runs that are already in a folder.

    Args:
        study: the study.
        directory: the folder of its results.

    Returns:
        As `check_tolerance`, over all seeds that have a finer run; None if none has.
    """
    names, tables = axis_names(study), []
    for assignments, variant in variants(study):
        try:
            # The finer runs first: where there are none, no others are read.
            finest = load(directory, finer(variant))
            pair = (load(directory, variant), finest)
        except FileNotFoundError:
            continue
        coarse, fine = xarray.align(*pair, join="inner")
        table = compare_tolerances(coarse, fine, study.question)
        at = {names[key]: value for key, value in assignments.items()}
        tables.append(table.assign(**at)[[*at, *table.columns]])
    return pandas.concat(tables, ignore_index=True) if tables else None


def finer(study: Study) -> Study:
    """The study at a tenth of its relative and absolute tolerance.

    Args:
        study: the study.

    Returns:
        The finer study.
    """
    plan = study.flow
    tighter = dataclasses.replace(plan, rtol=plan.rtol / _FINER, atol=plan.atol / _FINER)
    return dataclasses.replace(study, flow=tighter)


def compare_tolerances(
    coarse: xarray.Dataset, fine: xarray.Dataset, question: Question | None = None
) -> pandas.DataFrame:
    """The largest relative change of the loss over save times, and changed verdicts, per size.

    Args:
        coarse: results.
        fine: those of the same sizes and seeds at finer tolerances.
        question: at whose losses and times verdicts are compared; None compares none.

    Returns:
        A row per size: `lift size`, `runs` compared, `largest change` |L - L'| / L' over all save
        times that both flows reached, with the `seed` and `time` where it occurs, the `loss`
        there, and `changed verdicts` (yes or no) over all runs and all pairs of the question; what
        either did not observe has no verdict that could change.
    """
    done = there(coarse) & there(fine)
    # Where both are zero, or a flow had ended, nothing has changed or can be compared.
    change = (np.abs(coarse.loss - fine.loss) / fine.loss).where(done)
    changed, rows = _changed(coarse, fine, question, done), []
    for size in coarse["size"].values.tolist():
        here = change.sel(size=size).transpose("seed", "time").values
        seed, time = np.unravel_index(np.argmax(np.nan_to_num(here, nan=-1.0)), here.shape)
        rows.append(
            {
                "lift size": size,
                "runs": int(done.sel(size=size).sum()),
                "largest change": float(here[seed, time]),
                "seed": int(coarse["seed"].values[seed]),
                "time": float(coarse.time.values[time]),
                "loss": float(fine.loss.sel(size=size).isel(seed=seed, time=time)),
                "changed verdicts": int(changed.sel(size=size)),
            }
        )
    return pandas.DataFrame(rows)


def _changed(coarse, fine, question: Question | None, done: xarray.DataArray) -> xarray.DataArray:
    """How many verdicts changed at each size."""
    changed = xarray.zeros_like(done, dtype=int)
    for pair in question.pairs if question else ():
        on = question.asked_on if question else "training"
        one, two = (verdicts(data, *pair, on=on).verdict for data in (coarse, fine))
        changed = changed + ((one != two) & (one != NOT_OBSERVED) & (two != NOT_OBSERVED) & done)
    return changed.sum("seed")


def tolerance_floor(results: xarray.Dataset) -> float:
    """Below which loss the tolerances leave the numbers undetermined, to order of magnitude.

    A relative error rtol of theta is one of order rtol of the outputs F, hence of order
    rtol^2 E|F|^2 ~ rtol^2 L(0) of the loss near its minimum [choice]; `check_tolerance` measures
    what this estimates.

    Args:
        results: as given by `load`, of one variant (`by_variant`).

    Returns:
        rtol^2 times the median initial loss; 0 where the tolerance is not known, for results
        that were gathered from solutions.
    """
    if "rtol" not in results.coords and "study" not in results.attrs:
        return 0.0
    rtol = results["rtol"].item() if "rtol" in results.coords else study_of(results).flow.rtol
    initial = results.loss.isel(time=0).values
    return float(rtol**2 * np.nanmedian(initial)) if np.isfinite(initial).any() else 0.0

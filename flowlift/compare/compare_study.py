"""Comparing solvers on the flow of one lift of a study."""

from typing import Any

import xarray

from ..studies.records import Study
from ..sweep.cell import dynamics_of, model_maker, study_task
from ..sweep.checking import check_study
from .curves import checked_whole, compare


def compare_on_study(
    study: Study, *, size: int | None = None, seed: int | None = None, **options: Any
) -> xarray.Dataset:
    """Run solvers on one lift of a study, to its horizon.

    Args:
        study: gives module, lift, task, rates, horizon and precision; its solver and tolerances
            are not used, nor are its stopping rules: errors are compared at equal times.
        size: the lift size; the study's first if None.
        seed: the seed of the lift; the study's first if None.
        **options: as for `compare`.

    Returns:
        As `compare`, with the lift's size and seed as attributes.

    Raises:
        ValueError: as for `run_study` and `compare`.
    """
    if size is not None:
        size = checked_whole("size", size, 1)
    if seed is not None:
        seed = checked_whole("seed", seed, 0)
    check_study(study if size is None else study.of_size(size))
    size = study.all_sizes[0] if size is None else size
    seed = study.first_seed if seed is None else seed
    if not dynamics_of(study).plain:
        raise ValueError(
            f"Argument `study` must flow plainly to be compared with other solvers, but flows by "
            f"{dynamics_of(study).title}; leave [flow.dynamics] out."
        )
    if study.flow.rewire is not None:
        raise ValueError(
            "Argument `study` must keep its graph to be compared with other solvers, but changes "
            "it; leave [flow.rewire] out."
        )
    model = model_maker(study)(size, seed)
    task = study_task(study, model)
    rates = study.rates_of(model, size)
    horizon, precision = study.flow.horizon, study.precision
    results = compare(model, task, horizon, precision=precision, rates=rates, **options)
    return results.assign_attrs(study=study.name, size=size, seed=seed)

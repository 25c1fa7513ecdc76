"""The approximation number from above: the smallest size at which some theta reaches a loss."""

import dataclasses
import itertools

import numpy as np
import xarray

from ..lift import Complete, Lift, expected_counts, plant, sample
from ..modules import PerceptronModule
from ..showing import shows_itself
from ..studies.kinds import build_module, build_task, is_loaded
from ..studies.records import LiftPlan, Study
from .verdicts import there


@shows_itself
@dataclasses.dataclass(frozen=True)
class Approximation:
    """A lift with L <= eps: its size bounds the approximation number (theory, section 4).

    Attributes:
        size: the lift size.
        loss: the least L seen of it.
        seed: of the flow that reached it; None for a planted witness.
    """

    size: int
    loss: float
    seed: int | None


def best_seen(results: xarray.Dataset, loss: float) -> Approximation | None:
    """The smallest size of which a flow was seen with L <= eps.

    Args:
        results: as given by `load`, of one variant (`by_variant`).
        loss: eps.

    Returns:
        The flow that bounds the approximation number; None if none reached the loss.
    """
    # A flow that failed later had its least loss before; infinities are no losses.
    least, last = _finite(results.loss).min("time"), _finite(results.final_loss)
    least = least.where(~(last < least), last).fillna(last).where(there(results))
    for size in sorted(results["size"].values.tolist()):
        losses = least.sel(size=size).values
        if np.any(losses <= loss):
            seed = int(results["seed"].values[np.nanargmin(losses)])
            return Approximation(size, float(np.nanmin(losses)), seed)
    return None


def _finite(losses: xarray.DataArray) -> xarray.DataArray:
    return losses.where(np.isfinite(losses))


def planted_witness(study: Study, loss: float, witness: Lift | None = None) -> Approximation | None:
    """The smallest size of the study's lifts that can hold a witness, if the witness has L <= eps.

    The witness is planted into the complete lift of that size, whose other copies have zero
    read-out, so that the lift **is** the witness as a function (`flowlift.lift.plant`); its loss
    is evaluated there, not assumed. The edge law plays no part: every graph that holds the
    witness's edges will do, and the sparse laws draw such graphs with positive probability. Where
    a size counts edges or parameters, it is the expected count of lifts of that many copies.

    Args:
        study: the study, without further axes.
        loss: eps.
        witness: a lift of the study's module; None takes the task's teacher where that is one.

    Returns:
        The planted lift that bounds the approximation number; None without a witness of this
        module, if its loss is above eps, or if code would have to be loaded to tell.
    """
    if study.lift is None or not (is_loaded(study.module) and is_loaded(study.task)):
        return None
    module, task = build_module(study.module), build_task(study.task, study.precision)
    held = task.facts.get("teacher") if witness is None else witness
    if not isinstance(held, Lift) or held.module != module:
        return None
    size = _fitting_size(study.lift, module, held)
    around = sample(
        module,
        copies=study.lift.copies(module, size),
        edges=Complete(),
        seed=study.first_seed,
        precision=study.precision,
    )
    reached = float(task.objective(plant(around, held).lift))
    return Approximation(size, reached, None) if reached <= loss else None


def _fitting_size(lift: LiftPlan, module: PerceptronModule, witness: Lift) -> int:
    """The size of the fewest copies that are enough, whatever a size counts."""
    plan = dataclasses.replace(lift, size_counts="copies")
    holds = lambda copies: all(copies[name] >= witness.copies[name] for name in copies)
    enough = next(n for n in itertools.count(1) if holds(plan.copies(module, n)))
    if lift.size_counts == "copies":
        return enough
    copies = plan.copies(module, enough)
    return round(expected_counts(module, copies=copies, edges=plan.edge_laws)[lift.size_counts])

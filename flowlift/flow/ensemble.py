"""Many flows of one shape: an ensemble, each member at its own pace."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from jaxtyping import PyTree

from ..tasks import AbstractObjective, Task, resolve_objective
from .solution import FlowSolution
from .solve import solve


def solve_each(
    models: Iterable[PyTree],
    task: Task | AbstractObjective | Callable,
    horizon: float,
    **options: Any,
) -> Iterator[FlowSolution]:
    """The flow of each model of an ensemble, in turn, each with its own steps.

    Members of one shape (lifts of one size that differ by their seed) share one compilation, and
    the work is the sum of what each member needs alone. Under `jax.vmap` all would step in lock
    step: every attempted step is paid for all members until the last one is through, and every
    branch of a solver is taken by all, so that 63 easy flows and one hard one cost 64 hard ones.
    On a CPU a batch gains nothing that would pay for it.

    Solutions come one by one, so that only those are in memory that the caller keeps; a member
    that fails is a result like any other and stops nobody else. For several processes or machines
    see `flowlift.sweep`.

    Args:
        models: the members, or a generator of them.
        task: as for `solve`.
        horizon: as for `solve`.
        **options: as for `solve`.

    Returns:
        An iterator over the solutions, in the order of the models.
    """
    # A mistake is said at once, and not with the first member.
    resolve_objective(task)
    return (solve(model, task, horizon, **options) for model in models)

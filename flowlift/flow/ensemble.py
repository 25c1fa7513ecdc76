"""Many flows of one shape: an ensemble, each member at its own pace."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from jaxtyping import PyTree

from ..kernels.measured import measured
from ..numbers import whole
from ..tasks import AbstractObjective, Task, resolve_objective
from .checkpoints import Checkpoints
from .loop import integrating
from .manner import RAISE, Manner
from .outcome import FlowInterrupted
from .runner import Waiting
from .side_by_side import Ensemble
from .solution import FlowSolution
from .solve import prepared, solve


def solve_each(
    models: Iterable[PyTree],
    task: Task | AbstractObjective | Callable,
    horizon: float,
    *,
    batch: int | str | None = None,
    **options: Any,
) -> Iterator[FlowSolution]:
    """The flow of each model of an ensemble, each with its own steps.

    Members of one shape (lifts of one size that differ by their seed) share one compilation, and
    the work is the sum of what each member needs alone. Under `jax.vmap` all would step in lock
    step: every attempted step is paid for all members until the last one is through, and every
    branch of a solver is taken by all, so that 63 easy flows and one hard one cost 64 hard ones.

    With `batch` = K, K flows run side by side in one program, in the graph: each has its own step,
    order, stopping rules and end, and where one ends, the next one takes its lane. Explicit
    Runge-Kutta methods, RKC2 and BDF do; flows of other solvers, and what the automatic choice
    takes of them, run by themselves in between. A member's numbers do not depend on which others
    it shares the program with. `stats.seconds` is the time from a member's start to its end, those
    beside it included.

    Solutions come one by one, in the order of the models, so that only those are in memory that
    the caller keeps, and with `batch` those that have ended before one that came earlier. A member
    that fails is a result like any other and stops nobody else. For several processes or machines
    see `flowlift.sweep`.

    Args:
        models: the members, or a generator of them.
        task: as for `solve`.
        horizon: as for `solve`.
        batch: how many flows run side by side; "auto": what is fastest, one after another on a
            CPU and as many as `flowlift.kernels.measured` has timed elsewhere; None: one after
            another.
        **options: as for `solve`. `progress` is that of each member. Ctrl-C ends the ensemble: with
            `interrupt="return"` the members that were under way are the last ones given, else
            `FlowInterrupted` has them as its `solutions`.

    Returns:
        An iterator over the solutions, in the order of the models.

    Raises:
        ValueError: for a bad argument; those of one member as its solution is asked for.
    """
    # A mistake is said at once, and not with the first member.
    resolve_objective(task)
    batch = resolve_batch(batch)
    interrupt = options.pop("interrupt", RAISE)
    # A mistake is said before the first member; each call of `solve` has its own bar.
    Manner.of(False, interrupt, options.get("progress", False))
    if batch is None:
        return _one_by_one(models, task, horizon, interrupt, options)
    ensemble, flows = batched(models, task, horizon, batch, **options)
    return _side_by_side(ensemble, flows, interrupt)


def resolve_batch(batch: Any) -> Any:
    """How many flows run side by side on this device.

    Args:
        batch: as for `solve_each`.

    Returns:
        The number; None for one after another. What is neither is given back as it is.
    """
    if not (isinstance(batch, str) and batch == "auto"):
        return batch
    found = measured()
    return None if found is None else found.batch


def check_batch(batch: Any) -> None:
    """Refuse what is no number of flows.

    Args:
        batch: as for `solve_each`.

    Raises:
        ValueError: if it is neither an integer of at least 1, nor "auto", nor None.
    """
    width = whole(batch)
    if batch not in (None, "auto") and (width is None or width < 1):
        raise ValueError(
            f"Argument `batch` must be an integer of at least 1, or 'auto', but is {batch!r}; give "
            "the number of flows that are to run side by side."
        )


def _one_by_one(models, task, horizon: float, interrupt: str, options: dict[str, Any]):
    """Member after member; an interruption is the ensemble's, not the member's."""
    for model in models:
        try:
            solution = solve(model, task, horizon, **options)
        except FlowInterrupted as stopped:
            if interrupt == RAISE:
                raise
            yield stopped.solution
            return
        yield solution


def _side_by_side(ensemble: Ensemble, flows: Iterator[Waiting[FlowSolution]], interrupt: str):
    try:
        yield from ensemble.run(flows)
    except KeyboardInterrupt:
        solutions = ensemble.interrupted()
        if not solutions:
            raise
        if interrupt == RAISE:
            raise FlowInterrupted(solutions[0], solutions) from None
        yield from solutions


def batched(
    models: Iterable[PyTree], task: Any, horizon: float, width: int | str, **options: Any
) -> tuple[Ensemble, Iterator[Waiting[FlowSolution]]]:
    """An ensemble that has not begun, which counts its work, and its flows.

    Args:
        models: as for `solve_each`.
        task: likewise.
        horizon: likewise.
        width: how many flows run side by side.
        **options: as for `solve`.

    Returns:
        Both: `Ensemble.run` runs the flows.

    Raises:
        ValueError: for an option that no batch has.
    """
    lanes = _width(width, options)
    # Interrupted members raise, each what it has: the ensemble answers for all.
    manner = Manner.of(options.pop("throw", False), RAISE, options.pop("progress", False))
    flows = (member(model, task, horizon, manner, **options) for model in models)
    return Ensemble(lanes), flows


def member(
    model: PyTree, task: Any, horizon: float, manner: Manner, **options: Any
) -> Waiting[FlowSolution]:
    """One flow of an ensemble, which asks for its bursts; its arguments are checked as it begins.

    Args:
        model: as for `solve`.
        task: likewise.
        horizon: likewise.
        manner: who is told of it, and what becomes of it where it does not come to its end.
        **options: as for `solve`, with a file of its own for `checkpoints`.

    Yields:
        The bursts.

    Returns:
        The solution.

    Raises:
        ValueError: for a bad argument.
        FlowError: as for `solve`.
        FlowInterrupted: likewise.
    """
    checkpoint, plan = prepared(model, task, horizon, **{**options, "engine": "graph"})
    checkpoints = options.get("checkpoints")
    return (yield from integrating(checkpoint, plan, manner, checkpoints))


def _width(batch: Any, options: dict[str, Any]) -> int:
    check_batch(batch)
    if options.get("engine") not in (None, "graph"):
        raise ValueError(
            "Argument `engine` must be left out with `batch`, whose flows run in the graph, but is "
            f"{options['engine']!r}; take `batch` out."
        )
    if options.get("checkpoints") is not None:
        raise ValueError(
            "Argument `checkpoints` must be left out with several models, since one file keeps one "
            f"flow, but is {Checkpoints.__name__}; call `solve` for each."
        )
    # Of NumPy or JAX perhaps.
    return int(batch)

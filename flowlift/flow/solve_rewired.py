"""`solve_rewired`: a flow on a graph that changes at given times, one leg on each graph."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import numpy as np

from ..leaves import flowing
from ..lift import Lift, check_seed, flexible
from ..numbers import real
from ..tasks import AbstractObjective, Task
from .checkpoints import Checkpoints
from .observers import watch
from .outcome import Outcome
from .rates import Rates, named_rates
from .rewired import AWAY, Rewired, away, joined
from .rewiring import check_pairs, check_rewiring, exchange
from .schedule import LogTimes, explicit_times, resolve_times
from .solution import FlowSolution
from .solve import MAX_STEPS, SAVE, solve
from .stops import Stop

# What a leg takes as it is; the rest of `solve` is of the whole flow, or of one graph.
_SETTINGS = ("solver", "rtol", "atol", "precision", "rates", "memory", "engine", "progress")
_SETTINGS += ("interrupt",)
_WHOLE = ("trainable", "throw")


def solve_rewired(
    model: Lift,
    task: Task | AbstractObjective | Callable,
    horizon: float,
    *,
    times: Sequence[float],
    drop: float | Sequence[float],
    grow: str,
    seed: int,
    edges: Sequence[str] | None = None,
    frozen: Sequence[str] = (),
    save: LogTimes | Sequence[float] = SAVE,
    stops: Sequence[Stop] = (),
    max_gradients: float = math.inf,
    max_steps: int = MAX_STEPS,
    observers: Mapping[str, Callable] | None = None,
    snapshots: Sequence[float] = (),
    checkpoints: Checkpoints | None = None,
    **settings: Any,
) -> Rewired:
    """The flow of a sparse lift whose graph changes at given times: see `rewire` for the changes.

    Between rewirings theta' = -grad L on the graph of the leg. A rewiring drops edges, which may
    change L, and lets others grow from weight 0, which does not. Numbers of edges stay the same
    over each base edge, and so do all shapes: later legs compile nothing anew. In-degrees vary, so
    that lifts of a fixed in-degree lose the kernels for one.

    Args:
        model: a lift.
        task: as for `solve`.
        horizon: the end T > 0.
        times: when the graph changes, increasing, inside (0, T).
        drop: the fraction of edges that leaves, one for all times or one for each, as a falling
            schedule is.
        grow: "gradient" (RigL) or "random" (sparse evolutionary training).
        seed: of the pairs that grow at random.
        edges: base edges; None for all that are sparse and flow.
        frozen: base edges that do not flow; * and ? stand for any letters.
        save: as for `solve`, on the whole flow; rewirings are saved too, before and after.
        stops: as for `solve`, each asked of a leg by itself, with the time and the decrease since
            its start; a rule that holds within a leg ends the flow.
        max_gradients: budget of all legs together.
        max_steps: limit of attempted steps of all legs together.
        observers: as for `solve`.
        snapshots: times from 0 to T at which the whole lift is kept, at a rewiring the one before.
        checkpoints: a file that keeps where the flow stands, one for each leg, NAME.0.npz,
            NAME.1.npz, ...: after a kill the same call goes on from them, with the same numbers.
        **settings: solver, rtol, atol, precision, rates, memory, engine, progress and interrupt
            (both of each leg), as for `solve`.

    Returns:
        The legs with their changes, and one record. A leg that is not reached is the last one.

    Raises:
        ValueError: for a bad argument, before any computation.
    """
    found = explicit_times("times", times, _checked_horizon(horizon))
    shares = fractions(drop, found, horizon)
    names = check_rewired(model, edges, shares, grow, frozen, settings.get("rates"))
    _check_settings(settings, observers)
    watch(observers, model)
    check_seed(seed)
    wanted, kept = resolve_times(save, 0.0, float(horizon)), _kept(snapshots, float(horizon))
    how = {key: settings[key] for key in ("precision", "memory") if key in settings}
    first = lift = flexible(model, names)
    start, left, steps, result = 0.0, max_gradients, max_steps, Outcome.HORIZON
    legs, starts, asked, changes, models = [], [], [], [], {}
    for turn, end in enumerate([*found.tolist(), float(horizon)]):
        inside = _within(wanted, start, end)
        here = {t: t - start for t in kept if start < t <= end or t == start == 0}
        far = away(first, lift, names, settings.get("precision", "float64"))
        leg = solve(
            lift, task, end - start, save=(inside - start).tolist(), stops=stops,
            max_gradients=left, max_steps=steps, snapshots=list(here.values()),
            observers={**(observers or {}), AWAY: far},
            checkpoints=None if checkpoints is None else checkpoints.of_leg(turn),
            **({"trainable": flowing(lift, frozen)} if frozen else {}), **settings,
        )  # fmt: skip
        models |= {t: leg.snapshots[at] for t, at in here.items() if at in leg.snapshots}
        legs.append(leg)
        starts.append(start)
        asked.append(np.unique([start, *inside, *here, end]))
        left, steps = left - leg.stats.cost, steps - leg.stats.steps
        result = leg.result
        if result is not Outcome.HORIZON or end == float(horizon):
            break
        if left <= 0 or steps <= 0:
            result = Outcome.BUDGET if left <= 0 else Outcome.STEP_LIMIT
            break
        legs[-1] = _without_position(leg)
        lift, change = exchange(
            leg.model, task, names, drop=shares[turn], grow=grow, seed=seed, turn=turn, **how
        )
        changes.append(change)
        start = end
    return joined(legs, starts, asked, changes, result, models)


def _without_position(leg: FlowSolution) -> FlowSolution:
    """A leg without where its solver stood: dozens of vectors, of no use on another graph."""
    return dataclasses.replace(leg, checkpoint=None)


def check_rewired(
    model: Lift,
    edges: Sequence[str] | None,
    drop: Sequence[float],
    grow: str,
    frozen: Sequence[str] = (),
    rates: Rates | None = None,
) -> tuple[str, ...]:
    """Refuse what cannot be rewired, before anything is computed.

    Args:
        model: the model.
        edges: as for `solve_rewired`, like all that follow.
        drop: fractions.
        grow: how edges enter.
        frozen: base edges that do not flow.
        rates: of all leaves.

    Returns:
        The base edges whose edges change.

    Raises:
        ValueError: as for `solve_rewired`; or if the derivatives by all pairs exceed the memory.
    """
    names = check_rewiring(model, edges, drop, grow)
    if frozen:
        flows = flowing(model, frozen)
        held = [name for name in names if not flows.weights[name]]
        names = tuple(name for name in names if name not in held)
        if held and (edges is not None or not names):
            raise ValueError(
                f"Argument `edges` must name base edges that flow, but {held[0]!r} is frozen; drop "
                "it from one of them."
            )
        check_rewiring(model, names, drop, grow)
    _check_rates(model, names, rates)
    if grow == "gradient":
        check_pairs(model, names)
    return names


def _kept(snapshots: Sequence[float], horizon: float) -> list[float]:
    times = [real(time) for time in snapshots]
    if any(time is None or not 0 <= time <= horizon for time in times):
        raise ValueError(
            f"Argument `snapshots` must hold times from 0 to the horizon {horizon:g}, but is "
            f"{list(snapshots)!r}; correct it."
        )
    return [time for time in times if time is not None]


def _checked_horizon(horizon: float) -> float:
    end = real(horizon)
    if end is None or not 0 < end < math.inf:
        raise ValueError(
            f"Argument `horizon` must be a positive finite flow time, but is {horizon!r}; "
            "give the end T."
        )
    return end


def fractions(drop: Any, times: np.ndarray, horizon: float) -> list[float]:
    """The fraction that leaves at each time.

    Args:
        drop: as for `solve_rewired`.
        times: the times.
        horizon: the end.

    Returns:
        The fractions.

    Raises:
        ValueError: for times outside (0, T), or fractions that are none, or not as many.
    """
    if not times.size or times[0] <= 0 or times[-1] >= horizon:
        raise ValueError(
            f"Argument `times` must hold increasing times between 0 and the horizon {horizon:g}, "
            f"at least one, but is {times.tolist()}; leave out both ends."
        )
    alone = real(drop)
    given = drop if isinstance(drop, list | tuple | np.ndarray) else []
    shares = [alone] * len(times) if alone is not None else [real(share) for share in given]
    if len(shares) != len(times) or any(share is None for share in shares):
        raise ValueError(
            f"Argument `drop` must be a fraction, or one for each of {len(times)} times, but is "
            f"{drop!r}; correct it."
        )
    return [share for share in shares if share is not None]


def _check_settings(settings: Mapping[str, Any], observers: Mapping[str, Any] | None) -> None:
    if AWAY in (observers or {}):
        raise ValueError(
            f"Argument `observers` must not have the name {AWAY!r}, under which distances over "
            "graphs that change are recorded; rename it."
        )
    for name in settings:
        if name == "dynamics":
            raise ValueError(
                "Argument `dynamics` must be left out: the velocity or the averages of an edge "
                "that grows, and of what pruning leaves, would have to be said; take the gradient "
                "flow."
            )
        if name in _WHOLE:
            raise ValueError(
                f"Argument `{name}` must be left out, since each leg has a graph of its own; use "
                "`frozen`, or the legs' models, and solve each by itself where that is not enough."
            )
        if name not in _SETTINGS:
            raise ValueError(
                f"Argument `settings` must be among {', '.join(_SETTINGS)}, but has {name!r}; "
                "leave it out."
            )


def _check_rates(model: Lift, names: Sequence[str], rates: Rates | None) -> None:
    found = named_rates(model, eqx.is_inexact_array, rates) or {}
    for name in names:
        if found.get(f"weights.{name}") == 0:
            raise ValueError(
                f"Argument `rates` must be positive where edges grow from 0, but is 0 for {name!r};"
                " raise it, or leave this base edge out of `edges`."
            )


def _within(times: np.ndarray, start: float, end: float) -> np.ndarray:
    """Save times inside of a leg; one that is an end but for rounding is none."""
    far = (times > start) & (times < end) & ~np.isclose(times, start, 1e-12, 0)
    return times[far & ~np.isclose(times, end, 1e-12, 0)]

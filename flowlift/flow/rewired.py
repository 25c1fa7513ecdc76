"""`solve_rewired`: a flow on a graph that changes at given times, one leg on each graph."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float, PyTree

from ..drawings import curve
from ..lift import Lift, check_seed, flexible
from ..numbers import real
from ..showing import Card, shows_itself
from ..tasks import AbstractObjective, Task
from .checkpoints import Checkpoints
from .outcome import Outcome
from .rates import Rates, named_rates
from .rewiring import Change, check_rewiring, rewire
from .schedule import LogTimes, explicit_times, resolve_times
from .solution import FlowSolution, FlowStats
from .solve import SAVE, solve
from .stops import Stop

# What a leg takes as it is; the rest of `solve` is of the whole flow, or of one graph.
_SETTINGS = ("solver", "rtol", "atol", "max_steps", "observers")
_SETTINGS += ("precision", "rates", "memory", "engine", "progress", "interrupt")
_WHOLE = ("trainable", "throw")


@shows_itself
@dataclasses.dataclass(frozen=True)
class Rewired:
    """A flow in legs, each on its own graph, with one record.

    At a rewiring there are two records of one time, before and after: L jumps there by what the
    pruning costs. The integrals go on from leg to leg, so that

        L(0) - L(t) = energy(t) - sum of the jumps until t

    on the exact flow.

    Attributes:
        legs: the flow on each graph, its times counted from the leg's own start.
        starts: the time at which each leg starts.
        changes: what the rewiring after each leg but the last did, by base edge.
        times: the save times reached, from 0; the end of a leg and the start of the next are one.
        leg: the leg of each record.
        loss: L there.
        gradient_norm: |grad L| there, by the weights of the graph; with rates as in `FlowSolution`.
        arc_length: int |grad L| dt over all legs so far, likewise.
        energy: int |grad L|^2 dt over all legs so far, likewise.
        observations: further observers' records by name.
        stats: work done by the solvers; rewirings by gradient cost a gradient of the dense lift
            each besides.
        snapshots: lifts by time, at a rewiring the one before it.
    """

    legs: tuple[FlowSolution, ...]
    starts: tuple[float, ...]
    changes: tuple[Mapping[str, Change], ...]
    times: Float[np.ndarray, " records"]
    leg: np.ndarray
    loss: Float[np.ndarray, " records"]
    gradient_norm: Float[np.ndarray, " records"]
    arc_length: Float[np.ndarray, " records"]
    energy: Float[np.ndarray, " records"]
    observations: Mapping[str, PyTree[np.ndarray]]
    stats: FlowStats
    snapshots: Mapping[float, Lift]

    def _card_(self) -> Card:
        last = self.legs[-1]
        title = f"Rewired: {len(self.legs)} legs, {self.result.value} at t = {self.times[-1]:.6g}"
        fates = ", ".join(f"{leg.loss[0]:.4g} -> {leg.loss[-1]:.4g}" for leg in self.legs)
        rows = [("loss", fates), ("jumps", self.jumps), ("starts", self.starts)]
        rows += [(n, getattr(self, n)) for n in ("gradient_norm", "arc_length", "energy")]
        rows += [("times", self.times), ("stats", self.stats), ("solver", last.solver)]
        rows += [("observations", dict(self.observations)), ("model", self.model)]
        return Card(title, rows, lambda: curve(self.times, self.loss, "t", "L"))

    @property
    def held_out_loss(self) -> Float[np.ndarray, " records"] | None:
        """The loss on the task's held-out data at the records; None without such data."""
        found = [leg.held_out_loss for leg in self.legs if leg.held_out_loss is not None]
        return np.concatenate(found) if found else None

    @property
    def model(self) -> Lift:
        """The lift at the end of the last leg."""
        return self.legs[-1].model

    @property
    def result(self) -> Outcome:
        """How the last leg ended: at the horizon, by a rule, or before."""
        return self.legs[-1].result

    @property
    def jumps(self) -> Float[np.ndarray, " rewirings"]:
        """By how much L rose at each rewiring."""
        pairs = zip(self.legs, self.legs[1:], strict=False)
        return np.array([after.loss[0] - before.loss[-1] for before, after in pairs])

    def lifetimes(self, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Which edges there were over a base edge, and when.

        Args:
            name: the base edge.

        Returns:
            Sources, targets, time of entry (0 for the first graph) and of leaving (infinity for
            the last one). An edge that left and entered again, even at once, is there twice.
        """
        sources, targets, _ = self.legs[0].model.edges(name)
        living = dict.fromkeys(zip(sources.tolist(), targets.tolist(), strict=True), 0.0)
        ended = []
        for time, changes in zip(self.starts[1:], self.changes, strict=True):
            if name not in changes:
                continue
            for edge in zip(*changes[name].dropped.tolist(), strict=True):
                ended.append((*edge, living.pop(edge), time))
            living |= dict.fromkeys(zip(*changes[name].grown.tolist(), strict=True), time)
        ended += [(*edge, born, math.inf) for edge, born in living.items()]
        a, b, born, died = zip(*ended, strict=True)
        return np.array(a), np.array(b), np.array(born), np.array(died)


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
    save: LogTimes | Sequence[float] = SAVE,
    stops: Sequence[Stop] = (),
    max_gradients: float = math.inf,
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
        edges: base edges; None for all that are sparse.
        save: as for `solve`, on the whole flow; rewirings are saved too, before and after.
        stops: as for `solve`; a rule that holds within a leg ends the flow.
        max_gradients: budget of all legs together.
        snapshots: times from 0 to T at which the whole lift is kept, at a rewiring the one before.
        checkpoints: a file that keeps where the flow stands, one for each leg, NAME.0.npz,
            NAME.1.npz, ...: after a kill the same call goes on from them, with the same numbers.
        **settings: solver, rtol, atol, max_steps (of each leg), observers, precision, rates,
            memory, engine, progress and interrupt (both of each leg), as for `solve`.

    Returns:
        The legs with their changes, and one record. A leg that is not reached is the last one.

    Raises:
        ValueError: for a bad argument, before any computation.
    """
    found = explicit_times("times", times, _checked_horizon(horizon))
    shares = _fractions(drop, found, horizon)
    names = check_rewiring(model, edges, shares, grow)
    _check_settings(settings)
    _check_rates(model, names, settings.get("rates"))
    check_seed(seed)
    wanted, kept = resolve_times(save, 0.0, float(horizon)), _kept(snapshots, float(horizon))
    lift, start, left = flexible(model, names), 0.0, max_gradients
    how = {key: settings[key] for key in ("precision", "memory") if key in settings}
    legs, starts, changes, models = [], [], [], {}
    for turn, end in enumerate([*found.tolist(), float(horizon)]):
        inside = _within(wanted, start, end)
        here = {t: t - start for t in kept if start < t <= end or t == start == 0}
        leg = solve(
            lift, task, end - start, save=inside, stops=stops, max_gradients=left,
            snapshots=list(here.values()),
            checkpoints=None if checkpoints is None else checkpoints.of_leg(turn), **settings,
        )  # fmt: skip
        models |= {t: leg.snapshots[at] for t, at in here.items() if at in leg.snapshots}
        legs.append(leg)
        starts.append(start)
        left -= leg.stats.cost
        if leg.result is not Outcome.HORIZON or end == float(horizon) or left <= 0:
            break
        lift, change = rewire(
            leg.model, task, drop=shares[turn], grow=grow, seed=seed, edges=names, turn=turn, **how
        )
        changes.append(change)
        start = end
    return _joined(legs, starts, changes, models)


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


def _fractions(drop, times: np.ndarray, horizon: float) -> list[float]:
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


def _check_settings(settings: Mapping[str, Any]) -> None:
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
                "the legs' models, and solve each by itself where that is not enough."
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


def _within(times: np.ndarray, start: float, end: float) -> list[float]:
    """Save times of a leg, counted from its start; one that is an end but for rounding is none."""
    far = (times > start) & (times < end) & ~np.isclose(times, start, 1e-12, 0)
    return (times[far & ~np.isclose(times, end, 1e-12, 0)] - start).tolist()


def _joined(legs, starts, changes, models) -> Rewired:
    on = lambda name: [np.asarray(getattr(leg, name)) for leg in legs]
    before = lambda name: np.cumsum([0.0, *[record[-1] for record in on(name)[:-1]]])
    along = lambda name: np.concatenate(
        [record + first for record, first in zip(on(name), before(name), strict=True)]
    )
    times = [leg.times + start for leg, start in zip(legs, starts, strict=True)]
    for leg, after in zip(times, starts[1:], strict=False):
        # The same number before and after, whatever a sum of both parts rounds to.
        leg[-1] = after
    parts = [dataclasses.astuple(leg.stats) for leg in legs]
    return Rewired(
        legs=tuple(legs),
        starts=tuple(starts),
        changes=tuple(changes),
        times=np.concatenate(times),
        leg=np.repeat(np.arange(len(legs)), [len(t) for t in times]),
        loss=np.concatenate(on("loss")),
        gradient_norm=np.concatenate(on("gradient_norm")),
        arc_length=along("arc_length"),
        energy=along("energy"),
        observations=jax.tree.map(
            lambda *values: np.concatenate(values), *[dict(leg.observations) for leg in legs]
        ),
        stats=FlowStats(*map(sum, zip(*parts, strict=True))),
        snapshots=models,
    )

"""A flow on a graph that changes, as it was: its legs, its graph's history, one record."""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from ..drawings import curve
from ..lift import Lift
from ..showing import Card, shows_itself
from .held_out import HELD_OUT
from .observers import AbstractObserver
from .outcome import Outcome
from .problem import RECORDED
from .rewiring import Change
from .schedule import snapped
from .solution import FlowSolution, FlowStats

# The record of |theta(t) - theta(0)| over all pairs, in each leg; no record of a user's.
AWAY = "distance over all legs"


class Away(AbstractObserver):
    """|theta - theta(0)| with one coordinate for each pair of copies, 0 where there is no edge.

    Attributes:
        start: weights at t = 0 of the edges that there are now, 0 for those that have grown.
        gone: the sum of the squares of those whose edges have left.
    """

    start: dict[str, Array]
    gone: Array

    def __call__(self, model: Lift) -> Float[Array, ""]:
        """The distance of a lift on this graph."""
        return self.measure(model)[0]

    def measure(self, model: Lift) -> tuple[Float[Array, ""], int]:
        """The distance of a lift on this graph, at no cost in gradients."""
        moved = (jnp.sum((model.weights[n] - w) ** 2) for n, w in self.start.items())
        return jnp.sqrt(sum(moved, start=self.gone)), 0


def away(first: Lift, lift: Lift, names: Sequence[str], precision: str) -> Away:
    """What measures how far a lift is from the first one, whose graph was another.

    Args:
        first: the lift at t = 0.
        lift: the lift whose graph it is now.
        names: base edges whose edges may differ.
        precision: of the flow.

    Returns:
        The observer; those of all legs have one shape.
    """
    start, gone = {}, 0.0
    for name, weights in first.weights.items():
        begun = np.array(weights, precision)
        if name in names:
            before, now = (_places(each, name) for each in (first, lift))
            _, kept, at = np.intersect1d(before, now, assume_unique=True, return_indices=True)
            left = np.delete(begun[: len(before)], kept, axis=0)
            gone += float(np.sum(np.square(left, dtype=float)))
            there, begun = begun[kept], np.zeros_like(begun)
            begun[at] = there
        start[name] = jnp.asarray(begun)
    return Away(start, jnp.asarray(gone, precision))


def _places(lift: Lift, name: str) -> np.ndarray:
    sources, targets, _ = lift.edges(name)
    return targets.astype(np.int64) * lift.fibres[name].n_sources + sources


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
        result: how it ended: at the horizon, by a rule, or before.
        times: the save times reached, from 0; the end of a leg and the start of the next are one.
        leg: the leg of each record.
        loss: L there.
        gradient_norm: |grad L| there, by the weights of the graph; with rates as in `FlowSolution`.
        arc_length: int |grad L| dt over all legs so far, likewise.
        energy: int |grad L|^2 dt over all legs so far, likewise.
        distance: |theta(t) - theta(0)| with a coordinate for each pair of copies, 0 where there is
            no edge.
        observations: further observers' records by name.
        errors: estimated errors of integrals, as in `FlowSolution`, over all legs so far.
        stats: work done by the solvers; rewirings by gradient cost a gradient of the dense lift
            each besides.
        snapshots: lifts by time, at a rewiring the one before it.
    """

    legs: tuple[FlowSolution, ...]
    starts: tuple[float, ...]
    changes: tuple[Mapping[str, Change], ...]
    result: Outcome
    times: Float[np.ndarray, " records"]
    leg: np.ndarray
    loss: Float[np.ndarray, " records"]
    gradient_norm: Float[np.ndarray, " records"]
    arc_length: Float[np.ndarray, " records"]
    energy: Float[np.ndarray, " records"]
    distance: Float[np.ndarray, " records"]
    observations: Mapping[str, PyTree[np.ndarray]]
    errors: Mapping[str, Float[np.ndarray, " records"]]
    stats: FlowStats
    snapshots: Mapping[float, Lift]

    def _card_(self) -> Card:
        last = self.legs[-1]
        title = f"Rewired: {len(self.legs)} legs, {self.result.value} at t = {self.times[-1]:.6g}"
        fates = ", ".join(f"{leg.loss[0]:.4g} -> {leg.loss[-1]:.4g}" for leg in self.legs)
        rows = [("loss", fates), ("jumps", self.jumps), ("starts", self.starts)]
        rows += [(name, getattr(self, name)) for name in RECORDED[1:]]
        rows += [("times", self.times), ("stats", self.stats), ("solver", last.solver)]
        rows += [("observations", dict(self.observations)), ("model", self.model)]
        return Card(title, rows, lambda: curve(self.times, self.loss, "t", "L"))

    @property
    def held_out_loss(self) -> Float[np.ndarray, " records"] | None:
        """The loss on the task's held-out data at the records; None without such data."""
        return _held_out(self.legs).get("held_out_loss")

    @property
    def model(self) -> Lift:
        """The lift at the end of the last leg."""
        return self.legs[-1].model

    @property
    def jumps(self) -> Float[np.ndarray, " rewirings"]:
        """By how much L rose at each rewiring."""
        pairs = zip(self.legs, self.legs[1:], strict=False)
        return np.array([after.loss[0] - before.loss[-1] for before, after in pairs])

    @property
    def solution(self) -> FlowSolution:
        """The whole flow as one solution: of the two records at a rewiring the one before.

        It holds records alone, `resume` takes the last leg's. `solver` names those of all legs in
        turn.
        """
        last, kept = self.legs[-1], np.append(True, np.diff(self.leg) == 0)[: len(self.times)]
        cut = lambda tree: jax.tree.map(lambda values: values[kept], tree)
        solvers = [name for leg in self.legs for name in leg.solvers]
        return FlowSolution(
            model=last.model,
            time=float(self.times[-1]) if len(self.times) else 0.0,
            result=self.result,
            times=self.times[kept],
            **{name: getattr(self, name)[kept] for name in RECORDED},
            **cut(_held_out(self.legs)),
            observations=cut(dict(self.observations)),
            errors=cut(dict(self.errors)),
            snapshots=self.snapshots,
            stats=self.stats,
            solver="; then ".join(dict.fromkeys(leg.solver for leg in self.legs)),
            solvers=tuple(name for name, _ in itertools.groupby(solvers)),
            precision=last.precision,
            engine=last.engine,
            rates=last.rates,
        )

    def lifetimes(self, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Which edges there were over a base edge, and when.

        Args:
            name: the base edge.

        Returns:
            Sources, targets, time of entry (0 for the first graph) and of leaving (infinity for
            the last one). An edge that left and entered again, even at once, is there twice.
        """
        found = [changes.get(name) for changes in self.changes]
        pairs = [None if one is None else (one.dropped, one.grown) for one in found]
        return lifetimes_of(self.legs[0].model, name, self.starts[1:], pairs)


def lifetimes_of(
    first: Lift,
    name: str,
    times: Sequence[float],
    changes: Sequence[tuple[np.ndarray, np.ndarray] | None],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """When each edge over a base edge was there, from the first graph and what changed.

    Args:
        first: the lift at t = 0.
        name: the base edge.
        times: of the changes, increasing.
        changes: for each, the edges that left and those that entered, (2, k), sources first.

    Returns:
        As `Rewired.lifetimes`.
    """
    sources, targets, _ = first.edges(name)
    living = dict.fromkeys(zip(sources.tolist(), targets.tolist(), strict=True), 0.0)
    ended = []
    for time, change in zip(times, changes, strict=True):
        if change is None:
            continue
        for edge in zip(*change[0].tolist(), strict=True):
            ended.append((*edge, living.pop(edge), time))
        living |= dict.fromkeys(zip(*change[1].tolist(), strict=True), time)
    ended += [(*edge, born, math.inf) for edge, born in living.items()]
    a, b, born, died = zip(*ended, strict=True)
    return np.array(a), np.array(b), np.array(born), np.array(died)


def joined(
    legs: Sequence[FlowSolution],
    starts: Sequence[float],
    asked: Sequence[np.ndarray],
    changes: Sequence[Mapping[str, Change]],
    result: Outcome,
    snapshots: Mapping[float, Lift],
) -> Rewired:
    """Legs as one flow.

    Args:
        legs: at least one; those of a flow that did not come to its end may lack models.
        starts: when each begins.
        asked: for each, the times of the flow at which it was to be saved, its ends among them.
        changes: between them.
        result: how the last one ended, or what ended the flow between two.
        snapshots: lifts by time.

    Returns:
        The flow.
    """
    on = lambda name: [np.asarray(getattr(leg, name)) for leg in legs]
    times = [snapped(leg.times + t, at) for leg, t, at in zip(legs, starts, asked, strict=True)]
    apart = [{k: v for k, v in leg.observations.items() if k != AWAY} for leg in legs]
    # A leg that did not come to a record of its own has none of the distance either.
    far = [np.asarray(leg.observations.get(AWAY, leg.distance)) for leg in legs]
    parts = [dataclasses.astuple(leg.stats) for leg in legs]
    return Rewired(
        legs=tuple(legs),
        starts=tuple(starts),
        changes=tuple(changes),
        result=result,
        times=np.concatenate(times),
        leg=np.repeat(np.arange(len(legs)), [len(t) for t in times]),
        loss=np.concatenate(on("loss")),
        gradient_norm=np.concatenate(on("gradient_norm")),
        arc_length=_along(on("arc_length")),
        energy=_along(on("energy")),
        distance=np.concatenate(far),
        observations=_concatenated(apart),
        errors={name: _along([leg.errors[name] for leg in legs]) for name in legs[0].errors},
        stats=FlowStats(*map(sum, zip(*parts, strict=True))),
        snapshots=snapshots,
    )


def _along(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Integrals over legs, each going on from the one before."""
    ends = [part[-1] if len(part) else 0.0 for part in parts[:-1]]
    before = np.cumsum([0.0, *ends])
    return np.concatenate([part + first for part, first in zip(parts, before, strict=True)])


def _held_out(legs: Sequence[FlowSolution]) -> dict[str, Any]:
    known = {name: [getattr(leg, name) for leg in legs] for name in HELD_OUT}
    return {
        name: np.concatenate(values)
        for name, values in known.items()
        if all(value is not None for value in values)
    }


def _concatenated(parts: Sequence[dict[str, PyTree]]) -> dict[str, PyTree]:
    return jax.tree.map(lambda *values: np.concatenate(values), *parts)

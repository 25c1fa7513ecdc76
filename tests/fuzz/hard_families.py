"""Families of flows that others leave out: complex leaves, edges and explosions, true counts."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flowlift import flow
from flowlift.flow import Outcome

from . import checks, draws, families

# What rounding may decide where coordinates are summed in another order.
_ITERATIONS = 3


def complexes(number: int, solver: str | None = None) -> None:
    """Complex leaves flow by both of their parts: ends, parts, kills, and the real twin."""
    shapes, rng = draws.streams("complexes", number)
    case = draws.draw_flow(shapes, rng, solver, sizes=(2, 6))
    count = int(shapes.integers(1, len(case.start) // 2 + 1))
    case = dataclasses.replace(case, leaves=draws.Leaves(len(case.start) - 2 * count, count))
    # Observers see the leaves: those of the real vector would have to be told.
    case.settings.pop("observers", None)
    way = shapes.integers(0, 4)
    if way == 3:
        twin = dataclasses.replace(case, leaves=None)
        return checks.same_steps(case.solve(), twin.solve(), 1e-6, _ITERATIONS)
    return [families.ended, families.resumed, families.killed][way](case, rng)


# For each kind: phi, where the flow of -s phi' brings w in time t, and when it comes to its end.
EDGES = {
    # phi = -w, no number beyond a bound on the sum of w: the gradient stays finite there.
    "cliff": (lambda w: -w, lambda w, st: w + st, None),
    "root": (jnp.sqrt, lambda w, st: (w**1.5 - 0.75 * st) ** (2 / 3), lambda w: w**1.5 / 0.75),
    "well": (jnp.log, lambda w, st: np.sqrt(w**2 - 2 * st), lambda w: w**2 / 2),
    "pole": (
        lambda w: -(w**4) / 4,
        lambda w, st: w / np.sqrt(1 - 2 * w**2 * st),
        lambda w: 0.5 / w**2,
    ),
    "exponential": (
        lambda w: -jnp.exp(w),
        lambda w, st: -np.log(np.exp(-w) - st),
        lambda w: np.exp(-w),
    ),
    "growth": (lambda w: -(w**2) / 2, lambda w, st: w * np.exp(st), None),
}


class Edged(eqx.Module):
    """L(w) = sum_i s_i phi(w_i) + c, which comes to an end in finite time."""

    rates: np.ndarray
    offset: np.ndarray
    bound: np.ndarray
    kind: str = eqx.field(static=True)

    def __call__(self, w):
        value = jnp.sum(self.rates * EDGES[self.kind][0](w)) + self.offset
        return jnp.where(jnp.sum(w) > self.bound, jnp.nan, value)

    def exact(self, w, t: float) -> np.ndarray:
        """w(t), in float64."""
        return EDGES[self.kind][1](np.asarray(w, float), self.rates * t)

    def loss_at(self, w, t: float) -> float:
        return float(self(self.exact(w, t)))

    def gradient_norm_at(self, w, t: float) -> float:
        return float(jnp.linalg.norm(jax.grad(self)(jnp.asarray(self.exact(w, t)))))

    def end(self, w, precision: str) -> float:
        """When the flow comes to its end."""
        w = np.asarray(w, float)
        if self.kind == "cliff":
            return float((self.bound - w.sum()) / self.rates.sum())
        if self.kind == "growth":
            # Where |grad L|^2 overflows, the largest coordinate almost alone.
            largest = 0.5 * np.log(float(np.finfo(precision).max))
            return float(np.min((largest - np.log(self.rates * w)) / self.rates))
        return float(np.min(EDGES[self.kind][2](w) / self.rates))


def draw_edge(shapes, rng, solver: str | None):
    """A flow with an end, and when that is; its horizon is still to be set."""
    case = draws.draw_flow(shapes, rng, solver)
    kind = str(shapes.choice(list(EDGES)))
    bound = case.start.sum() + 10 ** rng.uniform(-2, 1) if kind == "cliff" else np.inf
    loss = Edged(case.loss.rates, case.loss.offset, np.asarray(bound), kind)
    end = loss.end(case.start, case.settings["precision"])
    case.settings["max_gradients"] = 30_000
    return dataclasses.replace(case, loss=loss, kinds=()), end


def edges(number: int, solver: str | None = None) -> None:
    """Flows that come to an edge of the domain or to infinity: exact before, ended there."""
    shapes, rng = draws.streams("edges", number)
    case, end = draw_edge(shapes, rng, solver)
    way = rng.integers(0, 3)
    # Near a singular point errors grow without bound; on the way to overflow with the growth.
    near = min(0.7 * end, 5 / case.loss.rates.max() if case.loss.kind == "growth" else np.inf)
    inside, beyond = near * rng.uniform(0.1, 1), end * 10 ** rng.uniform(0.1, 4)
    horizon = inside if way == 0 else beyond
    times = draws.draw_times(rng, horizon, int(rng.integers(0, 6)))
    case = dataclasses.replace(case, horizon=float(horizon), save=times, snapshots=[])
    stops = [flow.LossBelow(case.loss.loss_at(case.start, inside))] if way == 1 else []
    solution = case.solve(stops=stops)
    checks.shape_of_the_end(solution)
    checks.tallies_add_up(solution)
    if way == 2:
        return checks.ended_at_the_edge(solution, case, end)
    asked = Outcome.LOSS_BELOW if way else Outcome.HORIZON
    checks.expect(solution.result == asked, "result", solution.message)
    return checks.curve_is_exact(solution, case)


TALLY: list[int] = []


class Tallied(eqx.Module):
    """L, which counts its evaluations on the host."""

    loss: draws.Separable

    def __call__(self, w):
        jax.debug.callback(TALLY.append, 1)
        return self.loss(w)


def counts(number: int, solver: str | None = None) -> None:
    """Evaluations as the host counts them: under rules, limits, observers and in parts."""
    shapes, rng = draws.streams("counts", number)
    case = dataclasses.replace(draws.draw_flow(shapes, rng, solver), wrap=Tallied)
    free = _tallied(case.solve)
    if rng.random() < 0.5:
        _tallied(case.solve, stops=families.drawn_stops(case, rng, free))
    limit = {"max_steps": int(rng.integers(1, 20))} if rng.random() < 0.5 else {"max_gradients": 40}
    part = _tallied(case.solve, **limit)
    left = [t for t in case.snapshots if t >= part.time]
    if part.result in (Outcome.STEP_LIMIT, Outcome.BUDGET):
        _tallied(case.resume, part, save=case.save, snapshots=left)


def _tallied(solve, *given, **settings):
    TALLY.clear()
    solution = solve(*given, **settings)
    jax.effects_barrier()
    before = given[0].stats if given else flow.FlowStats()
    checks.counted_by_the_host(solution.stats, before, len(TALLY))
    return solution


FAMILIES = {"complexes": complexes, "edges": edges, "counts": counts}

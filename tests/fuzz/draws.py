"""Random cases, each from its family and number alone.

Shapes cost a compilation of seconds, values nothing: cases whose numbers share a block of
`BLOCK` draw what determines shapes from the block's stream, and all else from their own.
"""

import dataclasses
import zlib
from collections.abc import Callable

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flowlift import flow

BLOCK = 40
SOLVERS = ["tsit5", "tsit5", "dopri8", "bdf", "exprb", "rkc2", "auto", "dense-bdf", "kvaerno5"]
INSTANCES = {"heun": diffrax.Heun, "bosh3": diffrax.Bosh3, "kvaerno3": diffrax.Kvaerno3}


def streams(family: str, number: int, block: int = BLOCK):
    """The generators of a case: the block's, for shapes, and the case's own."""
    key = zlib.crc32(family.encode())
    return np.random.default_rng([key, 0, number // block]), np.random.default_rng([key, 1, number])


# phi(w), and where the flow of -phi' brings w in time t; starts are in (0.2, 1.5).
CURVES = {
    "bowl": (lambda w: w**2 / 2, lambda w, t: w * np.exp(-t)),
    "saddle": (lambda w: -(w**2) / 2, lambda w, t: w * np.exp(t)),
    "quartic": (lambda w: w**4 / 4, lambda w, t: w / np.sqrt(1 + 2 * w**2 * t)),
    "cosine": (lambda w: jnp.cos(w), lambda w, t: 2 * np.arctan(np.tan(w / 2) * np.exp(t))),
    "log": (lambda w: -jnp.log(w), lambda w, t: np.sqrt(w**2 + 2 * t)),
}


class Separable(eqx.Module):
    """L(w) = sum_i s_i phi(w_i) + c: each coordinate flows by itself, at the rate s_i.

    Rates and offset are data, so that one compilation serves all losses of a kind and size.
    """

    rates: np.ndarray
    offset: np.ndarray
    kind: str = eqx.field(static=True)

    def __call__(self, w):
        return jnp.sum(self.rates * CURVES[self.kind][0](w)) + self.offset

    def exact(self, w, t: float) -> np.ndarray:
        """w(t), in float64."""
        w = np.asarray(w, float)
        return CURVES[self.kind][1](w, self.rates * t)

    def loss_at(self, w, t: float) -> float:
        return float(self(self.exact(w, t)))

    def gradient_norm_at(self, w, t: float) -> float:
        return float(jnp.linalg.norm(jax.grad(self)(jnp.asarray(self.exact(w, t)))))


@dataclasses.dataclass(frozen=True)
class Flow:
    """A flow whose answer is a formula, with what `solve` is to do.

    Attributes:
        loss: L.
        start: w(0).
        horizon: T.
        settings: solver, precision and tolerances.
        save: save times.
        snapshots: times at which w is kept.
        kinds: which stopping rules there are; their thresholds are the case's own.
        leaves: how w is laid out in a model; None: as it is.
        wrap: the loss that is given, from L as a function of w; it changes no number.
    """

    loss: Separable
    start: np.ndarray
    horizon: float
    settings: dict
    save: object
    snapshots: list[float]
    kinds: tuple[str, ...]
    leaves: "Leaves | None" = None
    wrap: Callable = lambda loss: loss

    def solve(self, **more) -> flow.FlowSolution:
        """The flow's solution, its models as w."""
        arguments = {"save": self.save, "snapshots": self.snapshots} | self.settings | more
        horizon = arguments.pop("horizon", self.horizon)
        start, loss = self.start, self.wrap(self.loss)
        if self.leaves is not None:
            start, loss = self.leaves.filled(start), OfLeaves(loss, self.leaves)
        return self.plain(flow.solve(start, loss, horizon, **arguments))

    def resume(self, solution, **more) -> flow.FlowSolution:
        """The flow of a solution up to the horizon."""
        return self.plain(flow.resume(solution, self.horizon, **more))

    def plain(self, solution) -> flow.FlowSolution:
        """The solution with w in place of models."""
        if self.leaves is None:
            return solution
        model, kept = self.leaves.vector(solution.model), solution.snapshots
        snapshots = {t: self.leaves.vector(model) for t, model in kept.items()}
        return dataclasses.replace(solution, model=model, snapshots=snapshots)


@dataclasses.dataclass(frozen=True)
class Leaves:
    """w as leaves: so many real numbers, then so many real and so many imaginary parts."""

    real: int
    complex: int

    def filled(self, w):
        """The leaves of a vector."""
        real, x, y = np.split(np.asarray(w), [self.real, self.real + self.complex])
        return {"a": real, "z": (x + 1j * y).astype(np.result_type(x.dtype, np.complex64))}

    def vector(self, leaves):
        """The vector of leaves."""
        z = leaves["z"]
        return jnp.concatenate([jnp.asarray(leaves["a"]), jnp.real(z), jnp.imag(z)])


class OfLeaves(eqx.Module):
    """L of leaves."""

    loss: eqx.Module
    leaves: Leaves = eqx.field(static=True)

    def __call__(self, leaves):
        return self.loss(self.leaves.vector(leaves))


def squares(w):
    return w**2


OBSERVERS = {"squares": squares, "sum": jnp.sum}


def draw_flow(shapes, rng, solver: str | None = None, sizes=(1, 4)) -> Flow:
    """A closed-form flow, of any solver or the one named; equal shapes within a block."""
    drawn = str(shapes.choice([*SOLVERS, *INSTANCES]))
    solver = solver or drawn
    precision = "float32" if shapes.random() < 0.3 else "float64"
    kind, size = str(shapes.choice(list(CURVES))), int(shapes.integers(*sizes))
    count, watched = int(shapes.integers(0, 4)), shapes.random() < 0.4
    kinds = tuple(k for k in ("loss", "gradient", "stagnation") if shapes.random() < 0.4)
    least = -5 if precision == "float32" else -8
    settings = {"solver": INSTANCES[solver]() if solver in INSTANCES else solver}
    settings |= {"precision": precision, "rtol": 10 ** rng.uniform(least, -3)}
    settings |= {"atol": settings["rtol"] * 10 ** rng.uniform(-3, 0)}
    settings |= {"observers": OBSERVERS} if watched else {}
    rates = 10 ** rng.uniform(-1, 1, size)
    horizon = 10 ** rng.uniform(-2, 1.5)
    if kind in ("saddle", "cosine"):
        horizon = min(horizon, 8 / rates.max())
    horizon = float(np.round(horizon, 3)) if rng.random() < 0.5 else float(horizon)
    loss = Separable(rates, np.asarray(rng.choice([0.0, -3.0, 2.5, rng.normal()])), kind)
    start = rng.uniform(0.2, 1.5, size)
    # Save times are values, except that their number fills a leg or not.
    save = draw_times(rng, horizon, int(rng.integers(0, 12)))
    if rng.random() < 0.3:
        save = flow.LogTimes(int(rng.integers(1, 9)), start=horizon * 10 ** rng.uniform(-4, -0.5))
    snapshots = draw_times(rng, horizon, count)
    if not isinstance(save, flow.LogTimes) and len(save) and count and rng.random() < 0.6:
        mixed = {*rng.choice(save, min(count, len(save)), replace=False), *snapshots}
        snapshots = sorted(float(t) for t in list(mixed)[:count])
    return Flow(loss, start, horizon, settings, save, snapshots, kinds)


def draw_times(rng, horizon: float, count: int) -> list[float]:
    """Increasing times in [0, horizon]: round ones, bits apart, at both ends, sums of tenths."""
    times: set[float] = set()
    while len(times) < count:
        way = rng.integers(0, 6)
        if way == 0:
            time = horizon * float(rng.integers(0, 11)) / 10
        elif way == 1:
            time = float(np.round(rng.uniform(0, horizon), 2))
        elif way == 2 and times:
            time = float(np.nextafter(rng.choice(list(times)), rng.choice([0.0, np.inf])))
        elif way == 3 and times:
            time = rng.choice(list(times)) + horizon * 10 ** rng.uniform(-15, -6)
        else:
            time = float(rng.uniform(0, horizon))
        if time == 0 or 1e-30 < time <= horizon:
            times.add(float(time))
    return sorted(times)

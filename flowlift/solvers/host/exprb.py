"""The exponential Rosenbrock method on the host: as `flowlift.solvers.exprb`, the reference."""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..exprb import EMBEDDED3, EMBEDDED4, NODES, PHI3, PHI4, SHARE, SHORTER, SPACE, USES
from ..exprb import ExpRosenbrock as Reference
from ..work import Halt
from .explicit import first_step
from .hermite import hermite
from .phi import Projection, phi
from .predictive import Trend, verdict
from .stepping import AbstractHostMethod, Attempt, HostField, Start, Vector

_ORDER = 5
_CHAINS = len(NODES)
Weigh = Callable[[Vector], float]
Tangent = Callable[[Vector], tuple[Vector, Vector]]


def serves(solver: Reference) -> bool:
    """Whether the host takes the steps of this solver.

    Args:
        solver: an instance, as a user gave it.

    Returns:
        False where it has a part of the state or tolerances of its own.
    """
    return solver.select is None and solver.rtol is None and solver.atol is None


class _Stage(NamedTuple):
    """One stage.

    Attributes:
        moved: it minus the state at the start.
        difference: it minus the embedded solution.
        rates: dy/dt there.
        loss: L there.
        change: D, of the flow's part and beside.
    """

    moved: Vector
    difference: Vector
    rates: Vector
    loss: float
    change: Vector


@dataclasses.dataclass(frozen=True)
class HostExprb(AbstractHostMethod):
    """`ExpRosenbrock` with its basis on the host.

    Its memory is the trend of its steps. Cost: as the reference; the algebra beside it is 8 m^2 P
    multiplications for m basis vectors, and their memory is asked for as it is needed.

    Attributes:
        rtol: relative tolerance.
        atol: absolute tolerance.
        max_basis: at most so many basis vectors.
    """

    rtol: float
    atol: float
    max_basis: int = 256

    def start(self, field: HostField, y: Vector) -> Start:
        """Two gradients; the first step evaluates its own."""
        measure = lambda scaled: _largest(field, scaled)
        step, _ = first_step(field, y, self.rtol, self.atol, _ORDER, measure)
        return Start(step, self.blank(y), 2)

    def blank(self, y: Vector) -> Trend:
        """No step yet."""
        return Trend(0.0, 0.0)

    def attempt(self, field: HostField, y: Vector, memory: Trend, h: float) -> Attempt:
        """One attempt: five gradients, and a product for each basis vector."""
        with np.errstate(all="ignore"):
            return self._attempt(field, y, memory, float(h))

    def _attempt(self, field: HostField, y: Vector, memory: Trend, h: float) -> Attempt:
        _, rates = field.rates(y)
        theta, scale = y[:-2], self.atol + self.rtol * np.abs(y[:-2])
        tangent, weigh = _tangent(field, theta, rates), lambda v: field.norm(v / scale)
        projection = Projection(min(self.max_basis, theta.size), theta, _CHAINS)
        vectors = np.zeros((_CHAINS, y.size), y.dtype)
        vectors[0], stage = rates, None
        limit = float(np.finfo(y.dtype).max)
        for i in range(_CHAINS):
            space = 0 if limit < h else _space(i, projection)
            served = _serve(h, i, vectors[i, :-2], projection, space, tangent, weigh)
            if i == 0:
                limit = _limit(h, served, rates[:-2], projection, space, weigh)
            stage = _advance(h, i, vectors, projection, field, y)
            if i + 1 < _CHAINS:
                vectors[i + 1] = stage.change
        assert stage is not None
        return self._judged(field, y, memory, h, rates, stage, projection, limit)

    def _judged(
        self,
        field: HostField,
        y: Vector,
        memory: Trend,
        h: float,
        rates: Vector,
        stage: _Stage,
        projection: Projection,
        limit: float,
    ) -> Attempt:
        candidate = y + stage.moved
        size = np.maximum(np.abs(y), np.abs(candidate))
        scaled = _largest(field, stage.difference / (self.atol + self.rtol * size))
        said = verdict(scaled, h, limit, _ORDER, memory, float(np.finfo(y.dtype).tiny))
        # Where the field at the end is no number, no further step could be made.
        judged = [stage.difference, candidate, stage.rates]
        finite = math.isfinite(said.step) and bool(np.isfinite(judged).all())
        # What was found out where nothing was finite is no evidence.
        skewed = finite and not projection.symmetric
        return Attempt(
            y=candidate,
            keep=said.keep,
            step=said.step,
            memory=said.trend,
            gradients=1 + _CHAINS,
            products=projection.size,
            dense=hermite(y, candidate, h, rates, stage.rates),
            finite=finite,
            loss=stage.loss,
            gradient_norm=float(stage.rates[-2]),
            halt=Halt.NOT_SYMMETRIC if skewed else Halt.NONE,
        )


def _largest(field: HostField, scaled: Vector) -> float:
    """The norm of theta, or an integral if that is larger: steps may cross stiff layers exactly."""
    return float(np.max([field.norm(scaled[:-2]), *np.abs(scaled[-2:])]))


def _tangent(field: HostField, theta: Vector, rates: Vector) -> Tangent:
    """v -> (J v, the derivatives of |grad L| and |grad L|^2 along v). One product a call."""

    def tangent(vector: Vector) -> tuple[Vector, Vector]:
        image = -field.product(theta, vector)
        along = float(rates[:-2] @ image)
        return image, np.array([along / float(rates[-2]), 2 * along], rates.dtype)

    return tangent


def _space(chain: int, projection: Projection) -> int:
    """How many vectors the basis may have when a chain ends."""
    capacity, dimension = projection.basis.shape
    # A basis of the whole space misses nothing.
    return capacity if capacity == dimension else math.floor(SPACE[chain] * capacity)


def _serve(
    h: float,
    chain: int,
    vector: Vector,
    projection: Projection,
    space: int,
    tangent: Tangent,
    weigh: Weigh,
) -> bool:
    """Extend the projection until it serves the newest vector, or fills the space it may."""

    def check() -> tuple[float, int]:
        missed, shares = _missed(projection, vector, chain, [h])
        return weigh(missed[0]), int(np.argmax(shares[0]))

    error, weakest = check()
    # As in the graph: without F_0 in the basis nothing would move.
    moves = projection.size == 0 and float(np.linalg.norm(vector)) > 0
    due = projection.size + 1
    while projection.size < space and (error > SHARE or (moves and projection.size == 0)):
        # A vector that is new comes in first; then the chain that misses most goes on.
        new = projection.lasts[chain] < 0
        grown = chain if new else weakest
        projection.extend(
            projection.missing(vector) if new else projection.tails[grown], grown, tangent
        )
        # Every check is an eigenvalue problem; a product more costs little.
        if projection.size >= min(due, space):
            error, weakest = check()
            due = projection.size + 1 + projection.size // 12
    return not error > SHARE


def _limit(
    h: float, served: bool, vector: Vector, projection: Projection, space: int, weigh: Weigh
) -> float:
    """The longest step for which F_0's chain suffices, or promises to."""
    capacity, dimension = projection.basis.shape
    if served and capacity == dimension:
        return float(np.finfo(vector.dtype).max)
    if served:
        # Krylov spaces grow like the root of the step, or slower.
        return h * max(1.0, space / max(projection.size, 1)) ** 2
    lengths = [h * part for part in SHORTER.tolist()]
    missed, _ = _missed(projection, vector, 0, lengths)
    fits = (length for length, row in zip(lengths, missed, strict=True) if weigh(row) <= SHARE)
    return next(fits, lengths[-1])


def _missed(
    projection: Projection, vector: Vector, chain: int, lengths: list[float]
) -> tuple[np.ndarray, np.ndarray]:
    """What the projection misses of a vector's largest use in steps of given lengths.

    Args:
        projection: the projection.
        vector: b.
        chain: which one, for its use.
        lengths: n step sizes.

    Returns:
        What is missed, (n, P), and the part of each chain's tail in it, (n, 4).
    """
    c, *weights = USES[chain].tolist()
    values, modes = projection.spectrum()
    coordinates = modes.T @ projection.coordinates(vector)
    column = np.array(lengths, vector.dtype)[:, None]
    functions = phi(c * column * values)
    later = sum(w * functions[k] for w, k in zip(weights, (1, 3, 4), strict=True))
    at_tails = c * column**2 * projection.at_tails((later * coordinates) @ modes.T)
    at_zero = weights[0] + weights[1] / 6 + weights[2] / 24
    missed = at_tails @ projection.tails + column * at_zero * projection.missing(vector)
    return missed, np.abs(at_tails) * np.linalg.norm(projection.tails, axis=1)


def _advance(
    h: float, i: int, vectors: np.ndarray, projection: Projection, field: HostField, y: Vector
) -> _Stage:
    """The stage at node i, the field there, and the next D."""
    c, others = float(NODES[i]), vectors[1:, -2:]
    values, modes = projection.spectrum()
    p1, p2, p3, p4, p5 = phi(c * h * values)
    flow, *rest = [projection.coordinates(v[:-2]) @ modes for v in vectors]
    changes = np.stack(rest)

    def combined(with3: np.ndarray, with4: np.ndarray) -> tuple[Vector, Vector]:
        """h phi_3(cZ) and h phi_4(cZ) of the whole, block-triangular J: inside, and beside."""
        with3, with4 = with3.astype(y.dtype), with4.astype(y.dtype)
        # What is beside has the flow's own part in it, by phi-functions an order higher.
        by3, by4 = with3 @ changes, with4 @ changes
        inside = modes @ (h * (p3 * by3 + p4 * by4))
        across = modes @ (h * c * h * (p4 * by3 + p5 * by4))
        beside = h * (with3 @ others / 6 + with4 @ others / 24)
        return inside, beside + projection.beside(across)

    inside, beside = combined(PHI3[i], PHI4[i])
    embedded, embedded_beside = combined(EMBEDDED3, EMBEDDED4)
    coordinates = modes @ (h * c * p1 * flow) + inside
    across = projection.beside(modes @ (h * c * h * c * p2 * flow))
    moved_beside = h * c * vectors[0, -2:] + across + beside
    moved = np.concatenate([projection.lift(coordinates), moved_beside])
    loss, rates = field.rates(y + moved)
    linear = np.concatenate([projection.apply(coordinates), projection.beside(coordinates)])
    difference = [projection.lift(inside - embedded), beside - embedded_beside]
    change = rates - vectors[0] - linear
    return _Stage(moved, np.concatenate(difference), rates, loss, change)

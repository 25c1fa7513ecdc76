"""The exponential Rosenbrock method on the host: as `flowlift.solvers.exprb`, the reference."""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .. import room
from ..exprb import EMBEDDED3, EMBEDDED4, NODES, PHI3, PHI4, SHARE, SHORTER, SPACE, USES
from ..exprb import ExpRosenbrock as Reference
from ..work import Halt
from .explicit import first_step
from .krylov import rounding_of_products
from .phi import Projection, phi
from .predictive import Trend, verdict
from .stepping import AbstractHostMethod, Attempt, Dense, HostField, Start, Vector

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

    Its memory is the trend of its steps. Between the ends of a step it has its natural continuous
    extension, of local order 5, where the reference has a cubic of order 3. Cost: as
    the reference; the algebra beside it is 8 m^2 P multiplications for m basis vectors, and their
    memory is asked for as it is needed.

    Attributes:
        rtol: relative tolerance.
        atol: absolute tolerance.
        max_basis: at most so many basis vectors.
        memory: bytes for all vectors, see `flowlift.solvers.room`.
    """

    rtol: float
    atol: float
    max_basis: int = 256
    memory: int = room.KEPT

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
        theta, scale = y[:-2], field.allowed(self.rtol, self.atol, np.abs(y[:-2]))
        tangent, weigh = _tangent(field, theta, rates), lambda v: field.norm(v / scale)
        projection = Projection(room.of_exprb(self.max_basis, self.memory, theta), theta, _CHAINS)
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
        return self._judged(field, y, memory, h, vectors, stage, projection, limit)

    def _judged(
        self,
        field: HostField,
        y: Vector,
        memory: Trend,
        h: float,
        vectors: np.ndarray,
        stage: _Stage,
        projection: Projection,
        limit: float,
    ) -> Attempt:
        candidate = y + stage.moved
        size = np.maximum(np.abs(y), np.abs(candidate))
        scaled = _largest(field, stage.difference / field.allowed(self.rtol, self.atol, size))
        said = verdict(scaled, h, limit, _ORDER, memory, float(np.finfo(y.dtype).tiny))
        # Where the field at the end is no number, no further step could be made.
        judged = [stage.difference, candidate, stage.rates]
        finite = math.isfinite(said.step) and bool(np.isfinite(judged).all())
        # What was found out where nothing was finite is no evidence.
        rounding = rounding_of_products(vectors[0, :-2], y[:-2])
        skewed = finite and not projection.symmetric_beside(rounding)
        return Attempt(
            y=candidate,
            keep=said.keep,
            step=said.step,
            memory=said.trend,
            gradients=1 + _CHAINS,
            products=projection.size,
            dense=_interpolant(y, h, vectors, projection),
            finite=finite,
            loss=stage.loss,
            gradient_norm=field.gradient_norm(stage.rates),
            halt=Halt.NOT_SYMMETRIC if skewed else Halt.NONE,
            drift=field.drift(stage.difference),
        )


def _largest(field: HostField, scaled: Vector) -> float:
    """The norm of theta, or an integral if that is larger: steps may cross stiff layers exactly."""
    return float(np.max([field.norm(scaled[:-2]), *np.abs(scaled[-2:])]))


def _tangent(field: HostField, theta: Vector, rates: Vector) -> Tangent:
    """v -> (J v, the derivatives of |grad L| and |grad L|^2 along v). One product a call."""

    def tangent(vector: Vector) -> tuple[Vector, Vector]:
        image = -field.product(theta, vector)
        along, moved = float(rates[:-2] @ image), field.speed_change(rates, image)
        return image, np.array([moved / float(rates[-2]), 2 * along], rates.dtype)

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
    span = _Span(h, vectors, projection)
    c = np.array(NODES[i : i + 1], y.dtype)
    inside, beside = span.changed(c, PHI3[i : i + 1], PHI4[i : i + 1])
    embedded, embedded_beside = span.changed(c, EMBEDDED3[None], EMBEDDED4[None])
    flow, flow_beside = span.flowed(c)
    (coordinates,) = flow + inside
    moved = np.concatenate([projection.lift(coordinates), (flow_beside + beside)[0]])
    loss, rates = field.rates(y + moved)
    linear = np.concatenate([projection.apply(coordinates), projection.beside(coordinates)])
    difference = [projection.lift((inside - embedded)[0]), (beside - embedded_beside)[0]]
    change = rates - vectors[0] - linear
    return _Stage(moved, np.concatenate(difference), rates, loss, change)


class _Span:
    """What a step's vectors give at fractions c of it, in coordinates of the basis and beside it.

    Functions of c, (n,), give coordinates (n, m), and the integrals' part, (n, 2).
    """

    def __init__(self, h: float, vectors: np.ndarray, projection: Projection):
        self._h, self._projection = h, projection
        self._values, self._modes = projection.spectrum()
        self._flow, *rest = [projection.coordinates(v[:-2]) @ self._modes for v in vectors]
        self._changes = np.stack(rest)
        self._others = vectors[:, -2:]

    def flowed(self, c: Vector) -> tuple[np.ndarray, np.ndarray]:
        """c h phi_1(cZ) F_0."""
        length = self._h * c[:, None]
        p1, p2, *_ = phi(length * self._values)
        across = (length**2 * p2 * self._flow) @ self._modes.T
        beside = length * self._others[0] + self._projection.beside(across)
        return (length * p1 * self._flow) @ self._modes.T, beside

    def changed(
        self, c: Vector, with3: np.ndarray, with4: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """h phi_3(cZ) and h phi_4(cZ) of the D_i, with weights (n, 3)."""
        h, length = self._h, self._h * c[:, None]
        _, _, p3, p4, p5 = phi(length * self._values)
        with3, with4 = with3.astype(c.dtype), with4.astype(c.dtype)
        # The whole J is block-triangular: what is beside has the flow's own part in it, by
        # phi-functions an order higher.
        by3, by4 = with3 @ self._changes, with4 @ self._changes
        inside = (h * (p3 * by3 + p4 * by4)) @ self._modes.T
        across = (h * length * (p4 * by3 + p5 * by4)) @ self._modes.T
        others = self._others[1:]
        beside = h * (with3 @ others / 6 + with4 @ others / 24)
        return inside, beside + self._projection.beside(across)


def _interpolant(y: Vector, h: float, vectors: np.ndarray, projection: Projection) -> Dense:
    """The method's natural continuous extension: no gradient and no product more.

    Its last stage takes what the flow adds to its linearisation for a tau^2 + b tau^3, tau being
    the fraction of the step, through D_3 and D_4: A = 2 a, B = 6 b. The same polynomial up to
    tau = c gives u_0 + c h phi_1(cZ) F_0 + c^3 h phi_3(cZ) A + c^4 h phi_4(cZ) B, stiff layers as
    exactly as at the end. Its error is O(h^5), as that of the embedded solution.

    Args:
        y: the state at the start.
        h: the length of the step.
        vectors: F_0 and the D_i.
        projection: of the step.

    Returns:
        Fractions of the step -> states there. Cost: m P multiplications each.
    """
    span = _Span(h, vectors, projection)

    def states(fractions: Vector) -> np.ndarray:
        c = np.asarray(fractions, y.dtype)
        inside, beside = span.changed(c, c[:, None] ** 3 * PHI3[-1], c[:, None] ** 4 * PHI4[-1])
        flow, flow_beside = span.flowed(c)
        moved = [projection.lift(flow + inside), flow_beside + beside]
        return y + np.concatenate(moved, axis=1)

    return states

"""Explicit Runge-Kutta methods of diffrax, by their tableaus: in bursts, or stage by stage."""

import dataclasses
import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

from ..work import UNKNOWN_STEP
from .lean import AbstractLeanMethod, Traced, TracedField
from .stepping import AbstractHostMethod, Attempt, Dense, HostField, Start, Vector

# Of diffrax's PIDController, whose integral control alone is the default.
_SAFETY, _MIN_FACTOR, _MAX_FACTOR = 0.9, 0.2, 10.0


class Memory(NamedTuple):
    """What is kept between steps.

    Attributes:
        rates: dy/dt at the state, where the last stage of a step is the first of the next; else
            of no use.
    """

    rates: Any


@dataclasses.dataclass(frozen=True)
class Tableau:
    """An explicit Runge-Kutta pair, and its interpolant.

    Attributes:
        solver: diffrax's class, by which the tableau is known.
    """

    solver: type[diffrax.AbstractERK]

    @property
    def butcher(self) -> diffrax.ButcherTableau:
        """Its coefficients."""
        return self.solver.tableau  # pyright: ignore[reportReturnType]

    @property
    def stages(self) -> int:
        """s."""
        return self.butcher.num_stages

    @property
    def reuses(self) -> bool:
        """Whether the last stage of a step is the first of the next."""
        return self.butcher.fsal

    @property
    def matrix(self) -> np.ndarray:
        """a_ij, (s, s)."""
        return _matrix(self.solver)

    @property
    def weights(self) -> np.ndarray | None:
        """Of the interpolant; None where it is less accurate than the steps."""
        return _interpolant(self.solver)

    def error_order(self) -> int:
        """k, as diffrax has it: steps are chosen for an error of O(h^k)."""
        flow: Any = diffrax.ODETerm(lambda t, y, args: y)
        return int(self.solver().error_order(flow) or 0)


@lru_cache
def _matrix(solver: type[diffrax.AbstractERK]) -> np.ndarray:
    butcher: Any = solver.tableau
    matrix = np.zeros((butcher.num_stages, butcher.num_stages))
    for i, row in enumerate(butcher.a_lower):
        matrix[i + 1, : len(row)] = row
    return matrix


@lru_cache
def _interpolant(solver: type[diffrax.AbstractERK]) -> np.ndarray | None:
    """y(t0 + x h) = y0 + h sum_i sum_j w_ij x^(j + 1) k_i."""
    if issubclass(solver, diffrax.Tsit5):
        return _tsit5_interpolant()
    quartic = getattr(solver.interpolation_cls, "c_mid", None)
    if quartic is not None and issubclass(solver, diffrax.Dopri5):
        return _quartic(np.asarray(quartic), np.asarray(solver.tableau.b_sol))
    return None


def _tsit5_interpolant() -> np.ndarray:
    """Of order 4, from the stages alone (Tsitouras 2011, section 4)."""
    # Leading coefficient and roots of each b_i(x), as real factors, highest power first.
    factors = [
        (-1.0530884977290216, [1, 0], [1, -1.3299890189751412],
         [1, -1.4364028541716351, 0.7139816917074209]),
        (0.1017, [1, 0, 0], [1, -2.1966568338249754, 1.2949852507374631]),
        (2.490627285651252793, [1, 0, 0], [1, -2.38535645472061657, 1.57803468208092486]),
        (-16.54810288924490272, [1, 0, 0], [1, -1.21712927295533244], [1, -0.61620406037800089]),
        (47.37952196281928122, [1, 0, 0], [1, -1.203071208372362603], [1, -0.658047292653547382]),
        (-34.87065786149660974, [1, 0, 0], [1, -1.2], [1, -0.666666666666666667]),
        (2.5, [1, 0, 0], [1, -1], [1, -0.6]),
    ]  # fmt: skip
    rows = []
    for leading, *parts in factors:
        polynomial = np.array([leading])
        for part in parts:
            polynomial = np.polymul(polynomial, part)
        # There is no constant term.
        rows.append(polynomial[-2::-1])
    return np.array(rows)


def _quartic(middle: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Through y0, y1 and a state in the middle, with the slopes at both ends."""
    s = len(weights)
    first, last = np.eye(s)[0], np.eye(s)[-1]
    square = -5 * weights + 16 * middle - 4 * first + last
    cube = 14 * weights - 32 * middle + 5 * first - 3 * last
    fourth = -8 * weights + 16 * middle - 2 * first + 2 * last
    return np.stack([first, square, cube, fourth], axis=1)


@dataclasses.dataclass(frozen=True)
class LeanExplicit(AbstractLeanMethod):
    """An explicit pair in bursts; the stages of a step are a loop with one gradient.

    Attributes:
        tableau: the pair.
    """

    tableau: Tableau

    def attempt(self, field: TracedField, y, memory: Memory, h, constants) -> Traced:
        """One attempt: its s stages, or s - 1 where the first is known."""
        tableau, dtype = self.tableau, y.dtype
        matrix = jnp.asarray(tableau.matrix, dtype)
        first = int(tableau.reuses)

        def stage(i, now):
            slopes, *_ = now
            at = y + h * (matrix[i] @ slopes)
            loss, norm, rates = field.rates(at)
            return slopes.at[i].set(rates), at, loss, norm

        slopes = jnp.zeros((tableau.stages, y.size), dtype).at[0].set(memory.rates)
        nothing = jnp.full((), jnp.nan, dtype)
        begin = (slopes, y, nothing, nothing)
        slopes, at, loss, norm = jax.lax.fori_loop(first, tableau.stages, stage, begin)
        if not tableau.reuses:
            at = y + h * (jnp.asarray(tableau.butcher.b_sol, dtype) @ slopes)
            loss, norm = nothing, nothing
        error = h * (jnp.asarray(tableau.butcher.b_error, dtype) @ slopes)
        size = jnp.maximum(jnp.abs(y), jnp.abs(at))[: field.measured]
        atol = field.absolute(constants["atol"], size.size)
        scaled = field.norm(error[: field.measured] / (atol + constants["rtol"] * size))
        keep = scaled < 1
        power = jnp.asarray(1 / tableau.error_order(), dtype)
        low, high = jnp.where(keep, 1.0, _MIN_FACTOR), jnp.where(keep, _MAX_FACTOR, _SAFETY)
        factor = jnp.clip(_SAFETY * (1 / scaled) ** power, low.astype(dtype), high.astype(dtype))
        finite = jnp.isfinite(scaled) & jnp.isfinite(at).all() & jnp.isfinite(error).all()
        if tableau.reuses:
            # The next step begins with it.
            finite = finite & jnp.isfinite(slopes[-1]).all()
        no = jnp.asarray(False)
        return Traced(
            y=at, keep=keep, step=factor * h, memory=Memory(slopes[-1]), rejected=memory,
            gradients=jnp.asarray(tableau.stages - first), finite=finite, loss=loss,
            gradient_norm=norm, dense=slopes, leave=no, void=no,
            drift=field.drift(error),
        )  # fmt: skip

    def interpolate(self, before, after, taken, dense: Any, fraction):
        """The pair's own interpolant."""
        return _within(self.tableau, before, dense, taken, fraction)


def _within(tableau: Tableau, before, slopes, h, fraction):
    """The state within a step, of NumPy's arrays or of JAX's."""
    assert tableau.weights is not None
    weights = tableau.weights.astype(before.dtype)
    # By Horner's rule, highest power first.
    combined = weights[:, -1]
    for row in weights.T[-2::-1]:
        combined = row + fraction * combined
    return before + h * ((fraction * combined) @ slopes)


def _dense(tableau: Tableau, before: Vector, slopes: np.ndarray, h: float) -> Dense:
    def states(fractions: Vector) -> np.ndarray:
        # Row by row: a state must not depend, by rounding, on which others are asked for.
        given = np.asarray(fractions, before.dtype)
        return np.stack([_within(tableau, before, slopes, h, x) for x in given])

    return states


def first_step(
    field: HostField,
    y: Vector,
    rtol: float,
    atol: float,
    order: int,
    measure: Callable[[Vector], float] | None = None,
):
    """The first step by Hairer, Norsett, Wanner 1993, section II.4. Two gradients.

    Args:
        field: the flow.
        y: the state.
        rtol: relative tolerance.
        atol: absolute tolerance.
        order: of the error estimate.
        measure: a vector like y, scaled by the tolerance -> its norm; None: the field's, of theta.

    Returns:
        The step, 1e-6 where the field cannot say it, and dy/dt at the state.
    """
    if measure is None:
        measure = lambda scaled: field.norm(scaled[: field.measured(y)])
    # What does not count may be divided by zero, and what is judged may overflow.
    with np.errstate(all="ignore"):
        scale = field.allowed(rtol, atol, np.abs(y))
        _, rates = field.rates(y)
        size, speed = measure(y / scale), measure(rates / scale)
        resting = size < 1e-5 or not speed >= 1e-5
        h = 1e-6 if resting else 0.01 * size / speed
        _, ahead = field.rates(y + h * rates)
        # What overflows leaves no step to look ahead with.
        bend = measure((ahead - rates) / scale) / h if h > 0 else math.nan
    steepest = float(np.maximum(speed, bend))
    further = max(1e-6, 1e-3 * h) if steepest <= 1e-15 else (0.01 / steepest) ** (1 / order)
    step = float(np.minimum(100 * h, further))
    return (step if math.isfinite(step) and step > 0 else UNKNOWN_STEP), rates


@dataclasses.dataclass(frozen=True)
class HostExplicit(AbstractHostMethod):
    """An explicit pair with its stages on the host, for gradients that are large to compile.

    Attributes:
        tableau: the pair.
        rtol: relative tolerance.
        atol: absolute tolerance.
    """

    tableau: Tableau
    rtol: float
    atol: float

    def start(self, field: HostField, y: Vector) -> Start:
        """Two gradients, of which the first serves the first step."""
        order = self.tableau.error_order()
        step, rates = first_step(field, y, self.rtol, self.atol, order)
        return Start(step, Memory(rates), 2)

    def blank(self, y: Vector) -> Memory:
        """Rates of no meaning."""
        return Memory(np.zeros_like(y))

    def attempt(self, field: HostField, y: Vector, memory: Memory, h: float) -> Attempt:
        """One attempt."""
        tableau, first = self.tableau, int(self.tableau.reuses)
        # A number of NumPy's own would promote single precision.
        h, matrix = float(h), tableau.matrix.astype(y.dtype)
        slopes = np.zeros((tableau.stages, y.size), y.dtype)
        slopes[0] = memory.rates
        at, loss, norm = y, None, None
        for i in range(first, tableau.stages):
            at = y + h * (matrix[i] @ slopes)
            loss, slopes[i] = field.rates(at)
            norm = math.sqrt(slopes[i, -1]) if slopes[i, -1] >= 0 else math.nan
        if field.carried is not None:
            # The last of the rates is not |grad L|^2.
            loss = norm = None
        if not tableau.reuses:
            at = y + h * (tableau.butcher.b_sol.astype(y.dtype) @ slopes)
            loss = norm = None
        error = h * (tableau.butcher.b_error.astype(y.dtype) @ slopes)
        measured = field.measured(y)
        size = np.maximum(np.abs(y), np.abs(at))[:measured]
        scaled = field.norm(error[:measured] / field.allowed(self.rtol, self.atol, size))
        keep = scaled < 1
        low, high = (1.0, _MAX_FACTOR) if keep else (_MIN_FACTOR, _SAFETY)
        raw = math.inf if scaled == 0 else _SAFETY * (1 / scaled) ** (1 / tableau.error_order())
        finite = math.isfinite(scaled) and bool(np.isfinite(error).all())
        finite = finite and not (tableau.reuses and not np.isfinite(slopes[-1]).all())
        return Attempt(
            y=at, keep=keep, step=min(max(raw, low), high) * h, memory=Memory(slopes[-1]),
            gradients=tableau.stages - first, products=0, finite=finite, loss=loss,
            gradient_norm=norm, dense=_dense(tableau, y, slopes, h), drift=field.drift(error),
        )  # fmt: skip

"""Variable-order BDF driven from the host: the steps of `flowlift.solvers.BDF`, the reference."""

import dataclasses
import math

import jax
import numpy as np

from .. import room
from ..bdf import (
    ASYMMETRY,
    BDF,
    BEST_RATE,
    EQUATION,
    FAR,
    NOISIEST,
)
from ..differences import ERROR, MAX_ORDER, ROWS
from ..judging import (
    BACK,
    BACK_IF_FAILED,
    CONVEX,
    DAMPED,
    LEAST_ERROR,
    MAX_FACTOR,
    MIN_FACTOR,
    RESOLVED,
    SAFETY,
)
from ..newton import MAX_ITERATIONS
from ..work import Halt
from .curvature import Curvature
from .differences import alpha, evaluated, predicted, rescaled, updated
from .krylov import generic_vector, norm, rounding_of_products
from .newton import Equation, Iteration, quotient, scaled_norm
from .stepping import AbstractHostMethod, Attempt, HostField, Start, Vector

_ERROR = ERROR.tolist()
# Of the first step, see `ProposedSteps`.
_FIRST_GRADIENTS = 2


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class BDFMemory:
    """The memory of a `HostBDF`.

    Attributes:
        differences: nabla^j y in row j, (8, N).
        step: the h that they belong to.
        order: k.
        equal: steps in a row with this h and k.
        curvature: the model of the Hessian.
        rate: contraction of the last iteration; 1 where unknown.
        halt: a `Halt`; NOT_SYMMETRIC if the check at the start failed.
    """

    differences: np.ndarray
    step: float
    order: int
    equal: int
    curvature: Curvature
    rate: float
    halt: int


@dataclasses.dataclass(frozen=True)
class HostBDF(AbstractHostMethod):
    """NDF of orders 1 to 5 for gradient flows, with the algebra in NumPy; see `solvers.BDF`.

    Steps, orders, evaluations, products and rejections are those of `solvers.BDF` under its
    controller, all results to rounding. Cost beyond evaluations and products: some 0.1 ms an
    evaluation at P = 1,000.

    Attributes:
        rtol: relative tolerance.
        atol: absolute tolerance.
        capacity: largest Lanczos basis.
        secants: number of secants kept.
        memory: bytes for all vectors that are kept, see `solvers.room`.
        dense: use all eigenpairs of H, from a product for each coordinate that counts, instead of
            a Lanczos basis.
        first: the tolerances (relative, absolute) of the first step; None: the same.
        beside: how many numbers of a state come after theta.
    """

    rtol: float
    atol: float
    capacity: int = 64
    secants: int = 40
    dense: bool = False
    memory: int = room.KEPT
    first: tuple[float, float] | None = None
    beside: int = 2

    @staticmethod
    def of(solver: BDF, rtol: float, atol: float, beside: int = 2) -> "HostBDF":
        """The same solver on the host.

        Args:
            solver: the solver. Its own tolerances, where it has any, are those of all steps but
                the first, as under its controller.
            rtol: relative tolerance of its controller.
            atol: absolute tolerance of its controller.
            beside: how many numbers of a state come after theta.

        Returns:
            The method.
        """
        return HostBDF(
            float(rtol if solver.rtol is None else solver.rtol),
            float(atol if solver.atol is None else solver.atol),
            solver.capacity,
            solver.secants,
            solver.dense,
            solver.memory,
            (float(rtol), float(atol)),
            beside,
        )

    def start(self, field: HostField, y: Vector) -> Start:
        """The first step, differences of order 1, and two products that check the symmetry.

        Args:
            field: the flow.
            y: the state.

        Returns:
            The start, of 3 gradients and 2 products.
        """
        with np.errstate(all="ignore"):
            step = self._first_step(field, y)
            blank = self.blank(y)
            differences = blank.differences
            differences[0] = y
            rates = field.rates(y)[1]
            differences[1] = step * rates
            symmetric = _symmetric(field, y, rates)
            halt = Halt.NONE if symmetric else Halt.NOT_SYMMETRIC
        memory = dataclasses.replace(blank, step=step, halt=int(halt))
        return Start(step, memory, _FIRST_GRADIENTS + 1, 2, halt)

    def blank(self, y: Vector) -> BDFMemory:
        """A memory without a past: zero differences, no curvature.

        Args:
            y: a state, for its size and type.

        Returns:
            The memory.
        """
        point = y[: y.size - self.beside]
        curvature = Curvature.empty(*room.of_bdf(self, point), np.array(point))
        differences = np.zeros((ROWS, y.size), y.dtype)
        return BDFMemory(differences, 1.0, 1, 0, curvature, 1.0, int(Halt.NONE))

    def attempt(self, field: HostField, y: Vector, memory: BDFMemory, h: float) -> Attempt:
        """Predict, iterate, retry with fresh curvature, judge, choose the next step.

        Args:
            field: the flow.
            y: the state; the memory holds it too.
            memory: the method's memory there.
            h: the step, > 0.

        Returns:
            The attempt.
        """
        del y
        with np.errstate(all="ignore"):
            state = _at_step(memory, float(h))
            equation = self._equation(field, state)
            iteration = self._iterated(equation, state)
            differences = updated(state.differences, state.order, iteration.correction)
            weights = self._weights(field, differences[0])
            error, factor, order = _judge(state, differences, iteration, weights)
            factor = min(factor, _longest(state, equation, iteration))
            if equation.velocity is not None:
                damping = equation.velocity.friction * state.step * factor / 2
                order = _steady(order, state, iteration, factor, damping)
        finite = math.isfinite(error) and math.isfinite(factor)
        keep = finite and error <= 1
        if keep:
            # Not measured in this step: it is trusted less and less.
            rate = iteration.rate * (2 if iteration.evaluations == 1 else 1)
            equal = state.equal + 1 if factor == 1 else 0
            memory = BDFMemory(
                differences, state.step, order, equal, iteration.curvature, rate, memory.halt
            )
        return Attempt(
            y=differences[0],
            keep=keep,
            step=state.step * (factor if finite else BACK_IF_FAILED),
            memory=memory,
            gradients=iteration.evaluations,
            products=iteration.products,
            dense=lambda fractions: evaluated(differences, state.order, fractions),
            finite=finite,
            halt=Halt(memory.halt),
            drift=abs(_ERROR[state.order]) * field.drift(iteration.correction),
        )

    def _first_step(self, field: HostField, y: Vector) -> float:
        """As `ProposedSteps` chooses it where no end is near."""
        rtol, atol = self.first or (self.rtol, self.atol)
        scale = field.allowed(rtol, atol, np.abs(y[: field.live]))
        first = field.rates(y)[1]
        size, speed = scaled_norm(y, scale), scaled_norm(first, scale)
        h = 0.01 * size / speed if size > 1e-5 and speed > 1e-5 else 1e-6
        second = field.rates(y + h * first)[1]
        curve = quotient(scaled_norm(second - first, scale), h)
        h = min(math.sqrt(0.5 / max(curve, 1e-30)), 100 * h)
        return h if math.isfinite(h) and h > 0 else 1e-6

    def _weights(self, field: HostField, y: Vector) -> Vector:
        return field.allowed(self.rtol, self.atol, np.abs(y[: field.live]))

    def _equation(self, field: HostField, state: BDFMemory) -> Equation:
        prediction, psi = predicted(state.differences, state.order)
        weights, c = self._weights(field, prediction), state.step / alpha(state.order)
        # Rounding of y, and of a gradient of terms as large as |H| |y|.
        largest = float(np.max(state.curvature.values))
        noise = float(np.finfo(prediction.dtype).eps) * (1 + c * largest)
        # Where all of y would be rounding, the curvature is out of date, not the field that bad.
        floor = min(noise, NOISIEST) * scaled_norm(prediction, weights)
        tolerance = max(floor, min(EQUATION, math.sqrt(self.rtol)))
        # Two iterations that contract so reach a tolerance that is less than the loosest.
        contraction = min(1.0, math.sqrt(tolerance / EQUATION))
        expected = 1 / _ERROR[state.order]
        numbers = (c, weights, tolerance, floor, contraction, expected)
        equation = Equation(field, prediction, psi, *numbers)
        friction = field.carried and field.carried.friction
        return equation.without(friction(prediction)) if friction else equation

    def _iterated(self, equation: Equation, state: BDFMemory) -> Iteration:
        """The iteration with the curvature at hand, and once more with fresh curvature."""
        # The last increment is rich in the directions that a first model should know.
        increment = state.differences[1, : equation.field.size(equation.prediction)]
        nothing = np.zeros_like(equation.prediction)
        now = Iteration(nothing, state.curvature, increment, 1.0, state.rate, 0, 0, False)
        tries = 0
        while not now.converged and tries < 2:
            fresh = tries == 1 or now.curvature.krylov.size == 0
            curvature = now.curvature
            if fresh:
                curvature, products = self._refreshed(equation, now)
                now.products += products
            now.solve(equation, curvature, 1.0 if fresh else now.rate, fresh)
            tries = 2 if fresh else tries + 1
        return now

    def _refreshed(self, equation: Equation, now: Iteration) -> tuple[Curvature, int]:
        """Curvature at the prediction that knows enough for this c, and its products."""
        field, at = equation.field, equation.field.at(equation.prediction)
        point = equation.prediction[: field.size(equation.prediction)]
        product = lambda v: field.product(at, v)
        if self.dense:
            hessian = np.zeros((point.size, point.size), point.dtype)
            for i, unit in enumerate(np.eye(field.live, point.size, dtype=point.dtype)):
                hessian[i] = product(unit)
            secants = now.curvature.strengths.size
            return Curvature.dense(hessian, secants, point, field.live), field.live
        curvature = now.curvature.restarted(point, now.step, field.live)
        return curvature.extended(product, equation.c, equation.contraction)


def _symmetric(field: HostField, y: Vector, rates: Vector) -> bool:
    """Whether two products with generic vectors are those of a symmetric Hessian."""
    n, at = field.size(y), field.at(y)
    u, v = (generic_vector(n, y.dtype, turn) for turn in (1, 2))
    hu, hv = field.product(at, u), field.product(at, v)
    gap = abs(float(u @ hv) - float(v @ hu))
    scale = ASYMMETRY * (norm(u) * norm(hv) + norm(v) * norm(hu))
    # What is not finite says nothing about symmetry.
    return not gap > scale + rounding_of_products(rates[:n], y[:n]) * norm(u) * norm(v)


def _at_step(state: BDFMemory, step: float) -> BDFMemory:
    factor = step / state.step
    same = abs(factor - 1) < float(np.finfo(state.differences.dtype).eps) ** 0.5
    # A polynomial of high degree says nothing so far ahead.
    order = 1 if factor > FAR else state.order
    return BDFMemory(
        rescaled(state.differences, order, factor),
        step,
        order,
        state.equal if same else 0,
        state.curvature,
        # What B leaves out contracts in proportion to h.
        min(max(state.rate * max(factor, 1.0), BEST_RATE), 1.0),
        state.halt,
    )


def _judge(
    state: BDFMemory, differences: np.ndarray, iteration: Iteration, weights: Vector
) -> tuple[float, float, int]:
    """The error (accepted if at most 1), the next step divided by this one, the next order."""
    k = state.order
    error = abs(_ERROR[k]) * scaled_norm(iteration.correction, weights)
    spent = 2 * MAX_ITERATIONS
    safety = SAFETY * (spent + 1) / (spent + iteration.evaluations)
    if not iteration.converged:
        return (2.0 if math.isfinite(iteration.size) else math.inf), BACK_IF_FAILED, k
    same = _factor(error, k)
    if not error <= 1:
        return error, max(MIN_FACTOR, min(BACK, safety * same)), k
    if state.equal + 1 < k + 1:
        return error, 1.0, k
    below, above = 0.0, 0.0
    if k > 1:
        below = _factor(abs(_ERROR[k - 1]) * scaled_norm(differences[k], weights), k - 1)
    if k < MAX_ORDER:
        above = _factor(abs(_ERROR[k + 1]) * scaled_norm(differences[k + 2], weights), k + 1)
    factors = (below, same, above)
    best = factors.index(max(factors))
    return error, min(MAX_FACTOR, safety * factors[best]), k + best - 1


def _longest(state: BDFMemory, equation: Equation, iteration: Iteration) -> float:
    """The next step divided by this one, at most, for I + c H to be definite where it begins."""
    lowest = equation.c * float(np.min(iteration.curvature.values))
    # Only a basis of this step tells of H at its prediction.
    if not (iteration.fresh and lowest < -CONVEX):
        return math.inf
    return max(BACK_IF_FAILED, (CONVEX / -lowest) ** (1 / (state.order + 2)))


def _steady(
    order: int, state: BDFMemory, iteration: Iteration, factor: float, damping: float
) -> int:
    """The next order of a flow with a velocity, lowered where its formula would be unstable.

    Formulas of order 3 and more let weakly damped oscillations grow that a step does not resolve.

    Args:
        order: the order that is wanted.
        state: the memory of this step.
        iteration: its iteration, with what is known of the curvature.
        factor: the next step divided by this one.
        damping: g h / 2 of the next step.

    Returns:
        The order, one below this step's at the least.
    """
    curvature = max(0.0, float(np.max(iteration.curvature.values)))
    if state.step * factor * math.sqrt(curvature) < RESOLVED:
        return order
    most = max([2, *(k for k, least in DAMPED.items() if damping > least)])
    return order if order <= most else max(most, state.order - 1)


def _factor(error: float, order: int) -> float:
    """How much longer a step of this order would meet the tolerance."""
    return max(error, LEAST_ERROR) ** (-1 / (order + 1))

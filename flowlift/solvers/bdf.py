"""Variable-order BDF for symmetric Jacobians: a stiff solver that never forms one."""

from collections.abc import Callable
from typing import Any, ClassVar, cast

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..numbers import plain
from ..showing import shows_itself
from . import newton, room
from .curvature import Curvature
from .differences import (
    MAX_ORDER,
    ROWS,
    DifferenceInterpolation,
    alpha,
    error_constant,
    predicted,
    rescaled,
    updated,
)
from .equation import Equation
from .field import VectorField
from .judging import MAX_FACTOR, judge, longest, steady
from .lanczos import generic_vector, rounding_of_products
from .lanes import where_any
from .pace import HOPELESS_IF_STABLE
from .parts import Layout, Momentum, Select, live_scale
from .proposals import Proposal, ProposedSteps
from .tolerances import check_controller, not_yet
from .work import Halt, StepReport, Work, WorkController

# A longer step than this many times the last begins anew at order 1.
FAR = 1.01 * MAX_FACTOR
# The contraction is never believed to be better.
BEST_RATE = 0.01
# The equation is solved to this part of the step's tolerance, or to the root of rtol if smaller.
EQUATION = 0.03
# Relative to the norm of the Jacobian's image; rounding errors of gradients stay far below.
ASYMMETRY = 1e-2
# Largest rounding error of y, relative, that is believed; in float32 it is reached at c |H| = 1e6.
NOISIEST = 0.1


class BDFState(eqx.Module):
    """The memory of a `BDF`.

    Attributes:
        differences: nabla^j y in row j.
        step: the h that they belong to.
        order: k.
        equal: steps in a row with this h and k.
        curvature: the model of the Hessian.
        rate: contraction of the last iteration; 1 where unknown.
        halt: a `Halt`; NOT_SYMMETRIC if the check at the start failed.
    """

    differences: Float[Array, "8 N"]
    step: Float[Array, ""]
    order: Int[Array, ""]
    equal: Int[Array, ""]
    curvature: Curvature
    rate: Float[Array, ""]
    halt: Int[Array, ""]


@shows_itself
class BDF(diffrax.AbstractAdaptiveSolver, diffrax.AbstractImplicitSolver):
    """Stiff flows dy/dt = f(y) with symmetric Jacobian -H: NDF of orders 1 to 5, variable step.

    The step to t + h solves, for the correction d of the prediction p,

        d = c f(p + d) - psi,        c = h / alpha_k,

    (Shampine & Reichelt 1997, in backward differences as in SciPy's `BDF`) by the chord iteration
    d <- d + (I + c B)^-1 (c f - psi - d). B = Q Theta Q^T holds the positive Ritz pairs of H at a
    lagged point, from a Lanczos basis that grows until every Ritz value with c theta > q has a
    residual of at most 0.3 q sqrt(1 + c theta) / c; q falls from 1 at loose tolerances with the
    fourth root of rtol. Negative Ritz values are left to the iteration: negative curvature is
    integrated as growth. Every correction then teaches B by a symmetric rank-one secant
    (`Curvature`), which costs nothing and about halves the work. Where the iteration is slow,
    because B is out of date or too small (c has grown, or the basis is full), conjugate gradients
    with H at the iterate take over, preconditioned by the same inverse, until they have taken as
    many products as the basis did; each product is a secant too. When the iteration fails, a fresh
    basis is made at p and it is tried once more, inside the same attempt; then the step is
    rejected. What is stale costs iterations, never accuracy: steps are judged by d / (k + 1) alone.
    Where the fresh basis shows that I + c H is hardly definite at p, the next step is shorter.

    A flow of second order, theta' = v and v' = F(theta) - g v, loses its velocity from the equation
    of a step, see `equation.Velocity`: what is left is of the same form, with c = k^2 / (1 + k g),
    k = h / alpha_k. Errors are those of theta. Orders above 2 are taken where their formulas damp
    what a step does not resolve.

    A step is accepted when the root mean square of error / (atol + rtol |y|) over the coupled
    components is at most 1. The solver chooses its own step and order; use it with
    `BDF.default_controller(rtol, atol)`, which counts the work too. Dense output is the difference
    polynomial, as accurate as the steps, and should be used: a step cut short costs several.

    Cost per step: 1 to 4 evaluations of f, no product while B serves; a fresh basis costs some
    dozens of products. Memory: two bases and sets of secants, 34 vectors more, within `memory`.

    Limits: rounding errors of f are amplified by c in soft directions, so that components far
    below eps c |H| |y| are not resolved; tolerances below that are treated as equal to it. In
    float32 this is 1e-7 c |H| |y|. The symmetry of the Jacobian is checked once, by two products
    with random vectors; `Halt.NOT_SYMMETRIC` ends the integration at once. Fields that jump or
    have kinks are integrated with many rejections; take a one-step method.

    Attributes:
        rtol: relative tolerance; None: that of the controller.
        atol: absolute tolerance; None: that of the controller.
        live: how many leading coordinates of the flow's part count, the others being zeros that
            never move; None for all.
        select: y -> the part that f depends on, one of its nodes; the rest is only integrated and
            takes no part in error control. None: all of y.
        capacity: largest Lanczos basis.
        secants: number of secants kept. Both are less where `memory` does not hold them.
        memory: bytes for all vectors that are kept, see `solvers.room`; of a dense H there are n.
        momentum: where the velocity is, and g, of a flow of second order; `solve` fills it.
        dense: use all eigenpairs of H, from n products, instead of a Lanczos basis.
        root_finder: the controller's tolerances, filled by diffrax.
    """

    rtol: Float[Array, ""] | float | None = None
    atol: Float[Array, ""] | float | None = None
    live: Int[Array, ""] | None = None
    select: Select | None = eqx.field(static=True, default=None)
    capacity: int = eqx.field(static=True, converter=plain, default=64)
    secants: int = eqx.field(static=True, converter=plain, default=40)
    dense: bool = eqx.field(static=True, default=False)
    memory: int = eqx.field(static=True, converter=plain, default=room.KEPT)
    momentum: Momentum | None = eqx.field(static=True, default=None)
    root_finder: Any = eqx.field(default_factory=not_yet)

    term_structure: ClassVar = diffrax.ODETerm
    interpolation_cls: ClassVar[Callable[..., DifferenceInterpolation]] = DifferenceInterpolation

    @property
    def root_find_max_steps(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Evaluations per iteration."""
        return newton.MAX_ITERATIONS

    @staticmethod
    def default_controller(
        rtol, atol, select: Select | None = None, live=None, **options
    ) -> WorkController:
        """The controller to pass to `diffrax.diffeqsolve` with this solver.

        Args:
            rtol: relative tolerance.
            atol: absolute tolerance.
            select: as for the solver.
            live: as for the solver.
            options: further arguments of `WorkController`.

        Returns:
            The controller; its state, saved by `SaveAt(controller_state=True)`, holds true counts
            of work, and the `Halt` if diffrax's result is `dt_min_reached`.
        """
        # At the start: the first step, f, and two products that check the symmetry; a step much
        # longer than the last one has no memory to go by.
        settings = {"startup": 3, "startup_products": 2, "regrowth": MAX_FACTOR}
        settings |= {"patience": HOPELESS_IF_STABLE, "select": select} | options
        return cast(Any, WorkController)(ProposedSteps(rtol, atol, select, live), **settings)

    def order(self, terms) -> int:
        """The highest order."""
        return MAX_ORDER

    def func(self, terms, t0, y0, args):
        """The field."""
        return terms.vf(t0, y0, args)

    def init(self, terms, t0, t1, y0, args) -> BDFState:
        """Differences of order 1; two products check that the Jacobian is symmetric."""
        check_controller(self, ProposedSteps)
        layout = Layout.of(self.select, y0, self.momentum)
        field = VectorField.over(t0, t1, layout, terms, args)
        start = layout.ravel(y0)
        point = start[: layout.size]
        step = jnp.asarray(t1 - t0, start.dtype)
        rate, blank = field.of(start), jnp.zeros((ROWS, start.size), start.dtype)
        differences = blank.at[0].set(start).at[1].set(step * rate)
        u, v = (generic_vector(point.size, point.dtype, turn) for turn in (1, 2))
        # One product is compiled, not two.
        hu, hv = jax.lax.map(lambda v: field.product(start, v), jnp.stack([u, v]))
        gap = jnp.abs(u @ hv - v @ hu)
        scale = jnp.linalg.norm(u) * jnp.linalg.norm(hv) + jnp.linalg.norm(v) * jnp.linalg.norm(hu)
        # What is not finite says nothing about symmetry.
        rounding = rounding_of_products(rate[: layout.size], point)
        rounding = rounding * jnp.linalg.norm(u) * jnp.linalg.norm(v)
        symmetric = ~(gap > ASYMMETRY * scale + rounding)
        return BDFState(
            differences,
            step,
            jnp.ones((), int),
            jnp.zeros((), int),
            Curvature.empty(*room.of_bdf(self, point), point),
            jnp.ones_like(step),
            jnp.where(symmetric, int(Halt.NONE), int(Halt.NOT_SYMMETRIC)).astype(int),
        )

    def step(self, terms, t0, t1, y0, args, solver_state: BDFState, made_jump):
        """One attempt: predict, iterate, retry with fresh curvature, judge, choose the next."""
        del made_jump
        layout = Layout.of(self.select, y0, self.momentum)
        field = VectorField.over(t0, t1, layout, terms, args)
        state = _at_step(solver_state, jnp.asarray(t1 - t0, solver_state.step.dtype))
        equation = self._equation(state, field)

        def refreshed(curvature, rich, wanted):
            return self._refreshed(equation, field, curvature, rich, wanted)

        attempt, fresh = _attempt(equation, field, refreshed, state)
        differences = updated(state.differences, state.order, attempt.correction)
        weights = self._weights(differences[0, : layout.size])
        proposal, order = judge(state.order, state.equal, differences, attempt, weights)
        most = jnp.where(fresh, longest(state.order, equation, attempt), jnp.inf)
        proposal = Proposal(proposal.error, jnp.minimum(proposal.factor, most))
        if equation.velocity is not None:
            known, h = jnp.max(attempt.curvature.values), state.step * proposal.factor
            order = steady(order, state.order, known, h, equation.velocity.friction)
        new = BDFState(
            differences,
            state.step,
            order,
            jnp.where(proposal.factor == 1, state.equal + 1, 0),
            attempt.curvature,
            # Not measured in this step: it is trusted less and less.
            jnp.where(attempt.evaluations == 1, 2 * attempt.rate, attempt.rate),
            state.halt,
        )
        report = StepReport(proposal, Work(attempt.evaluations, attempt.products), state.halt)
        dense = {"differences": jax.vmap(layout.state)(differences), "order": state.order}
        return layout.state(differences[0]), report, dense, new, diffrax.RESULTS.successful

    def _refreshed(self, equation, field, curvature: Curvature, rich, wanted):
        """Curvature at the prediction that knows enough for this c, and its products."""
        n = equation.weights.size
        point = equation.prediction[:n]
        product = lambda v: field.product(equation.prediction, v)
        if self.dense:
            hessian = jax.vmap(product)(jnp.eye(n, dtype=point.dtype))
            secants = curvature.strengths.size
            return Curvature.dense(hessian, secants, point, self.live), jnp.full((), n, int)
        curvature = curvature.restarted(point, rich, self.live)
        return curvature.extended(product, equation.c, equation.contraction, wanted)

    def _weights(self, point):
        rtol, atol = self._tolerances()
        return (atol + rtol * jnp.abs(point)) * live_scale(point.size, self.live, point.dtype)

    def _tolerances(self):
        given = self.root_finder
        rtol = given.rtol if self.rtol is None else self.rtol
        return rtol, given.atol if self.atol is None else self.atol

    def _equation(self, state: BDFState, field: VectorField) -> Equation:
        size = field.layout.size
        prediction, psi = predicted(state.differences, state.order)
        dtype = prediction.dtype
        weights = self._weights(prediction[:size])
        c = state.step / alpha(state.order, dtype)
        # Rounding of y, and of a gradient of terms as large as |H| |y|.
        noise = jnp.finfo(dtype).eps * (1 + c * jnp.max(state.curvature.values))
        # Where all of y would be rounding, the curvature is out of date, not the field that bad.
        noise = jnp.minimum(noise, NOISIEST)
        floor = noise * jnp.sqrt(jnp.mean((prediction[:size] / weights) ** 2))
        tolerance = jnp.maximum(floor, jnp.minimum(EQUATION, jnp.sqrt(self._tolerances()[0])))
        # Two iterations that contract so reach a tolerance that is less than the loosest.
        contraction = jnp.minimum(1.0, jnp.sqrt(tolerance / EQUATION))
        expected = 1 / error_constant(state.order, dtype)
        equation = Equation(prediction, psi, c, weights, tolerance, floor, contraction, expected)
        if field.layout.momentum is None:
            return equation
        return equation.without_velocity(field.friction(prediction))


def _attempt(equation: Equation, field, refreshed, state: BDFState):
    """The iteration with the curvature at hand, and once more with fresh curvature if it fails.

    Args:
        equation: what is solved.
        field: the field.
        refreshed: (curvature, a direction, whether it is wanted) -> fresh curvature, products.
        state: the memory for this step.

    Returns:
        The iteration, and whether its curvature is fresh.
    """

    # The retry is made here: diffrax rolls the memory back when a step is rejected, and a fresh
    # model would be lost with it.
    def goes_on(now):
        return ~now[0].converged & (now[1] < 2)

    def attempt(now):
        last, tries = now
        # What has converged is here only because another flow, side by side with it, has not.
        fresh = ((tries == 1) | (last.curvature.krylov.size == 0)) & ~last.converged
        kept, renew = last.curvature, lambda: refreshed(last.curvature, last.step, fresh)
        curvature, used = where_any(fresh, renew, (kept, jnp.zeros((), int)))
        rate = jnp.where(fresh, 1.0, last.rate)
        new = newton.solve(equation, field.of, field.product, curvature, rate, fresh)
        total = eqx.tree_at(
            lambda i: (i.evaluations, i.products),
            new,
            (new.evaluations + last.evaluations, new.products + last.products + used),
        )
        return total, jnp.where(fresh, 2, tries + 1).astype(int)

    # The last increment is rich in the directions that a first model should know.
    increment = state.differences[1, : equation.weights.size]
    first = newton.start(equation, state.curvature, state.rate, increment)
    last, tries = jax.lax.while_loop(goes_on, attempt, (first, jnp.zeros((), int)))
    return last, tries == 2


def _at_step(state: BDFState, step) -> BDFState:
    factor = step / state.step
    same = jnp.abs(factor - 1) < jnp.sqrt(jnp.finfo(step.dtype).eps)
    # A polynomial of high degree says nothing so far ahead.
    order = jnp.where(factor > FAR, 1, state.order)
    differences = rescaled(state.differences, order, factor)
    return eqx.tree_at(
        lambda s: (s.differences, s.step, s.order, s.equal, s.rate),
        state,
        (
            differences,
            step,
            order,
            jnp.where(same, state.equal, 0),
            # What B leaves out contracts in proportion to h.
            jnp.clip(state.rate * jnp.maximum(factor, 1), BEST_RATE, 1),
        ),
    )

"""RKC2: the second-order Runge-Kutta-Chebyshev method for real, mostly negative spectra."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, cast

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, Bool, Float, Int, PyTree

from .lanczos import Krylov, Operator, Vector, generic_vector, ritz
from .pace import HOPELESS_IF_STABLE
from .parts import Rate, Select, curvature_operator, flow_part, live_part, rate_of
from .predictive import Estimate, PredictiveController
from .spectral import lanczos
from .tolerances import check_controller, not_yet
from .work import Halt, StepReport, Work, WorkController

# w_0 - 1 = DAMPING / s^2: all stages but the first are damped to about 1 - DAMPING / 3.
DAMPING = 2 / 13
# An estimate of the radius costs about ten evaluations; one in a hundred is not felt.
_ESTIMATE_AFTER = 100
_PRODUCTS = 16
_ACCURACY = 0.1
_SAFETY = 1.02
_MAX_STAGES = 20_000
_MAX_STAGES_SINGLE = 400


class Curvature(eqx.Module):
    """What is known of the largest eigenvalue of -J.

    Attributes:
        radius: an upper bound, with safety.
        vector: the Ritz vector, where the next estimate starts.
        age: evaluations since the estimate; negative before the first.
        symmetric: whether J has shown itself symmetric.
    """

    radius: Float[Array, ""]
    vector: Float[Array, " P"]
    age: Int[Array, ""]
    symmetric: Bool[Array, ""]


class RKCState(eqx.Module):
    """Memory between steps.

    Attributes:
        rate: the field at the start of the next step.
        curvature: what is known of the spectrum.
    """

    rate: PyTree
    curvature: Curvature


class _Attempt(eqx.Module):
    """One try of a step; a second one follows if the radius proves too small."""

    curvature: Curvature
    estimate: Bool[Array, ""]
    probe: Float[Array, " P"]
    increment: PyTree
    rate: PyTree
    limit: Float[Array, ""]
    work: Work
    tries: Int[Array, ""]


class RKC2(diffrax.AbstractAdaptiveSolver[RKCState], diffrax.AbstractImplicitSolver[RKCState]):
    """Second-order Runge-Kutta-Chebyshev with as many stages as stability asks for.

    s stages are stable for h rho <= 0.653 (s^2 - 1), rho the spectral radius: the cost per unit of
    time falls like sqrt(rho / h), against rho for other explicit methods. The spectrum must be
    near the real axis, as that of a gradient flow is: -J = H is symmetric. Negative curvature is
    integrated as growth. Memory: a dozen vectors; no linear algebra; kinks do no harm.

    rho comes from a few warm-started Lanczos steps on exact products with J. It is estimated anew
    after a hundred evaluations, or when |F(y_1) - F(y_0)| / |y_1 - y_0| exceeds it, in which case
    the step is repeated at once (all of it is counted). A step that would need more than
    `max_stages` stages is refused and shortened.

    Error estimate: 0.8 (y_0 - y_1) + 0.4 h (F_0 + F_1), O(h^3). Dense output: cubic Hermite.
    Cost per step: s evaluations. Rounding: stages are kept as increments of increments, so that
    s eps, not s^2 eps, appears, relative to y_1 - y_0 only; but the error estimate sees h times the
    rounding of F, so that steps stay below about rtol / (rho eps) for states of size 1: in float32
    tolerances below 1e-4 are met at more cost, and those below 1e-5 hardly.

    Source: Sommeijer, Shampine, Verwer, RKC: an explicit solver for parabolic PDEs, J. Comput.
    Appl. Math. 88 (1998); the coefficients are (2.3)-(2.7) there.

    Attributes:
        live: how many leading coordinates of the flow's part count, the others being zeros that
            never move; None for all.
        select: state -> the part that flows by itself, see `flowlift.solvers.parts`; None for all.
        radius: None, or (t, y, args) -> an upper bound of rho, where one is known.
        max_stages: the cap of s; None means 20000 in float64 and 400 in float32, where rounding
            would spoil more.
        root_finder: the controller's tolerances, filled by diffrax; only to know the controller.
    """

    select: Select | None = eqx.field(static=True, default=None)
    radius: Callable[..., Float[Array, ""]] | None = None
    live: Int[Array, ""] | None = None
    max_stages: int | None = eqx.field(static=True, default=None)
    root_finder: Any = eqx.field(default_factory=not_yet)

    term_structure: ClassVar[Any] = diffrax.ODETerm
    interpolation_cls: ClassVar[Any] = diffrax.ThirdOrderHermitePolynomialInterpolation

    @property
    def root_find_max_steps(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """None is made: the name is diffrax's."""
        return 0

    @staticmethod
    def default_controller(rtol, atol, norm=optx.rms_norm, **options) -> WorkController:
        """The controller to pass to `diffrax.diffeqsolve` with this solver.

        Args:
            rtol: relative tolerance.
            atol: absolute tolerance.
            norm: of the scaled error.
            options: further arguments of `WorkController`.

        Returns:
            The controller; its state, saved by `SaveAt(controller_state=True)`, holds true counts
            of work, and the `Halt` if diffrax's result is `dt_min_reached`.
        """
        settings = {"startup": 2, "patience": HOPELESS_IF_STABLE} | options
        return cast(Any, WorkController)(PredictiveController(rtol, atol, norm), **settings)

    def order(self, terms) -> int:
        """2."""
        return 2

    def error_order(self, terms) -> int:
        """3, that of the estimate itself."""
        return 3

    def init(self, terms, t0, t1, y0, args) -> RKCState:
        """No work: it is done in the first step, where it is counted."""
        check_controller(self, PredictiveController)
        part = flow_part(self.select, y0)
        vector = live_part(generic_vector(part.size, part.dtype), self.live)
        zero = jnp.zeros((), part.dtype)
        curvature = Curvature(zero, vector, jnp.full((), -1, int), jnp.asarray(True))
        return RKCState(jax.tree.map(jnp.zeros_like, y0), curvature)

    def func(self, terms, t0, y0, args):
        """The field."""
        return terms.vf(t0, y0, args)

    def step(self, terms, t0, t1, y0, args, solver_state: RKCState, made_jump):
        """One step of s stages, s from h rho."""
        curvature, h = solver_state.curvature, t1 - t0
        unknown = jnp.asarray(made_jump) | (curvature.age < 0)
        field = rate_of(terms, t0, t1, args)
        rate = jax.lax.cond(unknown, lambda: field(t0, y0), lambda: solver_state.rate)
        bound = None if self.radius is None else self.radius(t0, y0, args)
        last = self._attempts(field, t0, t1, y0, rate, bound, curvature)
        error = combine((-0.8, 0.4 * h, 0.4 * h), (last.increment, rate, last.rate))
        y1 = jax.tree.map(jnp.add, y0, last.increment)
        slopes = [combine((h,), (k,)) for k in (rate, last.rate)]
        dense = {"y0": y0, "y1": y1, "k0": slopes[0], "k1": slopes[1]}
        work = last.work + Work.of(unknown.astype(int))
        halt = jnp.where(last.curvature.symmetric, int(Halt.NONE), int(Halt.NOT_SYMMETRIC))
        report = StepReport(Estimate(error, last.limit), work, halt)
        return y1, report, dense, RKCState(last.rate, last.curvature), diffrax.RESULTS.successful

    def _attempts(self, field: Rate, t0, t1, y0, rate, bound, curvature: Curvature) -> _Attempt:
        first = _Attempt(
            curvature=curvature,
            estimate=(curvature.age < 0) | (curvature.age >= _ESTIMATE_AFTER),
            probe=jnp.zeros_like(curvature.vector),
            increment=y0,
            rate=rate,
            limit=t1 - t0,
            work=Work.of(),
            tries=jnp.asarray(0),
        )

        def going(attempt: _Attempt):
            return (attempt.tries == 0) | (attempt.estimate & (attempt.tries < 2))

        def attempt(before: _Attempt) -> _Attempt:
            return self._attempt(field, t0, t1, y0, rate, bound, before)

        return jax.lax.while_loop(going, attempt, first)

    def _attempt(self, field: Rate, t0, t1, y0, rate, bound, before: _Attempt) -> _Attempt:
        curvature, products = self._curvature(field, t0, y0, bound, before)
        radius, h = curvature.radius, t1 - t0
        cap = self._cap(radius.dtype)
        limit = longest_step(cap, radius).astype(h.dtype)
        possible = h <= limit
        stages = jnp.where(possible, stages_needed(h * radius), 1).astype(int)
        increment, new_rate = chebyshev_step(field, t0, h, y0, rate, stages)
        probe = flow_part(self.select, jax.tree.map(jnp.subtract, new_rate, rate))
        exceeded = self._exceeded(y0, increment, probe, radius) & possible
        age = jnp.where(exceeded, _ESTIMATE_AFTER, curvature.age + stages)
        return _Attempt(
            curvature=dataclasses.replace(curvature, age=age),
            estimate=exceeded,
            probe=probe,
            increment=increment,
            rate=new_rate,
            limit=limit,
            work=before.work + Work.of(stages, products),
            tries=before.tries + 1,
        )

    def _exceeded(self, y0, increment, probe, radius) -> Bool[Array, ""]:
        """Whether the step itself shows a larger eigenvalue, beyond rounding."""
        if self.radius is not None:
            return jnp.asarray(False)
        moved = jnp.linalg.norm(flow_part(self.select, increment))
        noise = 100 * jnp.finfo(probe.dtype).eps * jnp.linalg.norm(flow_part(self.select, y0))
        return ~(jnp.linalg.norm(probe) <= radius * jnp.maximum(moved, noise))

    def _curvature(self, field: Rate, t0, y0, bound, before: _Attempt):
        """The curvature to step with, and the products it took."""
        old = before.curvature
        if bound is not None:
            radius = jnp.asarray(bound, old.radius.dtype)
            return dataclasses.replace(old, radius=radius), jnp.asarray(0)
        operator = curvature_operator(self.select, field, t0, y0)

        def estimate(_):
            # Symmetry shows in the second product.
            least = jnp.where(old.age < 0, 3, 1)
            start = _blend(old.vector, before.probe, self.live)
            new, spent = estimate_curvature(operator, start, least)
            return dataclasses.replace(new, symmetric=old.symmetric & new.symmetric), spent

        return jax.lax.cond(before.estimate, estimate, lambda _: (old, jnp.asarray(0)), None)

    def _cap(self, dtype) -> int:
        if self.max_stages is not None:
            return self.max_stages
        return _MAX_STAGES_SINGLE if jnp.finfo(dtype).bits < 64 else _MAX_STAGES


def chebyshev_step(
    field: Rate, t0, h, y0: PyTree, rate: PyTree, stages: Int[Array, ""]
) -> tuple[PyTree, PyTree]:
    """One step of s stages.

    On y' = lambda y, with z = h lambda,

        y_1 / y_0 = a_s + b_s T_s(w_0 + w_1 z),    w_0 = 1 + (2/13) / s^2.

    The stages are Y_j = y_0 + b_j E_j with E_j = E_{j-1} + G_j and

        G_j = G_{j-1} + 2 (w_0 - 1) E_{j-1} + (2 w_1 / b_{j-1}) h (F(Y_{j-1}) - a_{j-1} F_0),

    which is the method's three-term recurrence with its cancellation taken out.

    Args:
        field: (t, y) -> the rate.
        t0: time.
        h: the step.
        y0: the state.
        rate: the field at (t0, y0).
        stages: s >= 2; for s = 1 the first stage alone, which is no method.

    Returns:
        The increment y_1 - y_0, and the field at (t0 + h, y_1). Cost: s evaluations.
    """
    weights = _Weights.make(stages, jnp.asarray(h).dtype)
    first = combine((weights.w1 * h,), (rate,))

    def going(carry):
        return carry[0].index <= stages

    def stage(carry):
        weights, (e, growth), _, (c, c_growth), _ = carry
        increment = combine((weights.b,), (e,))
        slope = field(t0 + weights.b * c * h, jax.tree.map(jnp.add, y0, increment))
        new, twice, pull, shift = weights.next()
        coefficients = (1, twice, pull * h, -pull * shift * h)
        growth = combine(coefficients, (growth, e, slope, rate))
        c_growth = c_growth + twice * c + pull * (1 - shift)
        e = jax.tree.map(jnp.add, e, growth)
        return new, (e, growth), increment, (c + c_growth, c_growth), slope

    carry = (weights, (first, first), rate, (weights.w1, weights.w1), rate)
    # The last pass evaluates the field at y_1; what it makes of it is one stage too many.
    _, _, increment, _, new_rate = jax.lax.while_loop(going, stage, carry)
    return increment, new_rate


class _Weights(eqx.Module):
    """b_j and what it needs: T_j(w_0) and its derivatives, with their last increments.

    T_{j+1} - T_j = (T_j - T_{j-1}) + 2 (w_0 - 1) T_j, and likewise for T', T'': sums of positive
    terms, where the three-term recurrences would lose j^2 roundings.
    """

    excess: Float[Array, ""]
    w1: Float[Array, ""]
    index: Int[Array, ""]
    value: Float[Array, "3"]
    growth: Float[Array, "3"]
    b: Float[Array, ""]

    @staticmethod
    def make(stages: Int[Array, ""], dtype) -> "_Weights":
        """At stage 1, where b_1 = b_2."""
        s = stages.astype(dtype)
        excess = DAMPING / s**2
        root = jnp.sqrt(excess * (2 + excess))
        angle = s * jnp.log1p(excess + root)
        sinh, cosh = jnp.sinh(angle), jnp.cosh(angle)
        w1 = root**2 * sinh / (s * root * cosh - (1 + excess) * sinh)
        zero, one = jnp.zeros_like(s), jnp.ones_like(s)
        value, growth = jnp.stack([1 + excess, one, zero]), jnp.stack([excess, one, zero])
        return _Weights(excess, w1, jnp.asarray(1), value, growth, 1 / (4 * (1 + excess) ** 2))

    def next(self):
        """The weights at the next stage; 2 (w_0 - 1), 2 w_1 / b_j and a_j."""
        below = jnp.stack([jnp.zeros_like(self.b), self.value[0], 2 * self.value[1]])
        growth = self.growth + 2 * self.excess * self.value + 2 * below
        value = self.value + growth
        b = value[2] / value[1] ** 2
        new = _Weights(self.excess, self.w1, self.index + 1, value, growth, b)
        return new, 2 * self.excess, 2 * self.w1 / self.b, 1 - self.b * self.value[0]


def stages_needed(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """The least s >= 2 that is stable for h rho = z."""
    return jnp.maximum(2, 1 + jnp.floor(jnp.sqrt(1 + 1.54 * z)))


def longest_step(stages: int, radius: Float[Array, ""]) -> Float[Array, ""]:
    """The longest step that s stages can make."""
    floor = jnp.finfo(radius.dtype).tiny * stages**2
    return (stages**2 - 1) / (1.54 * jnp.maximum(radius, floor))


def estimate_curvature(
    operator: Operator, start: Vector, least: Int[Array, ""]
) -> tuple[Curvature, Int[Array, ""]]:
    """An upper estimate of the largest eigenvalue of H = -J, at least 0.

    Args:
        operator: v -> Hv.
        start: first direction.
        least: products to make at least.

    Returns:
        The largest Ritz value plus its residual, with a safety factor; and the products spent.
    """

    def settled(krylov: Krylov):
        pairs = ritz(krylov)
        top = krylov.size - 1
        small = pairs.residuals[top] <= _ACCURACY * jnp.abs(pairs.values[top])
        return small & (krylov.size >= least)

    krylov = lanczos(operator, start, _PRODUCTS, settled)
    pairs = ritz(krylov)
    top = krylov.size - 1
    radius = _SAFETY * jnp.maximum(pairs.values[top] + pairs.residuals[top], 0)
    vector = pairs.coordinates[:, top] @ krylov.basis[:-1]
    sound = jnp.isfinite(radius)
    # What is not finite is left to the error control, which sees it too.
    curvature = Curvature(
        radius=jnp.where(sound, radius, 0),
        vector=jnp.where(sound, vector, start),
        age=jnp.asarray(0),
        symmetric=krylov.symmetric | ~sound,
    )
    return curvature, krylov.size


def combine(coefficients, trees) -> PyTree:
    """sum_i c_i y_i, each coefficient brought to the leaf's type."""

    def leaf(*leaves):
        return sum(jnp.asarray(c, x.dtype) * x for c, x in zip(coefficients, leaves, strict=True))

    return jax.tree.map(leaf, *trees)


def _blend(vector, probe, live):
    """The last Ritz vector, the change of the rate if finite, and a little of everything."""
    fresh = live_part(generic_vector(vector.size, vector.dtype), live)
    length = jnp.linalg.norm(probe)
    usable = jnp.isfinite(length) & (length > 0)
    start = vector + jnp.where(usable, probe / jnp.where(usable, length, 1), 0)
    return start + 0.1 * fresh / jnp.linalg.norm(fresh)

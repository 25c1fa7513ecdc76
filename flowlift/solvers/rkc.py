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

from ..numbers import plain
from ..showing import shows_itself
from .chebyshev import chebyshev_step, combine, longest_step, most_stages, stages_needed
from .lanczos import (
    Krylov,
    Operator,
    Vector,
    generic_vector,
    ritz,
    rounding_of_products,
)
from .lanes import where_any
from .pace import HOPELESS_IF_STABLE
from .parts import Rate, Select, curvature_operator, flow_part, live_part, rate_of
from .predictive import Estimate, PredictiveController
from .spectral import lanczos
from .tolerances import check_controller, not_yet
from .work import Halt, StepReport, Work, WorkController

# An estimate of the radius costs about ten evaluations; one in a hundred is not felt.
ESTIMATE_AFTER = 100
PRODUCTS = 16
# Begun with the old eigenvector, a space of one vector looks settled, and an eigenvalue that has
# overtaken the old one cannot show: steps were then rejected for thousands of evaluations.
LEAST_PRODUCTS = 4
ACCURACY = 0.1
SAFETY = 1.05
# Rounding of a state, in units in its last place, below which a step shows no eigenvalue.
NOISE = 100


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


@shows_itself
class RKC2(diffrax.AbstractAdaptiveSolver[RKCState], diffrax.AbstractImplicitSolver[RKCState]):
    """Second-order Runge-Kutta-Chebyshev with as many stages as stability asks for.

    s stages are stable for h rho <= 0.653 (s^2 - 1), rho the spectral radius: the cost per unit of
    time falls like sqrt(rho / h), against rho for other explicit methods. The spectrum must be
    near the real axis, as that of a gradient flow is: -J = H is symmetric. Negative curvature is
    integrated as growth. Memory: a dozen vectors; no linear algebra; kinks do no harm.

    rho comes from a few warm-started Lanczos steps on exact products with J. It is estimated anew
    after a hundred evaluations, or when the step from y_0 to y_1 = y_0 + d itself shows more:
    <d, F(y_0) - F(y_1)> > rho |d|^2. Then it is repeated at once (all of it is counted). A step
    that would need more than `max_stages` stages is refused and shortened.

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

    select: Select | None = eqx.field(static=True, converter=plain, default=None)
    radius: Callable[..., Float[Array, ""]] | None = None
    live: Int[Array, ""] | None = None
    max_stages: int | None = eqx.field(static=True, converter=plain, default=None)
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
        rate = where_any(unknown, lambda: field(t0, y0), solver_state.rate)
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
            estimate=(curvature.age < 0) | (curvature.age >= ESTIMATE_AFTER),
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
        curvature, products = self._curvature(field, t0, y0, rate, bound, before)
        radius, h = curvature.radius, t1 - t0
        cap = most_stages(self.max_stages, radius.dtype)
        limit = longest_step(cap, radius).astype(h.dtype)
        possible = h <= limit
        stages = jnp.where(possible, stages_needed(h * radius), 1).astype(int)
        increment, new_rate = chebyshev_step(field, t0, h, y0, rate, stages)
        probe = flow_part(self.select, jax.tree.map(jnp.subtract, new_rate, rate))
        exceeded = self._exceeded(y0, increment, probe, radius) & possible
        age = jnp.where(exceeded, ESTIMATE_AFTER, curvature.age + stages)
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
        moved = flow_part(self.select, increment)
        return shows_more(moved, probe, radius, jnp.linalg.norm(flow_part(self.select, y0)))

    def _curvature(self, field: Rate, t0, y0, rate, bound, before: _Attempt):
        """The curvature to step with, and the products it took."""
        old = before.curvature
        if bound is not None:
            radius = jnp.asarray(bound, old.radius.dtype)
            return dataclasses.replace(old, radius=radius), jnp.asarray(0)
        operator = curvature_operator(self.select, field, t0, y0)

        def estimate():
            start = _blend(old.vector, before.probe, self.live)
            rounding = rounding_of_products(*(flow_part(self.select, x) for x in (rate, y0)))
            new, spent = estimate_curvature(operator, start, rounding, before.estimate)
            return dataclasses.replace(new, symmetric=old.symmetric & new.symmetric), spent

        return where_any(before.estimate, estimate, (old, jnp.zeros((), int)))


def shows_more(moved: Vector, probe: Vector, radius, size) -> Bool[Array, ""]:
    """Whether a step shows a larger eigenvalue of H than is known, beyond rounding.

    With d = y_1 - y_0 and F(y_1) - F(y_0) = -H d, H taken along the step, the Rayleigh quotient
    <d, H d> / |d|^2 is at most the largest eigenvalue. Negative curvature, whose growth the step
    integrates, makes it smaller, where |H d| / |d| would call it a larger radius.

    Args:
        moved: d.
        probe: F(y_1) - F(y_0).
        radius: the bound.
        size: |y_0|.

    Returns:
        The verdict; true where anything is no number.
    """
    length = jnp.linalg.norm(moved)
    limits = jnp.finfo(moved.dtype)
    # A direction first: squares of long steps overflow.
    along = -jnp.vdot(moved / jnp.maximum(length, limits.tiny), probe)
    return ~(along <= radius * jnp.maximum(length, NOISE * limits.eps * size))


def estimate_curvature(
    operator: Operator,
    start: Vector,
    rounding: Float[Array, ""] | float = 0.0,
    wanted: Bool[Array, ""] | bool = True,
) -> tuple[Curvature, Int[Array, ""]]:
    """An upper estimate of the largest eigenvalue of H = -J, at least 0.

    Args:
        operator: v -> Hv.
        start: first direction.
        rounding: the size up to which products are no evidence against symmetry.
        wanted: whether it is used: no more than one product is made where it is not.

    Returns:
        The largest Ritz value plus its residual, with a safety factor; and the products spent.
    """

    def settled(krylov: Krylov):
        pairs = ritz(krylov)
        top = krylov.size - 1
        small = pairs.residuals[top] <= ACCURACY * jnp.abs(pairs.values[top])
        return (small & (krylov.size >= LEAST_PRODUCTS)) | jnp.logical_not(wanted)

    krylov = lanczos(operator, start, PRODUCTS, settled)
    pairs = ritz(krylov)
    top = krylov.size - 1
    radius = SAFETY * jnp.maximum(pairs.values[top] + pairs.residuals[top], 0)
    vector = krylov.combined(pairs.coordinates[:, top])
    sound = jnp.isfinite(radius)
    # What is not finite is left to the error control, which sees it too.
    curvature = Curvature(
        radius=jnp.where(sound, radius, 0),
        vector=jnp.where(sound, vector, start),
        age=jnp.asarray(0),
        symmetric=krylov.symmetric_beside(jnp.asarray(rounding, radius.dtype)) | ~sound,
    )
    return curvature, krylov.size


def _blend(vector, probe, live):
    """The last Ritz vector, the change of the rate if finite, and a little of everything."""
    fresh = live_part(generic_vector(vector.size, vector.dtype), live)
    length = jnp.linalg.norm(probe)
    usable = jnp.isfinite(length) & (length > 0)
    start = vector + jnp.where(usable, probe / jnp.where(usable, length, 1), 0)
    return start + 0.1 * fresh / jnp.linalg.norm(fresh)

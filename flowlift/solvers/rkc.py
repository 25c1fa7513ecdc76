"""RKC2: the second-order Runge-Kutta-Chebyshev method for real, mostly negative spectra."""

from collections.abc import Callable
from typing import Any, ClassVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from .parts import Select, curvature_operator, flow_part
from .predictive import Estimate
from .spectral import Krylov, generic_vector, is_symmetric, lanczos, ritz
from .work import Halt, StepReport, Work

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
    """

    radius: Float[Array, ""]
    vector: Float[Array, " P"]
    age: Int[Array, ""]


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


class RKC2(diffrax.AbstractAdaptiveSolver[RKCState]):
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
    Cost per step: s evaluations. Rounding: stages are kept as increments, so that errors of
    size s^2 eps appear relative to y_1 - y_0 only. The floor of the relative error is about
    1e-4 in float32 where the loss decays by algebraic laws, 1e-13 in float64.

    Source: Sommeijer, Shampine, Verwer, RKC: an explicit solver for parabolic PDEs, J. Comput.
    Appl. Math. 88 (1998); the coefficients are (2.3)-(2.7) there.

    Attributes:
        select: state -> the part that flows by itself, see `flowlift.solvers.parts`; None for all.
        radius: None, or (t, y, args) -> an upper bound of rho, where one is known.
        max_stages: the cap of s; None means 20000 in float64 and 400 in float32, where rounding
            would spoil more.
    """

    select: Select | None = eqx.field(static=True, default=None)
    radius: Callable[..., Float[Array, ""]] | None = None
    max_stages: int | None = eqx.field(static=True, default=None)

    term_structure: ClassVar[Any] = diffrax.ODETerm
    interpolation_cls: ClassVar[Any] = diffrax.ThirdOrderHermitePolynomialInterpolation

    def order(self, terms) -> int:
        """2."""
        return 2

    def error_order(self, terms) -> int:
        """3, that of the estimate itself."""
        return 3

    def init(self, terms, t0, t1, y0, args) -> RKCState:
        """One evaluation."""
        size = flow_part(self.select, y0)
        curvature = Curvature(
            jnp.zeros((), size.dtype), generic_vector(size.size, size.dtype), jnp.asarray(-1)
        )
        return RKCState(terms.vf(t0, y0, args), curvature)

    def func(self, terms, t0, y0, args):
        """The field."""
        return terms.vf(t0, y0, args)

    def step(self, terms, t0, t1, y0, args, solver_state: RKCState, made_jump):
        """One step of s stages, s from h rho."""
        curvature = solver_state.curvature
        rate = jax.lax.cond(
            made_jump, lambda: terms.vf(t0, y0, args), lambda: solver_state.rate
        )
        halt, checks = self._check_symmetry(terms, t0, y0, args, curvature)
        last = self._attempts(terms, t0, t1, y0, args, rate, curvature)
        h = t1 - t0
        error = combine((-0.8, 0.4 * h, 0.4 * h), (last.increment, rate, last.rate))
        y1 = jax.tree.map(jnp.add, y0, last.increment)
        slopes = [combine((h,), (k,)) for k in (rate, last.rate)]
        dense = dict(y0=y0, y1=y1, k0=slopes[0], k1=slopes[1])
        work = last.work + checks + Work.of(jnp.asarray(made_jump).astype(int))
        report = StepReport(Estimate(error, last.limit), work, halt)
        return y1, report, dense, RKCState(last.rate, last.curvature), diffrax.RESULTS.successful

    def _check_symmetry(self, terms, t0, y0, args, curvature: Curvature):
        """Once, at the start."""
        if self.radius is not None:
            return jnp.asarray(int(Halt.NONE)), Work.of()
        operator = curvature_operator(self.select, terms, t0, y0, args)
        fresh = curvature.age < 0
        sound = jax.lax.cond(
            fresh, lambda v: is_symmetric(operator, v), lambda v: jnp.asarray(True), curvature.vector
        )
        halt = jnp.where(sound, int(Halt.NONE), int(Halt.NOT_SYMMETRIC))
        return halt, Work.of(hvps=jnp.where(fresh, 2, 0))

    def _attempts(self, terms, t0, t1, y0, args, rate, curvature: Curvature) -> _Attempt:
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
            return self._attempt(terms, t0, t1, y0, args, rate, before)

        return jax.lax.while_loop(going, attempt, first)

    def _attempt(self, terms, t0, t1, y0, args, rate, before: _Attempt) -> _Attempt:
        curvature, products = self._curvature(terms, t0, y0, args, before)
        radius, h = curvature.radius, t1 - t0
        cap = self._cap(radius.dtype)
        needed = stages_needed(h * radius)
        stages = jnp.where(needed <= cap, needed, 1).astype(int)
        increment = chebyshev_increment(
            lambda t, y: terms.vf(t, y, args), t0, h, y0, rate, stages
        )
        new_rate = terms.vf(t1, jax.tree.map(jnp.add, y0, increment), args)
        probe = flow_part(self.select, jax.tree.map(jnp.subtract, new_rate, rate))
        exceeded = self._exceeded(y0, increment, probe, radius) & (needed <= cap)
        age = jnp.where(exceeded, _ESTIMATE_AFTER, curvature.age + stages)
        return _Attempt(
            curvature=Curvature(radius, curvature.vector, age),
            estimate=exceeded,
            probe=probe,
            increment=increment,
            rate=new_rate,
            limit=longest_step(cap, radius).astype(h.dtype),
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

    def _curvature(self, terms, t0, y0, args, before: _Attempt):
        """The curvature to step with, and the products it took."""
        old = before.curvature
        if self.radius is not None:
            radius = jnp.asarray(self.radius(t0, y0, args), old.radius.dtype)
            return Curvature(radius, old.vector, old.age), jnp.asarray(0)
        operator = curvature_operator(self.select, terms, t0, y0, args)

        def estimate(_):
            radius, vector, products = largest_eigenvalue(operator, _blend(old.vector, before.probe))
            return Curvature(radius, vector, jnp.asarray(0)), products

        return jax.lax.cond(before.estimate, estimate, lambda _: (old, jnp.asarray(0)), None)

    def _cap(self, dtype) -> int:
        if self.max_stages is not None:
            return self.max_stages
        return _MAX_STAGES_SINGLE if jnp.finfo(dtype).bits < 64 else _MAX_STAGES


def chebyshev_increment(
    field: Callable[..., PyTree], t0, h, y0: PyTree, rate: PyTree, stages: Int[Array, ""]
) -> PyTree:
    """y_1 - y_0 after one step of s stages. On y' = lambda y, with z = h lambda,

        y_1 / y_0 = a_s + b_s T_s(w_0 + w_1 z),    w_0 = 1 + (2/13) / s^2.

    Args:
        field: (t, y) -> the rate.
        t0: time.
        h: the step.
        y0: the state.
        rate: the field at (t0, y0).
        stages: s >= 2; for s = 1 the first stage alone, which is no method.

    Returns:
        The increment. Cost: s - 1 evaluations.
    """
    w = _Weights.make(stages, jnp.asarray(h).dtype)
    first = combine((w.first * h,), (rate,))

    def going(carry):
        return carry[0].index < stages

    def stage(carry):
        w, (later, earlier), (c_later, c_earlier) = carry
        new, (mu, nu, step, shift) = w.next()
        slope = field(t0 + c_later * h, jax.tree.map(jnp.add, y0, later))
        increment = combine(
            (mu, nu, step * h, -step * shift * h), (later, earlier, slope, rate)
        )
        c = mu * c_later + nu * c_earlier + step * (1 - shift)
        return new, (increment, later), (c, c_later)

    none = jax.tree.map(jnp.zeros_like, y0)
    carry = (w, (first, none), (w.first, jnp.zeros_like(w.first)))
    return jax.lax.while_loop(going, stage, carry)[1][0]


class _Weights(eqx.Module):
    """T_j(w_0) and its derivatives, with their last increments: sums of positive terms only.

    T_{j+1} - T_j = (T_j - T_{j-1}) + 2 (w_0 - 1) T_j, and likewise for T', T''.
    """

    excess: Float[Array, ""]
    w1: Float[Array, ""]
    index: Int[Array, ""]
    value: Float[Array, "3"]
    growth: Float[Array, "3"]
    b: Float[Array, ""]
    b_before: Float[Array, ""]

    @staticmethod
    def make(stages: Int[Array, ""], dtype) -> "_Weights":
        """At stage 1."""
        s = stages.astype(dtype)
        excess = DAMPING / s**2
        root = jnp.sqrt(excess * (2 + excess))
        angle = s * jnp.log1p(excess + root)
        sinh, cosh = jnp.sinh(angle), jnp.cosh(angle)
        w1 = root**2 * sinh / (s * root * cosh - (1 + excess) * sinh)
        zero, one = jnp.zeros_like(s), jnp.ones_like(s)
        value = jnp.stack([1 + excess, one, zero])
        b = 1 / (4 * (1 + excess) ** 2)
        return _Weights(
            excess, w1, jnp.asarray(1), value, jnp.stack([excess, one, zero]), b, b
        )

    @property
    def first(self) -> Float[Array, ""]:
        """mu~_1."""
        return self.b * self.w1

    def next(self):
        """The weights at the next stage, and its mu, nu, mu~ and a."""
        below = jnp.stack([jnp.zeros_like(self.b), self.value[0], 2 * self.value[1]])
        growth = self.growth + 2 * self.excess * self.value + 2 * below
        value = self.value + growth
        b = value[2] / value[1] ** 2
        step = 2 * b / self.b
        coefficients = (
            step * (1 + self.excess),
            -b / self.b_before,
            step * self.w1,
            1 - self.b * self.value[0],
        )
        new = _Weights(self.excess, self.w1, self.index + 1, value, growth, b, self.b)
        return new, coefficients


def stages_needed(z: Float[Array, ""]) -> Float[Array, ""]:
    """The least s >= 2 that is stable for h rho = z."""
    return jnp.maximum(2, 1 + jnp.floor(jnp.sqrt(1 + 1.54 * z)))


def longest_step(stages: int, radius: Float[Array, ""]) -> Float[Array, ""]:
    """The longest step that s stages can make, a little less for rounding."""
    floor = jnp.finfo(radius.dtype).tiny * stages**2
    return 0.99 * (stages**2 - 1) / (1.54 * jnp.maximum(radius, floor))


def largest_eigenvalue(operator, start):
    """An upper estimate of the largest eigenvalue of H = -J, at least 0.

    Args:
        operator: v -> Hv.
        start: first direction.

    Returns:
        The largest Ritz value with its residual and a safety factor, its Ritz vector, and the
        products spent.
    """

    def settled(krylov: Krylov):
        pairs = ritz(krylov)
        top = krylov.size - 1
        return pairs.residuals[top] <= _ACCURACY * jnp.abs(pairs.values[top])

    krylov = lanczos(operator, start, _PRODUCTS, settled)
    pairs = ritz(krylov)
    top = krylov.size - 1
    radius = _SAFETY * jnp.maximum(pairs.values[top] + pairs.residuals[top], 0)
    vector = pairs.coordinates[:, top] @ krylov.basis[:-1]
    sound = jnp.isfinite(radius)
    return jnp.where(sound, radius, 0), jnp.where(sound, vector, start), krylov.size


def combine(coefficients, trees) -> PyTree:
    """sum_i c_i y_i, each coefficient brought to the leaf's type."""

    def leaf(*leaves):
        return sum(
            jnp.asarray(c, x.dtype) * x for c, x in zip(coefficients, leaves, strict=True)
        )

    return jax.tree.map(leaf, *trees)


def _blend(vector, probe):
    """The last Ritz vector, the change of the rate if it is a finite one, a little of everything."""
    fresh = generic_vector(vector.size, vector.dtype)
    length = jnp.linalg.norm(probe)
    usable = jnp.isfinite(length) & (length > 0)
    start = vector + jnp.where(usable, probe / jnp.where(usable, length, 1), 0)
    return start + 0.1 * fresh / jnp.linalg.norm(fresh)

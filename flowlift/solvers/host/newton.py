"""The equation of an implicit step on the host: see `flowlift.solvers.newton` and `equation`.

Those are the reference. Both engines are kept apart on purpose, arrays of NumPy here and programs
of JAX there, and tests hold them to the same counts and numbers.
"""

import dataclasses
import math

import numpy as np

from ..newton import (
    CG_RELATIVE,
    CG_TOLERANCE,
    CHORD_SLOW,
    FALL,
    LEFT,
    MAX_CG,
    MAX_ITERATIONS,
    SLOW,
)
from .curvature import Curvature, Learner
from .stepping import HostField, Vector


@dataclasses.dataclass(frozen=True)
class Velocity:
    """The velocity that left the equation: see `flowlift.solvers.equation.Velocity`."""

    scale: float
    friction: float
    psi: Vector

    def at(self, correction: Vector, prediction: Vector) -> Vector:
        """The correction of the velocity that belongs to one of theta.

        Args:
            correction: d, (P,).
            prediction: that of the whole state.

        Returns:
            (P,).
        """
        n = correction.size
        return (correction + self.psi) / self.scale - prediction[n : 2 * n]


@dataclasses.dataclass(frozen=True)
class Equation:
    """d = c f(prediction + d) - psi, for the whole vector; f depends on its first n components.

    Attributes:
        field: f, and how many components count in norms.
        prediction: (N,).
        psi: (N,).
        c: h / alpha; where there is a velocity, that of the equation of theta.
        weights: (live,); a correction is measured by the root mean square of its ratio to them.
        tolerance: largest error of d in that measure.
        floor: corrections below it are rounding errors.
        contraction: how fast the chord iteration should contract, in (0, 1].
        expected: norm of the largest d of a step that will be accepted.
    """

    field: HostField
    prediction: Vector
    psi: Vector
    c: float
    weights: Vector
    tolerance: float
    floor: float
    contraction: float
    expected: float
    velocity: Velocity | None = None

    def without(self, friction: float) -> "Equation":
        """The equation of theta alone, where theta' = v and v' = F - g v.

        Args:
            friction: g at the end of the step.

        Returns:
            The equation.
        """
        n, k = self.field.size(self.prediction), self.c
        damped, moving = 1 + k * friction, self.prediction[n : 2 * n] - self.psi[n : 2 * n]
        psi = self.psi.copy()
        psi[:n] -= k / damped * moving
        velocity = Velocity(k, friction, self.psi[:n])
        return dataclasses.replace(self, c=k * k / damped, psi=psi, velocity=velocity)

    def start(self) -> Vector:
        """The correction to begin with: none of theta."""
        correction = np.zeros_like(self.prediction)
        if self.velocity is not None:
            n = self.velocity.psi.size
            correction[n : 2 * n] = self.velocity.at(correction[:n], self.prediction)
        return correction

    def evaluated(self, point: Vector) -> tuple[Vector, Vector]:
        """One evaluation of the field.

        Args:
            point: the prediction and a correction.

        Returns:
            F there, (P,); and c f - psi, the correction that it asks for, (N,).
        """
        rates, n = self.field.rates(point)[1], self.field.size(point)
        if self.velocity is None:
            target = self.c * rates
            target -= self.psi
            return rates[:n], target
        force = rates[n : 2 * n] + self.velocity.friction * point[n : 2 * n]
        target = self.velocity.scale * rates
        target -= self.psi
        target[:n] = self.c * force - self.psi[:n]
        return force, target

    def norm(self, vector: Vector) -> float:
        """Root mean square of v / weights."""
        return scaled_norm(vector, self.weights)


@dataclasses.dataclass
class Iteration:
    """The iteration, changed as it goes on; its arrays are replaced, never written.

    Attributes:
        correction: d (N,).
        curvature: the model of H.
        step: the last correction of d, its coupled part (n,).
        size: norm of the last step; infinite if it, or the field before it, was not finite.
        rate: estimate of the contraction; 1 where unknown.
        evaluations: evaluations of f, all tries together.
        products: Hessian-vector products, likewise.
        converged: whether d is accurate.
        fresh: whether B was made for this step.
    """

    correction: Vector
    curvature: Curvature
    step: Vector
    size: float
    rate: float
    evaluations: int
    products: int
    converged: bool
    fresh: bool = False

    def solve(self, equation: Equation, curvature: Curvature, rate: float, fresh: bool) -> None:
        """Chord iteration, B taught by each step's gradients; conjugate gradients where it is slow.

        Args:
            equation: what is solved.
            curvature: B.
            rate: contraction of earlier solves with the same B; 1 where unknown.
            fresh: whether B was made for this step.
        """
        one_try = _Try(equation, curvature, rate, not fresh and rate > CHORD_SLOW)
        one_try.run()
        self.correction, self.curvature = one_try.correction, one_try.learnt
        self.step, self.size, self.rate = one_try.step, one_try.size, one_try.rate
        self.evaluations += one_try.evaluations
        self.products += one_try.products
        self.converged, self.fresh = one_try.converged, fresh


class _Try:
    """One solve from d = 0."""

    def __init__(self, equation: Equation, curvature: Curvature, rate: float, stale: bool) -> None:
        self.equation, self.model = equation, Learner(curvature, equation.c)
        self.affordable, self.wanting = curvature.affordable, curvature.wanting
        self.stale, self.conjugate = stale, False
        self.correction = equation.start()
        self.n = equation.field.size(equation.prediction)
        self.step = self.known = self.force = np.zeros_like(self.correction[: self.n])
        self.size, self.rate = 1.0, rate
        self.evaluations = self.products = 0
        self.converged = self.indefinite = False

    @property
    def learnt(self) -> Curvature:
        """The model with what was learnt and spent."""
        model = self.model.curvature
        if not self.products:
            return model
        return dataclasses.replace(model, spent=model.spent + self.products)

    def run(self) -> None:
        """Iterate until it has converged or is given up."""
        failed = False
        while not self.converged and not failed and self.evaluations < MAX_ITERATIONS:
            failed = self._iterate()

    def _iterate(self) -> bool:
        """One iteration; whether it is given up."""
        equation, again = self.equation, self.evaluations > 0
        point = equation.prediction + self.correction
        force, target = equation.evaluated(point)
        # H times the step before.
        image = self.force - force
        if again:
            self.model.learn(self.step, self.known, image)
        n = self.n
        residual = target[:n] - self.correction[:n]
        step, known = self.model.inverse(residual)
        size, left = equation.norm(step), equation.norm(residual)
        before, stays = self.conjugate, self.conjugate and self.wanting
        self.conjugate = stays or (self.affordable and self._slow(size, left))
        if self.conjugate:
            step, known = self._conjugate_gradients(point, residual, step, known)
            size = equation.norm(step)
        small, slow = self._verdict(size, left, residual, image, before)
        if self.conjugate:
            # That of chord steps is unknown now.
            self.rate = 1.0
        # The last of the rates, |grad L|^2 or <grad L, -theta'>, is finite only where all are.
        finite = math.isfinite(size) and math.isfinite(target[-1])
        failed = slow or not finite or (self.indefinite and not small)
        if not failed:
            target[:n] = self.correction[:n] + step
            if equation.velocity is not None:
                target[n : 2 * n] = equation.velocity.at(target[:n], equation.prediction)
            self.correction = target
        self.step, self.known, self.force = step, known, force
        self.size = size if finite else math.inf
        self.evaluations += 1
        self.converged = finite and small
        return failed

    def _slow(self, size: float, left: float) -> bool:
        """Whether chord steps, by the size of one and the residual left, show they will not do."""
        equation = self.equation
        # What is not finite, and what is only rounding, is not worth a product.
        if not (math.isfinite(size) and left > equation.floor):
            return False
        if self.evaluations:
            shown = quotient(size, self.size) > CHORD_SLOW
        else:
            # So long a first step follows a direction that B does not know.
            shown = size > equation.expected
        nearly = self.rate * size < (1 - self.rate) * equation.tolerance
        return shown or (self.stale and not nearly)

    def _verdict(
        self, size: float, left: float, residual: Vector, image: Vector, before: bool
    ) -> tuple[bool, bool]:
        """Takes the contraction from a new step; whether it was the last, and whether in vain."""
        equation, again = self.equation, self.evaluations > 0
        ratio = quotient(size, self.size)
        # Steps of two kinds say nothing about either.
        comparable = again and before == self.conjugate
        rate = 1.0
        if comparable:
            rate = max(ratio, FALL * self.rate) if self.rate < 1 and not before else ratio
        if not self.conjugate:
            rate = self.rate = rate if comparable else self.rate
        tolerance = equation.tolerance
        explained = again or left <= 2 * self.model.stiffest * size + tolerance
        small = rate < 1 and rate * size < (1 - rate) * tolerance and explained
        if again:
            small = small or (self.conjugate and LEFT * size < tolerance)
            small = small or (size <= equation.floor and ratio < SLOW)
        idle = again and self._idle(residual, image)
        # Rounding shows in the residual itself.
        small = left <= equation.floor or (small and not idle)
        return small, comparable and (ratio >= SLOW or idle) and not small

    def _idle(self, residual: Vector, image: Vector) -> bool:
        """Whether the step before has left the residual as it was."""
        norm = self.equation.norm
        # (I + c H) of that step.
        undone = self.step + self.equation.c * image
        return norm(undone) < (1 - SLOW) * norm(residual + undone)

    def _conjugate_gradients(
        self, point: Vector, residual: Vector, chord: Vector, known: Vector
    ) -> tuple[Vector, Vector]:
        """The step by conjugate gradients, stopped on negative curvature, and B times it.

        Their products teach B, but the preconditioner stays what it was at the beginning.

        Args:
            point: the state where H is taken.
            residual: the right-hand side.
            chord: the chord step, with which it begins.
            known: B times it.

        Returns:
            The step, which is the chord step where nothing better is found, and B times it.
        """
        equation, model = self.equation, self.model
        at = equation.field.at(point)
        x, r, z, p, rz = np.zeros_like(chord), residual, chord, chord, float(residual @ chord)
        least, pairs = CG_TOLERANCE * equation.tolerance, []
        for _ in range(MAX_CG):
            if equation.norm(z) < max(least, CG_RELATIVE * equation.norm(x)):
                break
            curvature = equation.field.product(at, p)
            image = p + equation.c * curvature
            self.products += 1
            pairs.append((p, curvature))
            curved = float(p @ image)
            if not (curved > 0 and math.isfinite(curved)):
                self.indefinite = True
                break
            a = rz / curved
            x, r = x + a * p, r - a * image
            z, _ = model.inverse(r)
            before, rz = rz, float(r @ z)
            p = z + quotient(rz, before) * p
        for direction, curvature in pairs:
            model.learn(direction, model.product(direction), curvature)
        return (x, model.product(x)) if np.any(x != 0) else (chord, known)


def scaled_norm(vector: Vector, weights: Vector) -> float:
    """Root mean square of v / weights over the coordinates that have one.

    Args:
        vector: (n,), n at least that of the weights.
        weights: (live,).

    Returns:
        The norm.
    """
    ratios = vector[: weights.size] / weights
    return math.sqrt(float(ratios @ ratios) / weights.size)


def quotient(a: float, b: float) -> float:
    """a / b by the rules of floating-point numbers, where Python raises."""
    if b:
        return a / b
    return math.nan if a == 0 or math.isnan(a) else math.copysign(math.inf, a)

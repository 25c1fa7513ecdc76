"""What RKC2 knows at the start of a step, on the host: the rates, and a bound of the spectrum."""

import dataclasses
import math

import jax
import numpy as np

from ..rkc import ACCURACY, ESTIMATE_AFTER, LEAST_PRODUCTS, NOISE, PRODUCTS, SAFETY
from .krylov import Krylov, generic_vector, norm, ritz, rounding_of_products
from .predictive import Trend
from .stepping import HostField, Vector


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Memory:
    """What is kept between steps.

    Attributes:
        rates: dy/dt at the state.
        radius: an upper bound of the largest eigenvalue of H, with safety.
        vector: the Ritz vector, where the next estimate starts.
        age: evaluations since the estimate; negative before the first, when only the vector here
            means anything.
        trend: the last accepted step.
    """

    rates: Vector
    radius: float
    vector: Vector
    age: int
    trend: Trend

    @staticmethod
    def first(y: Vector, size: int, live: int) -> "Memory":
        """Before the first step.

        Args:
            y: the state.
            size: P.
            live: how many coordinates of theta count.

        Returns:
            The memory.
        """
        vector = _generic(size, live, y.dtype)
        return Memory(np.zeros_like(y), 0.0, vector, -1, Trend(0.0, 0.0))


@dataclasses.dataclass(frozen=True)
class Ready:
    """What a try of a step begins with.

    Attributes:
        memory: the memory, with rates and a radius.
        symmetric: whether H has shown itself symmetric.
        second: whether a first try showed a larger radius than was known.
        gradients: evaluations that this took.
        products: Hessian-vector products that it took.
    """

    memory: Memory
    symmetric: bool
    second: bool
    gradients: int
    products: int

    @property
    def estimated(self) -> bool:
        """Whether the radius was estimated for this step."""
        return self.products > 0

    @staticmethod
    def of(field: HostField, y: Vector, memory: Memory) -> "Ready":
        """For the first try: the radius is estimated if it is old. One gradient at the very start.

        Args:
            field: the flow.
            y: the state.
            memory: the method's memory there.

        Returns:
            What the try begins with.
        """
        gradients = 0
        if memory.age < 0:
            memory, gradients = dataclasses.replace(memory, rates=field.rates(y)[1]), 1
        known = Ready(memory, True, False, gradients, 0)
        return known._estimated(field, y, None) if not 0 <= memory.age < ESTIMATE_AFTER else known

    def again(self, field: HostField, y: Vector, probe: Vector) -> "Ready":
        """For the second try, after one that showed a larger radius.

        Args:
            field: the flow.
            y: the state.
            probe: the change of -grad L over the first.

        Returns:
            What it begins with; the work is that of both.
        """
        aged = dataclasses.replace(self.memory, age=ESTIMATE_AFTER)
        return dataclasses.replace(self, memory=aged, second=True)._estimated(field, y, probe)

    def _estimated(self, field: HostField, y: Vector, probe: Vector | None) -> "Ready":
        memory = self.memory
        start = _blend(memory.vector, probe, field.live)

        def settled(krylov: Krylov) -> bool:
            pairs = ritz(krylov)
            small = pairs.residuals[-1] <= ACCURACY * abs(pairs.values[-1])
            return bool(small) and krylov.size >= LEAST_PRODUCTS

        theta, at = y[: field.size(y)], field.at(y)
        begun = Krylov.empty(min(PRODUCTS, theta.size), start).restarted(start)
        krylov = begun.grown(lambda v: field.product(at, v), settled)
        radius, vector = _top(krylov)
        rounding = rounding_of_products(memory.rates[: theta.size], theta)
        sound = math.isfinite(radius)
        # What is not finite is left to the error control, which sees it too.
        new = {"radius": radius, "vector": vector} if sound else {"radius": 0.0, "vector": start}
        return Ready(
            memory=dataclasses.replace(memory, age=0, **new),
            symmetric=self.symmetric and (krylov.symmetric_beside(rounding) or not sound),
            second=self.second,
            gradients=self.gradients,
            products=self.products + krylov.size,
        )


def shows_more(moved: Vector, probe: Vector, radius: float, size: float) -> bool:
    """Whether a step shows a larger eigenvalue of H than is known, beyond rounding.

    Args:
        moved: d = y_1 - y_0.
        probe: F(y_1) - F(y_0).
        radius: the bound.
        size: |y_0|.

    Returns:
        As `flowlift.solvers.rkc.shows_more`.
    """
    length, limits = norm(moved), np.finfo(moved.dtype)
    along = -float((moved / max(length, float(limits.tiny))) @ probe)
    return not along <= radius * max(length, NOISE * float(limits.eps) * size)


def _top(krylov: Krylov) -> tuple[float, Vector]:
    """The largest Ritz value plus its residual, with safety, at least 0; and the Ritz vector."""
    pairs = ritz(krylov)
    top = float(pairs.values[-1]) + float(pairs.residuals[-1])
    # NaN stays NaN.
    radius = SAFETY * (0.0 if top < 0 else top)
    return radius, pairs.coordinates[:, -1] @ krylov.basis[: krylov.size]


def _blend(vector: Vector, probe: Vector | None, live: int) -> Vector:
    """The last Ritz vector, the change of the rate if finite, and a little of everything."""
    length = 0.0 if probe is None else norm(probe)
    if probe is not None and math.isfinite(length) and length > 0:
        vector = vector + probe / length
    fresh = _generic(vector.size, live, vector.dtype)
    return vector + 0.1 * fresh / norm(fresh)


def _generic(size: int, live: int, dtype) -> Vector:
    vector = generic_vector(size, dtype)
    vector[live:] = 0
    return vector

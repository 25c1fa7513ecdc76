"""E phi(u) phi(v) of two Gaussian numbers, in closed form, for erf and for polynomials."""

import abc
import dataclasses
import math

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..modules import HermiteSum

Numbers = Float[Array, "..."]


class AbstractGaussianKernel(abc.ABC):
    """(u, v) Gaussian of mean 0: a pointwise function phi and its E phi(u) phi(v)."""

    @property
    @abc.abstractmethod
    def function(self) -> object:
        """phi, as `Pointwise` names it."""

    @abc.abstractmethod
    def __call__(self, cross: Numbers, own: Numbers, other: Numbers) -> Numbers:
        """E phi(u) phi(v) from E u v, E u^2 and E v^2."""


@dataclasses.dataclass(frozen=True)
class ErfKernel(AbstractGaussianKernel):
    """phi(z) = erf(z / sqrt 2): (2 / pi) asin(c / sqrt((1 + a)(1 + b))) (Williams, NIPS 1996)."""

    @property
    def function(self) -> str:
        """erf(z / sqrt 2)."""
        return "erf_root2"

    def __call__(self, cross: Numbers, own: Numbers, other: Numbers) -> Numbers:
        """The arc sine, as an arc tangent: accurate also where the units are long and parallel."""
        rest = 1 + own + other + jnp.maximum(own * other - cross**2, 0)
        return 2 / math.pi * jnp.arctan2(cross, jnp.sqrt(rest))


@dataclasses.dataclass(frozen=True)
class PolynomialKernel(AbstractGaussianKernel):
    """phi a polynomial: a sum over pairs of powers (Isserlis 1918).

    With a = E u^2, b = E v^2, c = E u v and p = (m - j) / 2, q = (n - j) / 2 whole,

        E u^m v^n = sum_j m! n! / (j! p! q! 2^(p + q)) c^j a^p b^q.

    Attributes:
        coefficients: c_k of phi = sum_k c_k he_k, see `HermiteSum`.
    """

    coefficients: tuple[float, ...]

    @property
    def function(self) -> HermiteSum:
        """The sum of Hermite polynomials."""
        return HermiteSum(self.coefficients)

    def __call__(self, cross: Numbers, own: Numbers, other: Numbers) -> Numbers:
        """The sum over all pairs of powers."""
        powers, total = self.function.powers, jnp.zeros_like(cross + own + other)
        for m, left in enumerate(powers):
            for n, right in enumerate(powers):
                if left and right and (m + n) % 2 == 0:
                    total += left * right * _moment(m, n, cross, own, other)
        return total


def _moment(m: int, n: int, cross: Numbers, own: Numbers, other: Numbers) -> Numbers:
    """E u^m v^n, for m + n even."""
    total = jnp.zeros_like(cross + own + other)
    for j in range(m % 2, min(m, n) + 1, 2):
        p, q = (m - j) // 2, (n - j) // 2
        ways = math.factorial(m) * math.factorial(n) / math.factorial(j)
        ways /= math.factorial(p) * math.factorial(q) * 2 ** (p + q)
        total += ways * cross**j * own**p * other**q
    return total

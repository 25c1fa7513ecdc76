"""(I + c B)^-1 for one c, kept while B learns: no factorisation for a correction or a secant."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .curvature import Curvature
from .lanczos import Vector
from .lanes import where_any

# The update's eigenvalue is |w|^2 / omega. Where w and s are nearly orthogonal it is far too large,
# corrections in that direction are suppressed, and an error grows there unseen.
ALIGNED = 0.01
# Nor may a secant claim curvature beyond all that was seen: the jump of a gradient over a tiny step
# across a kink would suppress every later correction in its direction.
CREDIBLE = 100.0
# A secant whose c |w| is less than this part of |s| changes no iteration.
MATTERS = 1e-3
# I + c B must stay so definite along the new secant, relative to what it was.
DEFINITE = 0.1


class Learner(eqx.Module):
    """I + c B for one c, and its inverse, which a secant changes by a bordering.

    With the Ritz pairs in closed form, S_c = diag(c theta_+ / (1 + c theta_+)), the inverse needs
    that of the capacitance K = diag(omega) + c (W^T W - C^T S_c C), of the order of the number of
    secants. It is factorised once where c has changed; a secant in place of another replaces a row
    and a column of K, and so adds two terms of rank one to its inverse.

    Attributes:
        curvature: B, with K^-1.
        c: h / alpha.
        shrink: the diagonal of S_c.
    """

    curvature: Curvature
    c: Float[Array, ""]
    shrink: Float[Array, " capacity"]

    @staticmethod
    def of(curvature: Curvature, c: Float[Array, ""]) -> "Learner":
        """Begin with a model. Work: one inverse, where K^-1 is not known for this c.

        Args:
            curvature: B.
            c: h / alpha.

        Returns:
            The learner.
        """
        scaled = c * jnp.maximum(curvature.values, 0)
        shrink = scaled / (1 + scaled)
        # Without secants K is the identity, whatever c.
        known = (curvature.count == 0) | (curvature.scale == c)

        def inverted():
            coupling = curvature.coupling
            shrunk = (shrink[:, None] * coupling).T @ coupling
            capacitance = jnp.diag(curvature.strengths) + c * (curvature.gram - shrunk)
            return jnp.linalg.inv(capacitance)

        inner = where_any(~known, inverted, curvature.inner)
        kept = eqx.tree_at(lambda b: (b.inner, b.scale), curvature, (inner, c))
        return Learner(kept, c, shrink)

    def product(self, vector: Vector) -> Vector:
        """B v."""
        b = self.curvature
        secants = ((b.secants @ vector) / b.strengths) @ b.secants
        return b.lifted(jnp.maximum(b.values, 0) * b.modes(vector)) + secants

    def inverse(self, vector: Vector) -> Vector:
        """(I + c B)^-1 v.

        Args:
            vector: v.

        Returns:
            The solution.
        """
        b, modes = self.curvature, self.curvature.modes(vector)
        weights = self.c * (b.inner @ self._reduced(b.secants @ vector, modes))
        return vector - b.lifted(self.shrink * (modes - b.coupling @ weights)) - weights @ b.secants

    def taught(self, step: Vector, image: Vector, wanted: Bool[Array, ""]) -> "Learner":
        """The symmetric rank-one update with H step = image.

        It is left out where it would not matter for this c, is not defined, would make I + c B
        indefinite, or claims a curvature far above 1 / c and all Ritz values.

        Args:
            step: s.
            image: y.
            wanted: whether to learn at all.

        Returns:
            The learner.
        """
        b, c = self.curvature, self.c
        w = image - self.product(step)
        omega, length = w @ step, jnp.linalg.norm(step)
        square = w @ w
        size = jnp.sqrt(square)
        modes, overlaps = b.modes(w), b.secants @ w
        column = self._reduced(overlaps, modes)
        following = b.inner @ column
        # w^T (I + c B)^-1 w, from products at hand.
        bare = square - self.shrink @ modes**2
        energy = bare - c * (column @ following)
        matters = c * size > MATTERS * length
        defined = jnp.abs(omega) > ALIGNED * size * length
        definite = 1 + c * energy / omega > DEFINITE
        largest = jnp.maximum(jnp.max(b.values), 0) + 1 / c
        credible = size**2 <= CREDIBLE * largest * jnp.abs(omega)
        good = wanted & matters & defined & definite & credible & jnp.isfinite(omega)
        slot = b.count % b.strengths.size
        inner = _bordered(b.inner, slot, column, following, omega + c * bare, c)
        kept = eqx.tree_at(lambda b: b.inner, b, jnp.where(good, inner, b.inner))
        row = overlaps.at[slot].set(square)
        return eqx.tree_at(
            lambda learner: learner.curvature, self, kept.with_secant(good, w, omega, modes, row)
        )

    def _reduced(self, overlaps: Float[Array, " secants"], modes: Float[Array, " capacity"]):
        """W^T (I + c V S theta_+ S^T V^T)^-1 v, of W^T v and the modes of v."""
        return overlaps - (self.shrink * modes) @ self.curvature.coupling


def _bordered(inner, slot, column, following, corner, c):
    """K^-1 once row and column `slot` of K are others.

    Without that row and column the inverse is G - g g^T / g_s, where g is its column; with new
    ones, c k and the corner, it gains u u^T / delta, u = (G' c k, -1), where delta is their Schur
    complement.

    Args:
        inner: K^-1.
        slot: which.
        column: k, (secants,), with any number at `slot`.
        following: K^-1 k.
        corner: the new number on the diagonal.
        c: h / alpha.

    Returns:
        The inverse.
    """
    g = inner[slot]
    corner_of_inner = g[slot]
    # Of k without its number at `slot`, and without that row.
    image = following - column[slot] * g
    image = c * (image - image[slot] / corner_of_inner * g)
    others = column.at[slot].set(0)
    u = image.at[slot].set(-1)
    delta = corner - c * (others @ image)
    # What is left at `slot` is rounding.
    outside = jnp.arange(g.size) != slot
    left = inner - jnp.outer(g, g / corner_of_inner)
    left = jnp.where(outside[:, None] & outside, left, 0)
    return left + jnp.outer(u, u / delta)

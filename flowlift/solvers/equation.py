"""The equation of an implicit step, u = c f(u) + ..., with or without a velocity."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .lanczos import Vector


class Velocity(eqx.Module):
    """How the velocity of theta' = v, v' = F(theta) - g v leaves the equation of a step.

    With corrections d of theta and e of v, d = k v - psi and e = k (F - g v) - psi_v, where
    k = h / alpha and v = p_v + e: so v = (d + psi) / k, and

        d = c F(p + d) - psi',   c = k^2 / (1 + k g),   psi' = psi - k (p_v - psi_v) / (1 + k g),

    an equation of theta alone, of the form that a plain flow has, with the same Hessian.

    Attributes:
        scale: k.
        friction: g at the end of the step.
        psi: that of theta, (n,).
    """

    scale: Float[Array, ""]
    friction: Float[Array, ""]
    psi: Vector

    def at(self, correction: Vector, prediction: Float[Array, " N"]) -> Vector:
        """The correction of the velocity that belongs to one of theta.

        Args:
            correction: d, (n,).
            prediction: that of the whole vector.

        Returns:
            (n,).
        """
        n = correction.size
        return (correction + self.psi) / self.scale - prediction[n : 2 * n]


class Equation(eqx.Module):
    """d = c f(prediction + d) - psi, for the whole vector; f depends on its first n components.

    Attributes:
        prediction: (N,).
        psi: (N,).
        c: h / alpha; where there is a velocity, that of the equation of theta.
        weights: (n,); a correction is measured by the root mean square of its ratio to them.
        tolerance: largest error of d in that measure.
        floor: corrections below it are rounding errors.
        contraction: how fast the chord iteration should contract, in (0, 1].
        expected: norm of the largest d of a step that will be accepted.
        velocity: how the velocity of a flow of second order was eliminated.
    """

    prediction: Float[Array, " N"]
    psi: Float[Array, " N"]
    c: Float[Array, ""]
    weights: Vector
    tolerance: Float[Array, ""]
    floor: Float[Array, ""]
    contraction: Float[Array, ""]
    expected: Float[Array, ""]
    velocity: Velocity | None = None

    def without_velocity(self, friction: Float[Array, ""]) -> "Equation":
        """The equation of theta alone, where theta' = v and v' = F - g v.

        Args:
            friction: g at the end of the step.

        Returns:
            The equation.
        """
        n, k = self.weights.size, self.c
        damped = 1 + k * friction
        moving = self.prediction[n : 2 * n] - self.psi[n : 2 * n]
        psi = self.psi.at[:n].add(-k / damped * moving)
        velocity = Velocity(k, friction, self.psi[:n])
        return eqx.tree_at(
            lambda e: (e.c, e.psi, e.velocity),
            self,
            (k * k / damped, psi, velocity),
            is_leaf=lambda leaf: leaf is None,
        )

    def asked(self, point: Float[Array, " N"], rates: Float[Array, " N"]) -> tuple[Array, Array]:
        """What the field asks for.

        Args:
            point: the prediction and a correction.
            rates: f there.

        Returns:
            F there, (n,); and c f - psi, the correction that it asks for, (N,).
        """
        n = self.weights.size
        if self.velocity is None:
            return rates[:n], self.c * rates - self.psi
        force = rates[n : 2 * n] + self.velocity.friction * point[n : 2 * n]
        target = self.velocity.scale * rates - self.psi
        return force, target.at[:n].set(self.c * force - self.psi[:n])

    def whole(self, correction: Vector, target: Float[Array, " N"]) -> Float[Array, " N"]:
        """The correction of the whole vector.

        Args:
            correction: that of its coupled part, (n,).
            target: what the rest is to be.

        Returns:
            (N,).
        """
        n = correction.size
        if self.velocity is None:
            return jnp.concatenate([correction, target[n:]])
        moving = self.velocity.at(correction, self.prediction)
        return jnp.concatenate([correction, moving, target[2 * n :]])

    def norm(self, vector: Vector) -> Float[Array, ""]:
        """Root mean square of v / weights."""
        return jnp.sqrt(jnp.mean((vector / self.weights) ** 2))

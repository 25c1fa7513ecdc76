"""How fast an integration gets on: attempted steps against the time that they gain."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

# Attempts between two measurements: a sharp transition of a smooth flow takes a few hundred.
WINDOW = 1024
# An integration that would need more attempts than this to double the time it has reached is at
# its end: each then gains less than 1e-7 of the time, the resolution of single precision.
HOPELESS = 1e7
# The same for solvers whose steps no stability bounds: ten times less, for only a field that is
# singular or jumps can hold them down so far.
HOPELESS_IF_STABLE = 1e6


class Pace(eqx.Module):
    """Measured over windows of 1024 attempts, in attempts alone: no clock is read.

    Attributes:
        time: time integrated before this window.
        gained: time gained in this window.
        attempts: attempts in this window.
        doubling: attempts that doubling the time would have taken at the last full window's pace;
            0 before one is full.
    """

    time: Float[Array, ""]
    gained: Float[Array, ""]
    attempts: Int[Array, ""]
    doubling: Float[Array, ""]

    @staticmethod
    def zero(like: Float[Array, ""]) -> "Pace":
        """At the start.

        Args:
            like: a time, for its type.

        Returns:
            The measurement.
        """
        zero = jnp.zeros_like(like)
        return Pace(zero, zero, jnp.zeros((), int), zero)

    def after(self, gain: Float[Array, ""]) -> "Pace":
        """The measurement after one more attempt.

        Args:
            gain: the step, 0 if it was rejected.

        Returns:
            The measurement.
        """
        gained, attempts = self.gained + gain, self.attempts + 1
        full, time = attempts >= WINDOW, self.time + gained
        doubling = WINDOW * time / jnp.maximum(gained, jnp.finfo(gained.dtype).tiny)
        return Pace(
            jnp.where(full, time, self.time),
            jnp.where(full, 0, gained),
            jnp.where(full, 0, attempts),
            jnp.where(full, doubling, self.doubling),
        )

    def taken_over(self) -> "Pace":
        """The measurement for another solver that goes on from here: its windows are its own."""
        zero = jnp.zeros_like(self.gained)
        return Pace(self.time + self.gained, zero, jnp.zeros_like(self.attempts), zero)

r"""The flow linearised at theta_0, in closed form, on the axes of the true one.

With F replaced by F(theta_0) + J (theta - theta_0) and squared loss,

    r(t) = exp(-2 K t) r_0,   theta(t) - theta_0 = -J^T K^{-1} (1 - exp(-2 K t)) r_0,   K = J J^T

(theory, section 8; Jacot et al. 2018; Lee et al. 2019). One Lanczos process on K from r_0 gives all
t at once: r(t) ~ |r_0| V exp(-2 T t) e_1. It is the exact NTK eigenbasis once the space has closed.
"""

from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PyTree

from ..flow.rates import Rates
from ..showing import shows_itself
from ..solvers.lanczos import Krylov, ritz
from ..solvers.spectral import lanczos
from ..tasks import AbstractObjective, Task
from .checks import positive
from .tangent import Tangent, Theta, Trainable, Values, tangent


@shows_itself
class LinearisedFlow(eqx.Module):
    """The linearised flow for 0 <= t <= horizon.

    Attributes:
        at: the tangent at theta_0.
        start: r_0, (N,).
        krylov: the Lanczos process on K from r_0.
        horizon: the t for which it was made.
    """

    at: Tangent
    start: Values
    krylov: Krylov
    horizon: Float[Array, ""]

    @property
    def products(self) -> Array:
        """Products with K spent, two gradients each."""
        return self.krylov.size

    def residual(self, t: float | Array) -> Float[Array, "*times N"]:
        """r(t), the linearised outputs minus the targets, in L^2(D)."""
        return self._map(lambda t: self.krylov.combined(self._coordinates(jnp.exp, t)), t)

    def loss(self, t: float | Array) -> Float[Array, " *times"]:
        """L_lin(t) = |r(t)|^2."""
        return self._map(lambda t: jnp.sum(self._coordinates(jnp.exp, t) ** 2), t)

    def outputs(self, t: float | Array) -> Float[Array, "*times N"]:
        """f_lin(t) in L^2(D): F / sqrt(samples), flattened."""
        residual = self.residual(t)
        return residual + jnp.broadcast_to(self.at.targets, residual.shape)

    def error(self, t: float | Array) -> Float[Array, " *times"]:
        """Estimate of |r(t)'s error|, 2 t beta_m |<e_m, phi_1(-2 T t) e_1>| |r_0| (Saad 1992)."""

        def estimate(t):
            last = jnp.maximum(self.krylov.size - 1, 0)
            return 2 * t * self.krylov.beta[last] * jnp.abs(self._coordinates(_phi1, t)[last])

        return self._map(estimate, t)

    def displacement(self, t: float) -> Theta:
        """theta_lin(t) - theta_0, (P,). Cost: 2 gradients."""
        return _displacement(self, jnp.asarray(t, self.start.dtype))

    def model(self, t: float) -> PyTree:
        """The model at theta_lin(t)."""
        theta, unravel = ravel_pytree(self.at.tree)
        return eqx.combine(unravel(theta + self.displacement(t)), self.at.rest)

    def _coordinates(self, function, t: Array) -> Float[Array, " M"]:
        """|r_0| g(-2 T t) e_1."""
        pairs = ritz(self.krylov)
        inside = jnp.arange(pairs.values.size) < self.krylov.size
        values = function(-2 * t * jnp.where(inside, jnp.maximum(pairs.values, 0), 0))
        first = jnp.where(inside, pairs.coordinates[0], 0)
        return jnp.linalg.norm(self.start) * (pairs.coordinates @ (values * first))

    def _map(self, function, t):
        times = jnp.asarray(t, self.start.dtype)
        result = jax.lax.map(function, times.reshape(-1))
        return result.reshape(*times.shape, *result.shape[1:])


def linearised_flow(
    model: PyTree,
    task: Task | AbstractObjective,
    horizon: float,
    *,
    rtol: float = 1e-8,
    max_products: int = 300,
    trainable: Trainable = eqx.is_inexact_array,
    rates: Rates | None = None,
) -> LinearisedFlow:
    """The flow of the model linearised at its present parameters.

    Args:
        model: the model at theta_0.
        task: a task with samples and squared loss.
        horizon: up to which t it is wanted.
        rtol: stop when the estimated error at the horizon is at most rtol |r_0|.
        max_products: at most so many products with K, 2 gradients each; `error` tells what was
            reached. About sqrt(2 t |K|) log(1 / rtol) are needed, and never more than N.
        trainable: which leaves are theta.
        rates: as for `flowlift.solve`: K is then J D J^T.

    Returns:
        The flow. Memory: one vector of N numbers a product.

    Raises:
        ValueError: if the loss is not squared, or the horizon is not positive and finite.
    """
    horizon = positive("horizon", horizon)
    at = tangent(model, task, trainable, squared=True, rates=rates)
    return _linearised(at, jnp.asarray(horizon, at.theta.dtype), rtol, max_products)


def lazy_distance(flow: LinearisedFlow, models: Mapping[float, PyTree]) -> Float[Array, " times"]:
    """|F_theta(t) - F_lin(t)| in L^2(D) at the times of some snapshots of the true flow.

    Args:
        flow: the linearised flow from the same start.
        models: models by time, e.g. `solution.snapshots`.

    Returns:
        The distances, in the order of the times given.
    """
    times = jnp.asarray(list(models), flow.start.dtype)
    theirs = flow.outputs(times)
    ours = [_outputs(flow.at, model) for model in models.values()]
    return jnp.stack([jnp.linalg.norm(a - b) for a, b in zip(ours, theirs, strict=True)])


@eqx.filter_jit
def _outputs(at: Tangent, model: PyTree) -> Values:
    return ravel_pytree(at.objective.outputs(model))[0] / at.root


@eqx.filter_jit
def _linearised(at: Tangent, horizon: Array, rtol: float, max_products: int) -> LinearisedFlow:
    linear = at.linearise()
    start = at.residual(linear.outputs)

    def settled(krylov: Krylov) -> Bool[Array, ""]:
        error = LinearisedFlow(at, start, krylov, horizon).error(horizon)
        return error <= rtol * jnp.linalg.norm(start)

    def until(krylov: Krylov) -> Bool[Array, ""]:
        return jax.lax.cond(krylov.size % 4 == 0, settled, lambda _: jnp.asarray(False), krylov)

    krylov = lanczos(linear.kernel, start, max_products, until)
    return LinearisedFlow(at, start, krylov, horizon)


@eqx.filter_jit
def _displacement(flow: LinearisedFlow, t: Array) -> Theta:
    # -J^T K^{-1} (1 - e^{-2Kt}) r_0 = -2 t J^T phi_1(-2 K t) r_0, free of division by 0.
    inner = flow.krylov.combined(flow._coordinates(_phi1, t))
    return -2 * t * flow.at.scaled(flow.at.linearise().pull(inner))


def _phi1(x: Array) -> Array:
    """(e^x - 1) / x for x <= 0."""
    small = jnp.abs(x) < jnp.finfo(x.dtype).eps
    return jnp.where(small, 1, jnp.expm1(x) / jnp.where(small, 1, x))

"""A `HostField` of a JAX loss, and the same flow for diffrax."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from flowlift.solvers.host.stepping import HostField


@dataclasses.dataclass
class Counts:
    """What a field was asked for."""

    gradients: int = 0
    products: int = 0


def host_field(loss, args=None, live=None, size=None):
    """(HostField, Counts) of (theta, args) -> L; the loss is compiled once a process."""
    value_and_grad, product = _programs(loss)
    counts = Counts()

    def gradient(theta):
        counts.gradients += 1
        value, slope = value_and_grad(theta, args)
        return float(value), np.asarray(slope)

    def image(theta, v):
        counts.products += 1
        return np.asarray(product(theta, v, args))

    leaves = jax.tree.leaves(args)
    traced = lambda leaves, theta: value_and_grad(
        theta, jax.tree.unflatten(jax.tree.structure(args), leaves)
    )
    return HostField(gradient, image, live or size, traced, leaves, 1), counts


_COMPILED = {}


def _programs(loss):
    if loss not in _COMPILED:
        gradient = jax.grad(loss)
        _COMPILED[loss] = (
            jax.jit(jax.value_and_grad(loss)),
            jax.jit(lambda theta, v, args: jax.jvp(lambda x: gradient(x, args), (theta,), (v,))[1]),
        )
    return _COMPILED[loss]


def rates(loss):
    """The same flow as a field of (theta, integrals) for diffrax."""

    def field(t, y, args):
        theta, _ = y
        slope = jax.grad(loss)(theta, args)
        squared = slope @ slope
        root = jnp.sqrt(squared + jnp.finfo(squared.dtype).tiny)
        return -slope, jnp.stack([root, squared])

    return field

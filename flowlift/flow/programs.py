"""The two compiled programs that a flow on the host is driven by: gradient and product."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from ..solvers.host.stepping import HostField, Vector
from ..static import Static, split
from .problem import Problem


def host_field(problem: Problem) -> HostField:
    """The flow of a problem as the host calls it. Nothing is compiled before the first call.

    Problems of equal structure and shapes share their programs.

    Args:
        problem: the problem.

    Returns:
        The field.
    """
    leaves, static = split(problem)
    traced, value_and_grad, product, _ = _programs(static)

    def evaluated(theta: Vector) -> tuple[float, Vector]:
        loss, gradient = value_and_grad(leaves, theta)
        # Twice as fast as float(): a call is what a small flow waits for.
        return np.asarray(loss).item(), np.asarray(gradient)

    def multiplied(theta: Vector, vector: Vector) -> Vector:
        return np.asarray(product(leaves, theta, vector))

    equations = _equations(static, *map(_shape, [*leaves, problem.start_on_host]))
    roots = problem.roots_on_host
    if roots is not None:
        roots = np.concatenate([roots, np.ones(2, roots.dtype)])
    return HostField(evaluated, multiplied, problem.dimension, traced, leaves, equations, roots)


def _shape(leaf: Any) -> jax.ShapeDtypeStruct:
    weak = getattr(leaf, "weak_type", False)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, weak_type=weak)


@lru_cache(maxsize=256)
def _equations(static: Static, *shapes: jax.ShapeDtypeStruct) -> int:
    """The size of a traced gradient. The trace is that of the first call."""
    *leaves, theta = shapes
    return _size(_programs(static)[1].trace(leaves, theta).jaxpr)


def _size(jaxpr: Any) -> int:
    """The number of equations, of all functions called within as well."""
    inner = getattr(jaxpr, "jaxpr", jaxpr)
    return sum(
        1 + sum(_size(part) for part in core.jaxprs_in_params(equation.params))
        for equation in inner.eqns
    )


# States that are recorded in one call; fewer are recorded one by one.
BATCH = 256


def record_batch(problem: Problem) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """L and |grad L| at many thetas in one call: one program more, and no overhead between them.

    Args:
        problem: the problem.

    Returns:
        The function thetas (256, P) -> L (256,), |grad L| (256,). 256 gradients.
    """
    leaves, static = split(problem)
    batch = _programs(static)[-1]

    def recorded(thetas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        loss, norm = batch(leaves, thetas)
        return np.asarray(loss), np.asarray(norm)

    return recorded


@lru_cache(maxsize=256)
def _programs(static: Static) -> tuple[Callable, Any, Any, Any]:
    def traced(arrays, theta):
        return static.joined(arrays).value_and_grad(theta)

    def product(arrays, theta, vector):
        here = static.joined(arrays)
        return jax.jvp(lambda at: here.value_and_grad(at)[1], (theta,), (vector,))[1]

    def one(arrays, theta):
        loss, gradient = traced(arrays, theta)
        return loss, jnp.linalg.norm(gradient)

    def batch(arrays, thetas):
        return jax.lax.map(lambda theta: one(arrays, theta), thetas)

    return traced, jax.jit(traced), jax.jit(product), jax.jit(batch)

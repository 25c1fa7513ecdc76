"""The two compiled programs that a flow on the host is driven by: gradient and product."""

import dataclasses
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from ..packing import Packed, packed
from ..solvers.host.stepping import Carried, HostField, Vector
from ..static import Static, split
from ..tasks import Population
from ..tasks.added import Penalised, data_of
from ..tasks.streamed import Streamed
from .dynamics.base import derivative, flat
from .problem import Problem


def host_field(problem: Problem) -> HostField:
    """The flow of a problem as the host calls it. Nothing is compiled before the first call.

    Problems of equal structure and shapes share their programs.

    Args:
        problem: the problem.

    Returns:
        The field.
    """
    if problem.streams:
        return _streaming(problem)
    leaves, static = packed(problem, problem.objective)
    traced, value_and_grad, product, _ = _programs(static)
    carried = None if problem.dynamics.plain else _carried(problem, leaves, static)

    def evaluated(theta: Vector) -> tuple[float, Vector]:
        loss, gradient = value_and_grad(leaves, theta)
        # Twice as fast as float(): a call is what a small flow waits for.
        return np.asarray(loss).item(), np.asarray(gradient)

    if carried is not None:
        product = _whole(static)[2]

    def multiplied(at: Vector, vector: Vector) -> Vector:
        return np.asarray(product(leaves, at, vector))

    equations = _equations(static, *map(_shape, [*leaves, problem.start_on_host]))
    live, roots = problem.dimension, problem.roots_on_host
    if roots is not None:
        dynamics = problem.dynamics
        ones = np.ones(len(dynamics.numbers) + 2, roots.dtype)
        roots = np.concatenate([*[roots] * (1 + len(dynamics.vectors)), ones])
    return HostField(evaluated, multiplied, live, traced, leaves, equations, roots, carried)


def _streaming(problem: Problem) -> HostField:
    """The field of samples in files: sums over the chunks that the host reads, and added terms."""

    def added_up(which: int, at: Vector, *vector: Vector) -> tuple[float, Vector]:
        loss, whole = 0.0, np.zeros_like(at)
        for part in _parts(problem, at.dtype):
            leaves, static = split(part)
            found = _programs(static)[which](leaves, at, *vector)
            # A sum over chunks, in double precision where it is one number.
            one, array = found if which == _GRADIENT else (0.0, found)
            loss, whole = loss + float(np.asarray(one)), whole + np.asarray(array)
        return float(at.dtype.type(loss)), whole

    gradient = lambda theta: added_up(_GRADIENT, theta)
    product = lambda at, vector: added_up(_PRODUCT, at, vector)[1]

    def none(leaves, theta):
        raise AssertionError("no program holds all samples")

    live, roots = problem.dimension, problem.roots_on_host
    if roots is not None:
        roots = np.concatenate([roots, np.ones(2, roots.dtype)])
    # No loop of steps is compiled around such a gradient.
    return HostField(gradient, product, live, none, [], sys.maxsize, roots)


def _parts(problem: Problem, dtype: Any) -> Iterator[Problem]:
    """The same flow of one chunk of samples after another, and of what is added to L."""
    objective, data = problem.objective, data_of(problem.objective)
    assert isinstance(data, Streamed)
    if isinstance(objective, Penalised):
        yield dataclasses.replace(problem, objective=Population(objective.added))
    for part in data.parts(dtype):
        yield dataclasses.replace(problem, objective=part)


def _carried(problem: Problem, leaves: Any, static: Packed) -> Carried:
    """What a state of another dynamics than the plain flow holds, and its rates."""
    traced, run, _ = _whole(static)
    dynamics, size = problem.dynamics, problem.start_on_host.size

    def rates(y: Vector) -> tuple[float, Vector]:
        loss, _, found = run(leaves, y)
        return np.asarray(loss).item(), np.asarray(found)

    def friction(y: Vector) -> float:
        further = {name: part[0] for name, part in dynamics.parts(y[None])[1].items()}
        return float(np.asarray(dynamics.damping(further)))

    second = friction if dynamics.second_order else None
    return Carried(size, len(dynamics.vectors), rates, traced, second)


@lru_cache(maxsize=256)
def _whole(static: Packed) -> tuple[Callable, Any, Any]:
    """(L, |grad L|, dy/dt) of a whole state, the same compiled, and products with -dF/dtheta."""

    def traced(arrays, y):
        here = static.joined(arrays)
        found, rates = derivative(here.dynamics, here, here.dynamics.state(y))
        return found.loss, found.gradient_norm, flat(rates)

    def product(arrays, y, vector):
        here = static.joined(arrays)
        theta, _, *more = here.dynamics.state(y)
        further = here.dynamics.named(more[0] if more else ())
        force = lambda at: here.dynamics.force(here, at, further)
        return -jax.jvp(force, (theta,), (vector,))[1]

    return traced, jax.jit(traced), jax.jit(product)


def _shape(leaf: Any) -> jax.ShapeDtypeStruct:
    weak = getattr(leaf, "weak_type", False)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, weak_type=weak)


@lru_cache(maxsize=256)
def _equations(static: Packed, *shapes: jax.ShapeDtypeStruct) -> int:
    """The size of a traced gradient but for what takes vectors apart; the first call traces it."""
    *leaves, theta = shapes
    apart = jax.make_jaxpr(static.apart)(leaves)
    return _size(_programs(static)[1].trace(leaves, theta).jaxpr) - _size(apart)


def _size(jaxpr: Any) -> int:
    """The number of equations, of all functions called within as well."""
    inner = getattr(jaxpr, "jaxpr", jaxpr)
    return sum(
        1 + sum(_size(part) for part in core.jaxprs_in_params(equation.params))
        for equation in inner.eqns
    )


# Where they stand among the programs of a problem.
_GRADIENT, _PRODUCT = 1, 2
# States that are recorded in one call; fewer are recorded one by one.
BATCH = 256


def record_batch(problem: Problem) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """L and |grad L| at many thetas in one call: one program more, and no overhead between them.

    Args:
        problem: the problem.

    Returns:
        The function thetas (256, P) -> L (256,), |grad L| (256,). 256 gradients.
    """
    leaves, static = packed(problem, problem.objective)
    batch = _programs(static)[-1]

    def recorded(thetas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        loss, norm = batch(leaves, thetas)
        return np.asarray(loss), np.asarray(norm)

    return recorded


@lru_cache(maxsize=256)
def _programs(static: Static | Packed) -> tuple[Callable, Any, Any, Any]:
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

"""The flow of a model on an objective: the field -grad L on a flat vector, and the records."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from ..tasks import AbstractObjective, total
from .chunking import chunk_samples

Flat = Float[Array, " P"]


class Problem(eqx.Module):
    """d theta/dt = -grad L(theta) for the trainable leaves theta of a model.

    Arrays are data, so that two problems of equal shapes share one compilation.

    Attributes:
        theta0: the trainable leaves at the start, None elsewhere.
        rest: all other leaves, None where theta0 has one.
        objective: L.
    """

    theta0: PyTree
    rest: PyTree
    objective: AbstractObjective

    @property
    def start(self) -> Flat:
        """theta_0 as one vector."""
        return ravel_pytree(self.theta0)[0]

    def model(self, theta: Flat) -> PyTree:
        """The model at theta."""
        return eqx.combine(self._unravel(theta), self.rest)

    # Nested in other compiled functions these are traced once, wherever and however often they
    # are called: diffrax traces a field a dozen times.
    @eqx.filter_jit
    def loss(self, theta: Flat) -> Float[Array, ""]:
        """L(theta)."""
        return self._total(lambda loss: loss, theta)

    @eqx.filter_jit
    def value_and_grad(self, theta: Flat) -> tuple[Float[Array, ""], Flat]:
        """L and grad L from one pass."""
        value, gradient = self._total(jax.value_and_grad, theta)
        return value, ravel_pytree(gradient)[0]

    def _total(self, derive: Callable, theta: Flat) -> PyTree:
        """The sum over chunks of samples of derive(loss)(trainable leaves)."""
        arrays, static = eqx.partition(self.rest, eqx.is_array)

        def of_part(objective, at):
            tree, arrays = at
            return derive(lambda tree: objective(eqx.combine(tree, arrays, static)))(tree)

        return total(self.objective, of_part, (self._unravel(theta), arrays))

    def _unravel(self, theta: Flat) -> PyTree:
        return ravel_pytree(self.theta0)[1](theta)


def make_problem(
    model: PyTree,
    objective: AbstractObjective,
    precision: str,
    trainable: PyTree | Callable = eqx.is_inexact_array,
    memory: int | None = None,
) -> Problem:
    """Split a model into theta and the rest, and bring all floating-point data to one precision.

    Samples are processed in chunks where that is faster, or where `memory` asks for it.

    Args:
        model: any pytree.
        objective: L.
        precision: "float64" or "float32".
        trainable: which leaves flow, as for `equinox.partition`.
        memory: bound in bytes on what one gradient keeps per sample, see `chunk_samples`.

    Returns:
        The problem.

    Raises:
        ValueError: if no leaf is trainable, or one is not finite, or the memory is too small.
    """
    model, objective = _cast(model, precision), _cast(objective, precision)
    theta0, rest = eqx.partition(model, trainable)
    leaves = jax.tree_util.tree_leaves_with_path(theta0)
    if not sum(leaf.size for _, leaf in leaves):
        raise ValueError(
            "Argument `model` must have trainable floating-point arrays, but has none; make its "
            "parameters arrays, or change `trainable`."
        )
    for path, leaf in leaves:
        # On the host, where nothing needs compiling for each shape.
        if not np.isfinite(leaf).all():
            raise ValueError(
                f"Argument `model` must be finite, but its leaf {jax.tree_util.keystr(path)} is "
                "not; initialise it again."
            )
    return Problem(theta0, rest, _cast(chunk_samples(model, objective, memory), precision))


class Quadratures(eqx.Module):
    """Integrals along the flow, carried with theta.

    Attributes:
        arc_length: int_0^t |grad L| dt, the length of the path of theta.
        energy: int_0^t |grad L|^2 dt, equal to L(0) - L(t) on the exact flow.
    """

    arc_length: Float[Array, ""]
    energy: Float[Array, ""]

    @staticmethod
    def zero(dtype) -> "Quadratures":
        """Both integrals at t = 0."""
        return Quadratures(jnp.zeros((), dtype), jnp.zeros((), dtype))


State = tuple[Flat, Quadratures]


def field(t: Float[Array, ""], state: State, args: tuple[Problem, object]) -> State:
    """The right-hand side: (-grad L, (|grad L|, |grad L|^2)). One gradient.

    The integrals do not act back on theta; their rates stay differentiable at |grad L| = 0, for
    implicit solvers.

    Args:
        t: time, without effect: the flow is autonomous.
        state: theta and the integrals.
        args: the problem, and what the integration needs besides.

    Returns:
        The rates.
    """
    _, gradient = args[0].value_and_grad(state[0])
    squared = gradient @ gradient
    norm = jnp.sqrt(squared + jnp.finfo(squared.dtype).tiny)
    return -gradient, Quadratures(norm, squared)


Observers = tuple[tuple[str, Callable[[PyTree], Array]], ...]


def observe(state: State, problem: Problem, observers: Observers) -> dict[str, Array]:
    """What is recorded at one time. One gradient, plus the observers' own work.

    Args:
        state: theta and the integrals.
        problem: the problem.
        observers: (name, function of the model) pairs.

    Returns:
        The recorded quantities by name.
    """
    theta, integrals = state
    loss, gradient = problem.value_and_grad(theta)
    return {
        "loss": loss,
        "gradient_norm": jnp.linalg.norm(gradient),
        "arc_length": integrals.arc_length,
        "energy": integrals.energy,
        "distance": jnp.linalg.norm(theta - problem.start),
        **{name: function(problem.model(theta)) for name, function in observers},
    }


RECORDED = ("loss", "gradient_norm", "arc_length", "energy", "distance")


def _is_float_array(leaf) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray) and jnp.issubdtype(leaf.dtype, jnp.inexact)


def _cast(tree: PyTree, precision: str) -> PyTree:
    dynamic, static = eqx.partition(tree, _is_float_array)
    dynamic = jax.tree.map(lambda leaf: jnp.asarray(leaf, precision), dynamic)
    return eqx.combine(dynamic, static)

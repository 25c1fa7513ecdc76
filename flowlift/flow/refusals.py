"""What `solve` refuses of its arguments, each in one sentence, before any computation."""

import math
from collections.abc import Callable

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import PyTree

from ..leaves import parted
from ..numbers import real, whole
from ..precision import check_precision
from .checkpoints import Checkpoints
from .methods import check_solver
from .problem import Problem

# Counts are compared with limits as floating-point numbers, which hold every integer up to here.
_MOST_STEPS = 2**53


def check_not_traced(*values) -> None:
    """Refuse to be differentiated, batched or compiled: legs, stops and limits are the host's.

    Args:
        *values: the arguments.

    Raises:
        ValueError: if any is traced.
    """
    cells = (getattr(value, "__closure__", None) or () for value in values)
    inside = [cell.cell_contents for group in cells for cell in group]
    # Under jax.jit whatever is made is traced.
    leaves = jax.tree.leaves((values, inside, jax.device_put(0.0)))
    if any(isinstance(leaf, Tracer) for leaf in leaves):
        raise ValueError(
            "`solve` must be called outside of jax.jit, jax.vmap and jax.grad, but its arguments "
            "are traced; call flowlift.trajectory, which may be, or flowlift.flow.solve_each for "
            "many flows."
        )


def check_trainable(model: PyTree, trainable: PyTree | Callable) -> None:
    """Refuse a choice of leaves that does not fit the model, or holds what cannot flow.

    Args:
        model: the model.
        trainable: the choice.

    Raises:
        ValueError: if it does not fit.
    """
    try:
        chosen, _ = parted(model, trainable)
    except Exception as error:
        first = str(error).strip().partition("\n")[0]
        raise ValueError(
            "Argument `trainable` must be a function of a leaf, or a tree of booleans with the "
            f"model's structure, but does not fit ({first}); build it with jax.tree.map from the "
            "model."
        ) from None
    for path, leaf in jax.tree_util.tree_leaves_with_path(chosen):
        array = isinstance(leaf, jax.Array | np.ndarray)
        if not (array and jnp.issubdtype(leaf.dtype, jnp.inexact)):
            kind = f"{leaf.dtype} array" if array else type(leaf).__name__
            raise ValueError(
                "Argument `trainable` must choose floating-point arrays, but chooses the leaf "
                f"{jax.tree_util.keystr(path) or 'model'}, a {kind}; make it one, or choose "
                "fewer leaves, e.g. eqx.is_inexact_array."
            )


def check_checkpoints(checkpoints) -> None:
    """Refuse what is no `Checkpoints`.

    Args:
        checkpoints: the argument.

    Raises:
        ValueError: for something else.
    """
    if not isinstance(checkpoints, Checkpoints | None):
        raise ValueError(
            f"Argument `checkpoints` must be flowlift.flow.Checkpoints, but is {checkpoints!r}; "
            "wrap the file's name: Checkpoints(path)."
        )


def check_scale(problem: Problem, atol: float) -> None:
    """Refuse relative errors alone where a parameter is zero: it has none.

    Args:
        problem: the problem.
        atol: absolute tolerance.

    Raises:
        ValueError: for `atol` = 0 there.
    """
    if atol == 0 and problem.dynamics.vectors:
        raise ValueError(
            f"Argument `atol` must be positive for {problem.dynamics.title}, which starts from "
            "rest, but is 0; give the error that is negligible there, e.g. a thousandth of `rtol`."
        )
    if atol == 0 and bool((problem.start_on_host[: problem.dimension] == 0).any()):
        raise ValueError(
            "Argument `atol` must be positive where parameters start at zero (a zero read-out?), "
            "but is 0; give the error that is negligible there, e.g. a thousandth of `rtol`."
        )


def check_settings(
    solver: str | diffrax.AbstractSolver,
    rtol: float,
    atol: float,
    max_steps: int,
    precision: str,
    max_gradients: float = math.inf,
) -> None:
    """Refuse a solver, tolerances, limits or a precision that `solve` would refuse.

    Args:
        solver: a name from `SOLVERS`, or an adaptive diffrax solver.
        rtol: relative tolerance.
        atol: absolute tolerance.
        max_steps: limit of attempted steps.
        precision: "float64" or "float32".
        max_gradients: budget in gradient evaluations.

    Raises:
        ValueError: for a bad argument.
    """
    check_precision(precision)
    check_solver(solver)
    _check_tolerances(rtol, atol, precision)
    _check_max_steps(max_steps)
    check_budget(max_gradients)


def _check_tolerances(rtol: float, atol: float, precision: str) -> None:
    least = 4 * float(np.finfo(precision).eps)
    for name, value, bound in (("rtol", rtol, least), ("atol", atol, 0.0)):
        number = real(value)
        if number is None or not bound <= number < math.inf:
            raise ValueError(
                f"Argument `{name}` must be a finite number of at least {bound:.2g} in "
                f"{precision}, but is {value!r}; raise it."
            )


def _check_max_steps(max_steps: int) -> None:
    number = whole(max_steps)
    if number is None or not 1 <= number <= _MOST_STEPS:
        raise ValueError(
            f"Argument `max_steps` must be an integer from 1 to 2^53, but is {max_steps!r}; "
            "give the limit of attempted steps."
        )


def check_budget(max_gradients: float) -> None:
    """Refuse a budget that is no positive number.

    Args:
        max_gradients: in gradient evaluations.

    Raises:
        ValueError: if it is not positive.
    """
    number = real(max_gradients)
    if number is None or not number > 0:
        raise ValueError(
            f"Argument `max_gradients` must be positive, but is {max_gradients!r}; "
            "leave it out for no budget."
        )

"""The flow of a model on an objective: the field on a flat vector, and the records."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from ..attributes import read_plainly
from ..compilations import keep_compilations
from ..leaves import parted
from ..precision import exact_products
from ..static import check_hashable, number_kinds
from ..tasks import AbstractObjective, Population, Supervised, check_value, total
from ..tasks.added import Penalised, data_of
from ..tasks.streamed import Streamed
from .chunking import chunk_samples
from .coordinates import Coordinates, Flat, joined
from .dynamics.base import (
    AbstractDynamics,
    GradientFlow,
    Quadratures,
    State,
    derivative,
    in_precision_of,
)
from .observers import COST, Observers
from .rates import Rates, at_rates


@read_plainly
class Problem(eqx.Module):
    """d theta/dt = -D grad L(theta), or another dynamics, of the trainable leaves theta of a model.

    Solvers see phi = D^(-1/2) theta, whose flow d phi/dt = -grad_phi L is plain: a vector of a
    problem is phi, and a gradient is that in phi, D^(1/2) grad L. Without rates D is 1 and phi is
    theta.

    Arrays are data, so that two problems of equal shapes share one compilation.

    Attributes:
        theta0: the trainable leaves at the start, None elsewhere.
        rest: all other leaves, None where theta0 has one.
        objective: L.
        coordinates: how the leaves make up the vector theta, complex ones and padding included.
        kinds: types and values of the numbers that are no arrays. Python takes 1, 1.0 and True for
            equal, and what was compiled for one of them would serve the others.
        dynamics: how theta moves.
    """

    theta0: PyTree
    rest: PyTree
    objective: AbstractObjective
    coordinates: Coordinates = Coordinates()
    kinds: tuple[str, ...] = eqx.field(static=True, default=())
    dynamics: AbstractDynamics = GradientFlow()

    @property
    def start(self) -> Flat:
        """phi_0 as one vector."""
        return self.coordinates.phi(self.coordinates.flat(self.theta0))

    @property
    def live(self) -> Int[Array, ""] | None:
        """How many of the vector's leading numbers count, the others being 0; None for all."""
        return self.coordinates.live

    @property
    def dimension(self) -> int:
        """The number of coordinates that count, on the host."""
        if self.live is not None:
            return int(self.live)
        leaves = jax.tree.leaves(self.theta0)
        return sum(leaf.size * (2 if jnp.iscomplexobj(leaf) else 1) for leaf in leaves)

    @property
    def itemsize(self) -> int:
        """Bytes of a number of the vector."""
        leaves = jax.tree.leaves(self.theta0)
        return max(jnp.finfo(leaf.dtype).dtype.itemsize for leaf in leaves)

    @property
    def streams(self) -> bool:
        """Whether samples are read from files as the flow goes."""
        return isinstance(data_of(self.objective), Streamed)

    @property
    def roots_on_host(self) -> np.ndarray | None:
        """D^(1/2), NumPy's; None where all rates are 1."""
        roots = self.coordinates.roots
        return None if roots is None else np.asarray(roots)

    def absolute(self, atol: Any) -> Any:
        """The absolute tolerance of phi that one of theta means, atol D^(-1/2).

        Args:
            atol: that of theta.

        Returns:
            One number for each coordinate; `atol` itself where all rates are 1.
        """
        roots = self.coordinates.roots
        return atol if roots is None else atol / roots

    def model(self, theta: Flat) -> PyTree:
        """The model at phi."""
        return eqx.combine(joined(self._parts(theta), self.theta0), self.rest)

    @property
    def start_on_host(self) -> np.ndarray:
        """phi_0 as one vector of NumPy's; nothing is compiled for it."""
        return self.coordinates.phi(self.coordinates.flat_on_host(self.theta0))

    @property
    def state_on_host(self) -> np.ndarray:
        """The state at t = 0 as one vector of NumPy's, see `AbstractDynamics.state`."""
        theta = self.start_on_host
        carried = self.dynamics.start(self)
        parts = [np.atleast_1d(part).astype(theta.dtype) for part in carried.values()]
        return np.concatenate([theta, *parts, np.zeros(2, theta.dtype)])

    def theta_of(self, y: np.ndarray) -> np.ndarray:
        """Theta of a state as a vector (..., N)."""
        return y[..., : self.dynamics.size(y.shape[-1])]

    def model_on_host(self, theta: Array | np.ndarray) -> PyTree:
        """The model at phi; nothing is compiled for it."""
        whole = np.asarray(self.coordinates.theta(np.asarray(theta)))
        leaves = self.coordinates.leaves_on_host(whole, self.theta0)
        return eqx.combine(leaves, self.rest)

    # Nested in other compiled functions these are traced once, wherever and however often they
    # are called: diffrax traces a field a dozen times.
    @eqx.filter_jit
    @exact_products
    def loss(self, theta: Flat) -> Float[Array, ""]:
        """L."""
        return self._total(lambda loss: loss, theta)

    @eqx.filter_jit
    @exact_products
    def value_and_grad(self, theta: Flat) -> tuple[Float[Array, ""], Flat]:
        """L and its gradient in phi from one pass; NaN where L is no finite number."""
        value, gradient = self._total(jax.value_and_grad, theta)
        # A solver sees the gradient alone, and would pass an edge beyond which only L is no number.
        nothing = jax.lax.stop_gradient(0 * value).astype(theta.dtype)
        return value, self.coordinates.theta(self.coordinates.flat(gradient)) + nothing

    def _total(self, derive: Callable, theta: Flat) -> PyTree:
        """The sum over chunks of samples of derive(loss)(real parts of the trainable leaves)."""
        arrays, static = eqx.partition(self.rest, eqx.is_array)

        def of_part(objective, at):
            parts, arrays = at
            whole = lambda parts: eqx.combine(joined(parts, self.theta0), arrays, static)
            return derive(lambda parts: objective(whole(parts)))(parts)

        return total(self.objective, of_part, (self._parts(theta), arrays))

    def _parts(self, theta: Flat) -> PyTree:
        return self.coordinates.tree(self.coordinates.theta(theta), self.theta0)


def make_problem(
    model: PyTree,
    objective: AbstractObjective,
    precision: str,
    trainable: PyTree | Callable = eqx.is_inexact_array,
    memory: int | None = None,
    rates: Rates | None = None,
    dynamics: AbstractDynamics | None = None,
) -> Problem:
    """Split a model into theta and the rest, and bring all floating-point data to one precision.

    Samples are processed in chunks where that is faster, or where `memory` asks for it, if the
    model is known to act on each by itself. Complex data become complex128 or complex64.

    Args:
        model: any pytree.
        objective: L.
        precision: "float64" or "float32".
        trainable: which leaves flow, as for `equinox.partition`.
        memory: bound in bytes on what one gradient keeps per sample, see `chunk_samples`.
        rates: D, see `flowlift.flow.rates`; a leaf whose rate is 0 does not flow.
        dynamics: how theta moves; None: by the gradient flow.

    Returns:
        The problem.

    Raises:
        ValueError: if no leaf is trainable, or one is no floating-point array or not finite; if
            something beside the arrays is not hashable; if L(model) is not defined; or if the
            memory is too small, or samples cannot be cut; or for rates that are none.
    """
    keep_compilations()
    model, objective = in_precision(model, precision), in_precision(objective, precision)
    theta0, rest = split_trainable(model, trainable)
    theta0, rest, found = at_rates(theta0, rest, rates, precision)
    for path, leaf in jax.tree_util.tree_leaves_with_path(theta0):
        # On the host, where nothing needs compiling for each shape.
        if not np.isfinite(leaf).all():
            where = f"its leaf {jax.tree_util.keystr(path)}" if path else "it"
            raise ValueError(
                f"Argument `model` must be finite, but {where} is not; initialise it again."
            )
    check_hashable("model", model)
    check_hashable("task", objective)
    if isinstance(objective, Penalised):
        objective = objective.of(theta0)
    objective.check(model)
    if isinstance(data_of(objective), Streamed) and dynamics is not None and not dynamics.plain:
        raise ValueError(
            f"Argument `dynamics` must be the gradient flow for samples that are streamed from "
            f"files, but is {dynamics.title}; take `tasks.supervised`."
        )
    if not isinstance(data_of(objective), Supervised | Population | Streamed):
        # The objectives of others, which may check less.
        check_value(objective, model)
    if dynamics is not None:
        dynamics.check(objective)
    if dynamics is not None and dynamics.whole:
        _check_in_one_piece(objective, memory, dynamics)
        arranged = objective
    else:
        arranged = in_precision(chunk_samples(model, objective, memory), precision)
    kinds = number_kinds((rest, objective))
    coordinates = Coordinates.of(model, theta0, found)
    moves = GradientFlow() if dynamics is None else in_precision_of(dynamics, precision)
    return Problem(theta0, rest, arranged, coordinates, kinds, moves)


def _check_in_one_piece(
    objective: AbstractObjective, memory: int | None, dynamics: AbstractDynamics
) -> None:
    if memory is not None or getattr(objective, "devices", ()):
        raise ValueError(
            f"Argument `memory` must be left out, and samples on one device, for {dynamics.title}, "
            f"whose loss is no sum over chunks of samples, but is {memory!r}; use fewer samples."
        )


def split_trainable(model: PyTree, trainable: PyTree | Callable) -> tuple[PyTree, PyTree]:
    """The trainable leaves of a model, and the others.

    Args:
        model: any pytree.
        trainable: which leaves flow, as for `equinox.partition`: a function of a leaf, or a tree
            of True and False that is a prefix of the model.

    Returns:
        Both, None where the other has a leaf.

    Raises:
        ValueError: if none is chosen, or one that is no floating-point array, or `trainable` does
            not fit the model.
    """
    try:
        theta0, rest = parted(model, trainable)
    except Exception as error:
        raise ValueError(
            "Argument `trainable` must be a function of a leaf, or True and False in the model's "
            f"own structure or a prefix of it, but is {trainable!r:.80} ({_cause(error)}); build "
            "it by jax.tree.map over the model."
        ) from None
    leaves = jax.tree_util.tree_leaves_with_path(theta0)
    for path, leaf in leaves:
        if not _is_float_array(leaf):
            raise ValueError(
                "Argument `trainable` must choose floating-point arrays, but chooses the leaf "
                f"{jax.tree_util.keystr(path)}, {_kind(leaf)}; leave it out, or make it one."
            )
    if not sum(leaf.size for _, leaf in leaves):
        raise ValueError(
            "Argument `model` must have trainable floating-point arrays, but has none; make its "
            "parameters arrays, or change `trainable`."
        )
    return theta0, rest


def field(t: Float[Array, ""], state: State, args: tuple[Problem, object]) -> State:
    """The right-hand side; of the plain flow in phi (-g, (|D^(1/2) g|, |g|^2)), one gradient.

    There g = D^(1/2) grad L.

    The integrals do not act back on theta; their rates stay differentiable at |grad L| = 0, for
    implicit solvers.

    Args:
        t: time, without effect: the state holds the clock of a dynamics that needs one.
        state: phi, the integrals, and what else the dynamics carries.
        args: the problem, and what the integration needs besides.

    Returns:
        The rates.
    """
    problem = args[0]
    if not problem.dynamics.plain:
        return derivative(problem.dynamics, problem, state)[1]
    _, gradient = problem.value_and_grad(state[0])
    squared = gradient @ gradient
    moved = args[0].coordinates.theta(gradient)
    speed = squared if moved is gradient else moved @ moved
    norm = jnp.sqrt(speed + jnp.finfo(squared.dtype).tiny)
    return -gradient, Quadratures(norm, squared)


def observe(state: State, problem: Problem, observers: Observers) -> dict[str, Array]:
    """What is recorded at one time. One gradient, plus the observers' own work.

    Args:
        state: phi and the integrals.
        problem: the problem.
        observers: what is recorded besides.

    Returns:
        The recorded quantities by name, with their whole cost in gradients as `COST`.
    """
    theta, integrals = state[:2]
    loss, gradient = problem.value_and_grad(theta)
    records = {
        "loss": loss,
        "gradient_norm": jnp.linalg.norm(gradient),
        "arc_length": integrals.arc_length,
        "energy": integrals.energy,
        "distance": jnp.linalg.norm(problem.coordinates.theta(theta - problem.start)),
    }
    total = 1
    for observer in observers:
        values, cost = observer(problem.model(theta))
        records, total = records | values, total + cost
    return records | {COST: jnp.asarray(total, int)}


RECORDED = ("loss", "gradient_norm", "arc_length", "energy", "distance")


def _is_float_array(leaf) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray) and jnp.issubdtype(leaf.dtype, jnp.inexact)


def in_precision(tree: PyTree, precision: str) -> PyTree:
    """The tree with all floating-point arrays in one precision, complex ones in its complex one.

    Args:
        tree: any pytree.
        precision: "float64" or "float32".

    Returns:
        The tree.
    """
    leaves, structure = jax.tree.flatten(tree)
    found = [_leaf_in_precision(x, precision) if _is_float_array(x) else x for x in leaves]
    same = all(new is old for new, old in zip(found, leaves, strict=True))
    return tree if same else jax.tree.unflatten(structure, found)


def _leaf_in_precision(leaf: Array | np.ndarray, precision: str) -> Array:
    complex_type = {"float64": "complex128", "float32": "complex64"}[precision]
    is_complex = jnp.issubdtype(leaf.dtype, jnp.complexfloating)
    dtype = complex_type if is_complex else precision
    if isinstance(leaf, jax.Array) and leaf.dtype == dtype and not leaf.weak_type:
        return leaf
    return jnp.asarray(leaf, dtype)


def _kind(leaf: object) -> str:
    if isinstance(leaf, jax.Array | np.ndarray):
        return f"an array of {leaf.dtype}"
    return f"of type {type(leaf).__name__}"


def _cause(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(". ") if lines else type(error).__name__

"""The tangent of a model: its outputs in L^2(D) and their differential J, as linear operators.

Norms are those of L^2(D) throughout (theory, section 7). With n samples the outputs are the vector
f = (F(x_1), ..., F(x_n)) / sqrt(n) of N = n x outputs numbers, so that |f - f*|^2 = L for squared
loss, J = df/dtheta, grad L = J^T grad l, and K = J J^T is the tangent kernel (NTK).
"""

import dataclasses
import functools
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from ..compilations import keep_compilations
from ..flow.chunking import samples_at_a_time
from ..flow.rates import Rates, rates_of
from ..lift import Lift
from ..showing import shows_itself
from ..static import number_kinds
from ..tasks import AbstractObjective, SquaredLoss, Supervised, Task, resolve_objective
from ..tasks.added import Penalised, data_of
from ..tasks.outputs import predict

Theta = Float[Array, " P"]
Values = Float[Array, " N"]
Trainable = PyTree | Callable


@shows_itself
@dataclasses.dataclass(frozen=True)
class Linearised:
    """f and J at one theta; the forward pass is shared by all products.

    Attributes:
        outputs: f, (N,).
        push: v -> J v, from (P,) to (N,). At most the cost of one gradient.
        pull: w -> J^T w, from (N,) to (P,). At most the cost of one gradient.
    """

    outputs: Values
    push: Callable[[Theta], Values]
    pull: Callable[[Values], Theta]

    def kernel(self, w: Values) -> Values:
        """K w = J J^T w. At most the cost of two gradients."""
        return self.push(self.pull(w))


@shows_itself
class Tangent(eqx.Module):
    """A model, split into theta and the rest, with the objective whose samples make up L^2(D).

    Attributes:
        tree: the trainable leaves, None elsewhere.
        rest: all other leaves, None where `tree` has one.
        objective: the samples, the targets and the loss.
        kinds: types and values of the numbers that are no arrays, see `flowlift.static`.
        roots: D^(1/2) of the rates, in the order of theta; None where all are 1.
        at_a_time: so many samples at most are in one pass.
    """

    tree: PyTree
    rest: PyTree
    objective: Supervised
    kinds: tuple[str, ...] = eqx.field(static=True)
    roots: Theta | None = None
    at_a_time: int | None = eqx.field(static=True, default=None)

    @property
    def theta(self) -> Theta:
        """theta as one vector, the padding of lifts included (its columns of J are 0)."""
        return ravel_pytree(self.tree)[0]

    @property
    def values(self) -> jax.ShapeDtypeStruct:
        """Shape and type of f; nothing is computed."""
        return eqx.filter_eval_shape(lambda at: at.outputs(at.theta), self)

    @property
    def root(self) -> float:
        """sqrt(n)."""
        return len(self.objective.targets) ** 0.5

    def outputs(self, theta: Theta) -> Values:
        """f(theta). One forward pass."""
        return self._of(theta, self.objective.inputs)

    def _of(self, theta: Theta, inputs: PyTree) -> Values:
        model = eqx.combine(ravel_pytree(self.tree)[1](theta), self.rest)
        return ravel_pytree(predict(model, inputs, self.objective.apply))[0] / self.root

    def linearise(self) -> Linearised:
        """f and J at theta, with rates J D^(1/2). One forward pass.

        Memory: of one gradient, of so many samples as are in one pass. Where they are not all, each
        product makes their activations anew, which takes no longer than to read them back.

        Returns:
            f and the products.
        """
        samples = len(self.objective.targets)
        if self.at_a_time is None or self.at_a_time >= samples:
            outputs, push = jax.linearize(self.outputs, self.theta)
            transpose = jax.linear_transpose(push, self.theta)
            pull = lambda w: transpose(w)[0]
        else:
            outputs, push, pull = self._in_chunks(samples, self.at_a_time)
        if self.roots is None:
            return Linearised(outputs, push, pull)
        scaled = self.scaled
        return Linearised(outputs, lambda v: push(scaled(v)), lambda w: scaled(pull(w)))

    def _in_chunks(self, samples: int, size: int) -> tuple[Values, Callable, Callable]:
        """f, and products with J and J^T, one chunk of samples after another."""
        count = -(-samples // size)
        size = -(-samples // count)
        index = np.minimum(np.arange(count * size).reshape(count, size), samples - 1)
        parts = jax.tree.map(lambda leaf: leaf[index], self.objective.inputs)
        theta = self.theta
        shape = self.values
        each, whole = shape.size // samples, lambda chunks: chunks.reshape(-1)[: shape.size]
        outputs = whole(jax.lax.map(lambda part: self._of(theta, part), parts))

        def push(v: Theta) -> Values:
            along = lambda part: jax.jvp(lambda at: self._of(at, part), (theta,), (v,))[1]
            return whole(jax.lax.map(along, parts))

        def pull(w: Values) -> Theta:
            # What fills the last chunk has no weight.
            filled = jnp.zeros(count * size * each, w.dtype).at[: w.size].set(w)

            def add(so_far: Theta, pair: tuple) -> tuple[Theta, None]:
                part, weights = pair
                back = jax.vjp(lambda at: self._of(at, part), theta)[1]
                return so_far + back(weights)[0], None

            pairs = parts, filled.reshape(count, -1)
            return jax.lax.scan(add, jnp.zeros_like(theta), pairs)[0]

        return outputs, push, pull

    def scaled(self, vector: Theta) -> Theta:
        """D^(1/2) v: a step in theta from one in phi = D^(-1/2) theta."""
        return vector if self.roots is None else self.roots * vector

    def output_gradient(self, outputs: Values) -> Values:
        """grad l at f in L^2(D): 2 (f - f*) for squared loss."""
        return jax.grad(self._loss)(outputs)

    def loss(self, outputs: Values) -> Float[Array, ""]:
        """l(f), the task's loss."""
        return self._loss(outputs)

    def residual(self, outputs: Values) -> Values:
        """r = f - f*, so that |r|^2 = L (squared loss)."""
        return outputs - self.targets

    @property
    def targets(self) -> Values:
        """f* as a vector in L^2(D), (N,)."""
        return self.objective.targets.reshape(-1) / self.root

    def _loss(self, outputs: Values) -> Float[Array, ""]:
        shape = eqx.filter_eval_shape(self.objective.outputs, eqx.combine(self.tree, self.rest))
        values = (self.root * outputs).reshape(shape.shape)
        return jnp.mean(self.objective.loss.per_sample(values, self.objective.targets))


def tangent(
    model: PyTree,
    task: Task | AbstractObjective,
    trainable: Trainable = eqx.is_inexact_array,
    *,
    squared: bool = False,
    rates: Rates | None = None,
    whole: bool = False,
    memory: int | None = None,
) -> Tangent:
    """The tangent of a model on the samples of a task.

    Args:
        model: a `Lift`, or any model that the task accepts.
        task: a task with samples.
        trainable: which leaves are theta, as for `flowlift.solve`.
        squared: whether the quantity at hand is defined for squared loss only.
        whole: whether the quantity at hand speaks of grad L, to which added terms belong.
        rates: D, as for `flowlift.solve`: J is then that of phi = D^(-1/2) theta, J D^(1/2).
        memory: bytes for the activations of one product, see `flowlift.flow.chunking`; None: as
            many samples at a time as the model says. Without effect where samples cannot be cut.

    Returns:
        The tangent, its data in the precision of theta.

    Raises:
        ValueError: if the task has no samples, its loss is not squared although it must be, the
            outputs do not fit, nothing is trainable, or a rate is none.
    """
    keep_compilations()
    objective = resolve_objective(task)
    if isinstance(objective, Penalised) and (whole or squared):
        raise ValueError(
            "Argument `task` must have no added terms for what speaks of the gradient of the data "
            "loss as that of L, but has decay or terms of the parameters; give the task without."
        )
    objective = data_of(objective)
    if not isinstance(objective, Supervised):
        raise ValueError(
            f"Argument `task` must have samples, but its loss is {type(objective).__name__}; "
            "make it by tasks.supervised."
        )
    if squared and not isinstance(objective.loss, SquaredLoss):
        raise ValueError(
            f"Argument `task` must have squared loss, but has {objective.loss}; tangent "
            "approximation and linearised flows are defined for E|F - f*|^2."
        )
    tree, rest = eqx.partition(model, trainable)
    objective = in_precision_of(tree, objective)
    objective.check(model)
    outputs = eqx.filter_eval_shape(objective.outputs, model)
    _check_real("model", outputs, "outputs", "return real and imaginary parts as two outputs")
    roots = None if rates is None else _roots(tree, rates)
    bound = memory if objective.separable else None
    at_a_time = samples_at_a_time(model, objective, bound)
    return Tangent(tree, rest, objective, number_kinds((rest, objective)), roots, at_a_time)


def _roots(tree: PyTree, rates: Rates) -> Theta:
    leaves, structure = jax.tree.flatten(tree)
    pairs = zip(leaves, rates_of(tree, rates), strict=True)
    spread = [jnp.full(leaf.shape, rate**0.5, leaf.dtype) for leaf, rate in pairs]
    return ravel_pytree(structure.unflatten(spread))[0]


def in_precision_of(tree: PyTree, objective):
    """The objective with its floating-point arrays in the precision of theta.

    Args:
        tree: the trainable leaves.
        objective: any objective.

    Returns:
        The objective.

    Raises:
        ValueError: if there are no trainable leaves, or they or the data are not real.
    """
    leaves = jax.tree.leaves(tree)
    for leaf in leaves:
        _check_real("model", leaf, "trainable parameters", "freeze it by `trainable`")
    for leaf in jax.tree.leaves(eqx.filter(objective, eqx.is_array)):
        if jnp.iscomplexobj(leaf):
            _check_real("task", leaf, "data", "give real and imaginary parts apart")
    if not sum(leaf.size for leaf in leaves):
        raise ValueError(
            "Argument `model` must have trainable floating-point arrays, but has none; make its "
            "parameters arrays, or change `trainable`."
        )
    dtype = functools.reduce(jnp.promote_types, (leaf.dtype for leaf in leaves))
    arrays, static = eqx.partition(objective, eqx.is_inexact_array)
    return eqx.combine(jax.tree.map(lambda leaf: leaf.astype(dtype), arrays), static)


def _check_real(argument: str, leaf, what: str, remedy: str) -> None:
    if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
        raise ValueError(
            f"Argument `{argument}` must have {what} that are real floating-point arrays, but has "
            f"one of {jnp.result_type(leaf)}; {remedy}, or measure an equal real one."
        )


def live(model: PyTree, trainable: Trainable = eqx.is_inexact_array) -> Float[Array, " P"]:
    """1 for each coordinate of theta, 0 for those that only pad the arrays of a lift.

    Args:
        model: any model; lifts may sit anywhere in it.
        trainable: which leaves are theta.

    Returns:
        The mask, in the order of theta.
    """
    tree, rest = eqx.partition(model, trainable)
    ones = eqx.combine(jax.tree.map(jnp.ones_like, tree), rest)
    masked = jax.tree.map(_drop_padding, ones, is_leaf=lambda x: isinstance(x, Lift))
    return ravel_pytree(eqx.partition(masked, trainable)[0])[0]


def _drop_padding(leaf):
    if not isinstance(leaf, Lift):
        return leaf
    weights = {name: leaf.fibres[name].live(w) for name, w in leaf.weights.items()}
    return eqx.tree_at(lambda lift: lift.weights, leaf, weights)

"""Losses with more than data: decay of the weights, and any terms of the parameters."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from ..leaves import leaf_names, named_by
from ..numbers import real
from ..protocols import AbstractSmoothness
from ..registry import register
from ..showing import shows_itself
from .task import AbstractObjective, Task, check_value

Coefficients = float | Mapping[str, float]


@shows_itself
class Decay(eqx.Module, AbstractSmoothness):
    """(1/2) sum_v lambda_v |theta_v|^2 over the leaves v of a model that flow.

    Attributes:
        names: of leaves, "*" for all that no other names; see `flowlift.leaves`.
        values: lambda of each name.
    """

    names: tuple[str, ...] = eqx.field(static=True)
    values: Float[Array, " names"]

    @property
    def smooth(self) -> bool:
        """It is."""
        return True

    def __call__(self, model: PyTree) -> Float[Array, ""]:
        """The sum at a model; complex numbers count by their modulus."""
        leaves, names = jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array)), leaf_names(model)
        chosen = [(self._place(name), leaf) for name, leaf in zip(names, leaves, strict=True)]
        # One sum over all numbers: each operation costs a small gradient up to 1 %.
        parts = [(self.values[i], part) for i, z in chosen if i is not None for part in _parts(z)]
        if not parts:
            return jnp.zeros((), self.values.dtype)
        numbers = jnp.concatenate([part for _, part in parts])
        each = jnp.concatenate([jnp.full(part.size, value) for value, part in parts])
        return 0.5 * jnp.sum(each * numbers**2)

    def of(self, flowing: PyTree) -> "Decay":
        """The decay of the leaves that flow, each by its own name.

        Args:
            flowing: a model with None for what does not flow.

        Returns:
            The decay.

        Raises:
            ValueError: for a name of no leaf that flows, or two that give one leaf different
                values.
        """
        names = leaf_names(flowing)
        for name in self.names:
            if name != "*" and not any(named_by(leaf, name) for leaf in names):
                raise ValueError(
                    f"Argument `decay` must name leaves of the model that flow, but {name!r} names "
                    f"none of {', '.join(names)}; correct it, or let the leaf flow."
                )
        places = [(name, self._place(name)) for name in names]
        kept = [(name, place) for name, place in places if place is not None]
        return Decay(
            tuple(name for name, _ in kept), self.values[jnp.asarray([i for _, i in kept])]
        )

    def _place(self, leaf: str) -> int | None:
        """Which name is that of a leaf; None for none."""
        there = [i for i, name in enumerate(self.names) if name != "*" and named_by(leaf, name)]
        exact = [i for i in there if not set(self.names[i]) & set("*?[")]
        there = exact or there
        if len(there) > 1:
            raise ValueError(
                f"Argument `decay` must give each leaf one number, but "
                f"{' and '.join(repr(self.names[i]) for i in there)} all name {leaf!r}; make the "
                "patterns apart."
            )
        every = [i for i, name in enumerate(self.names) if name == "*"]
        return (there or every or [None])[0]


def _parts(leaf: Array) -> list[Array]:
    """A leaf as vectors of real numbers."""
    both = (leaf.real, leaf.imag) if jnp.iscomplexobj(leaf) else (leaf,)
    return [jnp.ravel(part) for part in both]


class Term(eqx.Module):
    """weight x R(model), a function R of the parameters.

    Attributes:
        weight: its factor.
        function: R, differentiable by JAX.
    """

    weight: Float[Array, ""]
    function: Callable[[PyTree], Float[Array, ""]]

    def __call__(self, model: PyTree) -> Float[Array, ""]:
        """The term at a model."""
        return self.weight * self.function(model)


class Penalised(AbstractObjective):
    """L = data loss + sum of terms of the parameters.

    Samples are cut into chunks as without the terms, which are counted once.

    Attributes:
        data: the loss before.
        terms: what is added.
    """

    data: AbstractObjective
    terms: tuple[Decay | Term, ...]

    def __call__(self, model: PyTree) -> Float[Array, ""]:
        """L(model)."""
        loss = self.data(model)
        return loss + self.added(model).astype(loss.dtype)

    def added(self, model: PyTree) -> Float[Array, ""]:
        """The sum of the terms alone."""
        return sum((term(model) for term in self.terms), jnp.zeros(()))

    def check(self, model: PyTree) -> None:
        """Refuse what the data loss refuses, and terms that are no real number.

        Args:
            model: the model.

        Raises:
            ValueError: in either case.
        """
        self.data.check(model)
        for term in self.terms:
            check_value(term, model)  # pyright: ignore[reportArgumentType]

    def of(self, flowing: PyTree) -> "Penalised":
        """L with its decay bound to the leaves that flow.

        Args:
            flowing: a model with None for what does not flow.

        Returns:
            The objective.

        Raises:
            ValueError: as for `Decay.of`.
        """
        bound = (term.of(flowing) if isinstance(term, Decay) else term for term in self.terms)
        return dataclasses.replace(self, terms=tuple(bound))

    def smooth_beside(self, data: bool | None) -> bool | None:
        """Whether L is twice differentiable, given what is declared of the data loss.

        Args:
            data: that declaration.

        Returns:
            False where any part says so, None where one says nothing.
        """
        told = [data, *(_declared(term) for term in self.terms)]
        return False if False in told else None if None in told else True


def _declared(term: Decay | Term) -> bool | None:
    part = term.function if isinstance(term, Term) else term
    return part.smooth if isinstance(part, AbstractSmoothness) else None


def data_of(objective: AbstractObjective) -> AbstractObjective:
    """The data loss of an objective, itself where nothing is added."""
    return objective.data if isinstance(objective, Penalised) else objective


def with_decay(task: Task, decay: Coefficients) -> Task:
    """A task with weight decay: L + (1/2) sum_v lambda_v |theta_v|^2.

    A part of the loss: where the data loss is flat, theta_v falls like e^(-lambda_v t), with rates
    like e^(-d_v lambda_v t). Leaves that do not flow have none.

    Args:
        task: the task.
        decay: lambda >= 0 of all leaves, or of leaves by name: base edges of a lift, paths of
            leaves or their ends; * and ? stand for any letters, "*" alone for all that no other
            name names.

    Returns:
        The task. Its facts on the loss without decay are no longer known of L, and left out.

    Raises:
        ValueError: for what is no such number. Names are checked by `solve`, with its model.
    """
    named = dict(decay) if isinstance(decay, Mapping) else {"*": decay}
    for name, value in named.items():
        _non_negative("decay", name, value)
    if not named:
        return task
    numbers = {name: float(value) for name, value in named.items()}
    term = Decay(tuple(numbers), jnp.asarray(list(numbers.values())))
    return _with(task, term, {"decay": numbers})


def with_term(task: Task, function: Callable, *, weight: float = 1.0, name: str = "term") -> Task:
    """A task with a term of the parameters: L + weight x R(model).

    Args:
        task: the task.
        function: R, a function of the model: an `equinox.Module` where it holds arrays. One that
            inherits from `flowlift.protocols.AbstractSmoothness` says whether it is twice
            differentiable.
        weight: its factor, finite.
        name: for the provenance.

    Returns:
        The task, without facts on the loss.

    Raises:
        ValueError: for a weight that is none, or a function that is none.
    """
    number = real(weight)
    if number is None or not abs(number) < float("inf"):
        raise ValueError(
            f"Argument `weight` must be a finite number, but is {weight!r}; give the factor of "
            f"{name!r}."
        )
    if not callable(function):
        raise ValueError(
            f"Argument `function` must be a function of the model, but is "
            f"{type(function).__name__}; give R(model) -> number."
        )
    what = getattr(function, "__qualname__", type(function).__qualname__)
    added = {"terms": {name: {"function": what, "weight": number}}}
    return _with(task, Term(jnp.asarray(number, float), function), added)


def _with(task: Task, term: Decay | Term, added: Mapping[str, Any]) -> Task:
    before, objective = task.provenance, task.objective
    terms, data = (), objective
    if isinstance(objective, Penalised):
        terms, data = objective.terms, objective.data
    provenance = {**before, **added}
    if "terms" in before and "terms" in added:
        provenance["terms"] = {**before["terms"], **added["terms"]}  # pyright: ignore
    return dataclasses.replace(
        task, objective=Penalised(data, (*terms, term)), provenance=provenance, facts={}
    )


def _non_negative(argument: str, name: Any, value: Any) -> None:
    number = real(value)
    if number is None or not 0 <= number < float("inf"):
        raise ValueError(
            f"Argument `{argument}` must hold finite numbers of at least 0, but that of {name!r} "
            f"is {value!r}; give the factor of |theta|^2 / 2."
        )


@shows_itself
@register("term")
class L1(eqx.Module, AbstractSmoothness):
    """sum |theta_i| over all floating-point leaves; it has kinks at 0."""

    @property
    def smooth(self) -> bool:
        """It is not."""
        return False

    def __call__(self, model: PyTree) -> Float[Array, ""]:
        """The sum at a model."""
        leaves = jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array))
        return sum((jnp.sum(jnp.abs(leaf)) for leaf in leaves), jnp.zeros(()))

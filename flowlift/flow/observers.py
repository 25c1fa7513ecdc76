"""What a flow records besides its own quantities: functions of the model, by name."""

import abc
import re
from collections.abc import Callable, Container, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from ..reserved import RESERVED
from ..showing import shows_itself
from ..static import number_kinds
from .dynamics.base import AbstractDynamics, check_apart_from
from .rates import Rates, all_rates

# Of records: what they cost, under a name that no observer can have.
COST = "observation_gradients"
_REMEDY = "return numbers or arrays of numbers, also in tuples, lists or dicts"


@shows_itself
class AbstractObserver(eqx.Module):
    """A function of the model that says what it costs."""

    @abc.abstractmethod
    def measure(self, model: PyTree) -> tuple[PyTree, Array | int]:
        """The quantity at a model, and its cost.

        Args:
            model: the model.

        Returns:
            The quantity, and the gradients that it took, or a bound of their number.
        """

    def check_flow(self, model: PyTree, dynamics: AbstractDynamics, rates: dict[str, float]):
        """Refuse a flow of which the quantity says what is not so; nothing is computed.

        Args:
            model: the model at the start.
            dynamics: how theta moves.
            rates: of each leaf of the model, 0 for what does not flow.

        Raises:
            ValueError: for such a flow.
        """


class Watched(eqx.Module):
    """An observer of a flow.

    Attributes:
        name: its name.
        variables: a pytree like the observer's values, with a name at each leaf: the observer's own
            where the value is one array, else with the place of the leaf, as in "ends.0".
        function: an `AbstractObserver`, or any function of the model, which costs nothing.
        kinds: types and values of its numbers that are no arrays, see `flowlift.static`.
    """

    name: str = eqx.field(static=True)
    variables: PyTree
    function: Callable | AbstractObserver
    kinds: tuple[str, ...] = eqx.field(static=True)

    def __call__(self, model: PyTree) -> tuple[dict[str, Array], Array | int]:
        """The leaves of the value at a model by name, and their cost in gradients."""
        value, cost = _measured(self.function, model)
        leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(value)]
        return dict(zip(jax.tree.leaves(self.variables), leaves, strict=True)), cost


Observers = tuple[Watched, ...]


def watch(observers: Mapping[str, Callable] | None, model: PyTree) -> Observers:
    """Observers for a flow. Each is traced once; nothing is computed.

    Args:
        observers: functions of the model by name.
        model: the model, or its shapes.

    Returns:
        The observers.

    Raises:
        ValueError: for a name that results use, that is no text, or that coincides with a variable
            or a dimension of another observer's; for an observer that raises, or whose value holds
            what is no number.
    """
    if observers is not None and not isinstance(observers, Mapping):
        raise ValueError(
            f"Argument `observers` must be a mapping from names to functions of the model, but is "
            f"{type(observers).__name__}; give e.g. {{'norm': function}}."
        )
    found, taken = [], {}
    for name, function in (observers or {}).items():
        check_name(name, "observers")
        if not (callable(function) or isinstance(function, AbstractObserver)):
            raise ValueError(
                f"Argument `observers` must hold functions of the model, but {name!r} is "
                f"{type(function).__name__}; wrap it in a function."
            )
        variables, shapes = _traced(name, function, model)
        found.append(Watched(name, variables, function, number_kinds(function)))
        for used in _used(variables, shapes):
            if used in taken:
                raise ValueError(
                    f"Argument `observers` must have names that stay apart in a dataset, but "
                    f"{taken[used]!r} and {name!r} both need {used!r}; rename one."
                )
        taken |= dict.fromkeys(_used(variables, shapes), name)
    return tuple(found)


def check_observers(
    observers: Mapping[str, Any] | None,
    dynamics: AbstractDynamics,
    model: PyTree,
    trainable: PyTree | Callable,
    rates: Rates | None,
) -> None:
    """Refuse observers that a flow has no place for, or of which they say what is not so.

    Args:
        observers: by name.
        dynamics: how theta moves.
        model: the model at the start.
        trainable: which leaves flow.
        rates: of those, as for `solve`.

    Raises:
        ValueError: for a name that the dynamics records under, or by an observer's `check_flow`.
    """
    check_apart_from(observers, dynamics)
    known = [o for o in (observers or {}).values() if isinstance(o, AbstractObserver)]
    if known:
        speeds = all_rates(model, trainable, rates)
        for observer in known:
            observer.check_flow(model, dynamics, speeds)


def check_name(name: Any, argument: str, taken: Container[str] = RESERVED) -> None:
    """Refuse what cannot be the name of a recorded quantity.

    Args:
        name: the candidate.
        argument: the argument that holds it, for the message.
        taken: the names that results use.

    Raises:
        ValueError: for a name that is no text, or that results use themselves.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[^\s/.]([^/.]*[^\s/.])?", name):
        raise ValueError(
            f"Argument `{argument}` must have names without dots and slashes, but has {name!r}; "
            "rename it."
        )
    if name in taken:
        raise ValueError(
            f"Argument `{argument}` must not have a name that results use themselves, but has "
            f"{name!r}; rename it, e.g. {f'my_{name}'!r}."
        )


def named_leaves(name: str, value: PyTree) -> PyTree:
    """A pytree like a value with a name at each leaf.

    Args:
        name: of the whole.
        value: the value.

    Returns:
        The names: `name` itself where the value is one leaf.
    """

    def named(path, _) -> str:
        return f"{name}.{jax.tree_util.keystr(path, simple=True, separator='.')}" if path else name

    return jax.tree_util.tree_map_with_path(named, value)


def _measured(function, model: PyTree) -> tuple[PyTree, Array | int]:
    return (
        function.measure(model) if isinstance(function, AbstractObserver) else (function(model), 0)
    )


def _traced(name: str, function, model: PyTree) -> tuple[PyTree, list[tuple[int, ...]]]:
    try:
        value, _ = eqx.filter_eval_shape(_measured, function, model)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise ValueError(
            f"Argument `observers` must hold functions of the model that JAX can trace, but "
            f"{name!r} raised {reason}; mend it."
        ) from error
    leaves = jax.tree.leaves(value)
    wrong = next((leaf for leaf in leaves if not _is_numbers(leaf)), None)
    if wrong is not None or not leaves:
        what = type(value if wrong is None else wrong).__name__
        what = f"holds a {what}" if wrong is not None and wrong is not value else f"is {what}"
        raise ValueError(
            f"Argument `observers` must hold functions that return numbers, but the value of "
            f"{name!r} {what}; {_REMEDY}."
        )
    return named_leaves(name, value), [np.shape(leaf) for leaf in leaves]


def _is_numbers(leaf: Any) -> bool:
    if isinstance(leaf, bool | int | float | complex):
        return True
    kind = getattr(leaf, "dtype", None)
    return kind is not None and (
        jnp.issubdtype(kind, jnp.number) or jnp.issubdtype(kind, jnp.bool_)
    )


def _used(variables: PyTree, shapes: list[tuple[int, ...]]) -> list[str]:
    """The variables and dimensions of a dataset that an observer needs."""
    names = jax.tree.leaves(variables)
    dims = [dim for name, shape in zip(names, shapes, strict=True) for dim in dims_of(name, shape)]
    return [*names, *dims]


def dims_of(name: str, shape: tuple[int, ...]) -> list[str]:
    """The dimensions of a variable after the one along which it is recorded."""
    return [f"{name}_{i}" for i in range(len(shape))]

"""Rates: d theta/dt = -D grad L with D = diag(d), a rate d >= 0 for each leaf of a model.

A rate is a number or a function of the size n, such as `Power(1, -1)` or the text "1/n" for 1 / n:
mean field, muP and two time scales are tables of such rates.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PyTree

from ..leaves import leaf_names, named_by
from ..lift import PARAMETRISATIONS, Lift, parametrised_rates
from ..numbers import plain_fields, real


@plain_fields
@dataclasses.dataclass(frozen=True)
class Power:
    """The rate factor x n^power of a model of size n.

    Attributes:
        factor: at least 0.
        power: of n.
    """

    factor: float = 1.0
    power: float = 0.0

    def __call__(self, n: int) -> float:
        """The rate at a size."""
        return self.factor * float(n) ** self.power


Rate = float | str | Power | Callable[[int], float]
Rates = Rate | Mapping[str, Rate]

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_TEXT = re.compile(
    rf"\s*(?:(?P<factor>{_NUMBER})\s*(?P<sign>[*/])\s*)?n"
    rf"(?:\s*\*\*\s*(?P<bracket>\()?\s*(?P<power>{_NUMBER})\s*(?(bracket)\)))?\s*"
)


def power_of(text: str, argument: str = "rates") -> Power:
    """The power of n that a text means: "2", "n", "1/n", "0.5*n", "n**-0.5", "3/n**2".

    Args:
        text: the text.
        argument: what it is an argument of, for the message.

    Returns:
        The power.

    Raises:
        ValueError: for any other text.
    """
    number = re.fullmatch(rf"\s*({_NUMBER})\s*", text)
    if number:
        return Power(float(number[1]))
    found = _TEXT.fullmatch(text)
    if found is None:
        raise ValueError(
            f"Argument `{argument}` must hold numbers or powers of the size n, but holds {text!r}; "
            "write e.g. 'n', '1/n', '0.5*n' or 'n**-0.5'."
        )
    power = float(found["power"] or 1)
    return Power(float(found["factor"] or 1), -power if found["sign"] == "/" else power)


def rates_at(rates: Rates, n: int | None) -> dict[str, float]:
    """Rates as numbers, at one size.

    Args:
        rates: a rate of all leaves, or rates by names of leaves, "*" for all others.
        n: the size; None where it is not known.

    Returns:
        Numbers by name.

    Raises:
        ValueError: for what is no rate, a negative or an infinite one, and for a function of the
            size where that is not known.
    """
    named = rates if isinstance(rates, Mapping) else {"*": rates}
    return {name: _number(name, rate, n) for name, rate in named.items()}


def _number(name: Any, rate: Any, n: int | None) -> float:
    given = rate
    if isinstance(rate, str):
        rate = power_of(rate)
    if isinstance(rate, Power) and rate.power == 0:
        rate = rate.factor
    if callable(rate):
        if n is None:
            raise ValueError(
                f"Argument `rates` must hold numbers for a model that is no lift, but the rate of "
                f"{name!r} is a function of the size; give its value, or run it as a study."
            )
        rate = rate(n)
    number = real(rate)
    if number is None or not 0 <= number < math.inf:
        at = f" ({rate!r} at n = {n})" if rate is not given else ""
        raise ValueError(
            f"Argument `rates` must hold finite numbers of at least 0, but that of {name!r} is "
            f"{given!r}{at}; give the factor of -grad L, 0 for a leaf that does not flow."
        )
    return number


def size_of(model: PyTree) -> int | None:
    """n: of a lift the largest number of copies of a hidden vertex; None for any other model."""
    if not isinstance(model, Lift):
        return None
    copies = model.copies
    return max((copies[vertex.name] for vertex in model.module.hidden), default=1)


def rates_of(model: PyTree, rates: Rates) -> list[float]:
    """The rate of each leaf that flows.

    A name without * and ? goes before one with them, and "*" is the default of all others, 1 where
    it is left out.

    Args:
        model: any pytree whose floating-point arrays flow, None where they do not.
        rates: see `rates_at`; or, for a lift, the name of a parametrisation.

    Returns:
        Numbers, in the order of the leaves.

    Raises:
        ValueError: for a name of no leaf that flows, two that name one leaf with different rates,
            or no positive rate.
    """
    names, given = leaf_names(model), rates_at(_of_parametrisation(model, rates), size_of(model))
    for pattern in given:
        if pattern != "*" and not any(named_by(name, pattern) for name in names):
            raise ValueError(
                f"Argument `rates` must name leaves of the model that flow, but {pattern!r} names "
                f"none of {', '.join(names)}; correct it."
            )
    found = [_rate_of(name, given) for name in names]
    if not any(found):
        raise ValueError(
            f"Argument `rates` must leave a leaf that flows, but is 0 for all of "
            f"{', '.join(names)}; give one of them a positive rate."
        )
    return found


def _of_parametrisation(model: PyTree, rates: Rates) -> Rates:
    """The rates that a parametrisation gives the edges of a lift that flow; others stay."""
    if not (isinstance(rates, str) and rates in PARAMETRISATIONS):
        return rates
    if not isinstance(model, Lift):
        raise ValueError(
            f"Argument `rates` must not be a parametrisation for a model that is no lift, but is "
            f"{rates!r}; read the network by flowlift.lift.read_equinox, or give numbers."
        )
    names = leaf_names(model)
    found = parametrised_rates(model, rates)
    return {f"weights.{edge}": d for edge, d in found.items() if f"weights.{edge}" in names}


def _rate_of(name: str, given: Mapping[str, float]) -> float:
    there = [pattern for pattern in given if pattern != "*" and named_by(name, pattern)]
    exact = [pattern for pattern in there if not set(pattern) & set("*?[")]
    there = exact or there
    if len({given[pattern] for pattern in there}) > 1:
        raise ValueError(
            f"Argument `rates` must give each leaf one rate, but {' and '.join(map(repr, there))} "
            f"all name {name!r}; name it by itself, or make the patterns apart."
        )
    return given[there[0]] if there else given.get("*", 1.0)


def at_rates(
    theta0: PyTree, rest: PyTree, rates: Rates | None, precision: str
) -> tuple[PyTree, PyTree, Sequence[float] | None]:
    """The leaves that flow once those of rate 0 are among the rest, and their rates.

    Args:
        theta0: the trainable leaves of a model, None elsewhere.
        rest: all others.
        rates: see `rates_at`; None for 1.
        precision: "float64" or "float32".

    Returns:
        Both, and the rates of the leaves that flow, None where all are 1.

    Raises:
        ValueError: as for `rates_of`, or for a rate whose root no number of the precision is.
    """
    if rates is None:
        return theta0, rest, None
    found, leaves, structure = rates_of(theta0, rates), *jax.tree.flatten(theta0)
    _check(found, leaf_names(theta0), precision)
    held = structure.unflatten(
        [leaf if d == 0 else None for leaf, d in zip(leaves, found, strict=True)]
    )
    flows = structure.unflatten(
        [leaf if d > 0 else None for leaf, d in zip(leaves, found, strict=True)]
    )
    found = [d for d in found if d > 0]
    return flows, eqx.combine(rest, held), None if set(found) == {1.0} else found


def _check(found: Sequence[float], names: Sequence[str], precision: str) -> None:
    limits = np.finfo(precision)
    for name, rate in zip(names, found, strict=True):
        if rate and not float(limits.tiny) <= math.sqrt(rate) <= float(limits.max):
            raise ValueError(
                f"Argument `rates` must hold numbers whose roots {precision} holds, but that of "
                f"{name!r} is {rate!r}; raise it, or use float64."
            )


def named_rates(model: PyTree, trainable: Any, rates: Rates | None) -> dict[str, float] | None:
    """The rate of each trainable leaf of a model by its name, 0 where it does not flow.

    Args:
        model: any pytree.
        trainable: as for `equinox.partition`.
        rates: see `rates_at`.

    Returns:
        The rates; None for none.

    Raises:
        ValueError: as for `rates_of`.
    """
    if rates is None:
        return None
    leaves = eqx.filter(model, trainable)
    return dict(zip(leaf_names(leaves), rates_of(leaves, rates), strict=True))


def all_rates(model: PyTree, trainable: Any, rates: Rates | None) -> dict[str, float]:
    """The rate of each floating-point leaf of a model by its name, 0 where it does not flow.

    Args:
        model: any pytree.
        trainable: as for `equinox.partition`.
        rates: see `rates_at`; None for 1.

    Returns:
        The rates.

    Raises:
        ValueError: as for `rates_of`.
    """
    found = named_rates(model, trainable, 1.0 if rates is None else rates) or {}
    return {name: found.get(name, 0.0) for name in leaf_names(model)}


def moving_leaves(flowing: PyTree, rates: Mapping[str, float] | None) -> PyTree:
    """The leaves that flow without those whose rate is 0.

    Args:
        flowing: a model with None for what does not flow.
        rates: as given by `named_rates`.

    Returns:
        The model with None for those, too.
    """
    if rates is None:
        return flowing
    leaves, structure = jax.tree.flatten(flowing)
    pairs = zip(leaves, rates.values(), strict=True)
    return structure.unflatten([leaf if rate > 0 else None for leaf, rate in pairs])

"""Stopping rules. None of them reads a clock: results do not depend on the machine."""

import abc
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np

from ..numbers import real
from ..registry import register


class AbstractRule(abc.ABC):
    """A stopping rule that is asked at every save time, on the host: the base of one's own.

    It sees the records so far and nothing else, so that it says the same on any machine and after
    a kill. Asking costs no gradient.
    """

    # Records beyond the usual ones that it reads, such as those of a dynamics.
    reads: ClassVar[tuple[str, ...]] = ()

    @abc.abstractmethod
    def holds(self, records: Mapping[str, np.ndarray]) -> bool:
        """Whether the flow is to end at the last save time.

        Args:
            records: "time", "loss", "gradient_norm", "arc_length", "energy" and "distance" at the
                save times so far, from t = 0; and what `reads` names.
        """


@register("stop")
@dataclasses.dataclass(frozen=True)
class LossBelow:
    """Stop after the first accepted step with L <= threshold.

    Cost: at most one evaluation of the loss per accepted step, counted as an observation; none
    where the solver evaluates it there anyway.

    Attributes:
        threshold: eps, any finite number: a loss need not be positive.
    """

    threshold: float

    def __post_init__(self):
        _check(self, "threshold", -np.inf, "finite", "the loss to stop at")


@register("stop")
@dataclasses.dataclass(frozen=True)
class GradientNormBelow:
    """Stop after the first accepted step with |grad L| <= threshold.

    With rates it is |D^(1/2) grad L|, the norm that is recorded.

    Cost: at most one gradient per accepted step, counted as an observation; none where the solver
    evaluates it there anyway.

    Attributes:
        threshold: the norm, > 0.
    """

    threshold: float

    def __post_init__(self):
        _check(self, "threshold", 0.0, "positive finite", "the norm to stop at")


@register("stop")
@dataclasses.dataclass(frozen=True)
class Stagnation(AbstractRule):
    """Stop at a save time t with L(t / factor) - L(t) <= relative x (L(0) - L(t)).

    Of all that the loss has fallen, the last factor of t brought no more than this fraction. Only
    differences count: the rule says the same of L and of L + c, whatever the sign of the loss
    (where they are resolved: what rounding of L hides counts as no decrease). A loss that is
    followed down to eps needs `relative` well below eps / L(0), even if it falls all the way.

    Checked at save times, once t / factor is past the first of them. No cost.

    Attributes:
        relative: the fraction of the decrease that counts as none, > 0.
        factor: how far back one looks, > 1: plateaus of a flow last in proportion to t.
    """

    relative: float
    factor: float = 10.0

    def __post_init__(self):
        _check(self, "relative", 0.0, "positive finite", "e.g. 1e-3")
        _check(self, "factor", 1.0, "finite and more than 1", "e.g. 10")

    def holds(self, records: Mapping[str, np.ndarray]) -> bool:
        """Whether the rule holds at the last time.

        Args:
            records: of the save times so far, in the precision of the flow.

        Returns:
            The verdict.
        """
        times, losses = records["time"], records["loss"]
        earlier = times[-1] / self.factor
        if len(times) < 3 or earlier < times[1]:
            return False
        before = np.interp(np.log(earlier), np.log(times[1:]), losses[1:])
        first, last = float(losses[0]), float(losses[-1])
        # Half a unit in the last place for each of the two values that are compared.
        rounding = float(np.finfo(losses.dtype).eps) * abs(last)
        return bool(before - last <= max(self.relative * (first - last), rounding))


@register("stop")
@dataclasses.dataclass(frozen=True)
class LogLossBelow(AbstractRule):
    """Stop at a save time with log L <= threshold, where L itself has underflowed; no cost.

    For the dynamics `LogLoss`, which records log L.

    Attributes:
        threshold: log eps, any finite number.
    """

    reads: ClassVar[tuple[str, ...]] = ("log_loss",)

    threshold: float

    def __post_init__(self):
        _check(self, "threshold", -np.inf, "finite", "the logarithm of the loss to stop at")

    def holds(self, records: Mapping[str, np.ndarray]) -> bool:
        """Whether log L is that small at the last time.

        Args:
            records: of the save times so far.

        Returns:
            The verdict.
        """
        return bool(records["log_loss"][-1] <= self.threshold)


Stop = LossBelow | GradientNormBelow | AbstractRule
Kind = TypeVar("Kind", LossBelow, GradientNormBelow)


def find(stops: tuple[Stop, ...], kind: type[Kind]) -> Kind | None:
    """The rule of one kind, if any."""
    return next((stop for stop in stops if isinstance(stop, kind)), None)


def asked_at_save_times(stops: Iterable[Stop]) -> list[AbstractRule]:
    """The rules that are asked at save times, in their order."""
    return [stop for stop in stops if isinstance(stop, AbstractRule)]


def check_readable(stops: Iterable[Stop], records: Iterable[str]) -> None:
    """Refuse rules that read what a flow does not record.

    Args:
        stops: the rules.
        records: what its dynamics records.

    Raises:
        ValueError: for one that does.
    """
    for rule in asked_at_save_times(stops):
        missing = [name for name in rule.reads if name not in tuple(records)]
        if missing:
            raise ValueError(
                f"Argument `stops` must hold rules that read what the flow records, but {rule!r} "
                f"reads {missing[0]!r}; give the dynamics that records it, or leave the rule out."
            )


def at_most(threshold: float, precision: str) -> Any:
    """The largest number of a precision that is no larger: numbers of it compare with it alike.

    Args:
        threshold: the number.
        precision: "float64" or "float32".

    Returns:
        The number, of NumPy's type of that precision.
    """
    with np.errstate(over="ignore"):
        rounded = np.asarray(threshold, precision)[()]
    # NumPy would round a Python number before it compares.
    return (
        rounded
        if float(rounded) <= threshold
        else np.nextafter(rounded, rounded.dtype.type(-np.inf))
    )


def check_stops(stops: Sequence[Stop]) -> None:
    """Refuse what is no stopping rule, and two of a kind.

    Args:
        stops: the rules.

    Raises:
        ValueError: in either case.
    """
    for stop in stops if isinstance(stops, Iterable) else [stops]:
        if not (isinstance(stops, Iterable) and isinstance(stop, Stop)):
            raise ValueError(
                f"Argument `stops` must hold stopping rules, but holds {stop!r}; "
                "give a list of LossBelow, GradientNormBelow, Stagnation or rules of your own."
            )
    if len({type(stop) for stop in stops}) < len(stops):
        raise ValueError(
            f"Argument `stops` must hold one rule of a kind, but is {stops}; keep the stricter."
        )


def _check(stop: Stop, name: str, above: float, rule: str, remedy: str) -> None:
    """Refuse what is no finite number above a bound, and keep the number as Python's own."""
    value = getattr(stop, name)
    number = real(value)
    if number is None or not above < number < np.inf:
        raise ValueError(
            f"Argument `{name}` of {type(stop).__name__} must be {rule}, but is {value!r}; "
            f"give {remedy}."
        )
    object.__setattr__(stop, name, number)

"""What a study asked, answered: tables and learning numbers at every loss and time."""

import dataclasses
import tomllib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas
import xarray

from ..doing import doing
from ..showing import Card, shows_itself
from ..studies.grid import axis_names
from ..studies.records import Question, Study
from ..studies.toml import structure_study, variants
from ..words import words
from .crossing import LogisticCrossing
from .held_out import EVENTS, TRAINING
from .learning import LearningNumber, learning_number, not_observed_in_words
from .probability import success_probability
from .summary import by_variant

# Of results, the variables that `answers` reads: a large store need not load others.
ANSWERED = ("loss", "distance", "final_loss", "end_time", "result", "final_gradient_norm")
ANSWERED += ("least_eigenvalue",)
ANSWERED += ("gradient_norm_bound", "curvature_bound", "held_out_loss", "final_held_out_loss")


@shows_itself
@dataclasses.dataclass(frozen=True)
class Answer:
    """The answer to one pair of loss and time.

    Attributes:
        loss: eps.
        time: t; None for the common end of each variant's flows.
        table: as given by `success_probability`.
        numbers: per variant of the study, its values along the further axes, the learning number
            with the undecided counted as not converged, and that with them counted as converged.
        on: which loss: "training", L itself, or "held out".
    """

    loss: float
    time: float | None
    table: pandas.DataFrame
    numbers: tuple[tuple[dict[str, Any], LearningNumber, LearningNumber], ...]
    on: str = TRAINING

    def _card_(self) -> Card:
        rows = [(words(at), _in_words(row)) for at, row in self.table.iterrows()]
        for variant, least, most in self.numbers:
            name = " ".join(filter(None, ["learning number", variant_name(variant)]))
            rows += [(name, in_words(least)), (f"{name}, undecided as converged", in_words(most))]
        return Card(f"Answer: P({self.event})", rows)

    @property
    def event(self) -> str:
        """The event whose probability is asked for."""
        # Once below is always below for the training loss alone.
        by = "by" if self.on == TRAINING else "at"
        until = f"{by} the end of the flows" if self.time is None else f"{by} t = {self.time:g}"
        return f"{EVENTS[self.on]} ≤ {self.loss:g} {until}"

    @property
    def not_observed(self) -> str:
        """How many runs say nothing of the event, and why, in words; empty if all do."""
        return not_observed_in_words(self.table)


def _in_words(row: pandas.Series) -> str:
    share = f"{row.converged} of {row.runs} converged"
    return f"{share}, P in [{row.low:.3g}, {row.high:.3g}]"


def study_of(results: xarray.Dataset) -> Study:
    """The study that results belong to.

    Args:
        results: as given by `load`.

    Returns:
        The study.

    Raises:
        ValueError: if they were gathered from solutions and belong to none.
    """
    if "study" not in results.attrs:
        raise ValueError(
            "Argument `results` must belong to a study, but was gathered from solutions; load a "
            "folder that `flowlift run` wrote."
        )
    return structure_study(tomllib.loads(results.attrs["study"]))


def variant_studies(results: xarray.Dataset) -> Iterator[tuple[dict[str, Any], Study]]:
    """The studies without further axes that results consist of, in the order of `by_variant`.

    Args:
        results: as given by `load`.

    Yields:
        Values along the further axes, under their names in the results, and the study.
    """
    whole = study_of(results)
    names = axis_names(whole)
    named = [
        ({names[key]: value for key, value in assignments.items()}, study)
        for assignments, study in variants(whole)
    ]
    for variant, _ in by_variant(results):
        yield next((v, study) for v, study in named if v == variant)


def question_of(
    results: xarray.Dataset,
    *,
    losses: Sequence[float] = (),
    times: Sequence[float] = (),
    delta: float | None = None,
    on: str | None = None,
) -> Question:
    """The question in the study file of the results, or parts of it asked otherwise.

    Args:
        results: as given by `load`.
        losses: instead of the study's.
        times: instead of the study's, or none if only losses are given.
        delta: instead of the study's.
        on: instead of the study's.

    Returns:
        The question.

    Raises:
        ValueError: if neither the study nor the arguments give a loss.
    """
    asked = study_of(results).question if "study" in results.attrs else None
    if asked is None and not losses:
        raise ValueError(
            "Argument `losses` must be given, since the study file holds no table [question]; give "
            "e.g. --loss 0.01, or write losses = [0.01] there before the runs."
        )
    if asked is None:
        asked = Question(tuple(losses), tuple(times))
    elif losses or times:
        asked = dataclasses.replace(
            asked, losses=tuple(losses) or asked.losses, times=tuple(times) or asked.times
        )
    asked = asked if delta is None else dataclasses.replace(asked, delta=delta)
    return asked if on is None else dataclasses.replace(asked, on=on)


def answers(results: xarray.Dataset, question: Question) -> tuple[Answer, ...]:
    """Probabilities and learning numbers at every loss and time of a question.

    Args:
        results: as given by `load`.
        question: the question.

    Returns:
        An answer per pair.
    """
    found = []
    for place, pair in enumerate(question.pairs):
        with doing("probabilities", place, len(question.pairs)):
            found.append(_answer(results, question, *pair))
    return tuple(found)


def _answer(results, question: Question, loss: float, time: float | None) -> Answer:
    on = question.asked_on
    table = success_probability(results, loss, time, level=question.level, on=on)
    asked = partial(learning_number, delta=question.delta, level=question.level)
    numbers = tuple(
        (
            variant,
            asked(part),
            asked(part, undecided_converge=True),
        )
        for variant, part in parts_of(table)
    )
    return Answer(loss, time, table, numbers, on)


def parts_of(table: pandas.DataFrame) -> Iterator[tuple[dict[str, Any], pandas.DataFrame]]:
    """The parts of a table by variant, each indexed by the lift size alone, sizes increasing.

    Args:
        table: indexed by further axes, if any, and the lift size.

    Yields:
        Values along the further axes, and the part.
    """
    axes = table.index.names[:-1]
    if not axes:
        yield {}, table.sort_index()
        return
    for values in table.index.droplevel(-1).unique():
        chosen = values if isinstance(values, tuple) else (values,)
        part = table.xs(chosen, level=axes)
        yield dict(zip(axes, chosen, strict=True)), part.sort_index()


def variant_name(variant: dict[str, Any]) -> str:
    """The values along further axes in words; empty without any."""
    return ", ".join(f"{axis} = {_brief(value)}" for axis, value in variant.items())


def _brief(value: Any) -> str:
    """A number as short as it can be written without another value: 1e+08, not 100000000.0."""
    brief = f"{value:g}" if isinstance(value, float) else str(value)
    return brief if not isinstance(value, float) or float(brief) == value else str(value)


def in_words(number: LearningNumber) -> str:
    """A learning number with its confidence statement, as one clause.

    Args:
        number: as given by `learning_number`.

    Returns:
        The clause.
    """
    confidence = f"{100 * number.level:g}% confidence"
    if number.above is None and number.at_most is None:
        span = f"not bounded by these runs at {confidence}"
        span = f"not known: {number.unknown}; {span}" if number.unknown else span
    elif number.at_most is None:
        known = "is known to suffice" if number.unknown else "suffices yet"
        span = f"above {number.above} with {confidence}, no size {known}"
    elif number.above is None:
        span = f"at most {number.at_most} with {confidence}, no size is excluded"
    else:
        span = f"above {number.above} and at most {number.at_most} with {confidence}"
    if number.unknown and not span.startswith("not known"):
        span = f"{span}, whatever became of what was not seen ({number.unknown})"
    seen = "no size reaches it" if number.estimate is None else f"{number.estimate}"
    seen = seen if number.estimated else "not known"
    fit = "none, as runs are not observed" if number.unknown else _crossing(number.logistic)
    return f"{span}; monotone fit: {seen}; logistic fit: {fit}"


def _crossing(fit: LogisticCrossing) -> str:
    interval = f"[{_size(fit.low)}, {_size(fit.high)}]"
    if fit.between is not None:
        low, high = fit.between
        where = f"between {low:g} and {high:g}" if low and np.isfinite(high) else None
        where = where or (f"below {high:g}" if low == 0 else f"above {low:g}")
        return f"{where} (the data separate), interval {interval}"
    if fit.size is None:
        return f"none (no rise with the size), interval {interval}"
    return f"{fit.size:.4g}, interval {interval}"


def _size(value: float) -> str:
    return "unbounded" if value == np.inf else "0" if value == 0 else f"{value:.3g}"

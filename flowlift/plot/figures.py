"""The figures of a study: what its results and its question call for."""

import itertools
import textwrap
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import xarray
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .. import sources
from ..answers import Answer, answers, by_variant, further_axes, parts_of, variant_name
from ..answers.held_out import EVENTS, TRAINING
from ..doing import doing
from ..registry import find, known
from ..studies import Question
from .outcome_shares import outcome_shares
from .paired_losses import paired_losses
from .style import figure_of, higher, letters_above, most_columns, new_figure
from .success_map import success_map
from .success_vs_size import success_vs_size
from .survival_vs_time import survival_vs_time

# The height of a line above a panel.
_LINE_POINTS = 10.0
Panel = tuple[str, Callable[[Axes], Any]]


def figures(
    results: xarray.Dataset,
    question: Question | None = None,
    more: Sequence[str] = (),
    *,
    given: Sequence[Answer] | None = None,
) -> Iterator[tuple[str, str, Figure]]:
    """Draw every figure of a study, one after the other; each is closed when the next is asked for.

    Nothing is averaged over further axes: each of their combinations is a panel or a line.

    Args:
        results: as given by `flowlift.store.load`.
        question: whose losses and times; None leaves out the figures of probabilities.
        more: further figures, by registered name, file.py:name (from the working directory) or
            package.module:name: functions (data, ax) -> ax of one variant. Their code is executed.
        given: the answers to the question, where they are known; None: they are computed.

    Yields:
        A name for a file, a title and the figure.

    Raises:
        ValueError: for an unknown figure.
    """
    own = [(_function_of(word), word) for word in more]
    if given is None:
        given = answers(results, question) if question else ()
    for name, title, draw in (*_all(results, question, given), *_own(results, own)):
        with doing(f"drawing {name}"):
            figure = draw()
        yield name, title, figure
        plt.close(figure)


def _all(
    results: xarray.Dataset, question: Question | None, given: Sequence[Answer]
) -> Iterator[tuple[str, str, Callable]]:
    variants = list(by_variant(results))
    # Registered figures of one variant: a new one is a function in a file of its own.
    for entry in sorted(known("figure").values(), key=lambda entry: entry.name, reverse=True):
        if entry.function is not None:
            yield _of_variants(variants, entry.name, entry.function)
    for number, answer in enumerate(given, 1):
        assert question is not None
        mark = f"_{number}" if len(question.pairs) > 1 else ""
        for name, title, draw in _of_answer(variants, answer, question):
            yield f"{name}{mark}", f"{title}: {answer.event}", draw
    yield from _pairs(results, question)


def _own(results: xarray.Dataset, own: Sequence[tuple[Callable, str]]):
    """Figures that were asked for by name; what their code raises is one sentence."""
    variants = list(by_variant(results))
    for function, word in own:
        name = word.rpartition(":")[2]
        yield _of_variants(variants, name, partial(sources.calling, function, word))


def _of_variants(variants, name: str, function: Callable) -> tuple[str, str, Callable]:
    """A name for a file, a title, and a function that draws a panel for each variant."""
    panels = [(variant_name(v), partial(_drawn, function, part)) for v, part in variants]
    title = name.replace("_vs_", " against ").replace("_", " ")
    return name, title[:1].upper() + title[1:], partial(grid, panels)


def _drawn(function: Callable, data: xarray.Dataset, ax: Axes) -> Any:
    return function(data, ax=ax)


def _function_of(word: str) -> Callable:
    """The function of a figure's name; its code is loaded."""
    named = sources.named(word)
    entry = None if named else find("figure", word, "Argument `figure`")
    if entry is not None and entry.function is not None:
        return entry.function
    named = named or sources.named(entry.target if entry else "")
    assert named is not None
    return sources.function(named, {named.source: sources.of(named, [Path.cwd()])})


def _of_answer(variants, answer: Answer, question: Question):
    delta, level, loss = question.delta, question.level, answer.loss
    # The event in words would be longer than the axis.
    by = "by" if answer.on == TRAINING else "at"
    until = "at the end" if answer.time is None else f"{by} t = {answer.time:g}"
    name = f"P({EVENTS[answer.on]} ≤ {loss:g} {until})"
    yield (
        "success_vs_size",
        "Probability against size",
        lambda: figure_of(success_vs_size(answer.table, name=name, delta=delta, level=level)),
    )
    if answer.time is None or answer.time == (question.times or (None,))[0]:
        share = partial(success_map, loss=loss, on=answer.on)
        maps = [(variant_name(v), partial(_drawn, share, part)) for v, part in variants]
        draw = partial(grid, maps, shared=False)
        yield "success_map", "Probability over time and size", draw
        curves = [
            (variant_name(v), partial(survival_vs_time, part, loss, level=level, on=answer.on))
            for v, part in variants
        ]
        yield "survival_vs_time", "Time to the loss", partial(grid, curves)
    shares = [
        (variant_name(v), partial(outcome_shares, part, event=answer.event))
        for v, part in parts_of(answer.table)
    ]
    yield "outcome_shares", "Shares of outcomes", partial(grid, shares)


def _pairs(results: xarray.Dataset, question: Question | None):
    """For each further axis, its first value against each other one."""
    loss = question.losses[0] if question else None
    axes = further_axes(results)
    for axis in axes:
        values, panels = results[axis].values.tolist(), []
        others = [other for other in axes if other != axis]
        for combination in itertools.product(*(results[other].values.tolist() for other in others)):
            here = dict(zip(others, combination, strict=True))
            one = results.sel({**here, axis: values[0]})
            for value in values[1:]:
                names = (variant_name({axis: values[0]}), variant_name({axis: value}))
                two = results.sel({**here, axis: value})
                draw = partial(paired_losses, one, two, names=names, loss=loss)
                panels.append((variant_name(here), draw))
        if panels:
            yield (
                f"paired_{axis.replace('.', '_')}",
                f"Seed by seed, by {axis}",
                partial(grid, panels, shared=False),
            )


def grid(panels: Sequence[Panel], *, shared: bool = True) -> Figure:
    """A figure of one panel, or of several with titles, two beside one another.

    Args:
        panels: titles, and functions that draw into axes.
        shared: whether the vertical axes are one: not where panels have ticks or ranges of their
            own.

    Returns:
        The figure.
    """
    columns = min(most_columns(), len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(rows, columns)
    places = figure.subplots(rows, columns, sharey=shared, squeeze=False).ravel()
    for place, (title, draw) in zip(places, panels, strict=False):
        draw(place)
        lines = textwrap.wrap(title, letters_above(place))
        place.set_title("\n".join(lines), fontsize="small")
        higher(place, max(0, len(lines) - 1) * _LINE_POINTS, "title")
    # What the panel to the left says too need not be said again.
    for left, place in itertools.pairwise(places[: len(panels)]):
        if place.get_subplotspec().is_first_col():
            continue
        if place.get_ylabel() == left.get_ylabel():
            place.set_ylabel("")
    for place in places[len(panels) :]:
        place.remove()
    return figure

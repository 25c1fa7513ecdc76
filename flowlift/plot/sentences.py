"""What a study did, said in a sentence or two at the head of its page."""

from typing import Any

import numpy as np
import pandas
import xarray

from ..answers import LearningNumber, further_axes, there
from ..answers.learning import exact_interval
from ..modules.drawn import base_graph_svg
from ..studies import Study
from ..studies.kinds import build_module, is_loaded
from .flows import flow_in_words, graph_in_words
from .phrases import phrase_of, with_article

# More numbers than these are told by their ends.
_NAMED = 6
# Names of hosts and versions that a sentence holds.
_FEW = 3


def in_a_sentence(results: xarray.Dataset, study: Study) -> str:
    """Network, task, laws, sizes, seeds, solver and tolerance; where and when it ran, with what.

    Args:
        results: of the study.
        study: the study.

    Returns:
        Three sentences. What differs along further axes is left to these. Dates are those of the
        runs, as the store holds them: a page that is written again is the same.
    """
    lift, flow = study.lift, study.flow
    axes = [f"{axis} ({_listed(results[axis].values.tolist())})" for axis in further_axes(results)]
    task = phrase_of(study.task, "task")
    task = task if task.startswith("the ") else f"the task {task}"
    varied = f"; varied: {' and '.join(axes)}" if axes else ""
    sizes = results["size"].values.tolist()
    seeds = f"{study.seeds} seed{'s' * (study.seeds != 1)} a size"
    first = (
        f"{_networks(study)}{_laws(lift) if lift is not None else ''}, on {task}:"
        f" size{'s' * (len(sizes) != 1)} {_listed(sizes)}, {seeds}{varied}."
    )
    solver = "a solver chosen automatically" if flow.solver == "auto" else flow.solver
    second = (
        f"The {flow_in_words(results)[0]} runs to t = {_short(flow.horizon)}, by {solver} at"
        f" relative tolerance {_short(flow.rtol)} and absolute tolerance {_short(flow.atol)}"
        f"{'; ' + graph_in_words(flow.rewire) if flow.rewire else ''}."
    )
    return f"{first} {second} {_where_and_when(results)}".strip()


def _networks(study: Study) -> str:
    if study.lift is not None:
        return f"Lifts of {with_article(phrase_of(study.module, 'module'))}"
    model = phrase_of(study.model, "model")
    return f"{model[0].upper()}{model[1:]}" if model.startswith("the ") else f"The model {model}"


def _short(value: float) -> str:
    """As a person writes it: 0.001, 1e-6, 1e8."""
    text = f"{value:g}"
    if value >= 1e-3 and "e" not in text:
        return text
    return np.format_float_scientific(value, trim="-", exp_digits=1).replace("+", "")


def network_drawn(study: Study) -> str:
    """The base graph as an SVG element; empty where there is none to draw."""
    if study.lift is None or not is_loaded(study.module):
        return ""
    return base_graph_svg(build_module(study.module))


def seeds_that_would_do(number: LearningNumber, table: pandas.DataFrame) -> str:
    """How many seeds would make an estimated learning number a proved one, as a clause.

    Args:
        number: of which the size is estimated and not proved to suffice.
        table: of one variant, indexed by the size.

    Returns:
        The clause. It supposes that every size converges as often as it did: no promise.
    """
    wanted, above = 1 - number.delta, table[table.index >= number.estimate]
    counts = zip(above["converged"].tolist(), above["runs"].tolist(), strict=True)
    needed = [enough_seeds(int(met), int(runs), wanted, number.level) for met, runs in counts]
    if None in needed:
        return f"no number of seeds would do if the share stays at or below {wanted:g}"
    most = max(n for n in needed if n is not None)
    return f"about {most} seeds a size would do if they converge as often as these"


def enough_seeds(converged: int, runs: int, wanted: float, level: float) -> int | None:
    """How many runs of a size would show that its probability is at least `wanted`.

    Args:
        converged: of the runs.
        runs: so far.
        wanted: 1 - delta.
        level: of the two-sided exact interval.

    Returns:
        A number of runs whose exact interval lies above, the least of all up to the rounding of
        counts, if they converge as often as these have; None if that share is not above it.
    """
    if not runs or converged / runs <= wanted:
        return None

    def above(n: int) -> bool:
        met = np.array([n * converged // runs])
        return bool(exact_interval(met, np.array([n]), level)[0][0] >= wanted)

    low, high = 0, runs
    while not above(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if above(middle) else (middle, high)
    return high


def _laws(lift: Any) -> str:
    edges, weights = phrase_of(lift.edges, "edge_law"), phrase_of(lift.weights, "weight_law")
    if lift.parametrisation is not None:
        weights = f"parametrisation {lift.parametrisation}"
    over = len(lift.edges_over) + len(lift.weights_over)
    own = "1 base edge with laws of its own" if over == 1 else f"{over} base edges with their own"
    others = f" ({own})" if over else ""
    return f" with {edges} and {weights}{others}"


def _listed(values: list) -> str:
    words = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
    if len(words) > _NAMED and not isinstance(values[0], str):
        return f"{words[0]} to {words[-1]} ({len(words)} of them)"
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _where_and_when(results: xarray.Dataset) -> str:
    """From what every run recorded; nothing where no run did."""
    done = there(results).values
    found = {}
    for name in ("host", "ended", "versions"):
        texts = np.unique(results[name].values[done].astype(str)) if name in results else []
        found[name] = [text for text in texts if text]
    days = sorted({text[:10] for text in found["ended"]})
    when = f"from {days[0]} to {days[-1]}" if len(days) > 1 else f"on {days[0]}" if days else ""
    hosts = found["host"]
    named = ", ".join(hosts) if len(hosts) <= _FEW else f"{len(hosts)} machines"
    where = f"on {named}" if hosts else ""
    own = results.attrs.get("version_flowlift")
    version = f"with flowlift {own}" if own else ""
    if not version and found["versions"]:
        version = f"with {len(found['versions'])} sets of versions"
    told = " ".join(word for word in (when, where, version) if word)
    return f"The flows ran {told}." if told else ""

"""The history of a graph that changed, as labelled arrays: what a run of a study stores of it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..lift import Lift
from ..modules import PerceptronModule
from .dataset import Variables
from .rewired import Rewired, lifetimes_of

if TYPE_CHECKING:
    import xarray

# A pair of edges, one that left and one that entered; and one of the times at which they did.
EXCHANGE, REWIRING = "exchange", "rewiring"
_AT_A_REWIRING = {
    "rewiring_time": ("when the graph changed", "learning rate x steps"),
    "rewiring_loss_before": ("L before the graph changed", "loss"),
    "rewiring_loss_after": ("L after it changed", "loss"),
}
_HASH = ("SHA-256 of the lifted graph after it changed", "1")
_OF_A_PAIR = {
    "exchange_rewiring": ("at which rewiring the pair changed, from 0", "1"),
    "exchange_base_edge": ("over which base edge, from 0 as in `base_edges`", "1"),
    "dropped_source": ("copy at which the edge that left began", "1"),
    "dropped_target": ("copy at which it ended", "1"),
    "grown_source": ("copy at which the edge that entered begins", "1"),
    "grown_target": ("copy at which it ends", "1"),
    "dropped_magnitude": ("|w| of the edge that left", "parameter"),
    "grown_slope": (
        "|dL/dw| of the edge that entered, at w = 0; NaN at random",
        "loss / parameter",
    ),
}
_SCALARS = {
    "rewirings": ("how often the graph changed", "1"),
    "final_graph_hash": ("SHA-256 of the lifted graph at the end", "1"),
}
# Every name that a history uses in results.
NAMES = (*_AT_A_REWIRING, "rewiring_graph_hash", *_OF_A_PAIR, *_SCALARS, EXCHANGE, REWIRING)


def history_of(
    run: Rewired | None, planned: Sequence[float], module: PerceptronModule, pairs: int = 0
) -> Variables:
    """What became of the graph of a run.

    Args:
        run: the flow; None if it has no record. Of one that did not come to its end, whose legs
            have no models, times and losses alone are known.
        planned: the times at which the graph was to change.
        module: the base module, whose base edges are counted in its own order.
        pairs: how many pairs at most change in all runs of this shape, whose arrays then have one
            length: -1 and NaN where no pair is.

    Returns:
        Along `rewiring`, one place for each planned time, NaN and empty where the flow had ended:
        times, losses before and after, hashes. Along `exchange`, in the order in which they
        changed, the edges that left and entered, which have no order within a rewiring but that of
        magnitude and slope; none of a run without models. As scalars how often the graph changed,
        and its hash at the end.
    """
    count, legs = len(planned), [] if run is None else run.legs
    done = max(0, len(legs) - 1)
    fill = lambda values: np.append(values, np.full(count - done, np.nan))
    known = {
        "rewiring_time": fill(planned[:done]),
        "rewiring_loss_before": fill([leg.loss[-1] for leg in legs[:-1]]),
        "rewiring_loss_after": fill([leg.loss[0] for leg in legs[1:]]),
    }
    found: Variables = {n: ((REWIRING,), v, _noted(*_AT_A_REWIRING[n])) for n, v in known.items()}
    hashes = [leg.model.graph_hash if leg.model is not None else "" for leg in legs]
    texts = np.array([*hashes[1:], *[""] * (count - done)]).astype(str)
    found["rewiring_graph_hash"] = ((REWIRING,), texts, _noted(*_HASH))
    names = list(module.edge_by_name)
    about = {"base_edges": ", ".join(names)}
    for name, values in _pairs(run, names, pairs).items():
        found[name] = ((EXCHANGE,), values, _noted(*_OF_A_PAIR[name]) | about)
    numbers = np.arange(len(found["grown_slope"][1]))
    found[EXCHANGE] = ((EXCHANGE,), numbers, _noted("number of a pair of edges", "1"))
    scalars = {"rewirings": done, "final_graph_hash": np.asarray(hashes[-1] if hashes else "")}
    return found | {name: ((), value, _noted(*_SCALARS[name])) for name, value in scalars.items()}


def _pairs(run: Rewired | None, names: Sequence[str], length: int) -> dict[str, np.ndarray]:
    """Columns of the pairs that changed, of some length at least."""
    rows: dict[str, list[np.ndarray]] = {name: [] for name in _OF_A_PAIR}
    for turn, changes in enumerate([] if run is None else run.changes):
        for name, change in changes.items():
            size = len(change.magnitudes)
            columns = (np.full(size, turn), np.full(size, names.index(name)))
            columns += (*change.dropped, *change.grown, change.magnitudes, change.slopes)
            for column, values in zip(rows.values(), columns, strict=True):
                column.append(values)
    found = {}
    for name, parts in rows.items():
        values = np.concatenate([*parts, np.empty(0)])
        whole = name not in ("dropped_magnitude", "grown_slope")
        rest = np.full(max(0, length - len(values)), -1 if whole else np.nan)
        found[name] = np.append(values, rest).astype("int32" if whole else "float64")
    return found


def _noted(meaning: str, unit: str) -> dict[str, str]:
    return {"long_name": meaning, "units": unit}


def stored_lifetimes(
    first: Lift, run: "xarray.Dataset", name: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Which edges there were over a base edge, and when, from a run that was stored.

    Args:
        first: the lift at t = 0, drawn again from the run's size and seed.
        run: one run of a study's results, such as `results.sel(size=16, seed=0)`.
        name: the base edge.

    Returns:
        As `Rewired.lifetimes`.

    Raises:
        ValueError: if `first` is not the lift that the run began with, or the run has no history.
    """
    if "rewirings" not in run or str(run.graph_hash.values) != first.graph_hash:
        raise ValueError(
            "Argument `run` must be one run whose graph changed and began as `first`, but has "
            f"{'another graph' if 'rewirings' in run else 'no history'}; draw the lift of its size "
            "and seed."
        )
    index = list(first.module.edge_by_name).index(name)
    at, over = (run[n].values for n in ("exchange_rewiring", "exchange_base_edge"))
    pick = lambda kind, here: np.stack(
        [run[f"{kind}_{end}"].values[here].astype(int) for end in ("source", "target")]
    )
    changes: list[Any] = []
    for turn in range(int(run.rewirings)):
        here = (at == turn) & (over == index)
        changes.append((pick("dropped", here), pick("grown", here)))
    return lifetimes_of(first, name, run.rewiring_time.values[: len(changes)].tolist(), changes)

"""Many solutions as one labelled dataset: what probabilities, figures and pages are made from."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..numbers import plain
from .dataset import run_of
from .solution import FlowSolution

if TYPE_CHECKING:
    import xarray

_OWN = ("size", "seed", "solution")
_COORDINATES = {"size": "lift size n", "seed": "seed of the lift's graph and weights"}
TITLE = "flows gathered from solutions"


@dataclasses.dataclass(frozen=True)
class _Run:
    """A run at its place: values along the further axes, size and seed."""

    place: tuple
    data: "xarray.Dataset"


def gather(
    runs: Iterable[tuple[int, int, FlowSolution] | Mapping[str, Any]],
    *,
    loss_name: str = "loss L",
    size_name: str = _COORDINATES["size"],
) -> "xarray.Dataset":
    """Solutions of any origin as the dataset that `flowlift.store.load` gives of a study.

    Save times may differ: the dataset has all of them, and a record is NaN at those that its flow
    was not saved at. How and where each flow ended is kept apart, so that `flowlift.answers` and
    `flowlift.plot` ask of each what was seen of it. Flows that failed are runs like any other.

    Args:
        runs: (size, seed, solution) each; or mappings with these three keys and, as further axes of
            the dataset, whatever else distinguishes runs: a number, a string or a boolean each, the
            same keys in all.
        loss_name: what the loss is called on axes.
        size_name: what the size is called on axes.

    Returns:
        Dimensions: the further axes in the order of their first values, then `size`, `seed`, both
        increasing, and `time`. Where a combination is not there, numbers are NaN and words empty.
        It belongs to no study: certificates and the tolerances are not known of it.

    Raises:
        ValueError: if there is no run, one is not of this form, two stand at one place, an axis is
            named like a variable, or an observer recorded other shapes or no numbers.
    """
    axes, placed = _placed(runs)
    values = [list(dict.fromkeys(run.place[i] for run in placed)) for i in range(len(axes))]
    values = [
        sorted(v) if axis in _COORDINATES else v for axis, v in zip(axes, values, strict=True)
    ]
    time = np.unique(np.concatenate([run.data.time.values for run in placed]))
    at = [tuple(v.index(x) for v, x in zip(values, run.place, strict=True)) for run in placed]
    shape, names = (
        tuple(map(len, values)),
        dict.fromkeys(n for r in placed for n in r.data.data_vars),
    )
    _check_names(axes, names)
    found = {str(name): _joined(str(name), placed, at, axes, shape, time) for name in names}
    import xarray

    data = xarray.Dataset(found, dict(zip(axes, values, strict=True)) | {"time": time})
    for axis, meaning in (_COORDINATES | {"size": size_name}).items():
        data[axis].attrs = {"long_name": meaning, "units": "1"}
    data["time"].attrs = placed[0].data["time"].attrs
    data["loss"].attrs = {**data["loss"].attrs, "long_name": loss_name}
    precisions = {run.data.attrs["precision"] for run in placed}
    return data.assign_attrs(title=TITLE, precision=", ".join(sorted(precisions)))


def _placed(runs) -> tuple[list[str], list[_Run]]:
    """The names of the axes, and the runs; each place once."""
    keys, placed, seen = None, [], {}
    for number, run in enumerate(runs):
        fields = _fields(number, run)
        axes = [*(key for key in fields if key not in _OWN), "size", "seed"]
        keys = axes if keys is None else keys
        if set(axes) != set(keys):
            raise ValueError(
                f"Argument `runs` must have the same axes in all, {keys}, but run {number} has "
                f"{axes}; give every run all of them."
            )
        place = tuple(_value(number, key, fields[key]) for key in keys)
        if place in seen:
            raise ValueError(
                f"Argument `runs` must hold one solution at each place, but runs {seen[place]} and "
                f"{number} are both at {dict(zip(keys, place, strict=True))}; give another seed."
            )
        seen[place] = number
        placed.append(_Run(place, run_of(fields["solution"])))
    if keys is None:
        raise ValueError("Argument `runs` must hold a solution, but is empty; give some.")
    return keys, placed


def _fields(number: int, run: Any) -> Mapping[str, Any]:
    triple = isinstance(run, Sequence) and len(run) == len(_OWN)
    fields: Any = dict(zip(_OWN, run, strict=True)) if triple else run
    right = isinstance(fields, Mapping) and all(name in fields for name in _OWN)
    if not right or not isinstance(fields["solution"], FlowSolution):
        raise ValueError(
            "Argument `runs` must hold (size, seed, solution) or mappings with these keys, but run "
            f"{number} is {type(run).__name__} without; give e.g. (8, 0, flowlift.solve(...))."
        )
    return fields


def _value(number: int, key: str, value: Any) -> Any:
    """A coordinate's value as plain Python."""
    value = value.item() if isinstance(value, np.generic) else plain(value)
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not isinstance(value, int | float | str | bool) or (key in _COORDINATES and not whole):
        kind = "an integer" if key in _COORDINATES else "a number, a string or a boolean"
        raise ValueError(
            f"Argument `runs` must have {kind} as {key!r}, but run {number} has {value!r}; "
            "change it."
        )
    return value


def _check_names(axes: Sequence[str], names: Iterable[Any]) -> None:
    for axis in axes:
        if axis == "time" or axis in names:
            raise ValueError(
                f"Argument `runs` must not have an axis named like a variable, but has {axis!r}; "
                "rename it."
            )
    for name in ("size", "seed"):
        if name in names:
            raise ValueError(
                f"Argument `runs` must not hold records named {name!r}; rename the observer."
            )


def _joined(name: str, runs: Sequence[_Run], at, axes, shape, time) -> tuple:
    """One variable of all runs: dimensions, values and attributes."""
    there = [
        (place, run.data[name]) for place, run in zip(at, runs, strict=True) if name in run.data
    ]
    first = there[0][1]
    for _, record in there:
        if record.dims != first.dims or record.shape[1:] != first.shape[1:]:
            raise ValueError(
                f"Argument `runs` must hold records {name!r} of one shape at each time, but has "
                f"{first.shape[1:]} and {record.shape[1:]}; rename one observer."
            )
    along = "time" in first.dims
    size = (*shape, *((len(time), *first.shape[1:]) if along else first.shape))
    values = np.full(size, *_filler(name, [record.dtype for _, record in there]))
    for place, record in there:
        where = (*place, np.searchsorted(time, record["time"].values)) if along else place
        values[where] = record.values
    values = values.astype(str) if values.dtype == object else values
    return (*axes, *first.dims), values, first.attrs


def _filler(name: str, kinds: Sequence[np.dtype]) -> tuple[Any, Any]:
    """What stands where there is no run, and the type that holds it and all numbers exactly."""
    if all(kind.kind == "U" for kind in kinds):
        return "", object
    if any(kind.kind not in "biufc" for kind in kinds):
        raise ValueError(
            f"Argument `runs` must hold numbers, but the records {name!r} are of type {kinds[0]}; "
            "leave that observer out."
        )
    joint = np.result_type(*kinds)
    return np.nan, joint if joint.kind in "fc" else np.result_type(joint, np.float64)

"""A flow as a labelled table: the one form in which results are stored, gathered and plotted."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import numpy as np

from ..lift import Lift
from .frame import in_log_time
from .held_out import HELD_OUT
from .observers import dims_of, named_leaves
from .problem import RECORDED
from .solution import FlowSolution
from .units import ALONG, AT_THE_END, LOG_TIME, TIME

if TYPE_CHECKING:
    import xarray


def dataset(solution: FlowSolution) -> "xarray.Dataset":
    """The records of a flow along the dimension `time`, and how it ended as scalars.

    Further observers' records are kept under their own names, with dimensions after `time`
    named `<name>_0`, `<name>_1`, ...; where values are tuples, lists or dicts, each leaf under
    `<name>.<place>`.

    Args:
        solution: the flow.

    Returns:
        The dataset, with units and meanings as attributes.
    """
    return _labelled(_along_and_end(solution), solution)


# Dimensions, values and attributes by name: a run before it is a dataset, which takes xarray longer
# to make than a small flow.
Variables = dict[str, tuple[tuple[str, ...], Any, Mapping[str, str]]]


def _along_and_end(solution: FlowSolution) -> Variables:
    about = LOG_TIME if in_log_time(solution.observations) else TIME
    found: Variables = {"time": (("time",), solution.times, about)}
    for name in RECORDED:
        found[name] = (("time",), getattr(solution, name), _attributes(*ALONG[name]))
    for name, about in HELD_OUT.items():
        if (values := getattr(solution, name)) is not None:
            found[name] = (("time",), values, _attributes(*about))
    for name, value in solution.observations.items():
        names = jax.tree.leaves(named_leaves(name, value))
        for variable, values in zip(names, jax.tree.leaves(value), strict=True):
            found[variable] = (("time", *dims_of(variable, values.shape[1:])), values, {})
    for name, value in _ends(solution):
        found[name] = ((), value, _attributes(*AT_THE_END[name]))
    return found


def _labelled(found: Variables, solution: FlowSolution) -> "xarray.Dataset":
    import xarray

    from .. import accessor  # noqa: F401 registers `data.flowlift`

    coords = {"time": found.pop("time")}
    return xarray.Dataset(found, coords, {"precision": solution.precision})


OF_A_LIFT = {
    "parameters": "trainable numbers of the lift, padding not counted",
    "edges": "lifted edges, padding not counted",
    "graph_hash": "SHA-256 of the lifted graph",
}
# A run can fail before its lift is drawn, and a model may be no lift.
_NOT_KNOWN = {"parameters": -1, "edges": -1, "graph_hash": ""}
BOTH_ENDS = {
    "initial_loss": ("loss", 0),
    "final_loss": ("loss", -1),
    "final_gradient_norm": ("gradient_norm", -1),
    "final_distance": ("distance", -1),
    "final_arc_length": ("arc_length", -1),
    # Where there are held-out data.
    **{f"final_{name}": (name, -1) for name in HELD_OUT},
}


def run_of(solution: FlowSolution, facts: Mapping[str, Any] | None = None) -> "xarray.Dataset":
    """A flow as one of many: its records, both its ends, and what is known of its model.

    Args:
        solution: the flow; it may have no record at all.
        facts: of the model, as far as they are known; None takes them from the solution's.

    Returns:
        `dataset` with a scalar for each of `BOTH_ENDS`, NaN without a record, and of `OF_A_LIFT`.
    """
    return _labelled(record_of(solution, facts), solution)


def record_of(solution: FlowSolution, facts: Mapping[str, Any] | None = None) -> Variables:
    """As `run_of`, as plain arrays with `time` among them, for whoever joins many runs.

    Args:
        solution: the flow; it may have no record at all.
        facts: of the model, as far as they are known; None takes them from the solution's.

    Returns:
        Dimensions, values and attributes by name.
    """
    found = _along_and_end(solution)
    known = facts_of(solution.model) if facts is None else facts
    for name, (record, place) in BOTH_ENDS.items():
        if record not in found:
            continue
        _, values, attributes = found[record]
        found[name] = ((), float(values[place]) if len(values) else float("nan"), attributes)
    for name, missing in _NOT_KNOWN.items():
        value = np.asarray(known.get(name, missing))
        found[name] = ((), value, _attributes(OF_A_LIFT[name], "1"))
    return found


def facts_of(model: Any) -> dict[str, Any]:
    """What is stored of a lift beside its flow; of another model only its number of parameters.

    Args:
        model: the model.

    Returns:
        Values by the names of `OF_A_LIFT`.
    """
    if not isinstance(model, Lift):
        leaves = jax.tree_util.tree_leaves(eqx.filter(model, eqx.is_inexact_array))
        # A complex number is two real ones.
        return {"parameters": sum(leaf.size * (1 + np.iscomplexobj(leaf)) for leaf in leaves)}
    return {
        "parameters": model.n_parameters,
        "edges": model.n_edges,
        "graph_hash": model.graph_hash,
    }


def _attributes(meaning: str, unit: str) -> dict[str, str]:
    return {"long_name": meaning, "units": unit}


def _ends(solution: FlowSolution):
    stats = solution.stats
    return {
        "end_time": solution.time,
        "result": np.asarray(solution.result.value),
        "solver_used": np.asarray(solution.solver),
        "gradients": stats.gradients,
        "hvps": stats.hvps,
        "observation_gradients": stats.observation_gradients,
        "steps": stats.steps,
        "rejected": stats.rejected,
        "seconds": stats.seconds,
    }.items()

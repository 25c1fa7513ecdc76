"""Planting a witness: a small network, copied into a larger lift exactly (theory, section 5)."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from ..modules import Constant, Hidden, Input, Output, edge_name
from ..showing import shows_itself
from .lift import Lift
from .sampling import from_edges

Places = dict[str, np.ndarray]


@shows_itself
@dataclasses.dataclass(frozen=True)
class Planting:
    """A lift that holds a witness, and where.

    Attributes:
        lift: the larger lift.
        witness: the witness as it was planted.
        places: for each vertex, the copies in `lift` that are the witness's, in its order.
        readout: whether the edges into the outputs were planted, too.
    """

    lift: Lift
    witness: Lift
    places: Places
    readout: bool

    def read_off(self, lift: Lift | None = None) -> Lift:
        """The witness as it stands in a lift: its copies, and their edges among themselves.

        Of the planted lift itself it is the witness. Of the same lift after a flow it is what has
        become of the witness; edges from other copies, which never enter planted ones, are no
        part of it.

        Args:
            lift: a lift with the planted graph, e.g. `solution.model`; None for the planted one.

        Returns:
            A lift of the witness's size, edges into outputs as planted, or the witness's own when
            they were not.

        Raises:
            ValueError: if the lift has another graph.
        """
        lift = self.lift if lift is None else lift
        if lift.graph_hash != self.lift.graph_hash:
            raise ValueError(
                f"Argument `lift` must have the planted graph {self.lift.graph_hash[:12]}, but "
                f"has {lift.graph_hash[:12]}; pass the planted lift, or what a flow made of it."
            )
        edges = {}
        for name, edge in lift.module.edge_by_name.items():
            target = lift.module.by_name[edge.target]
            if isinstance(target, Output) and not self.readout:
                edges[name] = self.witness.edges(name)
            else:
                edges[name] = _inside(lift, name, self.places)
        return from_edges(
            lift.module,
            copies=_hidden_copies(self.witness),
            edges=edges,
            precision=_precision(lift),
            method=lift.method,
        )


def plant(
    lift: Lift,
    witness: Lift,
    *,
    places: Mapping[str, Sequence[int]] | None = None,
    readout: bool = True,
) -> Planting:
    """Copy a witness into a larger lift of the same module: its copies, edges and weights, exactly.

    At every hidden vertex some copies of the lift become the witness's: the edges that entered
    them are removed, and the witness's edges among them put in their place. So their activations
    are the witness's, whatever the rest of the lift is; the other copies, and their edges, stay
    as drawn, and may read planted copies. The laws draw copies exchangeably, so that the first
    copies are as good a place as any.

    With `readout`, an output also receives the witness's edges in place of those that it had from
    planted copies, inputs and constants; as long as the other copies' read-out is zero, as drawn
    by default, the lift **is** the witness, as a function. Without, the lift's read-out stays, and
    the witness is a read-out away: the situation of the theorem's proof, theory section 5.

    Args:
        lift: the larger lift, e.g. drawn by `flowlift.sample`.
        witness: a lift of the same module, e.g. from `read_equinox`.
        places: for some hidden vertices, which copies; None for the first ones.
        readout: whether to plant the edges into the outputs.

    Returns:
        The lift with the witness in it, its seed -1, and the places.

    Raises:
        ValueError: if the modules or precisions differ, the lift has fewer copies of a vertex than
            the witness, or places are not distinct copies of it.
    """
    _check_pair(lift, witness)
    chosen = _resolve_places(lift, witness, places or {})
    edges = {}
    for name, edge in lift.module.edge_by_name.items():
        output = isinstance(lift.module.by_name[edge.target], Output)
        if output and not readout:
            edges[name] = lift.edges(name)
            continue
        sources, targets, weights = lift.edges(name)
        # An output is shared: only what planted copies send it is the witness's.
        ends, planted = (sources, edge.source) if output else (targets, edge.target)
        kept = ~np.isin(ends, chosen[planted])
        new_sources, new_targets, new_weights = witness.edges(name)
        edges[name] = (
            np.concatenate([sources[kept], chosen[edge.source][new_sources]]),
            np.concatenate([targets[kept], chosen[edge.target][new_targets]]),
            np.concatenate([weights[kept], new_weights]),
        )
    planted_lift = from_edges(
        lift.module,
        copies=_hidden_copies(lift),
        edges=edges,
        precision=_precision(lift),
        method=lift.method,
    )
    return Planting(planted_lift, witness, chosen, readout)


def _inside(lift: Lift, name: str, places: Places):
    """The edges between planted copies, in the witness's numbering."""
    edge = lift.module.edge_by_name[name]
    sources, targets, weights = lift.edges(name)
    numbers = []
    for end, copies in ((edge.source, lift.copies), (edge.target, lift.copies)):
        number = np.full(copies[end], -1)
        number[places[end]] = np.arange(len(places[end]))
        numbers.append(number)
    new_sources, new_targets = numbers[0][sources], numbers[1][targets]
    kept = (new_sources >= 0) & (new_targets >= 0)
    return new_sources[kept], new_targets[kept], weights[kept]


def _check_pair(lift: Lift, witness: Lift) -> None:
    if lift.module != witness.module:
        raise ValueError(
            "Argument `witness` must be a lift of the same base module as `lift`, but is one of "
            f"{_outline(witness)}, not of {_outline(lift)}; draw `lift` of `witness.module`."
        )
    if _precision(lift) != _precision(witness):
        raise ValueError(
            f"Argument `witness` must have the precision of `lift`, {_precision(lift)}, but has "
            f"{_precision(witness)}; draw `lift` with precision={_precision(witness)!r}."
        )


def _outline(lift: Lift) -> str:
    return f"({', '.join(f'{edge_name(e)}: {e.map}' for e in lift.module.edges)})"


def _resolve_places(lift: Lift, witness: Lift, given: Mapping[str, Sequence[int]]) -> Places:
    hidden = [v.name for v in lift.module.hidden]
    if unknown := set(given) - set(hidden):
        raise ValueError(
            f"Argument `places` must name hidden vertices, {hidden}, but names "
            f"{sorted(unknown)}; the fibres over inputs and outputs are fixed."
        )
    places: Places = {}
    for vertex in lift.module.vertices:
        name, wanted = vertex.name, witness.copies[vertex.name]
        have = lift.copies[name]
        if isinstance(vertex, Input | Constant | Output):
            places[name] = np.arange(have)
            continue
        if have < wanted:
            raise ValueError(
                f"Argument `lift` must have at least the witness's {wanted} copies of {name!r}, "
                f"but has {have}; draw a larger one."
            )
        places[name] = _checked_places(name, given.get(name, range(wanted)), wanted, have)
    return places


def _checked_places(name: str, given: Sequence[int], wanted: int, have: int) -> np.ndarray:
    chosen = np.asarray(given)
    distinct = len(np.unique(chosen)) == len(chosen) == wanted
    whole = chosen.ndim == 1 and np.issubdtype(chosen.dtype, np.integer)
    if not (distinct and whole and chosen.min() >= 0 and chosen.max() < have):
        raise ValueError(
            f"Argument `places[{name!r}]` must be {wanted} distinct copies from 0 to {have - 1}, "
            f"but is {list(given)}; one place per copy of the witness."
        )
    return chosen


def _hidden_copies(lift: Lift) -> dict[str, int]:
    return {v.name: lift.copies[v.name] for v in lift.module.vertices if isinstance(v, Hidden)}


def _precision(lift: Lift) -> str:
    return str(np.result_type(*(w.dtype for w in lift.weights.values())))

"""Perceptron modules: base graphs, before any lift (theory, section 1)."""

import dataclasses
import functools
import graphlib
from collections.abc import Sequence

from ..numbers import plain_fields
from ..showing import Card, shows_itself
from .drawn import base_graph_svg
from .edge_maps import AbstractEdgeMap, Shape
from .vertex_maps import AbstractVertexMap, Pointwise


@plain_fields
@dataclasses.dataclass(frozen=True)
class Input:
    """An input vertex, in I.

    Attributes:
        name: its name.
        shape: the activation space Y_v of one copy.
        copies: None for a single copy that carries the whole input, of data shape `shape`; an
            integer c for a fixed fibre of c copies (one per coordinate or channel), of data
            shape (c, *shape).
    """

    name: str
    shape: Shape = ()
    copies: int | None = None


@dataclasses.dataclass(frozen=True)
class Constant:
    """An input vertex with Y = R and the value 1: where biases come from (never lifted)."""

    name: str = "1"


@plain_fields
@dataclasses.dataclass(frozen=True)
class Hidden:
    """A vertex that is lifted to as many copies as one asks for.

    Attributes:
        name: its name.
        map: the vertex map sigma_v on the tuple of pre-activations.
        shape: the activation space, checked against sigma_v when given.
    """

    name: str
    map: AbstractVertexMap = Pointwise("tanh")
    shape: Shape | None = None


@plain_fields
@dataclasses.dataclass(frozen=True)
class Output:
    """An output vertex, in T; its fibre is fixed: `copies` is as for `Input`."""

    name: str
    map: AbstractVertexMap = Pointwise("identity")
    copies: int | None = None
    shape: Shape | None = None


Vertex = Input | Constant | Hidden | Output


@plain_fields
@dataclasses.dataclass(frozen=True)
class Edge:
    """An edge u -> v of the base multigraph with its map M_e.

    Attributes:
        source: name of u.
        target: name of v.
        map: the edge map M_e.
        name: None means "u->v", and "u->v#2", "u->v#3", ... for further parallel edges.
    """

    source: str
    target: str
    map: AbstractEdgeMap
    name: str | None = None


@shows_itself
@dataclasses.dataclass(frozen=True)
class PerceptronModule:
    """A perceptron module B = (V, E): a finite directed acyclic multigraph with maps.

    Theory, section 1 [paper]. Each vertex v has an activation space Y_v, each edge e = (u, v)
    a weight space W_e and a map M_e : W_e x Y_u -> Z_e, each non-input vertex a map sigma_v from
    the tuple (z_e), e entering v (in the order of declaration), to Y_v:

        y_v = x_v on I,   y_v = sigma_v((M_e(w_e, y_u))_{e = (u, v)}) elsewhere.

    A module holds no weights; `flowlift.sample` draws a lift of it.

    Attributes:
        vertices: `Input`, `Constant`, `Hidden` and `Output` vertices, in any order.
        edges: the edges; parallel edges are allowed.

    Raises:
        ValueError: for a duplicate or unknown vertex, an edge into an input, a cycle, a vertex
            without entering edges, an output that no input reaches, or shapes that do not fit.
    """

    vertices: tuple[Vertex, ...]
    edges: tuple[Edge, ...]

    def __init__(self, vertices: Sequence[Vertex], edges: Sequence[Edge]):
        object.__setattr__(self, "vertices", tuple(vertices))
        object.__setattr__(self, "edges", _named(edges))
        _check_names(self)
        _check_maps(self)
        _check_edges(self)
        _ = self.order
        _check_reachable(self)
        _ = self.shapes

    @functools.cached_property
    def by_name(self) -> dict[str, Vertex]:
        """The vertices by name."""
        return {v.name: v for v in self.vertices}

    @functools.cached_property
    def edge_by_name(self) -> dict[str, Edge]:
        """The edges by name."""
        return {edge_name(e): e for e in self.edges}

    @functools.cached_property
    def order(self) -> tuple[str, ...]:
        """Vertex names in a topological order (deterministic).

        Returns:
            Every vertex after its predecessors.

        Raises:
            ValueError: if the graph has a cycle.
        """
        graph = {v.name: [e.source for e in self.entering(v.name)] for v in self.vertices}
        try:
            return tuple(graphlib.TopologicalSorter(graph).static_order())
        except graphlib.CycleError as error:
            # graphlib lists each vertex after its predecessor.
            cycle = " -> ".join(error.args[1])
            raise ValueError(
                f"Argument `edges` must form an acyclic graph, but contains the cycle {cycle}; "
                "remove one of its edges."
            ) from None

    @functools.cached_property
    def shapes(self) -> dict[str, Shape]:
        """The shape of each activation space Y_v, inferred in topological order."""
        shapes: dict[str, Shape] = {}
        for name in self.order:
            shapes[name] = _infer_shape(self, self.by_name[name], shapes)
        return shapes

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The vertices of I that carry data."""
        return tuple(v for v in self.vertices if isinstance(v, Input))

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The vertices of T."""
        return tuple(v for v in self.vertices if isinstance(v, Output))

    @property
    def hidden(self) -> tuple[Hidden, ...]:
        """The vertices whose number of copies is free."""
        return tuple(v for v in self.vertices if isinstance(v, Hidden))

    @property
    def smooth(self) -> bool:
        """Whether every vertex map is declared twice continuously differentiable."""
        return all(v.map.smooth for v in self.vertices if isinstance(v, Hidden | Output))

    def entering(self, vertex: str) -> tuple[Edge, ...]:
        """The edges into a vertex, in the order of declaration: the order of sigma_v's tuple."""
        return tuple(e for e in self.edges if e.target == vertex)

    def weight_shape(self, edge: Edge) -> Shape:
        """Shape of W_e."""
        return edge.map.weight_shape(self.shapes[edge.source])

    @property
    def _title(self) -> str:
        return f"PerceptronModule: {len(self.vertices)} vertices, {len(self.edges)} edges"

    def _card_(self) -> Card:
        rows = [_described(self.by_name[n], self.shapes[n]) for n in self.order]
        rows += [(edge_name(e), self._weights(e)) for e in self.edges]
        return Card(self._title, rows, lambda: base_graph_svg(self))

    def _weights(self, edge: Edge) -> str:
        return f"{type(edge.map).__name__}, weights {_space(self.weight_shape(edge))}"

    def __str__(self) -> str:
        """The vertices with their spaces, then the edges with their maps and weight spaces."""
        vertices = [_described(self.by_name[n], self.shapes[n]) for n in self.order]
        lines = [self._title, *(f"  {name:<6} {text}" for name, text in vertices)]
        lines += [f"  {edge_name(e):<14} {self._weights(e)}" for e in self.edges]
        return "\n".join(lines)


def edge_name(edge: Edge) -> str:
    """The name of an edge of a module (always set there)."""
    return edge.name or f"{edge.source}->{edge.target}"


def _named(edges: Sequence[Edge]) -> tuple[Edge, ...]:
    seen: dict[str, int] = {}
    named = []
    for edge in edges:
        plain = f"{edge.source}->{edge.target}"
        seen[plain] = seen.get(plain, 0) + 1
        default = plain if seen[plain] == 1 else f"{plain}#{seen[plain]}"
        named.append(dataclasses.replace(edge, name=edge.name or default))
    return tuple(named)


def _check_names(module: PerceptronModule) -> None:
    for kind, names in (
        ("vertices", [v.name for v in module.vertices]),
        ("edges", [edge_name(e) for e in module.edges]),
    ):
        for name in names:
            if names.count(name) > 1:
                raise ValueError(
                    f"Argument `{kind}` must have distinct names, but {name!r} appears "
                    f"{names.count(name)} times; rename all but one."
                )
    for vertex in module.vertices:
        copies = getattr(vertex, "copies", None)
        if copies is not None and (not isinstance(copies, int) or copies < 1):
            raise ValueError(
                f"Argument `copies` of vertex {vertex.name!r} must be None or at least 1, "
                f"but is {copies!r}; give the number of coordinates or channels."
            )


def _check_maps(module: PerceptronModule) -> None:
    """A word or a function is no map yet: it is easily given in its place."""
    for vertex in module.vertices:
        if isinstance(vertex, Hidden | Output) and not isinstance(vertex.map, AbstractVertexMap):
            raise ValueError(
                f"Argument `map` of vertex {vertex.name!r} must be a vertex map, but is "
                f'{vertex.map!r}; write e.g. Pointwise("tanh") or TupleMap(function).'
            )
    for edge in module.edges:
        if not isinstance(edge.map, AbstractEdgeMap):
            raise ValueError(
                f"Argument `map` of edge {edge.name!r} must be an edge map, but is "
                f"{edge.map!r}; write e.g. Scalar() or InnerProduct()."
            )


def _check_edges(module: PerceptronModule) -> None:
    for edge in module.edges:
        for end in (edge.source, edge.target):
            if end not in module.by_name:
                raise ValueError(
                    f"Argument `edges` must join declared vertices, but {edge_name(edge)!r} names "
                    f"the unknown vertex {end!r}; declare it or use one of "
                    f"{', '.join(module.by_name)}."
                )
        if isinstance(module.by_name[edge.target], Input | Constant):
            raise ValueError(
                f"Argument `edges` must not enter an input, but {edge_name(edge)!r} enters "
                f"{edge.target!r}; make {edge.target!r} a Hidden vertex or turn the edge round."
            )
    if not module.outputs or not module.inputs:
        raise ValueError(
            "Argument `vertices` must hold at least one Input and one Output, but holds "
            f"{len(module.inputs)} and {len(module.outputs)}; add the missing vertex."
        )


def _check_reachable(module: PerceptronModule) -> None:
    reached = {v.name for v in module.inputs}
    for name in module.order:
        entering = module.entering(name)
        if not entering and isinstance(module.by_name[name], Hidden | Output):
            raise ValueError(
                f"Argument `edges` must give every vertex that is no input an entering edge, but "
                f"{name!r} has none; add one or remove the vertex."
            )
        if any(e.source in reached for e in entering):
            reached.add(name)
    for output in module.outputs:
        if output.name not in reached:
            raise ValueError(
                f"Argument `edges` must join the inputs to every output, but no path leads from "
                f"{', '.join(v.name for v in module.inputs)} to {output.name!r}; add the edges."
            )


def _infer_shape(module: PerceptronModule, vertex: Vertex, known: dict[str, Shape]) -> Shape:
    if isinstance(vertex, Input):
        return vertex.shape
    if isinstance(vertex, Constant):
        return ()
    sources = []
    for edge in module.entering(vertex.name):
        try:
            sources.append(edge.map.output_shape(known[edge.source]))
            edge.map.weight_shape(known[edge.source])
        except ValueError as error:
            raise ValueError(
                f"Argument `map` of edge {edge_name(edge)!r} must fit its source "
                f"{edge.source!r} of shape {known[edge.source]}, but {error}."
            ) from error
    try:
        shape = vertex.map.output_shape(tuple(sources))
    except ValueError as error:
        entering = ", ".join(edge_name(e) for e in module.entering(vertex.name))
        raise ValueError(
            f"Argument `map` of vertex {vertex.name!r} must accept the pre-activations of "
            f"{entering}, but {error}; change the edge maps or the vertex map."
        ) from error
    if vertex.shape is not None and vertex.shape != shape:
        raise ValueError(
            f"Argument `shape` of vertex {vertex.name!r} must be what its map returns, {shape}, "
            f"but is {vertex.shape}; correct or omit it."
        )
    return shape


def _space(shape: Shape) -> str:
    return "R" if shape == () else "R^" + "x".join(map(str, shape))


def _described(vertex: Vertex, shape: Shape) -> tuple[str, str]:
    text = f"{type(vertex).__name__:<9} {_space(shape)}"
    copies = getattr(vertex, "copies", None)
    if copies is not None:
        text += f", {copies} {'copy' if copies == 1 else 'copies'}"
    if isinstance(vertex, Hidden | Output):
        text += f", {vertex.map}"
    return vertex.name, text

"""Drawing random sparse lifts, and building lifts from given edges (theory, section 3)."""

import math
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from ..compilations import keep_compilations
from ..kernels import Fibre
from ..memory import check_memory
from ..modules import Edge, Identity, Output, PerceptronModule, Scalar, edge_name
from ..numbers import plain_numbers
from ..precision import check_precision, check_real
from ..streams import Purpose, check_seed, stream
from .edge_laws import AbstractEdgeLaw, Complete, OneToOne
from .lift import Lift, graph_digest
from .parametrisation import check_parametrisation, parametrised_laws
from .weight_laws import AbstractWeightLaw, Gaussian, Zero

Sizes = dict[str, int]
# Edges name copies by 32-bit integers.
_MOST_COPIES = 2**31 - 1


@plain_numbers
def sample(
    module: PerceptronModule,
    *,
    copies: int | Mapping[str, int],
    edges: AbstractEdgeLaw | Mapping[str, AbstractEdgeLaw],
    seed: int,
    weights: AbstractWeightLaw | Mapping[str, AbstractWeightLaw] | None = None,
    parametrisation: str | None = None,
    precision: str = "float64",
    method: str = "auto",
) -> Lift:
    """Draw a random sparse lift (theory, section 3 [choice]).

    The graph is drawn first, then the weights, independently, from two named streams of the seed,
    on the host: the same seed gives the same lift on any device. Over base edges that are not
    named in `edges`, a read-out (an edge into an output) and an edge from a single copy (a vector
    input, the constant) are `Complete`: an output fed by O(1) units could not average; a residual
    (an `Identity` edge) is `OneToOne`: what it carries on is the copy itself.

    Cost: O(edges) time and memory.

    Args:
        module: the base module.
        copies: the lift size: copies of every hidden vertex, or of each by name.
        edges: one law for all remaining base edges, or a dict of laws by edge name, in which "*"
            stands for the remaining ones.
        seed: an integer from 0 to 2^63 - 1.
        weights: None for `Gaussian(1)` and zero read-outs [choice]; one law for all edges but
            read-outs; or a dict of laws by edge name, in which "*" stands for all edges but
            read-outs. Edges of the constant follow the same rule.
        parametrisation: "standard", "ntk", "mean field" or "mup": the weight laws of a table (see
            `flowlift.lift.parametrisation`), of which `weights` may still name single edges; give
            `rates` of `solve` the same name for its rates.
        precision: "float64" or "float32".
        method: how fibres are summed; "auto" chooses by measured thresholds.

    Returns:
        The lift.

    Raises:
        ValueError: for unknown vertices or edges, copies below 1, an in-degree above the number
            of copies, a bad seed, float64 without JAX's x64 mode, or a lift that exceeds the
            machine's memory.
    """
    check_precision(precision)
    check_seed(seed)
    sizes = resolve_copies(module, copies)
    edge_laws = resolve_edge_laws(module, edges, sizes)
    _check_fits(module, sizes, edge_laws)
    weight_laws = _resolve_weight_laws(module, weights)
    if parametrisation is not None:
        weight_laws = parametrised_laws(module, sizes, edge_laws, parametrisation)
        weight_laws |= _named_weight_laws(weights)
    pairs = _draw_graph(module, sizes, edge_laws, seed)
    values = _draw_weights(module, sizes, weight_laws, pairs, seed)
    return _assemble(module, sizes, edge_laws, pairs, values, seed, precision, method)


@plain_numbers
def check_plan(
    module: PerceptronModule,
    *,
    copies: int | Mapping[str, int],
    edges: AbstractEdgeLaw | Mapping[str, AbstractEdgeLaw],
    weights: AbstractWeightLaw | Mapping[str, AbstractWeightLaw] | None = None,
    parametrisation: str | None = None,
) -> None:
    """Refuse what `sample` would refuse of copies and laws, without drawing anything.

    Args:
        module: the base module.
        copies: as for `sample`.
        edges: as for `sample`.
        weights: as for `sample`.
        parametrisation: as for `sample`.

    Raises:
        ValueError: as for `sample`.
    """
    sizes = resolve_copies(module, copies)
    _check_fits(module, sizes, resolve_edge_laws(module, edges, sizes))
    _resolve_weight_laws(module, weights)
    if parametrisation is not None:
        check_parametrisation(parametrisation, module)
        _named_weight_laws(weights)


def _check_fits(module: PerceptronModule, sizes: Sizes, laws: dict[str, AbstractEdgeLaw]) -> None:
    """Refuse a lift whose edges and weights alone exceed the memory, by what their laws say."""
    numbers, least = 0, 0
    for name, edge in module.edge_by_name.items():
        pairs = laws[name].capacity(sizes[edge.source], sizes[edge.target])
        count = pairs * math.prod(module.weight_shape(edge))
        # Both ends as 64-bit integers, and a float64 for each number of a weight, while drawn.
        numbers, least = numbers + count, least + 16 * pairs + 8 * count
    hidden = {vertex.name: sizes[vertex.name] for vertex in module.hidden}
    check_memory("copies", hidden, least, f"a lift of {numbers} parameters")


@plain_numbers
def from_edges(
    module: PerceptronModule,
    *,
    copies: int | Mapping[str, int],
    edges: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]],
    precision: str = "float64",
    method: str = "auto",
) -> Lift:
    """Build a lift from explicit edges and weights.

    Args:
        module: the base module.
        copies: as for `sample`.
        edges: for **every** base edge, sources (edges,), targets (edges,) and weights
            (edges, *W_e), in any order.
        precision: "float64" or "float32".
        method: as for `sample`.

    Returns:
        The lift, its seed -1.

    Raises:
        ValueError: if the homomorphism to the base graph fails: an unknown or missing base edge,
            an end outside the fibre of its vertex, a repeated edge; or if weights have the wrong
            shape or are not finite.
    """
    check_precision(precision)
    sizes = resolve_copies(module, copies)
    _check_keys("edges", edges, module)
    if missing := set(module.edge_by_name) - set(edges):
        raise ValueError(
            f"Argument `edges` must name every base edge, but lacks {sorted(missing)}; "
            "give empty arrays where a fibre has no edge."
        )
    pairs, values = {}, {}
    for name, edge in module.edge_by_name.items():
        pairs[name], values[name] = _checked_edges(module, edge, edges[name])
    return _assemble(module, sizes, {}, pairs, values, -1, precision, method)


@plain_numbers
def resolve_copies(module: PerceptronModule, copies: int | Mapping[str, int]) -> Sizes:
    """The number of copies of every vertex: fixed for inputs and outputs, given for hidden ones.

    Args:
        module: the base module.
        copies: a number for all hidden vertices, or one for each by name.

    Returns:
        Copies by vertex name.

    Raises:
        ValueError: for unknown, fixed or missing vertices, or numbers below 1.
    """
    hidden = [v.name for v in module.hidden]
    given = dict(copies) if isinstance(copies, Mapping) else dict.fromkeys(hidden, copies)
    for name, n in given.items():
        if name not in hidden:
            raise ValueError(
                f"Argument `copies` must name hidden vertices, {hidden}, but names {name!r}; "
                "the fibres over inputs and outputs are fixed."
            )
        if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
            raise ValueError(
                f"Argument `copies[{name!r}]` must be an integer of at least 1, but is {n!r}; "
                "give the lift size."
            )
        if n > _MOST_COPIES:
            raise ValueError(
                f"Argument `copies[{name!r}]` must be at most 2^31 - 1, which an edge can name, "
                f"but is {n!r}; lower it."
            )
    if missing := set(hidden) - set(given):
        raise ValueError(
            f"Argument `copies` must cover every hidden vertex, but lacks {sorted(missing)}; "
            "add them."
        )
    fixed = {v.name: getattr(v, "copies", None) or 1 for v in module.vertices}
    return {**fixed, **{name: int(n) for name, n in given.items()}}


def _check_keys(argument: str, given: Mapping, module: PerceptronModule) -> None:
    for name in given:
        if name != "*" and name not in module.edge_by_name:
            raise ValueError(
                f"Argument `{argument}` must name base edges, but names {name!r}; use one of "
                f"{', '.join(module.edge_by_name)}."
            )


def resolve_edge_laws(
    module: PerceptronModule,
    edges: AbstractEdgeLaw | Mapping[str, AbstractEdgeLaw],
    sizes: Sizes,
    *,
    check: bool = True,
) -> dict[str, AbstractEdgeLaw]:
    """The edge law of every base edge.

    Args:
        module: the base module.
        edges: as for `sample`.
        sizes: copies of every vertex.
        check: whether to refuse laws that cannot serve these numbers of copies.

    Returns:
        Laws by edge name.

    Raises:
        ValueError: for unknown or missing edges, and for laws that are refused.
    """
    given = edges if isinstance(edges, Mapping) else {"*": edges}
    _check_keys("edges", given, module)
    laws = {}
    for name, edge in module.edge_by_name.items():
        law = given.get(name, _default_law(module, edge, sizes) or given.get("*"))
        if not isinstance(law, AbstractEdgeLaw):
            raise ValueError(
                f"Argument `edges[{name!r}]` must be an edge law, but is {law!r}; "
                "give one such as FixedInDegree(8)."
            )
        if check:
            law.check(sizes[edge.source], sizes[edge.target], name)
        laws[name] = law
    return laws


def _default_law(module, edge: Edge, sizes: Sizes) -> AbstractEdgeLaw | None:
    if isinstance(module.by_name[edge.target], Output) or sizes[edge.source] == 1:
        return Complete()
    return OneToOne() if isinstance(edge.map, Identity) else None


def _resolve_weight_laws(module, weights) -> dict[str, AbstractWeightLaw]:
    given = weights if isinstance(weights, Mapping) else {"*": weights or Gaussian()}
    _check_keys("weights", given, module)
    laws = {}
    for name, edge in module.edge_by_name.items():
        readout = isinstance(module.by_name[edge.target], Output)
        law = given.get(name, Zero() if readout else given.get("*", Gaussian()))
        if not isinstance(law, AbstractWeightLaw):
            raise ValueError(
                f"Argument `weights[{name!r}]` must be a weight law, but is {law!r}; "
                "give one such as Gaussian(1.0)."
            )
        laws[name] = law
    return laws


def _named_weight_laws(weights) -> dict[str, AbstractWeightLaw]:
    """The laws of single edges, beside those of a parametrisation."""
    if weights is None:
        return {}
    if not isinstance(weights, Mapping) or "*" in weights:
        raise ValueError(
            "Argument `weights` must name single edges where a parametrisation gives all others "
            f"their laws, but is {weights!r}; leave it out."
        )
    return dict(weights)


def _keys(module: PerceptronModule, edge: Edge, sizes: Sizes) -> tuple[int, int, int]:
    return module.edges.index(edge), sizes[edge.source], sizes[edge.target]


def _draw_graph(module, sizes: Sizes, laws, seed: int) -> dict:
    pairs = {}
    for name, edge in module.edge_by_name.items():
        rng = stream(seed, Purpose.GRAPH, *_keys(module, edge, sizes))
        pairs[name] = laws[name].draw(sizes[edge.source], sizes[edge.target], rng)
    return pairs


def _draw_weights(module, sizes: Sizes, laws, pairs, seed: int) -> dict:
    values = {}
    for name, edge in module.edge_by_name.items():
        rng = stream(seed, Purpose.WEIGHTS, *_keys(module, edge, sizes))
        shape, fan_in = module.weight_shape(edge), edge.map.fan_in(module.shapes[edge.source])
        count = len(pairs[name][0])
        values[name] = laws[name].draw(count, shape, fan_in, sizes[edge.source], rng)
    return values


def _checked_edges(module: PerceptronModule, edge: Edge, given) -> tuple:
    name = edge_name(edge)
    sources, targets, weights = (np.asarray(a) for a in given)
    shape = (len(sources), *module.weight_shape(edge))
    if weights.shape != shape:
        raise ValueError(
            f"Argument `edges[{name!r}]` must have weights of shape {shape}, but has "
            f"{weights.shape}; one weight in W_e per edge."
        )
    check_real(f"edges[{name!r}]", weights)
    if not np.isfinite(weights).all():
        raise ValueError(
            f"Argument `edges[{name!r}]` must have finite weights, but holds "
            f"{np.count_nonzero(~np.isfinite(weights))} that are not; remove them."
        )
    return (sources, targets), weights


def _assemble(module, sizes: Sizes, laws, pairs, values, seed: int, precision, method) -> Lift:
    keep_compilations()
    fibres, weights = {}, {}
    for name, edge in module.edge_by_name.items():
        n_sources, n_targets = sizes[edge.source], sizes[edge.target]
        try:
            compressed = isinstance(edge.map, Scalar)
            fibres[name], order = _fibre(
                laws.get(name), pairs[name], n_sources, n_targets, compressed
            )
        except ValueError as error:
            raise ValueError(
                f"Argument `edges[{name!r}]` must map onto the base edge {edge.source!r} -> "
                f"{edge.target!r}: {error}"
            ) from error
        ordered = values[name][order]
        padding = fibres[name].capacity - len(ordered)
        padded = np.pad(ordered, [(0, padding)] + [(0, 0)] * (ordered.ndim - 1))
        weights[name] = jnp.asarray(padded, dtype=precision)
    return Lift(
        weights=weights,
        fibres=fibres,
        seed=np.asarray(seed, np.int64),
        digest=graph_digest(fibres, sizes),
        module=module,
        sizes=tuple(sizes.items()),
        method=method,
    )


def _fibre(law: AbstractEdgeLaw | None, pairs, n_sources: int, n_targets: int, compressed: bool):
    if isinstance(law, Complete):
        return Fibre.complete(n_sources, n_targets), slice(None)
    sources, targets = pairs
    if law is None:
        each = len(sources) == n_sources == n_targets and np.array_equal(sources, targets)
        fibre, order = Fibre.build(
            sources,
            targets,
            n_sources,
            n_targets,
            regular=1 if each else None,
            compressed=compressed,
            aligned=each,
        )
        full = len(order) == n_sources * n_targets
        return (Fibre.complete(n_sources, n_targets) if full else fibre), order
    capacity = max(1, law.capacity(n_sources, n_targets))
    while capacity < len(sources):
        capacity = 64 * math.ceil(1.05 * capacity / 64)
    regular, aligned = law.in_degree(n_sources), isinstance(law, OneToOne)
    return Fibre.build(
        sources, targets, n_sources, n_targets, capacity, regular, compressed, aligned
    )

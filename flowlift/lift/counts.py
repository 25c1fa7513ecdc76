"""How many edges and parameters a lift is expected to have, before any is drawn."""

import math
from collections.abc import Callable, Mapping

from ..modules import PerceptronModule
from ..numbers import plain_numbers
from .edge_laws import AbstractEdgeLaw, expected_pairs
from .sampling import resolve_copies, resolve_edge_laws


@plain_numbers
def expected_counts(
    module: PerceptronModule,
    *,
    copies: int | Mapping[str, int],
    edges: AbstractEdgeLaw | Mapping[str, AbstractEdgeLaw],
) -> dict[str, float]:
    """The expected numbers of edges and of parameters of a random lift.

    An edge law joins E |e| pairs over the base edge e: n_u n_v p for a Bernoulli law, exactly its
    own number otherwise; each edge carries one weight in W_e. Cost: none to speak of.

    Args:
        module: the base module.
        copies: as for `sample`.
        edges: as for `sample`.

    Returns:
        "edges" and "parameters".

    Raises:
        ValueError: for unknown vertices or edges.
    """
    sizes = resolve_copies(module, copies)
    laws = resolve_edge_laws(module, edges, sizes, check=False)
    found = {"edges": 0.0, "parameters": 0.0}
    for name, edge in module.edge_by_name.items():
        pairs = expected_pairs(laws[name], sizes[edge.source], sizes[edge.target])
        found["edges"] += pairs
        found["parameters"] += pairs * math.prod(module.weight_shape(edge))
    return found


@plain_numbers
def copies_for_count(
    module: PerceptronModule,
    count: int,
    counted: str,
    copies: Callable[[int], Mapping[str, int]],
    edges: Mapping[str, AbstractEdgeLaw],
) -> int:
    """The n >= 1 for which the expected count comes nearest to a wanted one.

    Expected counts do not fall with n, so that bisection finds it.

    Args:
        module: the base module.
        count: the wanted number.
        counted: "edges" or "parameters".
        copies: copies of every hidden vertex for n.
        edges: edge laws, as for `sample`.

    Returns:
        n.

    Raises:
        ValueError: if the nearest count is not within a factor of two.
    """
    expected = lambda n: expected_counts(module, copies=copies(n), edges=edges)[counted]
    low, high = 1, 2
    while expected(high) <= count:
        if expected(2 * high) == expected(high):
            break
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if expected(middle) <= count else (low, middle)
    nearest = min((low, high), key=lambda n: abs(expected(n) - count))
    if not count / 2 <= expected(nearest) <= 2 * count:
        raise ValueError(
            f"Argument `sizes` must hold numbers of {counted} that the lift can have, but {count} "
            f"is far from the nearest, {expected(nearest):g} with {nearest} copies; change it."
        )
    return nearest

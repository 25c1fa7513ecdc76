"""Parametrisations: initial laws and rates of a network, together, as powers of its sizes.

An abc-parametrisation (Yang & Hu, Tensor Programs IV, arXiv 2011.14522) writes W = n^-a w with
w ~ N(0, n^-2b) and the learning rate n^-c. Under gradient flow only two numbers of the three
matter, exactly: W ~ N(0, n^-2(a + b)) moves at the rate n^-(2a + c), the multiplier is absorbed.
With k the copies of a hidden source (1 where the source is an input or the edges are sparse: the
terms of a sum that grow in number), v the copies of a hidden target (1 for an output) and m the
terms of the sum (in-degree x fan-in of the edge map):

    name         W of hidden edges    W of read-outs     rate of hidden edges    rate of read-outs
    standard     N(0, 1 / m)          N(0, 1 / m)        1                       1
    ntk          N(0, 1 / m)          N(0, 1 / m)        1 / k                   1 / k
    mup          N(0, 1 / m)          N(0, 1 / (k m))    v / k                   1 / k
    mean field   as mup, of one hidden layer: there a = 1, b = 0, c = -1 of its read-out is the same

Sources: ntk: Jacot, Gabriel, Hongler, NeurIPS 2018; mean field: Mei, Montanari, Nguyen, PNAS 2018,
and Chizat, Bach, NeurIPS 2018; mup, and the table of all four: Yang & Hu. Edges of the constant
begin at zero and have k = 1 [choice]; what sparse edges are is ours too [choice].
"""

from ..modules import Constant, Edge, Hidden, Output, PerceptronModule
from .edge_laws import AbstractEdgeLaw, expected_pairs
from .lift import Lift
from .weight_laws import AbstractWeightLaw, Gaussian, Zero

PARAMETRISATIONS = ("standard", "ntk", "mean field", "mup")
_RICH = ("mean field", "mup")


def check_parametrisation(name: str, module: PerceptronModule) -> None:
    """Refuse what is no parametrisation of a module.

    Args:
        name: one of `PARAMETRISATIONS`.
        module: the base module.

    Raises:
        ValueError: for another name, or "mean field" where hidden vertices feed hidden vertices.
    """
    if name not in PARAMETRISATIONS:
        raise ValueError(
            f"Argument `parametrisation` must be one of {', '.join(PARAMETRISATIONS)}, but is "
            f"{name!r}; choose one of them."
        )
    deep = [
        edge
        for edge in module.edges
        if all(isinstance(module.by_name[end], Hidden) for end in (edge.source, edge.target))
    ]
    if name == "mean field" and deep:
        raise ValueError(
            "Argument `parametrisation` must not be 'mean field' where hidden vertices feed hidden "
            f"ones, but {deep[0].source!r} feeds {deep[0].target!r}; take 'mup', which is the same "
            "of one hidden layer."
        )


def parametrised_laws(
    module: PerceptronModule, sizes: dict[str, int], edges: dict[str, AbstractEdgeLaw], name: str
) -> dict[str, AbstractWeightLaw]:
    """The weight law of every base edge.

    Args:
        module: the base module.
        sizes: copies of every vertex.
        edges: the edge law of every base edge.
        name: of the parametrisation.

    Returns:
        Laws by edge name.

    Raises:
        ValueError: as for `check_parametrisation`.
    """
    check_parametrisation(name, module)
    laws: dict[str, AbstractWeightLaw] = {}
    for key, edge in module.edge_by_name.items():
        if isinstance(module.by_name[edge.source], Constant):
            laws[key] = Zero()
            continue
        n_sources, n_targets = sizes[edge.source], sizes[edge.target]
        pairs = expected_pairs(edges[key], n_sources, n_targets)
        terms = pairs / n_targets * edge.map.fan_in(module.shapes[edge.source])
        readout = isinstance(module.by_name[edge.target], Output)
        complete = pairs == n_sources * n_targets
        growing = _growing(module, edge, n_sources, complete)
        small = growing if readout and name in _RICH else 1
        laws[key] = Gaussian((terms * small) ** -0.5)
    return laws


def parametrised_rates(lift: Lift, name: str) -> dict[str, float]:
    """The rate of every base edge of a lift, for `solve(..., rates=...)`.

    Args:
        lift: the lift; its arrays are not looked at.
        name: of the parametrisation.

    Returns:
        Rates by edge name.

    Raises:
        ValueError: as for `check_parametrisation`.
    """
    module, sizes, rates = lift.module, lift.copies, {}
    check_parametrisation(name, module)
    for key, edge in module.edge_by_name.items():
        growing = _growing(module, edge, sizes[edge.source], lift.fibres[key].is_complete)
        hidden = isinstance(module.by_name[edge.target], Hidden)
        wide = sizes[edge.target] if hidden and name in _RICH else 1
        rates[key] = 1.0 if name == "standard" else wide / growing
    return rates


def _growing(module: PerceptronModule, edge: Edge, n_sources: int, complete: bool) -> int:
    """k: how many terms of a sum over this edge grow in number with the size."""
    hidden = isinstance(module.by_name[edge.source], Hidden)
    return n_sources if hidden and complete else 1

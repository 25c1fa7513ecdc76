"""Erdos-Renyi densities: base edges between small fibres are the denser ones."""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from ..modules import PerceptronModule
from ..numbers import plain_numbers, real, whole
from ..registry import register
from .edge_laws import AbstractBernoulli
from .sampling import resolve_copies, resolve_edge_laws


@register("edge_law")
@dataclasses.dataclass(frozen=True)
class ErdosRenyi(AbstractBernoulli):
    """Each pair independently with probability min(1, scale (n_u + n_v) / (n_u n_v)).

    The law of sparse evolutionary training (Mocanu et al., Nature Communications 9 (2018), eq. 3):
    scale (n_u + n_v) edges are expected, in proportion to the units and not to their pairs. With a
    kernel of sides k_1, k_2, ... on each edge it is the Erdos-Renyi-kernel law of RigL (Evci et
    al., ICML 2020, arXiv 1911.11134), min(1, scale (n_u + n_v + sum k) / (n_u n_v prod k)). There
    single numbers of kernels are left out, here whole kernels, with the same density.

    Attributes:
        scale: epsilon > 0.
        kernel: the sides of the kernel on each edge; none for a number on each edge.
    """

    scale: float
    kernel: tuple[int, ...] = ()

    def __post_init__(self):
        given = self.kernel if isinstance(self.kernel, list | tuple) else [None]
        scale, sides = real(self.scale), tuple(map(whole, given))
        if scale is None or not 0 < scale < math.inf:
            raise ValueError(
                f"Argument `scale` of ErdosRenyi must be a positive finite number, but is "
                f"{self.scale!r}; give edges per unit."
            )
        if not all(side is not None and side >= 1 for side in sides):
            raise ValueError(
                f"Argument `kernel` of ErdosRenyi must hold integers of at least 1, but is "
                f"{self.kernel!r}; give the sides, e.g. (3, 3)."
            )
        object.__setattr__(self, "scale", scale)
        object.__setattr__(self, "kernel", sides)

    def probability(self, n_sources: int, n_targets: int) -> float:
        """The probability of a pair, as above."""
        return min(1.0, self.scale * _relative_density(n_sources, n_targets, self.kernel))


@plain_numbers
def erdos_renyi(
    module: PerceptronModule,
    copies: int | Mapping[str, int],
    density: float,
    *,
    kernel: bool = True,
) -> dict[str, ErdosRenyi]:
    """Erdos-Renyi laws of one scale that give a lift a wanted density.

    The density is the expected share of the numbers W_e of all pairs, over those base edges that
    `sample` does not join completely of itself (read-outs, and edges from single copies). Base
    edges whose probability would exceed 1 are complete, the others have more, as in RigL.

    Args:
        module: the base module.
        copies: as for `sample`.
        density: from 0, not included, to 1.
        kernel: whether sides of kernels count (the law of RigL); else the law of Mocanu et al.

    Returns:
        A law for each of these base edges, for `sample(edges=...)`.

    Raises:
        ValueError: for a density outside (0, 1], or a module without such base edges.
    """
    share = real(density)
    if share is None or not 0 < share <= 1:
        raise ValueError(
            f"Argument `density` must be a number above 0 and at most 1, but is {density!r}; give "
            "e.g. 0.1."
        )
    sizes = resolve_copies(module, copies)
    # Which base edges have no law of their own: those that get the one given for all.
    mark = ErdosRenyi(1.0)
    laws = resolve_edge_laws(module, mark, sizes)
    edges = [e for name, e in module.edge_by_name.items() if laws[name] is mark]
    names = [name for name in module.edge_by_name if laws[name] is mark]
    if not names:
        raise ValueError(
            f"Argument `module` must have base edges that are not complete, but has "
            f"{', '.join(module.edge_by_name)}; give it a second hidden vertex."
        )
    ends = [(sizes[edge.source], sizes[edge.target]) for edge in edges]
    shapes = [module.weight_shape(edge) for edge in edges]
    sides = [shape if kernel else () for shape in shapes]
    numbers = np.array(
        [math.prod(pair) * math.prod(w) for pair, w in zip(ends, shapes, strict=True)]
    )
    rates = np.array([_relative_density(*pair, k) for pair, k in zip(ends, sides, strict=True)])
    scale = _scale(numbers, rates, share)
    return {name: ErdosRenyi(scale, k) for name, k in zip(names, sides, strict=True)}


def _relative_density(n_sources: int, n_targets: int, kernel: tuple[int, ...]) -> float:
    return (n_sources + n_targets + sum(kernel)) / (n_sources * n_targets * math.prod(kernel))


def _scale(numbers: np.ndarray, rates: np.ndarray, density: float) -> float:
    """The scale s with sum numbers min(1, s rates) = density sum numbers: exact, by saturation."""
    order = np.argsort(-rates)
    numbers, rates = numbers[order], rates[order]
    wanted, scale = density * numbers.sum(), math.inf
    for full in range(len(rates)):
        # The `full` densest are complete, the others share what is left.
        left = wanted - numbers[:full].sum()
        scale = left / (numbers[full:] @ rates[full:])
        if scale * rates[full] <= 1:
            break
    return float(scale)

"""Which lifts a study draws: sizes, laws, parametrisation."""

import dataclasses
from math import inf
from typing import Any

from ..lift import Gaussian, copies_for_count
from ..modules import PerceptronModule
from ..numbers import plain_fields
from ..showing import shows_itself
from .kinds import EdgeLaw, WeightLaw, built

SIZE_COUNTS = ("copies", "edges", "parameters")


@shows_itself
@plain_fields
@dataclasses.dataclass(frozen=True)
class LiftPlan:
    """Which lifts are drawn (theory, section 3 [choice])."""

    sizes: tuple[int, ...]
    """Lift sizes n, counted as `size_counts` says."""
    edges: EdgeLaw
    """The edge law of all base edges but read-outs and edges from a single copy (complete)."""
    weights: WeightLaw = Gaussian(1.0)
    """The weight law of all base edges but read-outs (zero)."""
    ratios: dict[str, float] = dataclasses.field(default_factory=dict)
    """Copies of a hidden vertex as a multiple of the lift size, where that is not 1."""
    edges_over: dict[str, EdgeLaw] = dataclasses.field(default_factory=dict)
    """Edge laws of single base edges, by name."""
    weights_over: dict[str, WeightLaw] = dataclasses.field(default_factory=dict)
    """Weight laws of single base edges, by name."""
    parametrisation: str | None = None
    """Instead of weights: "standard", "ntk", "mean field" or "mup", which give weight laws and
    rates together; `weights_over` may still name single edges."""
    size_counts: str = "copies"
    """What a size counts: copies (hidden vertices get n each, times their ratio), or the expected
    edges or parameters of the lift, which the nearest possible number of copies then gives."""

    def __post_init__(self):
        """Refuse an empty list of sizes, and ratios that are no positive numbers.

        Raises:
            ValueError: in either case.
        """
        if not self.sizes or min(self.sizes) < 1 or len(set(self.sizes)) < len(self.sizes):
            raise ValueError(
                f"Argument `sizes` must hold distinct lift sizes of at least 1, but is "
                f"{self.sizes}; give e.g. [16, 32, 64]."
            )
        if self.size_counts not in SIZE_COUNTS:
            raise ValueError(
                f"Argument `size_counts` must be one of {', '.join(SIZE_COUNTS)}, but is "
                f"{self.size_counts!r}; choose one of them."
            )
        # By value: flags make records of classes of their own.
        left_out = isinstance(self.weights, Gaussian) and self.weights.scale == 1.0
        if self.parametrisation is not None and not left_out:
            raise ValueError(
                f"Argument `weights` must be left out with a parametrisation, but is "
                f"{self.weights!r}; give one of the two."
            )
        for vertex, ratio in self.ratios.items():
            if not 0 < ratio < inf:
                raise ValueError(
                    f"Argument `ratios[{vertex!r}]` must be positive, but is {ratio!r}; "
                    "give copies / lift size."
                )

    def copies(self, module: PerceptronModule, size: int) -> dict[str, int]:
        """The number of copies of every hidden vertex: the ratio times n, at least 1.

        n is the size, or the number for which the expected count comes nearest to it.

        Args:
            module: the base module.
            size: the lift size.

        Returns:
            Copies by vertex name.

        Raises:
            ValueError: if a ratio names no hidden vertex.
        """
        hidden = [vertex.name for vertex in module.hidden]
        for name in self.ratios:
            if name not in hidden:
                raise ValueError(
                    f"Argument `ratios` must name hidden vertices, {hidden}, but names {name!r}; "
                    "correct the name."
                )
        scaled = lambda n: {v: max(1, round(self.ratios.get(v, 1.0) * n)) for v in hidden}
        if self.size_counts == "copies":
            return scaled(size)
        return scaled(copies_for_count(module, size, self.size_counts, scaled, self.edge_laws))

    @property
    def edge_laws(self) -> dict[str, Any]:
        """Edge laws by base edge, "*" for all that are not named."""
        return {name: built(law) for name, law in {"*": self.edges, **self.edges_over}.items()}

    @property
    def weight_laws(self) -> dict[str, Any] | None:
        """Weight laws by base edge, "*" for all that have no other; None for none."""
        every = {"*": self.weights} if self.parametrisation is None else {}
        return {name: built(law) for name, law in {**every, **self.weights_over}.items()} or None

"""A study: everything that determines its numbers, as one frozen record."""

import dataclasses
from typing import Any

import tyro

from ..flow import ATOL, RTOL, GradientNormBelow, LogTimes, LossBelow, Stagnation
from ..flow.stops import Stop
from ..lift import Gaussian
from ..modules import PerceptronModule
from .choices import EdgeLaw, ModuleChoice, TaskChoice, WeightLaw
from .observations import ObservationPlan

Value = int | float | str | bool


@dataclasses.dataclass(frozen=True)
class LiftPlan:
    """Which lifts are drawn (theory, section 3 [choice])."""

    sizes: tuple[int, ...]
    """Lift sizes n: hidden vertices get n copies each, times their ratio."""
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
        for vertex, ratio in self.ratios.items():
            if not 0 < ratio < float("inf"):
                raise ValueError(
                    f"Argument `ratios[{vertex!r}]` must be positive, but is {ratio!r}; "
                    "give copies / lift size."
                )

    def copies(self, module: PerceptronModule, size: int) -> dict[str, int]:
        """The number of copies of every hidden vertex: the ratio times the size, at least 1.

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
        return {name: max(1, round(self.ratios.get(name, 1.0) * size)) for name in hidden}


@dataclasses.dataclass(frozen=True)
class FlowPlan:
    """How each flow is integrated, as arguments of `flowlift.solve`."""

    horizon: float
    """The end T of the flow, in units of learning rate x steps for this loss."""
    solver: str = "tsit5"
    """A solver's name."""
    rtol: float = RTOL
    """Relative tolerance of theta per step."""
    atol: float = ATOL
    """Absolute tolerance of theta per step."""
    per_decade: int = 8
    """Save times per decade of t."""
    first_time: float | None = None
    """The first save time after 0; none: 1e-6 of the horizon."""
    loss_below: float | None = None
    """Stop once the loss is at most this."""
    gradient_norm_below: float | None = None
    """Stop once the gradient norm is at most this."""
    stagnation: float | None = None
    """Stop once the loss has fallen by less than this fraction over a decade of t."""
    max_gradients: float = float("inf")
    """Budget of gradient evaluations per flow."""
    max_steps: int = 10_000_000
    """Limit of attempted steps per flow."""

    @property
    def schedule(self) -> LogTimes:
        """The save times."""
        return LogTimes(self.per_decade, self.first_time)

    @property
    def stops(self) -> tuple[Stop, ...]:
        """The stopping rules."""
        rules = (
            (LossBelow, self.loss_below),
            (GradientNormBelow, self.gradient_norm_below),
            (Stagnation, self.stagnation),
        )
        return tuple(rule(value) for rule, value in rules if value is not None)


@dataclasses.dataclass(frozen=True)
class Study:
    """Random sparse lifts of one module, at several sizes and seeds, trained by gradient flow."""

    name: str
    """A short name."""
    module: ModuleChoice
    """The base module."""
    lift: LiftPlan
    """The lifts."""
    task: TaskChoice
    """The task; its own seed fixes its data, whatever the seed of the lift."""
    flow: FlowPlan
    """The flows."""
    seeds: int = 1
    """Lifts per size: seeds `first_seed`, `first_seed` + 1, ..."""
    first_seed: int = 0
    """The first seed."""
    precision: str = "float64"
    """Of parameters, data and flow: float64 or float32."""
    chunk: int = 4
    """Seeds per cell, the unit of work and of storage; no number depends on it."""
    vary: tyro.conf.Suppress[dict[str, tuple[Value, ...]]] = dataclasses.field(default_factory=dict)
    """Further axes of the grid: dotted keys of this file with the values that each takes."""
    # None leaves it out of the record, so that runs without observations keep their identity.
    observe: tyro.conf.Suppress[ObservationPlan | None] = None
    """Quantities observed along the flows, on a schedule of their own."""
    quick: tyro.conf.Suppress[dict[str, Any]] = dataclasses.field(default_factory=dict)
    """Dotted keys with the values that `--quick` gives them: a smaller grid of the same study."""

    def __post_init__(self):
        """Refuse what no run could be made of.

        Raises:
            ValueError: if the number of seeds or the chunk is below 1, or the first seed negative.
        """
        for name, least in (("seeds", 1), ("first_seed", 0), ("chunk", 1)):
            if getattr(self, name) < least:
                raise ValueError(
                    f"Argument `{name}` must be at least {least}, but is {getattr(self, name)}; "
                    "raise it."
                )

    @property
    def all_seeds(self) -> range:
        """The seeds of every size."""
        return range(self.first_seed, self.first_seed + self.seeds)

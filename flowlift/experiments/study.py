"""A study: everything that determines its numbers, as one frozen record."""

import bisect
import dataclasses
from typing import Any

import tyro

from ..flow import ATOL, RTOL, GradientNormBelow, LogTimes, LossBelow, Stagnation
from ..flow.stops import Stop
from ..lift import Gaussian, mean_counts
from ..modules import PerceptronModule
from .choices import EdgeLaw, ModuleChoice, TaskChoice, WeightLaw

SIZE_COUNTS = ("copies", "edges", "parameters")
Value = int | float | str | bool


@dataclasses.dataclass(frozen=True)
class LiftPlan:
    """Which lifts are drawn (theory, section 3 [choice])."""

    sizes: tuple[int, ...]
    """Lift sizes n: copies of every hidden vertex, times its ratio, unless `size_counts` says
    otherwise."""
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
    size_counts: str = "copies"
    """What a size counts: copies, or expected edges or parameters of the whole lift; the number of
    copies is then the one that comes nearest."""

    def __post_init__(self):
        """Refuse an empty list of sizes, ratios that are no positive numbers, unknown counts.

        Raises:
            ValueError: in each case.
        """
        if self.size_counts not in SIZE_COUNTS:
            raise ValueError(
                f"Argument `size_counts` must be one of {', '.join(SIZE_COUNTS)}, but is "
                f"{self.size_counts!r}; choose one."
            )
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

    @property
    def edge_laws(self) -> dict[str, EdgeLaw]:
        """The edge laws as `sample` takes them."""
        return {"*": self.edges, **self.edges_over}

    @property
    def weight_laws(self) -> dict[str, WeightLaw]:
        """The weight laws as `sample` takes them."""
        return {"*": self.weights, **self.weights_over}

    def copies(self, module: PerceptronModule, size: int) -> dict[str, int]:
        """How many copies each hidden vertex has at a lift size: its ratio times m, at least 1.

        m is the size itself, or the m >= 1 at which the expected number of edges or parameters
        (`mean_counts`) comes nearest to it.

        Args:
            module: the base module.
            size: the lift size.

        Returns:
            Copies by vertex name.

        Raises:
            ValueError: if a ratio names no hidden vertex, or no m comes near.
        """
        hidden = [vertex.name for vertex in module.hidden]
        for name in self.ratios:
            if name not in hidden:
                raise ValueError(
                    f"Argument `ratios` must name hidden vertices, {hidden}, but names {name!r}; "
                    "correct the name."
                )
        m = size if self.size_counts == "copies" else self._nearest(module, size)
        return self._copies(module, m)

    def _copies(self, module: PerceptronModule, m: int) -> dict[str, int]:
        return {v.name: max(1, round(self.ratios.get(v.name, 1.0) * m)) for v in module.hidden}

    def _nearest(self, module: PerceptronModule, size: int) -> int:
        def expected(m: int) -> float:
            edges, parameters = mean_counts(
                module, copies=self._copies(module, m), edges=self.edge_laws
            )
            return edges if self.size_counts == "edges" else parameters

        # A copy has an edge at least, so that `size` copies have too many; the exception is a
        # module without hidden vertices.
        above = bisect.bisect_left(range(size + 1), size, 1, key=expected)
        below = max(above - 1, 1)
        m = above if expected(above) - size < size - expected(below) else below
        if not size / 2 <= expected(m) <= 2 * size:
            raise ValueError(
                f"Argument `sizes` must hold numbers of {self.size_counts} that the lift can have, "
                f"but {size} is far from the nearest, {expected(m):g} with {m} copies; enlarge it."
            )
        return m


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
    alternatives: tyro.conf.Suppress[dict[str, dict[str, dict[str, Any]]]] = dataclasses.field(
        default_factory=dict
    )
    """Further axes whose values are whole settings: axis, label, dotted keys with values."""
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
        self._check_alternatives()

    def _check_alternatives(self) -> None:
        for axis, labels in self.alternatives.items():
            if axis in self.vary or not labels:
                raise ValueError(
                    f"Argument `alternatives.{axis}` must hold at least one label and be no key of "
                    f"`vary`, but holds {list(labels)}; rename the axis or add labels."
                )

    @property
    def all_seeds(self) -> range:
        """The seeds of every size."""
        return range(self.first_seed, self.first_seed + self.seeds)

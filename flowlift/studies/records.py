"""A study: everything that determines its numbers, as one frozen record."""

import dataclasses
from math import ceil, inf
from typing import Any

from ..flow import ATOL, AUTO, RTOL, GradientNormBelow, LogTimes, LossBelow, Stagnation, rates_at
from ..flow.ensemble import check_batch
from ..flow.rates import size_of
from ..flow.stops import Stop
from ..lift import parametrised_rates
from ..numbers import plain_fields
from ..showing import Card, not_by_default, shows_itself
from .kinds import (
    DynamicsChoice,
    LossChoice,
    ModelChoice,
    ModuleChoice,
    SolverChoice,
    StopChoice,
    TaskChoice,
    TermChoice,
    built,
)
from .lift_plan import LiftPlan
from .losses import NoisePlan, OutputPlan
from .observations import ObservationPlan
from .question import Question
from .rewire_plan import RewirePlan

Value = int | float | str | bool
# What names a run or plans the work, but determines no number of a run.
NOT_IN_A_RUN = ("name", "seeds", "seeds_at_most", "first_seed", "chunk")
NOT_IN_A_RUN += ("question", "vary", "alternatives", "quick")
# Seeds are below this: `lift.sample` takes no others.
_SEEDS = 2**63


@shows_itself
@plain_fields
@dataclasses.dataclass(frozen=True)
class FlowPlan:
    """How each flow is integrated, as arguments of `flowlift.solve`."""

    horizon: float
    """The end T of the flow, in units of learning rate x steps for this loss."""
    solver: SolverChoice = AUTO
    """A solver's name; "auto" chooses, flow by flow. Or a table that names a function of one's own
    or a solver of diffrax, such as { kind = "diffrax:Kvaerno3" }."""
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
    """Stop once the last decade of t brought at most this fraction of all that the loss fell."""
    max_gradients: float = inf
    """Budget per flow in gradient evaluations; a Hessian-vector product counts as two."""
    max_steps: int = 10_000_000
    """Limit of attempted steps per flow."""
    # None leaves both out of the record, so that runs without them keep their identity.
    critical_gradient_norm: float | None = None
    """Certify: the end of a flow is a critical point if the gradient norm is at most this, ..."""
    critical_curvature: float | None = None
    """... and one to be stuck at if no Hessian eigenvalue is below minus this. Give both."""
    rules: dict[str, StopChoice] | None = None
    """Stopping rules of one's own, by a name of one's own."""
    dynamics: DynamicsChoice | None = None
    """How theta moves, such as { kind = "heavy-ball", friction = 1.0 }; none: the gradient flow."""
    rewire: RewirePlan | None = None
    """When edges of small weight leave and others enter; none: the graph stays as it was drawn."""
    engine: str | None = None
    """"graph": solvers are compiled whole, for seconds, which hundreds of stiff flows of one shape
    repay; none: as `flowlift.solve` has it."""
    batch: int | str | None = None
    """How many flows of a cell run side by side in one program, in the graph; "auto": as many as
    were timed on this device, one by one on a CPU; none: one by one."""

    def __post_init__(self):
        """Refuse half a certificate, an engine that no study can ask for, and what is no batch.

        Raises:
            ValueError: if one bound of a critical point is given without the other, or is not
                positive; if `engine` is something else than "graph"; if `batch` is no number of
                flows.
        """
        check_batch(self.batch)
        if self.engine not in (None, "graph"):
            raise ValueError(
                f"Argument `engine` must be 'graph', but is {self.engine!r}; leave it out for the "
                "one that suits the device."
            )
        bounds = ("critical_gradient_norm", "critical_curvature")
        for name, other in (bounds, bounds[::-1]):
            value = getattr(self, name)
            if value is not None and not 0 < value < inf:
                raise ValueError(
                    f"Argument `{name}` must be positive, but is {value!r}; give a bound."
                )
            if value is None and getattr(self, other) is not None:
                raise ValueError(
                    f"Argument `{name}` must be given with `{other}`, but is None; give both "
                    "bounds, or none for no certificate."
                )

    def _card_(self) -> Card:
        return Card(f"FlowPlan to T = {self.horizon:g}", not_by_default(self))

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
        own = (built(rule) for rule in (self.rules or {}).values())
        return (*(rule(value) for rule, value in rules if value is not None), *own)


@shows_itself
@plain_fields
@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """Models of several sizes and seeds, random sparse lifts or any others, and their flows."""

    name: str
    """A short name."""
    module: ModuleChoice | None = None
    """The base module, with `lift`."""
    lift: LiftPlan | None = None
    """The lifts."""
    # None leaves these out of the record, so that runs without them keep their identity.
    model: ModelChoice | None = None
    """Instead of module and lift: a function (size, seed, its own arguments) -> any model."""
    sizes: tuple[int, ...] | None = None
    """The sizes of the model, with `model`: what they mean is the function's."""
    task: TaskChoice
    """The task; its own seed fixes its data, whatever the seed of the lift."""
    loss: LossChoice | None = None
    """A loss of one sample instead of the task's own."""
    flow: FlowPlan
    """The flows."""
    frozen: tuple[str, ...] | None = None
    """Base edges, or paths of a model's leaves, that do not flow; * and ? stand for any letters."""
    rates: dict[str, float | str] | None = None
    """Factors of -grad L by base edge or path of a leaf, "*" for all others: numbers, 0 for what
    does not flow, or powers of the lift size n in copies (of a model: its size), such as "1/n"."""
    decay: dict[str, float] | None = None
    """Weight decay: lambda by base edge or path of a leaf, "*" for all others that flow; the loss
    has (1/2) sum lambda |theta|^2 more."""
    output: OutputPlan | None = None
    """A scale of the outputs, and whether those at the start are subtracted."""
    label_noise: NoisePlan | None = None
    """Noise of the training targets."""
    terms: dict[str, TermChoice] | None = None
    """Further terms of the loss, functions of the model, by a name of one's own."""
    seeds: int = 1
    """Lifts per size: seeds `first_seed`, `first_seed` + 1, ..."""
    first_seed: int = 0
    """The first seed."""
    precision: str = "float64"
    """Of parameters, data and flow: float64 or float32."""
    seeds_at_most: dict[str, int] = dataclasses.field(default_factory=dict)
    """Fewer seeds at single lift sizes, by size: those where a lift costs much."""
    chunk: int | None = None
    """Seeds per cell, the unit of work and of storage; no number depends on it. Left out, 4, and so
    many that a size has 64 cells at most."""
    question: Question | None = None
    """What will be asked of the results, on record before the runs."""
    vary: dict[str, tuple[Value, ...]] = dataclasses.field(default_factory=dict)
    """Further axes of the grid: dotted keys of this file with the values that each takes."""
    alternatives: dict[str, dict[str, dict[str, Any]]] = dataclasses.field(default_factory=dict)
    """Further axes whose values are whole settings: axis, label, dotted keys with values."""
    # None leaves it out of the record, so that runs without observations keep their identity.
    observe: ObservationPlan | None = None
    """Quantities observed along the flows, on a schedule of their own."""
    quick: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Dotted keys with the values that `--quick` gives them: a smaller grid of the same study."""
    sources: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)
    """For each file or package that the study names, the SHA-256 of what it consists of; written
    when a study is read, and checked where it is there."""

    def __post_init__(self):
        """Refuse what no run could be made of.

        Raises:
            ValueError: if a number of seeds or the chunk is below 1, a seed not in 0..2^63 - 1,
                an entry of `seeds_at_most` names no lift size, an axis is empty or holds a value
                twice, or varies what no run depends on, or a rate is none.
        """
        if self.seeds_a_cell >= _SEEDS:
            raise ValueError(
                f"Argument `chunk` must be less than 2^63, but is {self.chunk}; give the number "
                "of seeds that are computed and kept together."
            )
        for name, least in (("seeds", 1), ("first_seed", 0), ("chunk", 1)):
            given = getattr(self, name)
            if given is not None and given < least:
                raise ValueError(
                    f"Argument `{name}` must be at least {least}, but is {given}; raise it."
                )
        if self.first_seed + self.seeds > _SEEDS:
            raise ValueError(
                f"Argument `first_seed` must leave the last seed below 2^63, but `first_seed` + "
                f"`seeds` is {self.first_seed + self.seeds}; lower it."
            )
        for size, count in self.seeds_at_most.items():
            if not (size.isascii() and size.isdecimal()) or count < 1:
                raise ValueError(
                    f"Argument `seeds_at_most` must give lift sizes numbers of seeds of at least "
                    f"1, but holds {size!r} = {count}; write e.g. {{ 1000 = 20 }}."
                )
        self._check_axes()
        self._check_model()
        self._check_rates()

    @property
    def seeds_a_cell(self) -> int:
        """The chunk, or what it is where none is given."""
        # A file of few runs takes as long as one of many, to write, to read and to claim; with 64
        # cells of a size as many workers still share it evenly.
        return max(4, ceil(self.seeds / 64)) if self.chunk is None else self.chunk

    def _card_(self) -> Card:
        rows = [pair for pair in not_by_default(self) if pair[0] not in ("name", "sources")]
        rows += [("sources", sorted(self.sources))] if self.sources else []
        return Card(f"Study {self.name!r}: {self.seeds} seeds a size", rows)

    def _check_rates(self) -> None:
        if self.rates is not None:
            rates_at(self.rates, 1)
        if self.rates and self.lift is not None and self.lift.parametrisation is not None:
            raise ValueError(
                f"Argument `rates` must be left out with the parametrisation "
                f"{self.lift.parametrisation!r}, which has its own, but is {self.rates}; give one "
                "of the two."
            )

    def _check_model(self) -> None:
        lifted, given = (self.module, self.lift), (self.model, self.sizes)
        if None in lifted and (None in given or any(x is not None for x in lifted)):
            raise ValueError(
                "Arguments `module` and `lift`, or `model` and `sizes`, must be given together, "
                f"but given are {', '.join(self._models_given()) or 'none'}; add what is missing."
            )
        if None not in lifted and any(x is not None for x in given):
            raise ValueError(
                "Argument `model` must be given without `module` and `lift`, but all are there; "
                "drop one or the others."
            )
        if self.sizes is not None and (
            not self.sizes or min(self.sizes) < 1 or len(set(self.sizes)) < len(self.sizes)
        ):
            raise ValueError(
                f"Argument `sizes` must hold distinct sizes of at least 1, but is {self.sizes}; "
                "give e.g. [16, 32, 64]."
            )

    def _models_given(self) -> list[str]:
        names = ("module", "lift", "model", "sizes")
        return [f"`{name}`" for name in names if getattr(self, name) is not None]

    def _check_axes(self) -> None:
        for key, values in self.vary.items():
            # An integer and a float of one value make the same point of an axis.
            if not values or len(set(values)) < len(values) or any(v != v for v in values):
                raise ValueError(
                    f"Argument `vary.{key}` must hold distinct values, at least one, but is "
                    f"{list(values)}; give each value once, or leave the axis out."
                )
            if key.partition(".")[0] in NOT_IN_A_RUN:
                raise ValueError(
                    f"Argument `vary` must name what a run depends on, but names `{key}`; say that "
                    "once for the whole study, or use `alternatives`."
                )
        for axis, labels in self.alternatives.items():
            if axis in self.vary or not labels:
                raise ValueError(
                    f"Argument `alternatives.{axis}` must hold at least one label and be no key of "
                    f"`vary`, but holds {list(labels)}; rename the axis or add labels."
                )

    @property
    def all_sizes(self) -> tuple[int, ...]:
        """The sizes of the grid, of lifts or of models."""
        return self.lift.sizes if self.lift is not None else self.sizes or ()

    def of_size(self, size: int) -> "Study":
        """The study of one of its sizes."""
        if self.lift is None:
            return dataclasses.replace(self, sizes=(size,))
        return dataclasses.replace(self, lift=dataclasses.replace(self.lift, sizes=(size,)))

    def rates_of(self, model: Any, size: int) -> dict[str, float] | None:
        """The rates at one size, as numbers.

        Args:
            model: a model of that size.
            size: the size.

        Returns:
            Numbers by name; None for 1.
        """
        if self.lift is not None and self.lift.parametrisation is not None:
            return parametrised_rates(model, self.lift.parametrisation)
        if self.rates is None:
            return None
        counts = self.size_counts in ("copies", "size")
        return rates_at(self.rates, size if counts else size_of(model))

    @property
    def size_counts(self) -> str:
        """What a size counts: of lifts as `LiftPlan` says, of models "size"."""
        return self.lift.size_counts if self.lift is not None else "size"

    def seeds_of(self, size: int) -> range:
        """The seeds of a lift size."""
        count = min(self.seeds, self.seeds_at_most.get(str(size), self.seeds))
        return range(self.first_seed, self.first_seed + count)

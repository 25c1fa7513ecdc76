"""RKC2 on the host: as `flowlift.solvers.rkc`, the reference; stage by stage, or in bursts."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from .. import chebyshev as traced
from ..predictive import Estimate, PredictiveController
from ..predictive import Memory as TracedTrend
from ..rkc import ESTIMATE_AFTER, RKC2
from ..rkc import shows_more as traced_shows_more
from ..work import Halt
from .bursts import Bounds, Burst
from .chebyshev import chebyshev_step, longest_step, stages_needed
from .explicit import first_step
from .hermite import hermite, within
from .krylov import norm
from .lean import AbstractLeanMethod, Traced, TracedField, burst
from .predictive import Trend, verdict
from .radius import Memory, Ready, shows_more
from .stepping import AbstractHostMethod, Attempt, HostField, Start, Vector

# Of the error estimate: O(h^3).
_ORDER = 3


def serves(solver: RKC2) -> bool:
    """Whether the host takes the steps of this solver.

    Args:
        solver: an instance, as a user gave it.

    Returns:
        False where functions of the user's own look at the state of the graph.
    """
    return solver.radius is None and solver.select is None


class _Try(NamedTuple):
    """One try of a step; a second one follows if the radius proves too small."""

    increment: Vector
    rates: Vector
    loss: float
    limit: float
    stages: int
    exceeded: bool


@dataclasses.dataclass(frozen=True)
class HostRKC(AbstractHostMethod):
    """RKC2 with its stages on the host, for gradients that are large to compile.

    Attributes:
        rtol: relative tolerance.
        atol: absolute tolerance.
        max_stages: as for `RKC2`.
        beside: how many numbers of a state come after theta.
    """

    rtol: float
    atol: float
    max_stages: int | None = None
    beside: int = 2

    def start(self, field: HostField, y: Vector) -> Start:
        """Two gradients; the first step evaluates its own."""
        step, _ = first_step(field, y, self.rtol, self.atol, _ORDER)
        return Start(step, Memory.first(y, field.size(y), field.live), 2)

    def blank(self, y: Vector) -> Memory:
        """That of the start, of a flow without padding."""
        size = y.size - self.beside
        return Memory.first(y, size, size)

    def attempt(self, field: HostField, y: Vector, memory: Memory, h: float) -> Attempt:
        """One attempt, of two tries if it shows that the radius is too small."""
        with np.errstate(all="ignore"):
            # A number of NumPy's own would promote single precision.
            h, ready = float(h), Ready.of(field, y, memory)
            tried = self._try(field, y, ready.memory, h)
            stages = tried.stages
            if tried.exceeded:
                ready = ready.again(field, y, (tried.rates - ready.memory.rates)[: field.size(y)])
                tried = self._try(field, y, ready.memory, h)
                stages += tried.stages
            return self._judged(field, y, h, ready, tried, stages)

    def _try(self, field: HostField, y: Vector, memory: Memory, h: float) -> _Try:
        cap = traced.most_stages(self.max_stages, y.dtype)
        limit = longest_step(cap, memory.radius, float(np.finfo(y.dtype).tiny))
        possible = h <= limit
        stages = stages_needed(h * memory.radius) if possible else 1
        increment, rates, loss = chebyshev_step(field, y, memory.rates, h, stages)
        n = field.size(y)
        probe = (rates - memory.rates)[:n]
        exceeded = possible and shows_more(increment[:n], probe, memory.radius, norm(y[:n]))
        return _Try(increment, rates, loss, limit, stages, exceeded)

    def _judged(
        self, field: HostField, y: Vector, h: float, ready: Ready, tried: _Try, stages: int
    ) -> Attempt:
        old, candidate = ready.memory, y + tried.increment
        error = -0.8 * tried.increment + 0.4 * h * old.rates + 0.4 * h * tried.rates
        size = np.maximum(np.abs(y), np.abs(candidate))
        scaled = field.norm((error / field.allowed(self.rtol, self.atol, size))[: field.size(y)])
        tiny = float(np.finfo(y.dtype).tiny)
        said = verdict(scaled, h, tried.limit, _ORDER, old.trend, tiny)
        finite = math.isfinite(said.step) and bool(np.isfinite([error, candidate]).all())
        age = ESTIMATE_AFTER if tried.exceeded else old.age + tried.stages
        # What was found out where nothing was finite is no evidence.
        skewed = finite and not ready.symmetric
        return Attempt(
            y=candidate,
            keep=said.keep,
            step=said.step,
            memory=dataclasses.replace(old, rates=tried.rates, age=age, trend=said.trend),
            gradients=ready.gradients + stages,
            products=ready.products,
            dense=hermite(y, candidate, h, old.rates, tried.rates),
            finite=finite,
            loss=tried.loss,
            gradient_norm=field.gradient_norm(tried.rates),
            halt=Halt.NOT_SYMMETRIC if skewed else Halt.NONE,
            drift=field.drift(error),
        )


class _Lean(NamedTuple):
    """What of a memory the compiled loop needs, and what it tells the host.

    Attributes:
        rates: dy/dt at the state.
        radius: the bound.
        age: int32: evaluations since the estimate.
        error: scaled error of the last accepted step.
        step: its length.
        probe: the change of -grad L over a try that showed a larger radius.
        estimated: bool: whether the radius was estimated for this step.
        second: bool: whether this is the second try of a step.
        alone: bool: whether the loop ends with this attempt in any case.
        showed: bool: whether the last try showed a larger radius, and the second is to follow.
    """

    rates: Any
    radius: Any
    age: Any
    error: Any
    step: Any
    probe: Any
    estimated: Any
    second: Any
    alone: Any
    showed: Any

    @staticmethod
    def of(ready: Ready) -> "_Lean":
        """For a try.

        Args:
            ready: what it begins with.

        Returns:
            The memory.
        """
        memory, dtype = ready.memory, ready.memory.rates.dtype
        numbers = (memory.radius, memory.trend.error, memory.trend.step)
        radius, error, step = (np.asarray(number, dtype) for number in numbers)
        flags = (ready.estimated, ready.second, not ready.symmetric, False)
        return _Lean(
            memory.rates,
            radius,
            np.asarray(memory.age, np.int32),
            error,
            step,
            np.zeros_like(memory.vector),
            *(np.asarray(flag) for flag in flags),
        )

    def memory(self, vector: Vector) -> Memory:
        """The memory after an accepted step.

        Args:
            vector: the Ritz vector.

        Returns:
            The memory.
        """
        trend = Trend(float(self.error), float(self.step))
        return Memory(self.rates, float(self.radius), vector, int(self.age), trend)


@dataclasses.dataclass(frozen=True)
class LeanRKC(AbstractLeanMethod):
    """RKC2 in bursts, with the estimates of the radius on the host between them.

    A burst ends with a step that leaves the estimate old, with one that was rejected after an
    estimate made for it, and within a step that shows a larger radius. Its `constants` are `rtol`
    and `atol`; its memory is that of `HostRKC`, which starts it.

    Attributes:
        max_stages: as for `RKC2`.
    """

    max_stages: int | None = None

    def attempt(self, field: TracedField, y, memory: _Lean, h, constants) -> Traced:
        """One try."""
        limit, stages, increment, rates, loss = self._stages(field, y, memory, h)
        n = field.size
        probe = (rates - memory.rates)[:n]
        size = jnp.linalg.norm(y[:n])
        exceeded = traced_shows_more(increment[:n], probe, memory.radius, size) & (h <= limit)
        void = exceeded & ~memory.second
        error = traced.combine((-0.8, 0.4 * h, 0.4 * h), (increment, memory.rates, rates))
        norm = lambda scaled: field.norm(scaled[:n])
        atol = field.absolute(constants["atol"], y.size)
        controller = PredictiveController(constants["rtol"], atol, norm)
        keep, step, trend = controller.verdict(
            h,
            y,
            y + increment,
            Estimate(error, limit),
            _ORDER,
            TracedTrend(memory.error, memory.step),
        )
        finite = jnp.isfinite(step) & jnp.isfinite(error).all() & jnp.isfinite(y + increment).all()
        older = memory.age + stages.astype(jnp.int32)
        age = jnp.where(exceeded, ESTIMATE_AFTER, older).astype(jnp.int32)
        no, keep = jnp.asarray(False), keep & finite
        taken = _Lean(rates, memory.radius, age, trend.error, trend.step, probe, no, no, no, no)
        leave = memory.alone | jnp.where(keep, age >= ESTIMATE_AFTER, memory.estimated)
        return Traced(
            y=y + increment, keep=keep, step=jnp.where(void, h, step), memory=taken,
            rejected=memory._replace(probe=probe, showed=void), gradients=stages,
            finite=finite | void, loss=loss, gradient_norm=field.gradient_norm(rates),
            dense=(memory.rates, rates), leave=void | leave, void=void, drift=field.drift(error),
        )  # fmt: skip

    def _stages(self, field: TracedField, y, memory: _Lean, h):
        limit = traced.longest_step(traced.most_stages(self.max_stages, y.dtype), memory.radius)
        needed = traced.stages_needed(h * memory.radius)
        stages = jnp.where(h <= limit, needed, 1).astype(int)

        def rates(t, state):
            loss, _, rates = field.rates(state[0])
            return rates, loss

        # L rides along: as the rate of a number that nothing depends on.
        zero = jnp.zeros((), y.dtype)
        increment, slope = traced.chebyshev_step(
            rates, zero, h, (y, zero), (memory.rates, zero), stages
        )
        return limit, stages, increment[0], *slope

    def interpolate(self, before, after, taken, dense: Any, fraction):
        """Cubic Hermite."""
        rates, new = dense
        return within(before, after, taken, rates, new, fraction)

    def run(
        self,
        field: HostField,
        y: Vector,
        memory: Memory,
        h: float,
        bounds: Bounds,
        constants: dict[str, float],
    ) -> Burst:
        """Bursts, with the radius estimated before and between them where it is old."""
        with np.errstate(all="ignore"):
            ready = Ready.of(field, y, memory)
            done = out = self._burst(field, y, ready, h, bounds, constants)
            memory = _kept(out, ready, memory)
            while out.left and out.halt == Halt.NONE:
                ready = _next(field, out, ready, memory)
                within = bounds.after(done)
                out = self._burst(field, out.y, ready, out.step, within, constants)
                memory, done = _kept(out, ready, memory), done.followed(out)
        return done._replace(memory=memory, left=False)

    def _burst(
        self, field: HostField, y: Vector, ready: Ready, h: float, bounds: Bounds, constants
    ) -> Burst:
        """One, with the work that went before it."""
        spent = ready.gradients + 2 * ready.products
        bounds = bounds._replace(gradients=bounds.gradients - spent)
        out = burst(self, field, y, _Lean.of(ready), h, bounds, constants)
        # What was found out where nothing was finite is no evidence.
        skewed = not ready.symmetric and out.attempts > 0 and out.non_finite == 0
        return out._replace(
            gradients=out.gradients + ready.gradients,
            products=ready.products,
            halt=Halt.NOT_SYMMETRIC if skewed else Halt.NONE,
        )


def _kept(out: Burst, ready: Ready, before: Memory) -> Memory:
    """The memory after a burst: what was only rejected leaves it as it was, estimate included."""
    return out.memory.memory(ready.memory.vector) if out.accepted else before


def _next(field: HostField, out: Burst, ready: Ready, memory: Memory) -> Ready:
    """What the next burst begins with, where this one asked for the host."""
    if not out.memory.showed:
        return Ready.of(field, out.y, memory)
    now = out.memory.memory(ready.memory.vector)
    return Ready(now, ready.symmetric, False, 0, 0).again(field, out.y, out.memory.probe)

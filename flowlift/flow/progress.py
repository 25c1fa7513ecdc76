"""Where a flow stands, told between its legs: by a bar, or to a function of one's own.

Nothing of it is compiled into a leg: what is told is what the host knows when a leg has ended, and
no number of the flow depends on it.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import diffrax

from ..bars import bar
from ..showing import Card, shows_itself
from .records import Plan, Settings
from .trace import Trace

# Seconds between two looks of a bar: more are not seen, and each costs some tenths of a
# millisecond.
_LOOK = 0.1


@shows_itself
class Progress(NamedTuple):
    """Where a flow stands after a leg.

    A tuple is made in a tenth of the time of a frozen dataclass of so many fields, which was most
    of what telling cost.

    Attributes:
        time: the flow time reached, in the clock of its dynamics.
        horizon: the end.
        clock: what time means, "t" or "log(1 + t)".
        fraction: of the way, in log t; of a flow in log time, in its own clock.
        loss: L at the last record.
        gradient_norm: |D^(1/2) grad L| there.
        gradients: gradients of L that the solver has evaluated.
        hvps: Hessian-vector products that it has.
        steps: attempted steps.
        step: the size of the next one.
        solver: the solver that runs.
        seconds: wall time so far, compilation included.
    """

    time: float
    horizon: float
    clock: str
    fraction: float
    loss: float
    gradient_norm: float
    gradients: int
    hvps: int
    steps: int
    step: float
    solver: str
    seconds: float

    def _card_(self) -> Card:
        return Card("Progress", list(self._asdict().items()))


Listener = Callable[[Progress], Any]
Tell = Callable[[Settings, Any, Trace], None]


def listener_of(progress: Any) -> "Listener | type[Bar] | None":
    """Who is told where a flow stands.

    Args:
        progress: as for `solve`.

    Returns:
        The function, or the class of bars, of which each flow opens its own; None for nobody.

    Raises:
        ValueError: for anything else.
    """
    if progress is None or progress is False or isinstance(progress, diffrax.NoProgressMeter):
        return None
    if progress is True or isinstance(progress, diffrax.TqdmProgressMeter):
        return Bar
    if isinstance(progress, diffrax.TextProgressMeter):
        return Lines(float(progress.minimum_increase))
    if callable(progress) and not isinstance(progress, diffrax.AbstractProgressMeter):
        return progress
    raise ValueError(
        "Argument `progress` must be True, False, a progress meter that diffrax has, or a function "
        f"of a `flowlift.flow.Progress`, but is {progress!r}; give a function."
    )


@contextlib.contextmanager
def telling(listener: "Listener | type[Bar] | None", plan: Plan, since: float) -> Iterator[Tell]:
    """What a flow calls after each leg, while the context is open.

    Args:
        listener: who is told.
        plan: what is to do.
        since: the time from which on this call integrates.

    Yields:
        A function of settings, position and records.
    """
    if listener is None:
        yield _nothing
        return
    way = _Way(plan.horizon, since, float(plan.times[plan.times > 0][0]))
    if not (isinstance(listener, type) and issubclass(listener, Bar)):
        yield lambda *where: listener(_now(way, *where))
        return
    mine, last = Bar(), []

    def show(settings: Settings, position: Any, trace: Trace) -> None:
        # What is not shown is not even put together.
        last[:] = settings, position, trace
        if mine.due():
            mine(_now(way, settings, position, trace))

    try:
        yield show
    finally:
        if last:
            mine(_now(way, *last))
        mine.close()


def _nothing(settings: Settings, position: Any, trace: Trace) -> None:
    del settings, position, trace


class _Way(NamedTuple):
    """The way of a call: its end, where it begins, and the first save time, which is near."""

    horizon: float
    since: float
    first: float

    def fraction(self, time: float, clock: str) -> float:
        """How much of it is done, in log t, or in a clock that is a logarithm already."""
        scale = (lambda t: t) if clock != "t" else lambda t: math.log1p(t / self.first)
        begun = scale(self.since)
        whole = scale(self.horizon) - begun
        return min(1.0, max(0.0, (scale(time) - begun) / whole)) if whole > 0 else 1.0


def _now(way: _Way, settings: Settings, position: Any, trace: Trace) -> Progress:
    control, clock = position.controller, settings.problem.dynamics.clock
    # By place and not by name, which takes longer: the order is that of the fields.
    return Progress(
        trace.time,
        way.horizon,
        clock,
        way.fraction(trace.time, clock),
        trace.last("loss"),
        trace.last("gradient_norm"),
        int(control.work.gradients),
        int(control.work.hvps),
        int(control.attempts),
        float(control.step),
        settings.solvers[-1],
        trace.seconds,
    )


class Lines:
    """A line whenever the way has grown by some part, as diffrax's text meter."""

    def __init__(self, least: float):
        """Begin.

        Args:
            least: by how much it must have grown.
        """
        self._least, self._last = least, 0.0

    def __call__(self, now: Progress) -> None:
        """Print where the flow stands, if it has come far enough."""
        if now.fraction >= 1 or now.fraction - self._last > self._least:
            self._last = now.fraction if now.fraction < 1 else 0.0
            print(f"{100 * now.fraction:.2f}%", flush=True)


class Bar:
    """A bar of tqdm, in a notebook its own."""

    def __init__(self):
        form = "{desc} {percentage:3.0f}%|{bar}| {elapsed}{postfix}"
        self._bar = bar(total=100.0, desc="t = 0", bar_format=form)
        self._next = 0.0

    def due(self) -> bool:
        """Whether it is time to look again."""
        return time.perf_counter() >= self._next

    def __call__(self, now: Progress) -> None:
        """Show where the flow stands."""
        self._bar.n = 100 * now.fraction
        self._bar.set_description_str(f"{now.clock} = {now.time:.2e}", refresh=False)
        cost = f"{now.gradients} gradients" + f" + {now.hvps} products" * bool(now.hvps)
        told = f"L = {now.loss:.3g}, |grad L| = {now.gradient_norm:.2g}, {cost}"
        told = f"{told}, step {now.step:.1e}"
        self._bar.set_postfix_str(told, refresh=False)
        self._bar.refresh()
        self._next = time.perf_counter() + _LOOK

    def close(self) -> None:
        """Leave what was shown last."""
        self._bar.close()

"""One leg of a flow: bursts of attempts, with what lies between them read off."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from ..solvers import Halt
from ..solvers.host.lean import Bounds, Burst
from ..solvers.host.stepping import HostField
from ..solvers.pace import HOPELESS
from ..solvers.streak import NON_FINITE_ATTEMPTS
from .between import lobatto, polynomial
from .host_position import HostPosition, Place, Tally
from .problem import RECORDED
from .programs import BATCH
from .records import Plan, Settings, keep_snapshot
from .runner import AbstractRunner
from .stops import GradientNormBelow, LossBelow, asked_at_save_times, at_most, find
from .takeover import WINDOW, due, window
from .trace import Trace

# A step that ends so near to the end ends at it.
_UNITS_IN_THE_LAST_PLACE = 100
# Of a step that was accepted, a part is accepted nearly always; so many attempts are none.
_MOST_PARTS = 1_000
# Numbers of states that are read off at a time: 64 MB in double precision.
_AT_A_TIME = 8_000_000
# Save times from which on compiling a program for batches of records is repaid.
_MANY = 2_048


class March:
    """The state of a leg while it runs."""

    def __init__(
        self,
        field: HostField,
        record: Callable[[np.ndarray, np.ndarray], None],
        runner: AbstractRunner,
        settings: Settings,
        trace: Trace,
        plan: Plan,
        position: HostPosition,
    ):
        """Start where a flow stands.

        Args:
            field: the flow.
            record: (times, states) -> None, adds to the trace.
            runner: the method.
            settings: the problem and the method.
            trace: the records, which grow.
            plan: what is to do.
            position: where the flow stands.
        """
        self.field, self.record, self.runner = field, record, runner
        self.settings, self.trace, self.plan = settings, trace, plan
        self.here, self.seen = position.here, position.seen
        # A rule that halted the last leg, by rounding alone, does not halt this one.
        self.control = dataclasses.replace(position.controller, halt=int(Halt.NONE))
        branched = position.anchor is not position.here
        self.anchor: Place | None = position.anchor if branched else None
        self.left = WINDOW
        # A solver is judged at the same steps, however many save times lie between.
        choice = settings.choice
        self.judged = choice.names[-1] if choice and choice.fallbacks else None
        if self.judged:
            done = position.controller.attempts - trace.judged.attempts
            self.left = max(1, window(self.judged) - done)
        self.since = trace.time
        self.next = int(np.searchsorted(plan.times, trace.time, side="right"))
        # Between two save times the flow must be able to end at the first.
        self.asked = bool(asked_at_save_times(plan.stops))
        # Bursts end before a step that passes one: the place before it is needed.
        self.careful = self.asked or not runner.dense
        loss, gradient = find(plan.stops, LossBelow), find(plan.stops, GradientNormBelow)
        self.loss = float(at_most(loss.threshold, settings.precision)) if loss else -math.inf
        self.gradient_norm = (
            float(at_most(gradient.threshold, settings.precision)) if gradient else -math.inf
        )
        self.judging = loss is not None or gradient is not None
        # Records that nothing waits for are made in batches.
        alone = self.asked or self.judging or len(plan.times) - self.next < _MANY
        self.pending: list[tuple[np.ndarray, np.ndarray]] | None = None if alone else []

    def run(self, over: Callable[[], bool]) -> None:
        """Attempt until the end, a rule, a limit or the leg's number of attempts.

        Args:
            over: whether a rule that is asked at save times ends the flow at the last record.
        """
        if self.control.barred:
            self.control = dataclasses.replace(self.control, halt=self.control.barred)
        recorded = len(self.trace.times)
        while self._going(recorded) and not self._once(over):
            pass
        self._flush()

    def _going(self, recorded: int) -> bool:
        """A leg ends with what it has recorded: then the flow can be judged, and written."""
        fresh = len(self.trace.times) == recorded
        before_end = self.trace.time < self.plan.horizon
        going = fresh and before_end and self.left > 0 and not self.control.halt
        return going and not (self.judged and self._due())

    def _due(self) -> bool:
        work = self.control.work
        cost = work.gradients + 2 * work.hvps
        return due(self.judged or "", self.trace.judged, self.control.attempts, cost)

    def position(self) -> HostPosition:
        """Where the flow stands now."""
        control = dataclasses.replace(self.control, step=self.here.step)
        return HostPosition(self.here, self.anchor or self.here, self.seen, control)

    def _once(self, over: Callable[[], bool]) -> bool:
        """One burst; whether the flow ends at a save time within it."""
        before, end = self.here, self.plan.horizon
        cut = before.time + before.step > end - _slack(end)
        if cut and self.anchor is None:
            self.anchor = before
        h = end - before.time if cut else before.step
        done = self.runner.run(self.field, before.y, before.memory, h, self._bounds(before, h))
        # A cut step is attempted first: only if it is accepted does it end at the end.
        ended = cut and done.attempts == 1 and done.accepted == 1
        time = end if ended else before.time + done.time
        self.here = Place(done.y, done.memory, done.step, time)
        self._count(done)
        if done.accepted and self._read_off(before, done, time, over):
            return True
        met = bool(done.accepted) and self.judging and time > self.since
        met = met and self._met(before, done)
        self.control = dataclasses.replace(self.control, halt=int(self._why(done, met)))
        return False

    def _bounds(self, before: Place, h: float) -> Bounds:
        control, times = self.control, self.plan.times
        pause = float(times[self.next]) - before.time if self.next < len(times) else math.inf
        end = self.plan.horizon - _slack(self.plan.horizon) - before.time
        judged = self.judging and self._seen_within(before)
        alone = (self.judging and not judged) or (self.careful and h >= pause)
        attempts = min(self.left, control.max_attempts - control.attempts, control.pace.left)
        return Bounds(
            end=min(end, pause) if self.careful else end,
            pause=pause,
            resolution=0.5 * float(np.spacing(before.time)) if before.time else 0.0,
            loss=self.loss if judged else -math.inf,
            gradient_norm=self.gradient_norm if judged else -math.inf,
            attempts=1 if alone else max(1, int(attempts)),
            gradients=max(1.0, control.max_gradients - control.work.gradients),
            non_finite=control.non_finite,
            edge=control.edge,
        )

    def _seen_within(self, before: Place) -> bool:
        """Whether a burst from here judges its steps by itself."""
        return self.runner.knows_end and before.time >= self.since

    def _met(self, before: Place, done: Burst) -> bool:
        if self._seen_within(before):
            return done.met
        loss, gradient = self.field.value_and_grad(done.y[:-2])
        self.trace.observation_gradients += 1
        # In the precision of the record, which decides.
        norm = done.y.dtype.type(np.linalg.norm(gradient))
        return done.y.dtype.type(loss) <= self.loss or bool(norm <= self.gradient_norm)

    def _count(self, done: Burst) -> None:
        control = self.control
        work = control.work
        self.left -= done.attempts
        self.trace.observation_gradients += done.observations
        self.control = dataclasses.replace(
            control,
            work=Tally(work.gradients + done.gradients, work.hvps + done.products),
            attempts=control.attempts + done.attempts,
            accepted=control.accepted + done.accepted,
            pace=control.pace.after(done.time, done.attempts),
            non_finite=done.non_finite,
            edge=done.edge,
        )

    def _why(self, done: Burst, met: bool) -> Halt:
        control, here = self.control, self.here
        patience = self.settings.method.controller.patience
        patience = max(control.max_attempts, HOPELESS) if patience is None else patience
        stuck = here.time + here.step <= here.time
        reasons = (
            (done.halt != Halt.NONE, Halt(done.halt)),
            (met, Halt.CONDITION),
            (done.non_finite >= NON_FINITE_ATTEMPTS, Halt.NON_FINITE),
            (stuck and done.edge, Halt.NON_FINITE),
            (stuck, Halt.TIME_UNDERFLOW),
            (control.work.gradients >= control.max_gradients, Halt.BUDGET),
            (control.attempts >= control.max_attempts, Halt.STEP_LIMIT),
            (control.pace.doubling > patience, Halt.NO_PROGRESS),
        )
        return next((halt for holds, halt in reasons if holds), Halt.NONE)

    def _read_off(self, before: Place, done: Burst, time: float, over: Callable[[], bool]) -> bool:
        """Record the save times that the last accepted step has passed; whether one is the end."""
        upto = int(np.searchsorted(self.plan.times, time, side="right"))
        due = self.plan.times[self.next : upto]
        self.next = max(self.next, upto)
        rows = max(1, _AT_A_TIME // done.y.size)
        for first in range(0, len(due), rows):
            times = due[first : first + rows]
            states = self._states(before, done, time, times)
            if self.pending is not None:
                self._postpone(times, states)
                continue
            count, ended = self._record(times, states, over)
            if ended:
                # The flow would go on from before the step.
                self.here, self.seen = before, states[count - 1]
                self.trace.time = float(times[count - 1])
                return True
        if time >= self.trace.time:
            self.seen, self.trace.time = done.y, time
        return False

    def _record(
        self, times: np.ndarray, states: np.ndarray, over: Callable[[], bool]
    ) -> tuple[int, bool]:
        """Record states until the flow ends at one: how many stay, and whether it does."""
        together = 1 if self.asked else len(times)
        for first in range(0, len(times), together):
            part = slice(first, first + together)
            self.record(times[part], states[part])
            count, ended = self._ends_at(len(times[part]), over)
            self._keep_snapshots(times[part][:count], states[part])
            if ended:
                return first + count, True
        return len(times), False

    def _postpone(self, times: np.ndarray, states: np.ndarray) -> None:
        """Record later, in the same leg."""
        assert self.pending is not None
        self._keep_snapshots(times, states)
        self.pending.append((times, states))
        waiting = sum(states.size for _, states in self.pending)
        if waiting >= max(_AT_A_TIME, BATCH * states.shape[1]):
            self._flush()

    def _flush(self) -> None:
        if self.pending:
            times, states = zip(*self.pending, strict=True)
            self.pending.clear()
            self.record(np.concatenate(times), np.concatenate(states))

    def _keep_snapshots(self, times: np.ndarray, states: np.ndarray) -> None:
        if self.plan.snapshots:
            for at, state in zip(times, states, strict=False):
                keep_snapshot(self.settings, self.trace, self.plan, float(at), state[:-2])

    def _ends_at(self, count: int, over: Callable[[], bool]) -> tuple[int, bool]:
        """How many of the last records stay, and whether the flow ends at the last that does."""
        first = len(self.trace.times) - count
        if not all(np.isfinite(self.trace.series(name, first)).all() for name in RECORDED):
            return count, True
        if self.judging:
            loss, norm = (self.trace.series(name, first) for name in ("loss", "gradient_norm"))
            met = (loss <= self.loss) | (norm <= self.gradient_norm)
            if met.any():
                stay = int(np.argmax(met)) + 1
                for _ in range(count - stay):
                    self.trace.drop_last()
                self.control = dataclasses.replace(self.control, halt=int(Halt.CONDITION))
                return stay, True
        return count, self.asked and over()

    def _states(self, before: Place, done: Burst, time: float, times: np.ndarray) -> np.ndarray:
        fractions = np.clip((times - (time - done.taken)) / done.taken, 0.0, 1.0)
        if self.runner.dense:
            states = done.dense(fractions)
        elif done.accepted == 1 and 0 < self.runner.nodes < len(times):
            states = polynomial(self._nodes(before, done), fractions)
        else:
            states = np.stack([done.y if t == time else self._reach(before, t) for t in times])
        states[times == time] = done.y
        return states

    def _nodes(self, before: Place, done: Burst) -> np.ndarray:
        """States at both ends of a step and at nodes between them."""
        at = before.time + done.taken * lobatto(self.runner.nodes)
        return np.stack([before.y, *(self._reach(before, t) for t in at), done.y])

    def _reach(self, place: Place, target: float) -> np.ndarray:
        """The state at a time within a step, by shorter steps. Their work is observation."""
        nothing = Bounds(math.inf, math.inf, 0.0, -math.inf, -math.inf, 1, math.inf, 0, False)
        for _ in range(_MOST_PARTS):
            whole = place.time + place.step > target - _slack(target)
            h = target - place.time if whole else place.step
            done = self.runner.run(self.field, place.y, place.memory, h, nothing)
            self.trace.observation_gradients += done.gradients + 2 * done.products
            self.trace.observation_gradients += done.observations
            if whole and done.accepted:
                return done.y
            place = Place(done.y, done.memory, done.step, place.time + done.time)
        return np.full_like(place.y, np.nan)


def _slack(time: float) -> float:
    return _UNITS_IN_THE_LAST_PLACE * float(np.spacing(time))

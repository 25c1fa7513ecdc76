"""One leg of a flow: bursts of attempts, with what lies between them read off."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from ..solvers import Halt
from ..solvers.host.bursts import NO_SAVES, Bounds, Burst, relative, rows_at_most
from ..solvers.host.stepping import HostField
from ..solvers.pace import HOPELESS, HOPELESS_IF_STABLE
from ..solvers.pace import WINDOW as WINDOW_OF_PACE
from ..solvers.streak import NON_FINITE_ATTEMPTS
from .between import lobatto, polynomial
from .choice import EXPLICIT
from .host_position import HostPosition, Place, Tally
from .passed import Passed, joined
from .problem import RECORDED
from .programs import BATCH
from .records import Plan, Settings, keep_snapshot
from .runner import AbstractRunner, Request, Waiting
from .stops import GradientNormBelow, LossBelow, asked_at_save_times, at_most, find
from .takeover import CRAWLING, DEAR, WINDOW, due, window
from .trace import Trace

# Gives the state at a record, by its number among those of one call, another time.
Again = Callable[[int], np.ndarray]
# A step that ends so near to the end ends at it.
_UNITS_IN_THE_LAST_PLACE = 100
# Of a step that was accepted, a part is accepted nearly always; a burst has at most half as many.
_MOST_PARTS = 2 * WINDOW_OF_PACE
# Numbers of states that are read off at a time: 64 MB in double precision.
_AT_A_TIME = 8_000_000
# A network of ReLUs was seen to pass a kink at such a pace after 5,000 attempts, and to go on.
_PATIENCE = 10_000
# Save times from which on compiling a program for batches of records is repaid.
_MANY = 2_048


class March:
    """The state of a leg while it runs."""

    def __init__(
        self,
        field: HostField,
        record: Callable[[np.ndarray, np.ndarray, np.ndarray, Again], None],
        runner: AbstractRunner,
        settings: Settings,
        trace: Trace,
        plan: Plan,
        position: HostPosition,
    ):
        """Start where a flow stands.

        Args:
            field: the flow.
            record: (times, states, drifts, again) -> None, adds to the trace, and asks for states
                another time where L is no number.
            runner: the method.
            settings: the problem and the method.
            trace: the records, which grow.
            plan: what is to do.
            position: where the flow stands.
        """
        self.field, self.record, self.runner = field, record, runner
        self.settings, self.trace, self.plan = settings, trace, plan
        self.here, self.seen, self.drift = position.here, position.seen, position.drift
        # A rule that halted the last leg, by rounding alone, does not halt this one.
        self.control = dataclasses.replace(position.controller, halt=int(Halt.NONE))
        branched = position.anchor is not position.here
        self.anchor: Place | None = position.anchor if branched else None
        self.left = WINDOW
        # A solver is judged at the same steps, however many save times lie between.
        choice = settings.choice
        self.judged = choice.names[-1] if choice and choice.open else None
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
        # Else they pass them, and keep the states.
        size = self.seen.size
        self.rows = 0
        if runner.keeps and not self.careful:
            self.rows = rows_at_most(size, len(plan.times))
        # A stiff solver is judged by what it has cost, which is asked between bursts.
        self.costly = self.judged is not None and self.judged not in EXPLICIT
        # Records that nothing waits for are made in batches.
        alone = self.asked or self.judging or len(plan.times) - self.next < _MANY
        self.pending: list[Passed] | None = None if alone else []

    def run(self, over: Callable[[], bool]) -> Waiting[None]:
        """Attempt until the end, a rule, a limit or the leg's number of attempts.

        What it asks for are bursts; the few steps between them that records need it makes itself.

        Args:
            over: whether a rule that is asked at save times ends the flow at the last record.

        Yields:
            The bursts.
        """
        if self.control.barred:
            self.control = dataclasses.replace(self.control, halt=self.control.barred)
        recorded = len(self.trace.times)
        ended = False
        while self._going(recorded) and not ended:
            ended = yield from self._once(over)
        self._flush()

    def _going(self, recorded: int) -> bool:
        """A leg ends with what it has recorded: then the flow can be judged, and written."""
        fresh = len(self.trace.times) == recorded
        before_end = self.trace.time < self.plan.horizon
        going = fresh and before_end and self.left > 0 and not self.control.halt
        return going and not (self.judged and self._due())

    def _due(self) -> bool:
        cost = self.control.work.cost
        return due(self.judged or "", self.trace.judged, self.control.attempts, cost)

    def position(self) -> HostPosition:
        """Where the flow stands now."""
        control = dataclasses.replace(self.control, step=self.here.step)
        anchor = self.anchor or self.here
        return HostPosition(self.here, anchor, self.seen, self.drift, control)

    def _once(self, over: Callable[[], bool]) -> Waiting[bool]:
        """One burst; whether the flow ends at a save time within it."""
        before, end = self.here, self.plan.horizon
        cut = before.time + before.step > end - _slack(end)
        if cut and self.anchor is None:
            self.anchor = before
        h = end - before.time if cut else before.step
        bounds = self._bounds(before, h)
        done = yield Request(self.runner, self.field, before.y, before.memory, h, bounds)
        # A cut step is attempted first: only if it is accepted does it end at the end.
        done = self._seen(before, done)
        ended = cut and done.attempts == 1 and done.accepted == 1
        time = end if ended else before.time + done.time
        drift = before.drift + np.asarray(done.drift, before.drift.dtype)
        self.here = Place(done.y, done.memory, done.step, time, drift)
        self._count(done)
        if done.accepted and self._read_off(before, done, time, over):
            return True
        met = bool(done.accepted) and self.judging and time > self.since
        met = met and self._met(before, done)
        self.control = dataclasses.replace(self.control, halt=int(self._why(done, met)))
        return False

    def _seen(self, before: Place, done: Burst) -> Burst:
        """Beside an edge a step must end where L is a number, whether its method looks or not."""
        beside = self.control.edge and not self.runner.sees_end
        return self._within(before, done, self.control.non_finite) if beside else done

    def _within(self, before: Place, done: Burst, non_finite: int) -> Burst:
        """An attempt that is rejected, with half its step, if it ends where L is no number."""
        if not done.accepted:
            return done
        _, gradient = self.field.value_and_grad(self.settings.problem.theta_of(done.y))
        done = done._replace(gradients=done.gradients + 1)
        if np.isfinite(gradient).all():
            return done
        return done.rejected(before.y, before.memory, non_finite)

    def _bounds(self, before: Place, h: float) -> Bounds:
        control, times = self.control, self.plan.times
        # The burst ends with the last save time that it may pass; the horizon is the march's.
        last = self.next + max(self.rows, 1) - 1
        pause = float(times[last]) - before.time if last < len(times) else math.inf
        ahead = times[self.next : min(last + 1, len(times) - 1)] - before.time
        saves = relative(ahead, self.rows, before.y.dtype) if self.rows else NO_SAVES
        end = self.plan.horizon - _slack(self.plan.horizon) - before.time
        judged = self.judging and self._seen_within(before)
        alone = (self.judging and not judged) or (self.careful and h >= pause)
        alone = alone or (control.edge and not self.runner.sees_end)
        attempts = min(self.left, control.max_attempts - control.attempts, control.pace.left)
        return Bounds(
            end=min(end, pause) if self.careful else end,
            pause=pause,
            resolution=0.5 * float(np.spacing(before.time)) if before.time else 0.0,
            loss=self.loss if judged else -math.inf,
            gradient_norm=self.gradient_norm if judged else -math.inf,
            attempts=1 if alone else max(1, int(attempts)),
            gradients=max(1.0, self._affordable()),
            non_finite=control.non_finite,
            edge=control.edge,
            saves=saves,
        )

    def _affordable(self) -> float:
        """Evaluations until the budget is spent, or the solver is to be judged."""
        cost = self.control.work.cost
        left = self.control.max_gradients - cost
        return min(left, self.trace.judged.cost + DEAR - cost) if self.costly else left

    def _seen_within(self, before: Place) -> bool:
        """Whether a burst from here judges its steps by itself."""
        return self.runner.knows_end and before.time >= self.since

    def _met(self, before: Place, done: Burst) -> bool:
        if self._seen_within(before):
            return done.met
        loss, gradient = self.field.value_and_grad(self.settings.problem.theta_of(done.y))
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
        stuck = here.time + here.step <= here.time
        reasons = (
            (done.halt != Halt.NONE, Halt(done.halt)),
            (met, Halt.CONDITION),
            (done.non_finite >= NON_FINITE_ATTEMPTS, Halt.NON_FINITE),
            (stuck and done.edge, Halt.NON_FINITE),
            (stuck, Halt.TIME_UNDERFLOW),
            (control.work.cost >= control.max_gradients, Halt.BUDGET),
            (control.attempts >= control.max_attempts, Halt.STEP_LIMIT),
            (self._hopeless(), Halt.NO_PROGRESS),
        )
        return next((halt for holds, halt in reasons if holds), Halt.NONE)

    def _hopeless(self) -> bool:
        """Whether time gets on too slowly to go on."""
        control, settings, time = self.control, self.settings, self.here.time
        doubling, patience = control.pace.doubling, settings.method.controller.patience
        if doubling > (max(control.max_attempts, HOPELESS) if patience is None else patience):
            return True
        # Others have given up already, and nobody is left to take over: not for a long way.
        last = settings.choice is not None and not settings.choice.open
        left = doubling * (self.plan.horizon - time)
        crawls = doubling > CRAWLING and left > HOPELESS_IF_STABLE * time
        return last and crawls and control.attempts > _PATIENCE

    def _read_off(self, before: Place, done: Burst, time: float, over: Callable[[], bool]) -> bool:
        """Record the save times that the last accepted step has passed; whether one is the end."""
        upto = int(np.searchsorted(self.plan.times, time, side="right"))
        due = self.plan.times[self.next : upto]
        self.next = max(self.next, upto)
        for times, states, drifts in self._parts(before, done, time, due):
            passed = Passed(times, states, drifts, [(0, before)])
            if self.pending is None:
                if self._record(passed, over):
                    return True
                continue
            self.pending.append(passed)
            # Places count as well: they are kept as long.
            waiting = sum(each.numbers for each in self.pending)
            if waiting >= max(_AT_A_TIME, BATCH * done.y.size) and self._flush():
                return True
        if time >= self.trace.time:
            self.seen, self.drift, self.trace.time = done.y, self.here.drift, time
        return False

    def _parts(self, before: Place, done: Burst, time: float, due: np.ndarray):
        """The states at the save times that are due, by parts: kept ones, then within the step."""
        kept = len(done.rows)
        if kept:
            # What a program returned is read-only, and may be replaced.
            yield due[:kept], done.rows.copy(), before.drift + done.row_drifts
        rows = max(1, _AT_A_TIME // done.y.size)
        for first in range(kept, len(due), rows):
            times = due[first : first + rows]
            fractions = _fractions(done, time, times)
            states = self._states(before, done, time, times, fractions)
            left = (1 - fractions[:, None]) * done.last_drift
            yield times, states, (self.here.drift - left).astype(states.dtype)

    def _record(self, passed: Passed, over: Callable[[], bool]) -> bool:
        """Record states; whether the flow ends at one, after which none stays."""
        times, states = passed.times, passed.states
        together = 1 if self.asked else len(times)
        for first in range(0, len(times), together):
            part = slice(first, first + together)
            again = lambda i, first=first: self._again(passed, first + i)
            self.record(times[part], states[part], passed.drifts[part], again)
            count, ended = self._ends_at(len(times[part]), over)
            self._keep_snapshots(times[part][:count], states[part])
            if ended:
                last = first + count - 1
                # The flow would go on from before the step.
                self.here, self.seen = passed.before(last), states[last]
                self.drift = passed.drifts[last]
                self.trace.time = float(times[last])
                return True
        return False

    def _flush(self) -> bool:
        """Record what was postponed, in the same leg; whether the flow ends at one."""
        if not self.pending:
            return False
        passed = joined(self.pending)
        self.pending.clear()
        return self._record(passed, lambda: False)

    def _again(self, passed: Passed, i: int) -> np.ndarray:
        """A state by real steps: an interpolant may leave the domain of L where they do not."""
        reached = self._reach(passed.before(i), float(passed.times[i]), beside=True)
        return reached if np.isfinite(reached).all() else passed.states[i]

    def _keep_snapshots(self, times: np.ndarray, states: np.ndarray) -> None:
        if self.plan.snapshots:
            thetas = self.settings.problem.theta_of(states)
            for at, theta in zip(times, thetas, strict=False):
                keep_snapshot(self.settings, self.trace, self.plan, float(at), theta)

    def _ends_at(self, count: int, over: Callable[[], bool]) -> tuple[int, bool]:
        """How many of the last records stay, and whether the flow ends at the last that does."""
        first = len(self.trace.times) - count
        series = {name: self.trace.series(name, first) for name in RECORDED}
        over_here = ~np.isfinite(list(series.values())).all(axis=0)
        if self.judging:
            met = (series["loss"] <= self.loss) | (series["gradient_norm"] <= self.gradient_norm)
            over_here |= met
        if over_here.any():
            stay = int(np.argmax(over_here)) + 1
            for _ in range(count - stay):
                self.trace.drop_last()
            if np.isfinite([values[stay - 1] for values in series.values()]).all():
                self.control = dataclasses.replace(self.control, halt=int(Halt.CONDITION))
            return stay, True
        return count, self.asked and over()

    def _states(
        self, before: Place, done: Burst, time: float, times: np.ndarray, fractions: np.ndarray
    ) -> np.ndarray:
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

    def _reach(self, place: Place, target: float, beside: bool = False) -> np.ndarray:
        """The state at a time within a step, by shorter steps. Their work is observation.

        Args:
            place: where the step began.
            target: the time.
            beside: whether an edge is near, so that L must be a number wherever they end.

        Returns:
            The state, (N,); NaN if they do not come so far.
        """
        nothing = Bounds(math.inf, math.inf, 0.0, -math.inf, -math.inf, 1, math.inf, 0, False)
        for _ in range(_MOST_PARTS):
            whole = place.time + place.step > target - _slack(target)
            h = target - place.time if whole else place.step
            done = self.runner.run(self.field, place.y, place.memory, h, nothing)
            done = self._within(place, done, 0) if beside else done
            self.trace.observation_gradients += done.gradients + 2 * done.products
            self.trace.observation_gradients += done.observations
            if whole and done.accepted:
                return done.y
            place = Place(done.y, done.memory, done.step, place.time + done.time, place.drift)
        return np.full_like(place.y, np.nan)


def _fractions(done: Burst, time: float, times: np.ndarray) -> np.ndarray:
    """Where in the last step of a burst, which ends at `time`, some times are."""
    return np.clip((times - (time - done.taken)) / done.taken, 0.0, 1.0)


def _slack(time: float) -> float:
    return _UNITS_IN_THE_LAST_PLACE * float(np.spacing(time))

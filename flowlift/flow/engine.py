"""The engine: it begins a flow, advances it by marches, and records it.

What differs is the runner of the solver. On the host compiling is what a first flow waits for: the
gradient is compiled, the product where a solver asks for it, and for explicit methods one lean loop
of steps; all else is NumPy. In the graph a solver of diffrax is compiled whole, in a loop of steps.
Steps are those of the method alone: save times are read off between them and never cut one, so that
a flow takes the same steps at however many times it is looked at. The end of a call does cut steps,
but what comes after the cut is a branch: a flow that is gone on with goes on from before it.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..solvers import Halt
from .graph import GraphRunner
from .host_methods import host_runner
from .host_position import HostControl, HostPosition, Place, Tally
from .integrals import judged
from .march import Again, March
from .methods import halting_outcome
from .observers import COST, Observers
from .outcome import Outcome
from .problem import Problem
from .programs import BATCH, host_field, record_batch
from .records import Plan, Settings
from .runner import AbstractRunner, Waiting
from .sharpness import Ends, Enough, spectrum, spectrum_on_host
from .stops import Stop
from .trace import Trace


class Engine:
    """Drives the solver of one problem. What it knows of a flow is in the position.

    Attributes:
        field: the flow as the host calls it.
    """

    def __init__(self, problem: Problem):
        """Prepare the programs of a problem; the gradient is traced, nothing compiled.

        Args:
            problem: the problem.
        """
        self.field = host_field(problem)
        self._start, self._problem = problem.start_on_host, problem
        self._runner: tuple[Any, AbstractRunner] | None = None

    def begin(self, settings: Settings) -> HostPosition:
        """The position at t = 0: the method chooses its first step, whatever is asked for.

        Args:
            settings: the problem and the method.

        Returns:
            The position.
        """
        return self._started(settings, self._y(), 0.0, self._still(), HostControl())

    def restart(self, settings: Settings, position: HostPosition) -> HostPosition:
        """The same place for another method; limits and counts go on.

        Args:
            settings: with the method that takes over.
            position: where the other one stands.

        Returns:
            The position.
        """
        here, control = position.here, position.controller
        control = dataclasses.replace(control, pace=control.pace.taken_over(), non_finite=0)
        return self._started(settings, here.y, here.time, here.drift, control)

    def allow(
        self, settings: Settings, plan: Plan, position: HostPosition, spent: float
    ) -> HostPosition:
        """The position with the limits of this call; steps cut for another end are taken back.

        Args:
            settings: with the limit of steps.
            plan: with the budget.
            position: where the flow stands.
            spent: evaluations that this call has made already.

        Returns:
            The position.
        """
        control = position.controller.allow(plan.max_gradients - spent, settings.max_steps)
        return dataclasses.replace(position, here=position.anchor, controller=control)

    def leg(
        self,
        settings: Settings,
        trace: Trace,
        plan: Plan,
        position: HostPosition,
        over: Callable[[], bool],
    ) -> Waiting[tuple[HostPosition, Outcome | None]]:
        """Attempt up to the end, a rule, a limit or a number of attempts; record what is passed.

        Args:
            settings: the problem and the method.
            trace: the records, which grow.
            plan: what is to do.
            position: where the flow stands.
            over: whether a rule that is asked at save times ends the flow at the last record.

        Yields:
            Bursts that it asks for.

        Returns:
            The new position; why the integration cannot go on, None if it can.
        """
        trace.legs += 1

        def record(times: np.ndarray, states: np.ndarray, drifts: np.ndarray, again: Again) -> None:
            self.record_states(settings, trace, times, states, drifts, again)

        runner = self.runner(settings, plan.stops)
        march = March(self.field, record, runner, settings, trace, plan, position)
        yield from march.run(over)
        position = march.position()
        return position, halting_outcome(Halt(position.controller.halt))

    def halted(self, position: HostPosition) -> bool:
        """Whether a stopping rule halted the last leg.

        Args:
            position: where the flow stands.

        Returns:
            As its counts say.
        """
        return position.controller.halt == Halt.CONDITION

    def memory(self, settings: Settings, position: HostPosition) -> Any:
        """The solver's own memory.

        Args:
            settings: who drives: in the graph the memory of the controller stands beside.
            position: where the flow stands.

        Returns:
            That of the host's description, or of diffrax's solver.
        """
        memory = position.here.memory
        return memory[0] if settings.engine == "graph" else memory

    def spectrum(self, settings: Settings, position: HostPosition, enough: Enough) -> Ends:
        """The ends of the Hessian's spectrum where the flow stands.

        Args:
            settings: the problem, and who drives: in the graph all products are compiled as one.
            position: where the flow stands.
            enough: whether no more products are needed.

        Returns:
            The ends, with the products that they took.
        """
        y = position.here.y
        theta, plain = settings.problem.theta_of(y), settings.problem.dynamics.plain
        if settings.engine == "graph" and plain:
            return spectrum(settings.problem, jnp.asarray(theta))
        return spectrum_on_host(self.field, theta, enough, None if plain else y)

    def record(self, settings: Settings, trace: Trace, position: HostPosition) -> None:
        """Record the position at the time reached. One gradient.

        Args:
            settings: the problem and what is observed.
            trace: the records, which grow by one.
            position: where the flow stands.
        """
        here = position.seen[None], position.drift[None]
        self.record_states(settings, trace, np.array([trace.time]), *here)

    def record_states(
        self,
        settings: Settings,
        trace: Trace,
        times: np.ndarray,
        states: np.ndarray,
        drifts: np.ndarray,
        again: Again | None = None,
    ) -> None:
        """Record states at some times. One gradient each, plus the observers' own work.

        Args:
            settings: what is observed.
            trace: the records, which grow.
            times: (m,).
            states: (m, N). Those where L is no number are replaced.
            drifts: (m, 2), see `flowlift.flow.host_position.Place`.
            again: what gives them another time; None: nothing does.
        """
        problem = settings.problem
        # Views: what is replaced is replaced in all of them.
        thetas, further = problem.dynamics.parts(states)
        loss, gradients = self._recorded(problem, thetas)
        repeated = self._repeated(problem, states, loss, gradients, again)
        moved = problem.coordinates.theta(thetas - self._start)
        records: dict[str, Any] = {
            "loss": loss,
            "gradient_norm": gradients,
            "arc_length": states[:, -2].copy(),
            "energy": states[:, -1].copy(),
            "distance": np.linalg.norm(moved, axis=1),
            COST: np.full(len(times), 1 + problem.dynamics.record_cost) + repeated,
        }
        records |= problem.dynamics.recorded(problem, thetas, further)
        if settings.observers:
            look = lambda theta: _observed(settings.observers, problem, jnp.asarray(theta))
            watched = [look(theta) for theta in thetas]
            stacked = jax.tree.map(lambda *each: np.stack([np.asarray(v) for v in each]), *watched)
            records[COST] = records[COST] + stacked.pop(COST)
            records |= stacked
        start = trace.first("loss") if trace.times else float(loss[0])
        size = np.linalg.norm(problem.coordinates.theta(thetas), axis=1)
        records |= judged(records, drifts, size, start, settings)
        trace.append(times, records)

    def _recorded(self, problem: Problem, thetas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """L and |grad L| at some thetas (m, P): whole batches in one call each, the rest singly."""
        loss, norm = np.empty((2, len(thetas)), thetas.dtype)
        # Where samples are read from files, no program has them all.
        whole = 0 if problem.streams else len(thetas) // BATCH * BATCH
        for first in range(0, whole, BATCH):
            part = slice(first, first + BATCH)
            loss[part], norm[part] = record_batch(problem)(thetas[part])
        for i in range(whole, len(thetas)):
            loss[i], gradient = self.field.value_and_grad(thetas[i])
            norm[i] = np.linalg.norm(gradient)
        return loss, norm

    def _repeated(self, problem: Problem, states, loss, gradients, again: Again | None):
        """Replace what is no number, up to the first that stays so; (m,), which were replaced."""
        repeated = np.zeros(len(states), int)
        if again is None:
            return repeated
        for i in np.flatnonzero(~(np.isfinite(loss) & np.isfinite(gradients))):
            states[i], repeated[i], row = again(int(i)), 1, slice(i, i + 1)
            loss[row], gradients[row] = self._recorded(problem, problem.theta_of(states[row]))
            if not np.isfinite([loss[i], gradients[i]]).all():
                # The flow ends here.
                break
        return repeated

    def runner(self, settings: Settings, stops: tuple[Stop, ...] = ()) -> AbstractRunner:
        """The method of some settings, ready to run.

        Args:
            settings: with the solver, and which engine drives it.
            stops: the rules of the call.

        Returns:
            The runner.
        """
        key = settings.method, stops
        known = self._runner
        if known is None or any(old is not new for old, new in zip(known[0], key, strict=True)):
            on_host = settings.engine == "host"
            made = host_runner(settings, self.field) if on_host else GraphRunner.of(settings, stops)
            self._runner = known = key, made
        return known[1]

    def pack(self, position: HostPosition) -> list[np.ndarray]:
        """The arrays of a position, in order: the anchor last, and only where it is another place.

        Args:
            position: where the flow stands.

        Returns:
            The arrays.
        """
        places = [position.here]
        if position.anchor is not position.here:
            places.append(position.anchor)
        leaves = jax.tree.leaves((position.seen, position.drift, position.controller, *places))
        return [np.asarray(leaf) for leaf in leaves]

    def unpack(self, settings: Settings, arrays: list[np.ndarray]) -> HostPosition:
        """A position from its arrays, to the last bit; Python numbers stay such.

        Args:
            settings: the problem and the method.
            arrays: in the order of `pack`.

        Returns:
            The position.
        """
        still = self._still()
        place = Place(self._start, self.runner(settings).blank(self._y()), 0.0, 0.0, still)
        one = (self._start, still, HostControl(), place)
        both = (*one, place)
        like = one if jax.tree.structure(one).num_leaves == len(arrays) else both
        leaves = [_as_was(a, old) for a, old in zip(arrays, jax.tree.leaves(like), strict=True)]
        seen, drift, controller, *places = jax.tree.unflatten(jax.tree.structure(like), leaves)
        return HostPosition(places[0], places[-1], seen, drift, controller)

    def _y(self) -> np.ndarray:
        return self._problem.state_on_host

    def _still(self) -> np.ndarray:
        return np.zeros(2, self._start.dtype)

    def _started(
        self,
        settings: Settings,
        y: np.ndarray,
        time: float,
        drift: np.ndarray,
        control: HostControl,
    ) -> HostPosition:
        with np.errstate(all="ignore"):
            start = self.runner(settings).start(self.field, y)
        work = Tally(control.work.gradients + start.gradients, control.work.hvps + start.products)
        control = dataclasses.replace(control, work=work, step=start.step, barred=int(start.halt))
        here = Place(y, start.memory, start.step, time, drift)
        return HostPosition(here, here, y, drift, control)


@eqx.filter_jit
def _observed(observers: Observers, problem: Problem, theta) -> dict[str, Any]:
    values, total = {}, 0
    for observer in observers:
        named, cost = observer(problem.model(theta))
        values, total = values | named, total + cost
    return values | {COST: total}


def _as_was(array: np.ndarray, old: Any) -> Any:
    return array if isinstance(old, np.ndarray) else type(old)(array[()])


@lru_cache(maxsize=1)
def _controller():
    import threadpoolctl

    return threadpoolctl.ThreadpoolController()


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """As a flow runs: without NumPy's warnings, and with one BLAS thread.

    Its vectors are short for a pool of threads, and workers share the cores.

    Yields:
        Nothing.
    """
    with np.errstate(all="ignore"), _controller().limit(limits=1, user_api="blas"):
        yield

"""The engine on the host: it drives solvers from Python over two compiled programs.

Compiling is what a first flow waits for. Here the gradient is compiled, the product where a solver
asks for it, and for explicit methods one lean loop of steps; all else is NumPy. Steps are those of
the method alone: save times are read off between them and never cut one, so that a flow takes the
same steps at however many times it is looked at. The end of a call does cut steps, but what comes
after the cut is a branch: a flow that is gone on with goes on from before it.
"""

import contextlib
import dataclasses
from collections.abc import Callable
from functools import lru_cache
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..solvers import Halt
from .engine import AbstractEngine
from .host_methods import Runner, runner_for
from .host_position import HostControl, HostPosition, Place, Tally
from .march import March
from .methods import halting_outcome
from .observers import COST, Observers
from .outcome import Outcome
from .problem import Problem
from .programs import BATCH, host_field, record_batch
from .records import Plan, Settings
from .trace import Trace


class HostEngine(AbstractEngine):
    """Drives the solvers that have a host's description.

    Attributes:
        field: the flow as the host calls it.
    """

    name: ClassVar[str] = "host"

    def __init__(self, problem: Problem):
        """Prepare the programs of a problem; the gradient is traced, nothing compiled.

        Args:
            problem: the problem.
        """
        self.field = host_field(problem)
        self._start = problem.start_on_host
        self._runner: tuple[Any, Runner] | None = None

    def begin(self, settings: Settings, plan: Plan) -> HostPosition:
        """Theta_0; the method chooses its first step, whatever is asked for."""
        y = np.concatenate([self._start, np.zeros(2, self._start.dtype)])
        return self._started(settings, y, 0.0, HostControl())

    def restart(
        self, settings: Settings, plan: Plan, position: HostPosition, time: float
    ) -> HostPosition:
        """From the place of the integration; limits and counts go on."""
        here, control = position.here, position.controller
        control = dataclasses.replace(control, pace=control.pace.taken_over(), non_finite=0)
        return self._started(settings, here.y, here.time, control)

    def allow(
        self, settings: Settings, plan: Plan, position: HostPosition, spent: float
    ) -> HostPosition:
        """Steps that were cut for another end are taken back."""
        control = position.controller.allow(plan.max_gradients - spent, settings.max_steps)
        return dataclasses.replace(position, here=position.anchor, controller=control)

    def leg(
        self,
        settings: Settings,
        trace: Trace,
        plan: Plan,
        position: HostPosition,
        over: Callable[[], bool],
    ) -> tuple[HostPosition, Outcome | None]:
        """Attempts up to the end, a rule, a limit, or the number of attempts of a leg."""
        trace.legs += 1

        def record(times: np.ndarray, states: np.ndarray) -> None:
            self.record_states(settings, trace, times, states)

        runner = self.runner(settings)
        march = March(self.field, record, runner, settings, trace, plan, position)
        with np.errstate(all="ignore"), _one_blas_thread():
            march.run(over)
        position = march.position()
        return position, halting_outcome(Halt(position.controller.halt))

    def halted(self, position: HostPosition) -> bool:
        """As the counts say."""
        return position.controller.halt == Halt.CONDITION

    def record(self, settings: Settings, trace: Trace, position: HostPosition) -> None:
        """One gradient."""
        self.record_states(settings, trace, np.array([trace.time]), position.seen[None])

    def record_states(
        self, settings: Settings, trace: Trace, times: np.ndarray, states: np.ndarray
    ) -> None:
        """Record states at some times. One gradient each, plus the observers' own work.

        Args:
            settings: what is observed.
            trace: the records, which grow.
            times: (m,).
            states: (m, P + 2).
        """
        loss, gradients = self._recorded(settings.problem, states[:, :-2])
        records: dict[str, Any] = {
            "loss": loss,
            "gradient_norm": gradients,
            "arc_length": states[:, -2].copy(),
            "energy": states[:, -1].copy(),
            "distance": np.linalg.norm(states[:, :-2] - self._start, axis=1),
            COST: np.ones(len(times), int),
        }
        if settings.observers:
            look = lambda y: _observed(settings.observers, settings.problem, jnp.asarray(y[:-2]))
            watched = [look(y) for y in states]
            stacked = jax.tree.map(lambda *each: np.stack([np.asarray(v) for v in each]), *watched)
            records[COST] = records[COST] + stacked.pop(COST)
            records |= stacked
        trace.append(times, records)

    def _recorded(self, problem: Problem, thetas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """L and |grad L| at some thetas (m, P): whole batches in one call each, the rest singly."""
        loss, norm = np.empty((2, len(thetas)), thetas.dtype)
        whole = len(thetas) // BATCH * BATCH
        for first in range(0, whole, BATCH):
            part = slice(first, first + BATCH)
            loss[part], norm[part] = record_batch(problem)(thetas[part])
        for i in range(whole, len(thetas)):
            loss[i], gradient = self.field.value_and_grad(thetas[i])
            norm[i] = np.linalg.norm(gradient)
        return loss, norm

    def runner(self, settings: Settings) -> Runner:
        """The method of some settings, ready to run.

        Args:
            settings: with the solver.

        Returns:
            The runner.
        """
        if self._runner is None or self._runner[0] is not settings.method:
            self._runner = settings.method, runner_for(settings, self.field)
        return self._runner[1]

    def pack(self, position: HostPosition) -> list[np.ndarray]:
        """The anchor comes last, and only where it is another place."""
        places = [position.here]
        if position.anchor is not position.here:
            places.append(position.anchor)
        leaves = jax.tree.leaves((position.seen, position.controller, *places))
        return [np.asarray(leaf) for leaf in leaves]

    def unpack(self, settings: Settings, plan: Plan, arrays: list[np.ndarray]) -> HostPosition:
        """Python numbers stay such."""
        place = Place(self._start, self.runner(settings).method.blank(self._start), 0.0, 0.0)
        one = (self._start, HostControl(), place)
        both = (*one, place)
        like = one if jax.tree.structure(one).num_leaves == len(arrays) else both
        leaves = [_as_was(a, old) for a, old in zip(arrays, jax.tree.leaves(like), strict=True)]
        seen, controller, *places = jax.tree.unflatten(jax.tree.structure(like), leaves)
        return HostPosition(places[0], places[-1], seen, controller)

    def _started(
        self, settings: Settings, y: np.ndarray, time: float, control: HostControl
    ) -> HostPosition:
        with np.errstate(all="ignore"):
            start = self.runner(settings).method.start(self.field, y)
        work = Tally(control.work.gradients + start.gradients, control.work.hvps + start.products)
        control = dataclasses.replace(control, work=work, step=start.step, barred=int(start.halt))
        here = Place(y, start.memory, start.step, time)
        return HostPosition(here, here, y, control)


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


def _one_blas_thread() -> contextlib.AbstractContextManager:
    """Vectors of a flow are short for a pool of threads, and workers share the cores."""
    return _controller().limit(limits=1, user_api="blas")

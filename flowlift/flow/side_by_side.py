"""Flows of one shape side by side: which lane has which flow, and who waits.

Each flow asks for its bursts one after another. Those of one program are served together, in lanes
of one width; a flow that has ended gives its lane to one that waits. What else a flow asks for, and
what one alone asks for at the end, is served by itself.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np

from ..solvers.host.bursts import Burst
from .abreast import abreast, blank
from .engine import quietly
from .graph import GraphRunner
from .outcome import FlowInterrupted
from .runner import Request, Waiting


class Lanes:
    """The lanes of one program. A lane's numbers depend on its own flow alone.

    Attributes:
        attempts: attempts of the program so far, each made in all lanes.
    """

    def __init__(self, first: Request, width: int):
        """Prepare the program for a first request; nothing is compiled.

        Args:
            first: of which the shapes are taken.
            width: K.
        """
        runner = _runner(first)
        self.attempts, self._width = 0, width
        self._static, self._asked = runner.static, runner.asked
        given = runner.given(*first[2:])
        self._carry = blank(self._static, self._asked, runner.arrays, *given, width=width)
        # A lane that has never had a flow begins with the numbers of the first, and rests there:
        # from zeros, inner loops of some solvers would only end at their limits.
        self._given = jax.tree.map(lambda leaf: np.stack([np.asarray(leaf)] * width), given)
        self._arrays: list[Any] = list(runner.arrays)
        self._shared = [True] * len(self._arrays)
        self._requests: list[tuple[int, Request] | None] = [None] * width
        self._fresh = np.ones(width, bool)
        self._found: Any = None

    @staticmethod
    def key(request: Request) -> tuple[Any, ...]:
        """By what requests of one program are known.

        Args:
            request: a request of a runner in the graph.

        Returns:
            The key.
        """
        runner = _runner(request)
        given = runner.given(*request[2:])
        shapes = [(np.shape(leaf), np.asarray(leaf).dtype) for leaf in jax.tree.leaves(given)]
        return runner.static, runner.asked, given[1].static, tuple(shapes)

    @property
    def waiting(self) -> int:
        """How many flows wait for their burst."""
        return sum(request is not None for request in self._requests)

    def put(self, member: int, request: Request) -> None:
        """Give a free lane a leg.

        Args:
            member: whose.
            request: the leg.
        """
        lane = self._requests.index(None)
        self._requests[lane], self._fresh[lane] = (member, request), True
        runner = _runner(request)
        given = runner.given(*request[2:])
        for old, new in zip(jax.tree.leaves(self._given), jax.tree.leaves(given), strict=True):
            old[lane] = np.asarray(new)
        for i, array in enumerate(runner.arrays):
            self._put_array(i, lane, array)

    def _put_array(self, i: int, lane: int, array: Any) -> None:
        """An array of a problem: one for all lanes as long as all flows have the same."""
        if self._shared[i]:
            if array is self._arrays[i] or np.array_equal(array, self._arrays[i], equal_nan=True):
                return
            self._shared[i] = False
            self._arrays[i] = np.stack([np.asarray(self._arrays[i])] * self._width)
        self._arrays[i][lane] = np.asarray(array)

    def run(self) -> Iterator[tuple[int, Burst]]:
        """Attempt steps in all lanes until some have ended.

        Yields:
            The member and the burst of each that has; its lane is free again.
        """
        live = np.array([request is not None for request in self._requests])
        program = abreast(self._static, self._asked, tuple(self._shared))
        given = (self._arrays, self._carry, self._fresh, live, *self._given)
        self._carry, on, count, found = program(*given)
        # The program runs while we go on, and may read the arrays that it was given until it ends.
        self.attempts += int(count)
        self._fresh[:] = False
        self._found = jax.tree.map(np.asarray, found)
        for lane in np.flatnonzero(live & ~np.asarray(on)):
            member, request = self._taken(int(lane))
            yield member, self._so_far(int(lane), request)

    def _so_far(self, lane: int, request: Request) -> Burst:
        of = jax.tree.map(lambda leaf: np.array(leaf[lane]), self._found)
        return _runner(request).burst(of)

    def _taken(self, lane: int) -> tuple[int, Request]:
        taken = self._requests[lane]
        assert taken is not None
        self._requests[lane] = None
        return taken

    def served_alone(self) -> tuple[int, Burst, int]:
        """Serve the only request by itself, from where its lane stands; the lane is free again.

        Returns:
            The member, its burst, and how many attempts were made for it here.
        """
        lane = next(i for i, request in enumerate(self._requests) if request is not None)
        fresh, (member, request) = self._fresh[lane], self._taken(lane)
        if fresh:
            burst = request.served()
            return member, burst, burst.attempts
        so_far = self._so_far(lane, request)
        rest = request._replace(
            y=so_far.y, memory=so_far.memory, h=so_far.step, bounds=request.bounds.after(so_far)
        ).served()
        return member, so_far.followed(rest), rest.attempts


class Ensemble:
    """Flows side by side, and those that wait.

    Attributes:
        lanes: those of each program.
        alone: attempts of bursts that were served by themselves.
    """

    def __init__(self, width: int, last_alone: bool | None = None):
        """Prepare; nothing is compiled.

        Args:
            width: how many flows run side by side.
            last_alone: whether the last flow that is left runs by itself from its next leg on:
                its steps cost less where lanes that rest cost as much as others, and are other
                in their last digits. None: on a CPU.
        """
        self.lanes: dict[Any, Lanes] = {}
        self.alone, self._width = 0, width
        on_cpu = jax.default_backend() == "cpu"
        self._last_alone = on_cpu if last_alone is None else last_alone
        self._active: dict[int, Waiting] = {}
        self._ended: dict[int, Any] = {}

    @property
    def work(self) -> int:
        """Attempts so far, those of lanes that rest included: what the ensemble costs."""
        return self.alone + self._width * sum(lanes.attempts for lanes in self.lanes.values())

    def run(self, flows: Iterable[Waiting]) -> Iterator[Any]:
        """Run flows side by side.

        Args:
            flows: what asks for bursts; drawn when a lane is free.

        Yields:
            What each comes to, in their order: one that has ended waits for those before it.

        Raises:
            Exception: what `flows` raises, once those that were drawn before have been given.
        """
        waiting, drawn, given = _until_raised(flows), 0, 0
        more = True
        while more or self._active:
            while more and len(self._active) < self._width:
                flow = next(waiting, None)
                more = flow is not None
                if isinstance(flow, _Raised):
                    self._ended[drawn] = flow
                elif flow is not None:
                    self._active[drawn] = flow
                    self._go_on(drawn, None)
                    drawn += 1
            if self._active:
                self._serve(more)
            while given in self._ended:
                yield _result(self._ended.pop(given))
                given += 1

    def interrupted(self) -> list[Any]:
        """End all flows that are under way, as by Ctrl-C.

        Returns:
            What those come to, and those that had ended but were not given, in their order; flows
            that have recorded nothing yet come to nothing.
        """
        for member, flow in self._active.items():
            try:
                with quietly():
                    flow.throw(KeyboardInterrupt())
            except FlowInterrupted as stopped:
                self._ended[member] = stopped.solution
            except (StopIteration, KeyboardInterrupt):
                # It was the one that the interruption met, or had not begun.
                continue
        found = [self._ended[member] for member in sorted(self._ended)]
        self._active.clear()
        self._ended.clear()
        return [solution for solution in found if not isinstance(solution, _Raised)]

    def _serve(self, more: bool) -> None:
        """Bursts of the program for which most flows wait."""
        lanes = max(self.lanes.values(), key=lambda lanes: lanes.waiting)
        if self._last_alone and not more and len(self._active) == 1:
            with quietly():
                member, burst, attempts = lanes.served_alone()
            self.alone += attempts
            self._go_on(member, burst)
            return
        with quietly():
            found = list(lanes.run())
        for member, burst in found:
            self._go_on(member, burst)

    def _by_itself(self, request: Request) -> Burst:
        with quietly():
            burst = request.served()
        self.alone += burst.attempts
        return burst

    def _go_on(self, member: int, burst: Burst | None) -> None:
        """Give a flow its burst, and put what it asks for next into a lane."""
        flow = self._active[member]
        try:
            with quietly():
                request = next(flow) if burst is None else flow.send(burst)
            while not _together(request):
                alone = self._by_itself(request)
                with quietly():
                    request = flow.send(alone)
        except StopIteration as stop:
            self._ended[member] = stop.value
        except FlowInterrupted as stopped:
            self._ended[member] = stopped.solution
            del self._active[member]
            raise
        except Exception as error:
            # Said in its turn, as where flows run one by one.
            self._ended[member] = _Raised(error)
        else:
            key = Lanes.key(request)
            if key not in self.lanes:
                self.lanes[key] = Lanes(request, self._width)
            self.lanes[key].put(member, request)
            return
        del self._active[member]


class _Raised:
    def __init__(self, error: Exception):
        self.error = error


def _until_raised(flows: Iterable[Waiting]) -> Iterator[Any]:
    """The flows, and last what ended them where that was an exception: it has its turn, too."""
    try:
        yield from flows
    except Exception as error:
        yield _Raised(error)


def _result(found: Any) -> Any:
    if isinstance(found, _Raised):
        raise found.error
    return found


def _together(request: Request) -> bool:
    runner = request.runner
    return isinstance(runner, GraphRunner) and runner.side_by_side


def _runner(request: Request) -> GraphRunner:
    assert isinstance(request.runner, GraphRunner)
    return request.runner

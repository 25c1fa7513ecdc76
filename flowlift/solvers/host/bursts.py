"""What a burst of attempts is given, and what it comes to: plain records.

A burst keeps the states at the save times that it passes, so that the host need not come between.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..work import Halt
from .stepping import Dense, Vector

# Save times that one burst passes at most, and how many numbers it keeps at them (8 MB in double
# precision): the host comes between two bursts, which takes as long as some dozens of small steps.
_MOST_ROWS, _MOST_NUMBERS = 64, 1_000_000

NO_SAVES = np.empty(0)


class Bounds(NamedTuple):
    """When a burst ends; times are counted from its start.

    Attributes:
        end: a step that would reach it is not attempted, but for the first.
        pause: the burst ends with the accepted step that reaches it.
        resolution: it ends when the next step is no longer than this.
        loss: it ends with the accepted step at which L is at most this.
        gradient_norm: likewise |grad L|.
        attempts: most attempts.
        gradients: it ends when the cost is so many: a product counts as two.
        non_finite: attempts in a row, before, that were not finite.
        edge: whether the last rejected attempt, before, was one of them.
        saves: times of which the states are wanted, increasing, infinite where there are no more,
            (m,); m is the most that one burst passes, see `rows_at_most`, or 0.
    """

    end: float
    pause: float
    resolution: float
    loss: float
    gradient_norm: float
    attempts: int
    gradients: float
    non_finite: int
    edge: bool
    saves: Vector = NO_SAVES

    def after(self, burst: "Burst") -> "Bounds":
        """These bounds for a burst that goes on from another.

        Args:
            burst: the other one.

        Returns:
            What it left of them.
        """
        return self._replace(
            end=self.end - burst.time,
            pause=self.pause - burst.time,
            attempts=self.attempts - burst.attempts,
            gradients=self.gradients - burst.gradients - 2 * burst.products,
            non_finite=burst.non_finite,
            edge=burst.edge,
            saves=rest_of(self.saves, len(burst.rows), burst.time),
        )


class Burst(NamedTuple):
    """What a burst came to.

    Attributes:
        y: after the last accepted step.
        memory: the method's memory there.
        step: the next step to attempt.
        time: the time gained.
        taken: length of the last accepted step.
        dense: as for `Attempt`, of the last accepted step.
        attempts: attempted steps.
        accepted: accepted ones.
        gradients: evaluations.
        non_finite: attempts in a row, at the end, that were not finite.
        edge: whether the last rejected attempt was one of them.
        met: whether a threshold is met at y.
        left: whether the method asked for the host, and nothing else ended the burst.
        products: Hessian-vector products.
        halt: a `Halt` if the method cannot go on.
        observations: evaluations that only judged thresholds.
        rows: states at the first k save times of its bounds, (k, P + 2): all that it passed but
            for those beyond the last that it was given, which lie within its last step.
        drift: what its accepted steps may have put wrong into the arc length, the sum of their
            estimates, see `flowlift.solvers.host.stepping.HostField.drift`, (2,).
        last_drift: the share of the last accepted step, (2,).
        row_drifts: drift up to each of the rows, (k, 2).
    """

    y: Vector
    memory: Any
    step: float
    time: float
    taken: float
    dense: Dense
    attempts: int
    accepted: int
    gradients: int
    non_finite: int
    edge: bool
    met: bool
    left: bool
    products: int = 0
    halt: Halt = Halt.NONE
    observations: int = 0
    rows: np.ndarray = NO_SAVES
    drift: Any = 0.0
    last_drift: Any = 0.0
    row_drifts: np.ndarray = NO_SAVES

    def rejected(self, y: Vector, memory: Any, non_finite: int) -> "Burst":
        """The burst of one step as if that was rejected, with half of it to attempt next.

        Args:
            y: the state before it.
            memory: the method's memory there.
            non_finite: attempts in a row, before, that were not finite.

        Returns:
            The burst.
        """
        step, nothing = self.taken / 2, np.empty((0, 2), y.dtype)
        back = self._replace(y=y, memory=memory, step=step, time=0.0, taken=0.0, accepted=0)
        back = back._replace(met=False, edge=True, halt=Halt.NONE, non_finite=non_finite + 1)
        return back._replace(rows=NO_SAVES, row_drifts=nothing, drift=0.0, last_drift=0.0)

    def followed(self, other: "Burst") -> "Burst":
        """This burst and another that went on from it, as one.

        Args:
            other: the other one.

        Returns:
            Both.
        """
        sums = ("time", "attempts", "accepted", "gradients", "products", "observations", "drift")
        both = other._replace(**{name: getattr(self, name) + getattr(other, name) for name in sums})
        drifts = np.concatenate([self.row_drifts, self.drift + other.row_drifts])
        both = both._replace(rows=np.concatenate([self.rows, other.rows]), row_drifts=drifts)
        if other.accepted:
            return both
        return both._replace(taken=self.taken, dense=self.dense, last_drift=self.last_drift)


def rows_at_most(size: int, wanted: int) -> int:
    """How many save times a burst may pass.

    Args:
        size: numbers of a state.
        wanted: save times of the flow.

    Returns:
        The number, one of a few, so that few programs are compiled; 0 where the host reads them off
        the steps that pass them.
    """
    return _MOST_ROWS if wanted > 1 and size * _MOST_ROWS <= _MOST_NUMBERS else 0


def relative(saves: Vector, count: int, dtype: Any) -> Vector:
    """Save times for a burst, a little later than they are: one that it passes has passed.

    Args:
        saves: increasing times from the start of the burst on, > 0.
        count: how many a burst is given.
        dtype: of the flow.

    Returns:
        (count,), infinite where there are no more.
    """
    given = np.full(count, np.inf, dtype)
    given[: len(saves)] = saves[:count]
    # Rounded upwards, so that a sum of rounded times cannot be before what it has passed.
    return np.nextafter(given, given.dtype.type(np.inf))


def rest_of(saves: Vector, passed: int, time: float) -> Vector:
    """The save times that are left, from a later start.

    Args:
        saves: as `relative` gives them.
        passed: how many are passed.
        time: how much later.

    Returns:
        As many, infinite where there are no more.
    """
    left = np.full_like(saves, np.inf)
    left[: len(saves) - passed] = saves[passed:] - time
    return left


def keep_passed(within: Callable, saves, time, taken, count, rows) -> tuple[Any, Any]:
    """Keep the states at the save times that a step has passed, traced.

    Args:
        within: fraction of the step -> the state there.
        saves: the save times, increasing, (m,).
        time: where the step ends.
        taken: its length.
        count: how many are kept.
        rows: the states, (m, P + 2).

    Returns:
        count and rows with those that it has passed.
    """
    if not saves.size:
        return count, rows

    def due(kept):
        return (kept[0] < saves.size) & (saves[jnp.minimum(kept[0], saves.size - 1)] <= time)

    def keep(kept):
        fraction = jnp.clip((saves[kept[0]] - (time - taken)) / taken, 0, 1).astype(rows.dtype)
        state = within(fraction)
        return kept[0] + 1, jax.lax.dynamic_update_index_in_dim(kept[1], state, kept[0], 0)

    return jax.lax.while_loop(due, keep, (count, rows))

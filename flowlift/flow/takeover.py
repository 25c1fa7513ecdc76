"""When another solver takes over: judged by counts, after windows of attempts."""

import math

from ..solvers.pace import HOPELESS_IF_STABLE
from .choice import EXPLICIT, EXPLICIT_COST
from .forecast import WATCHED, Mark, Outlook, Spell, logarithmic_cost, stabilised_cost, steps_left
from .outcome import Outcome

# A solver is judged after so many attempts, an explicit one after fewer: its steps are many; and
# before, once they have cost so much: few steps of a BDF may take a thousand products.
WINDOW = 32
_EXPLICIT_WINDOW = 16
DEAR = 256
# What is left must be so much stiffer than a flow that would begin with a stiff method: a restart
# costs some dozens of evaluations.
_RESTARTED = 2.0
# Of the real interval of stability of the explicit methods, in steps times sharpness.
_INTERVAL = 3.3
# A smooth field rejects few steps of a BDF, and time gets on by more than this part in a window.
_FEW_REJECTED = 0.25
_GAINED = 0.01
# Mean step times radius from which on the stages of RKC2 gain on an explicit method.
_STIFF_STEP = 4.0
# RKC2 takes over where it would save this part of what is left, and a restart.
_SAVING = 1.1
_RESTART = 30.0
# A stiff one goes where its way has cost so many times what the explicit one before it would have
# taken, and so much more: a restart and its first, short steps.
_LOST = 3.0
_CHANCE = 500.0
# A stiff one makes no progress if doubling the time takes so many attempts, over 1024 of them: a
# sharp transition at a late time takes fewer.
CRAWLING = 100_000
# An explicit one takes more on the way to a horizon where it is still the cheaper.
_CRAWLING_EXPLICIT = HOPELESS_IF_STABLE


def window(name: str) -> int:
    """Attempts between two judgements of a solver.

    Args:
        name: the solver.

    Returns:
        Their number.
    """
    return _EXPLICIT_WINDOW if name in EXPLICIT else WINDOW


def due(name: str, judged: Mark, attempts: int, cost: float) -> bool:
    """Whether a solver is to be judged.

    Args:
        name: the solver.
        judged: where it was judged last.
        attempts: attempted steps so far.
        cost: gradients + 2 products so far.

    Returns:
        The verdict.
    """
    return attempts - judged.attempts >= window(name) or cost - judged.cost >= DEAR


def stalled(name: str, result: Outcome | None, spell: Spell, doubling: float) -> str | None:
    """Whether a solver stalls, after a window of attempts or at an end.

    A stiff one does when most steps are rejected, when they are accepted but so short that time
    hardly grows, or when it gives up. An explicit one does when time hardly grows: at a kink it
    crosses to and fro, and no sharpness shows. An explicit flow that explodes is a result, and
    nobody else is tried.

    Args:
        name: the solver that runs.
        result: how the flow ended, None if it goes on.
        spell: what it did lately.
        doubling: attempts that doubling the time would take at the measured pace, see
            `flowlift.solvers.pace.Pace`.

    Returns:
        Why, or None.
    """
    crawls = doubling > (_CRAWLING_EXPLICIT if name in EXPLICIT else CRAWLING)
    if result is None and crawls:
        return f"would have needed {doubling:.2g} more steps to double the time"
    if name in EXPLICIT:
        return None
    if result in (Outcome.TIME_UNDERFLOW, Outcome.NO_PROGRESS, Outcome.SOLVER_FAILURE):
        return f"ended by {str(result)!r}"
    attempts, accepted = spell.lately
    if result is None and attempts >= WATCHED and 2 * accepted < attempts:
        return f"stalled, {attempts - accepted} of {attempts} steps rejected"
    return None


def slow(name: str, spell: Spell, horizon: float, limit: float) -> float:
    """The sharpness from which on a stiff solver should take over from an explicit one.

    Stability holds the steps of an explicit method down where nearly all are accepted and do not
    grow. Accuracy may do so too, hence it is the sharpness that decides; but products are only
    spent on it where many steps are left.

    Args:
        name: the solver that runs.
        spell: what it did lately.
        horizon: the end.
        limit: time left x sharpness up to which an explicit method would be chosen at a start.

    Returns:
        The sharpness; infinite where few steps are left, and for other methods.
    """
    limit *= _RESTARTED
    if name not in EXPLICIT or steps_left(spell, horizon) * _INTERVAL <= limit:
        return math.inf
    return limit / (horizon - spell.now.time)


def lost(
    left: tuple[str, float, float, float], spell: Spell, seen: Outlook | None, horizon: float
) -> str | None:
    """Whether a stiff solver costs more than the explicit one from which it took over.

    It runs for the sharpness; where kinks hold its steps down it gains nothing by being stable, and
    rejects too few of them to be called stalled. It is lost if its way so far, its last spell and
    its way to the horizon, forecast as for a smooth flow, each cost several times what the explicit
    one would take.

    Args:
        left: the explicit solver, what a unit of time costs it, t and the cost when it was left.
        spell: what the stiff one did lately.
        seen: what it knows of the flow: a sharpness that has grown makes explicit methods dearer.
        horizon: the end.

    Returns:
        Why, or None.
    """
    name, pace, since, cost = left
    now = spell.now
    pace = max(pace, EXPLICIT_COST * (seen.radius if seen else 0.0))
    spent, would = now.cost - cost, pace * (now.time - since)
    if spent <= _LOST * would + _CHANCE:
        return None
    if spell.cost <= _LOST * pace * (now.time - spell.before.time):
        return None
    if logarithmic_cost(spell, horizon) <= _LOST * pace * (horizon - now.time):
        return None
    return f"has cost {spent:.2g}, {name} {would:.2g} at its pace"


def dearer(spell: Spell, seen: Outlook, horizon: float) -> str | None:
    """Whether RKC2 would take a BDF's way to the horizon for less.

    A BDF that knows the stiff directions of the Hessian pays the same for each unit of log t. One
    that must learn them again and again, or leave them to conjugate gradients, pays as RKC2 does,
    as many times more as lately. Its cost is forecast to be the geometric mean of the two. Where
    many steps are rejected or time hardly gains the field is not smooth, and no forecast holds.

    Args:
        spell: what the BDF did lately.
        seen: what it knows of the flow.
        horizon: the end.

    Returns:
        Why, or None.
    """
    start, now = spell.before.time, spell.now.time
    if not (0 < start < now < horizon and math.log(now / start) > _GAINED):
        return None
    step = (now - start) / max(spell.accepted, 1)
    if spell.rejected > _FEW_REJECTED * spell.attempts or step * seen.radius < _STIFF_STEP:
        return None
    other = stabilised_cost(seen, now, now, horizon)
    lately = spell.cost / stabilised_cost(seen, now, start, now)
    stays = math.sqrt(logarithmic_cost(spell, horizon) * lately * other)
    if not stays > _SAVING * other + _RESTART:
        return None
    return f"would have cost {stays:.2g}, rkc2 {other:.2g}"

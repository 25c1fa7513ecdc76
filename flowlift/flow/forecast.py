"""What going on would cost, forecast from what a flow has shown; in counts, never in seconds."""

import math
from typing import Any, NamedTuple

import numpy as np

from ..solvers.host.chebyshev import stages_needed

# RKC2's error estimate of a step h is h^3 |y'''| / 15, in units of the tolerance, and its steps aim
# at 0.8 of what that allows.
_THIRD = 15.0
_AIM = 0.8
# Estimates of the spectral radius come with each hundred evaluations or so.
_ESTIMATES = 1.1


# Rejections are judged over so many attempts: a start or a transition may reject most of fewer.
WATCHED = 64


class Mark(NamedTuple):
    """Where a solver stood when it was judged.

    Attributes:
        attempts: attempted steps so far.
        accepted: accepted ones.
        cost: gradients + 2 Hessian-vector products so far.
        time: t.
        step: the next step to attempt.
        watched: attempts when rejections were last judged.
        kept: accepted ones then.
    """

    attempts: int = 0
    accepted: int = 0
    cost: int = 0
    time: float = 0.0
    step: float = 0.0
    watched: int = 0
    kept: int = 0


class Spell(NamedTuple):
    """What came between two marks.

    Attributes:
        before: the first.
        now: the second.
    """

    before: Mark
    now: Mark

    @property
    def attempts(self) -> int:
        """Attempted steps."""
        return self.now.attempts - self.before.attempts

    @property
    def accepted(self) -> int:
        """Accepted steps."""
        return self.now.accepted - self.before.accepted

    @property
    def rejected(self) -> int:
        """Rejected ones."""
        return self.attempts - self.accepted

    @property
    def lately(self) -> tuple[int, int]:
        """Attempted and accepted steps since rejections were last judged."""
        return self.now.attempts - self.before.watched, self.now.accepted - self.before.kept

    @property
    def mark(self) -> Mark:
        """Where the next spell begins."""
        if self.lately[0] >= WATCHED:
            return self.now._replace(watched=self.now.attempts, kept=self.now.accepted)
        return self.now._replace(watched=self.before.watched, kept=self.before.kept)

    @property
    def cost(self) -> int:
        """Gradients + 2 products."""
        return self.now.cost - self.before.cost

    @property
    def pace(self) -> float:
        """Cost of a unit of time; infinite where no time was gained."""
        gained = self.now.time - self.before.time
        return self.cost / gained if gained > 0 else math.inf


class Outlook(NamedTuple):
    """What a BDF knows of the flow where it stands.

    Attributes:
        radius: the largest known eigenvalue of the Hessian.
        third: h^3 |y'''| in units of the tolerance, from its differences.
        step: the h of these.
    """

    radius: float
    third: float
    step: float


def outlook(memory: Any, live: int, rtol: float, atol: float | np.ndarray) -> Outlook | None:
    """What a solver's memory tells of the flow.

    Args:
        memory: of a BDF in either engine; of another solver, which tells nothing.
        live: how many leading coordinates count.
        rtol: relative tolerance.
        atol: absolute tolerance, of all or of each coordinate.

    Returns:
        What is known; None if nothing is.
    """
    differences = getattr(memory, "differences", None)
    if differences is None:
        return None
    rows = np.asarray(differences, np.float64)[:, :live]
    least = atol[:live] if isinstance(atol, np.ndarray) else atol
    scaled = rows[3] / (least + rtol * np.abs(rows[0]))
    third = math.sqrt(float(scaled @ scaled) / live)
    return Outlook(float(np.max(memory.curvature.values)), third, float(memory.step))


def steps_left(spell: Spell, horizon: float) -> float:
    """Steps that are left to the horizon if they go on growing as they did in a spell.

    With the growth g of a step to the next, n steps from h cover h (g^n - 1) / (g - 1). Where
    stability holds steps down g is 1, and the time left over the step is left.

    Args:
        spell: the spell.
        horizon: the end.

    Returns:
        n.
    """
    h, left = spell.now.step, horizon - spell.now.time
    many = left / max(h, float(np.finfo(float).tiny))
    if not (spell.before.step > 0 and h > spell.before.step):
        return many
    growth = (h / spell.before.step) ** (1 / spell.attempts) - 1
    return math.log1p(many * growth) / math.log1p(growth)


def logarithmic_cost(spell: Spell, horizon: float) -> float:
    """Cost to the horizon of a stiff solver that pays the same for each unit of log t.

    Args:
        spell: what it paid.
        horizon: the end.

    Returns:
        The cost; infinite where a spell gained no time.
    """
    gained = math.log(spell.now.time / spell.before.time) if spell.before.time > 0 else 1.0
    return spell.cost * math.log(horizon / spell.now.time) / gained if gained > 0 else math.inf


def stabilised_cost(seen: Outlook, at: float, start: float, end: float) -> float:
    """Cost of RKC2 over a stretch of time.

    Its step h, which accuracy bounds, takes s stages with s^2 = O(h rho). With steps that grow like
    t and a radius that stays, s / h falls like t^(-1/2): from t_0 to t_1 the cost is
    2 (s / h) sqrt(t) (sqrt(t_1) - sqrt(t_0)), with s / h known at t.

    Args:
        seen: what is known of the flow.
        at: t > 0, where it is known.
        start: t_0.
        end: t_1.

    Returns:
        The cost.
    """
    h = min(_AIM * seen.step * (_THIRD / max(seen.third, 1e-300)) ** (1 / 3), at)
    pace = _ESTIMATES * stages_needed(h * seen.radius) / h
    return 2 * pace * math.sqrt(at) * (math.sqrt(end) - math.sqrt(start))

r"""The inequalities of the logistic experiment (theory, section 7; NeurIPS 2022 [paper]).

For x -> softmax(x W), mean cross-entropy, n samples with labels of margin m, along the flow

    -dL/dt = |grad L|^2 >= (m/n)^2 (1 - e^{-L})^2,
    phi(L(t)) <= phi(L_0) - (m/n)^2 t,     phi(s) = s + log(1 - e^{-s}) - e^{-s} / (1 - e^{-s}).
"""

import dataclasses

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from ..flow import FlowSolution
from ..showing import shows_itself


@shows_itself
@dataclasses.dataclass(frozen=True)
class LogisticBounds:
    """Both margins at the save times; negative ones are violations.

    Attributes:
        rate_margin: 1 - (m/n)^2 (1 - e^{-L})^2 / |grad L|^2.
        potential_margin: (phi(L_0) - (m/n)^2 t - phi(L)) / (1 + the largest of the terms).
        tolerance: relative size of a violation that counts as one.
    """

    rate_margin: Float[np.ndarray, " times"]
    potential_margin: Float[np.ndarray, " times"]
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether both hold at every save time, to within the tolerance."""
        least = np.concatenate([self.rate_margin, self.potential_margin])
        return bool((least >= -self.tolerance).all())


def logistic_potential(loss: ArrayLike) -> Float[np.ndarray, " times"]:
    """phi(s) = s + log(1 - e^{-s}) - e^{-s} / (1 - e^{-s}), increasing, for s > 0.

    Args:
        loss: values s > 0.

    Returns:
        phi, without cancellation for small or large s.
    """
    s = np.asarray(loss, float)
    # 1 / expm1 overflows to 0 on purpose where e^{-s} vanishes.
    with np.errstate(over="ignore"):
        return s + np.log(-np.expm1(-s)) - 1 / np.expm1(s)


def logistic_bounds(
    solution: FlowSolution, margin: float, samples: int, *, tolerance: float = 1e-6
) -> LogisticBounds:
    """Check both inequalities along a flow of the logistic experiment.

    Args:
        solution: the flow of `tasks.logistic(...)`.
        margin: m, of the experiment.
        samples: n.
        tolerance: relative, above the solver's error.

    Returns:
        The margins.
    """
    rate = (margin / samples) ** 2
    needed = rate * np.expm1(-solution.loss) ** 2
    squared = solution.gradient_norm**2
    rate_margin = 1 - np.divide(
        needed, squared, out=np.where(needed > 0, np.inf, 0.0), where=squared > 0
    )
    potential = logistic_potential(solution.loss)
    bound = potential[0] - rate * solution.times
    scale = 1 + np.maximum(np.abs(potential), np.abs(bound))
    return LogisticBounds(rate_margin, (bound - potential) / scale, tolerance)

"""The flow of log L, in the clock log(1 + t): to losses of e^-1000 and times of e^1000."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ...numbers import plain_fields
from ...registry import register
from ...tasks import AbstractLogarithmicLoss, LogOf, Penalised, Supervised
from .base import AbstractDynamics, Further, Rates, check_number


@register("dynamics", "log-loss")
@plain_fields
class LogLoss(AbstractDynamics):
    """The plain flow in the time u = log(1 + t): d theta/du = -(1 + t) L grad log L.

    log L comes from log-sum-exp, and only (1 + t) L = exp(u + log L) is ever formed, of order
    1 / |grad log L|^2 on the way to infinity: nothing underflows. The path is that of the flow of
    log L, d theta/ds = -grad log L with ds = L dt, and that of the plain flow.

    **Times are u**: horizon, save times, snapshots, records. Beyond u = 40 they are log t. `loss`,
    `gradient_norm` and `energy` are L's and underflow to 0 below e^-745 (e^-103 in float32);
    `log_loss` does not. `log_time` is log t. With `homogeneity` H, `normalised_margin` is
    log(1 / (n L)) / |theta|^H with n L the *sum* over the n samples, which never falls once
    n L < 1 (Lyu & Li, ICLR 2020); NaN without. u + log L loses digits: in float32 steps are those
    of a field that is wrong by 1e-7 u, relatively.

    The Jacobian is symmetric at every u, so that `bdf` and `rkc2` serve. One gradient; a record
    costs one more.

    Attributes:
        homogeneity: H with F(c theta) = c^H F(theta), > 0; None where no margin is wanted.
    """

    numbers: ClassVar[tuple[str, ...]] = ("clock",)
    records: ClassVar[tuple[str, ...]] = ("log_loss", "log_time", "normalised_margin")
    symmetric: ClassVar[bool] = True
    whole: ClassVar[bool] = True
    record_cost: ClassVar[int] = 1
    clock: ClassVar[str] = "log(1 + t)"

    homogeneity: float | None = None

    def __check_init__(self) -> None:
        """Refuse a degree that is not positive.

        Raises:
            ValueError: in that case.
        """
        if self.homogeneity is not None:
            check_number("homogeneity", self.homogeneity, 0.0, strictly=True)

    def check(self, objective: Any) -> None:
        """Refuse an objective whose logarithm is not known without its value.

        Args:
            objective: L.

        Raises:
            ValueError: in that case, such as for a squared loss.
        """
        if isinstance(objective, Penalised):
            raise ValueError(
                "Argument `task` must have a loss of samples alone for LogLoss, whose logarithm "
                "decay and terms of the parameters keep from -inf, but has "
                f"{', '.join(sorted({type(term).__name__ for term in objective.terms}))}; take "
                "them out, or take the plain flow."
            )
        loss = getattr(objective, "loss", objective)
        known = isinstance(objective, Supervised) and isinstance(loss, AbstractLogarithmicLoss)
        if not (known and loss.has_logarithm(objective.targets)):
            raise ValueError(
                "Argument `task` must have samples and a loss whose logarithm does not underflow "
                "(cross-entropy with labels, exponential, logistic) for LogLoss, but has "
                f"{type(loss).__name__}; take the plain flow."
            )

    def rates(self, problem: Any, theta: Float[Array, " P"], further: Further) -> Rates:
        """One gradient of log L."""
        log_loss, slope = _logarithmic(problem).value_and_grad(theta)
        # (1 + t) L.
        pace, loss = jnp.exp(further["clock"] + log_loss), jnp.exp(log_loss)
        move, squared = -pace * slope, slope @ slope
        rates = {"clock": jnp.ones_like(further["clock"])}
        return Rates(loss, loss * jnp.sqrt(squared), move, rates, loss * pace * squared)

    def recorded(
        self, problem: Any, thetas: np.ndarray, further: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """log L, log t and the normalised margin. One evaluation of log L each."""
        found = [np.asarray(_log_loss(problem, jnp.asarray(theta))) for theta in thetas]
        log_loss, clock = np.stack(found), further["clock"]
        margin = np.full_like(log_loss, np.nan)
        with np.errstate(divide="ignore"):
            # log t = log(e^u - 1).
            log_time = clock + np.log(-np.expm1(-clock))
        if self.homogeneity is not None:
            size = np.linalg.norm(problem.coordinates.theta(thetas), axis=1)
            summed = log_loss + np.log(len(problem.objective.targets)).astype(log_loss.dtype)
            margin = -summed / size ** np.asarray(self.homogeneity)
        named = {"log_loss": log_loss, "log_time": log_time, "normalised_margin": margin}
        return {name: values.astype(log_loss.dtype) for name, values in named.items()}

    def stiffness(self, horizon: float, sharpness: float) -> float:
        """u x max(1, sharpness): along grad L the eigenvalue is near 1 ever after."""
        return horizon * max(1.0, sharpness)


def _logarithmic(problem: Any) -> Any:
    """The same problem with log L for L."""
    return dataclasses.replace(problem, objective=LogOf(problem.objective))


@eqx.filter_jit
def _log_loss(problem: Any, theta: Float[Array, " P"]) -> Float[Array, ""]:
    return _logarithmic(problem).loss(theta)

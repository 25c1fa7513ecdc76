"""Central flows: how gradient descent and RMSProp move on average at the edge of stability."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ...numbers import plain_fields, real, whole
from ...registry import register
from ...solvers import generic_vector, live_part
from .base import AbstractDynamics, Further, Rates
from .oscillation import Oscillation, Preconditioner, oscillation


class AbstractCentral(AbstractDynamics):
    """theta' = -D^-1 (grad L + 1/2 grad <Sigma, H>) with Sigma >= 0 and 2 D / eta - H >= 0.

    Sigma, the covariance of the optimiser's oscillation about theta, is complementary to
    2 D / eta - H (Cohen et al., arXiv 2410.24206; see `flowlift.flow.dynamics.oscillation`): zero
    as long as all eigenvalues of D^-1 H are below 2 / eta, else what keeps them there. A start
    beyond is brought there within about a step, where it is far beyond by very many evaluations
    (gradient descent itself jumps from there): bound them by `max_steps` or `max_gradients`. Where
    more than k eigenvalues come to 2 / eta the others pass it, as `eigenvalues` shows; where no
    Sigma keeps them the flow ends as non-finite.

    Time is that of L: k steps of size eta take eta k. One unit of it costs 1 / eta gradients of the
    optimiser itself; an evaluation here costs `evaluation_cost` gradients, and a solver makes
    several for each step of the optimiser.

    Records, beside those of every flow, whose `loss` is L at theta:

    - `eigenvalues`: the k largest of D^-1 H, (k,); accurate beyond 0.95 x 2 / eta.
    - `covariance`: X with Sigma = U X U^T, U the eigenvectors, U^T D U = I, (k, k).
    - `mean_loss`: L + 1/2 tr(Sigma H), the optimiser's loss averaged over its oscillation.
    - `mean_squared_gradient`: |grad L|^2 + tr(H Sigma H), likewise of |grad L|^2.
    - `evaluation_cost`: of one evaluation there, in gradients: 1, 2 for each Hessian-vector
      product, 4 for each third derivative.
    """

    records: ClassVar[tuple[str, ...]] = (
        "eigenvalues",
        "covariance",
        "mean_loss",
        "mean_squared_gradient",
        "evaluation_cost",
    )

    step_size: eqx.AbstractVar[Any]
    eigenvalues: eqx.AbstractVar[int]

    def start(self, problem: Any) -> dict[str, np.ndarray]:
        """What it carries at t = 0; more eigenvalues than there are parameters are refused.

        Args:
            problem: the problem.

        Returns:
            Arrays by name.

        Raises:
            ValueError: if k exceeds the number of parameters.
        """
        if self.eigenvalues > problem.dimension:
            raise ValueError(
                f"Argument `eigenvalues` of {self.title} must be at most the number of parameters, "
                f"{problem.dimension}, but is {self.eigenvalues}; lower it."
            )
        return self._begun(problem)

    def _begun(self, problem: Any) -> dict[str, np.ndarray]:
        del problem
        return {}

    def stiffness(self, horizon: float, sharpness: float) -> float:
        """T x sharpness, which stays below 2 / eta."""
        return horizon * min(sharpness, 2 / float(self.step_size))

    def _oscillation(self, problem: Any, theta: Array, at: Callable) -> Oscillation:
        start = live_part(generic_vector(theta.size, theta.dtype), problem.live)
        return oscillation(problem.value_and_grad, theta, at, self.eigenvalues, start)

    def _records(self, found: Oscillation, diagonal: Array) -> tuple[Array, ...]:
        """One theta's records, in the order of `records`, from P = D / eta."""
        squared = found.slope @ found.slope + found.spread(diagonal)
        return (
            found.eigenvalues / self.step_size,
            found.covariance * self.step_size,
            found.loss + found.excess,
            squared,
            found.cost,
        )


@register("dynamics", "central-flow")
@plain_fields
class CentralFlow(AbstractCentral):
    """The central flow of gradient descent with step size eta: D = I.

    Attributes:
        step_size: eta > 0.
        eigenvalues: k, how many eigenvalues of H may be at 2 / eta at once, at most P; a few to
            some tens.
    """

    step_size: float
    eigenvalues: int = eqx.field(static=True, default=3)

    def __check_init__(self) -> None:
        """Refuse what is no step size, or no number of eigenvalues.

        Raises:
            ValueError: if they are not positive.
        """
        check_step(self.step_size)
        check_count(self.eigenvalues)

    def rates(self, problem: Any, theta: Float[Array, " P"], further: Further) -> Rates:
        """One gradient, Hessian-vector products and third derivatives, see `oscillation`."""
        found = self._oscillation(problem, theta, self._preconditioner)
        velocity = -found.slope - found.force
        norm = jnp.linalg.norm(found.slope)
        return Rates(found.loss, norm, velocity, {}, -(found.slope @ velocity))

    def recorded(
        self, problem: Any, thetas: np.ndarray, further: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """What the oscillation says of each theta."""
        looks = [_looked(self, problem, jnp.asarray(theta)) for theta in thetas]
        return stacked(self.records, looks)

    def look(self, problem: Any, theta: Float[Array, " P"]) -> tuple[Array, ...]:
        """The records at one theta."""
        found = self._oscillation(problem, theta, self._preconditioner)
        return self._records(found, self._preconditioner(theta).diagonal)

    def _preconditioner(self, slope: Array) -> Preconditioner:
        zero = jnp.zeros((), slope.dtype)
        return Preconditioner(1 / jnp.asarray(self.step_size, slope.dtype), zero, zero)


@register("dynamics", "central-rmsprop-flow")
@plain_fields
class CentralRMSProp(AbstractCentral):
    """The central flow of RMSProp: D = diag(sqrt(v) + e), v a running mean of squared gradients.

    The steps are v <- b v + (1 - b) (grad L)^2, theta <- theta - eta grad L / (sqrt(v) + e)
    (optax.rmsprop with `eps_in_sqrt=False`), the flow has

        v' = (1 - b) / (b eta) ((grad L)^2 + diag(H Sigma H) - v)

    with H Sigma H = 4 D Sigma D / eta^2 where Sigma is complementary; 1 / b, as in the authors'
    code, since v has met the present gradient already. v starts where the first step puts it. At
    v = 0 the effective sharpness has no bound: `initial` or `epsilon` keeps the start inside.

    Attributes:
        step_size: eta > 0.
        decay: b, between 0 and 1.
        initial: v before the first step, >= 0 (`initial_scale` of optax).
        epsilon: e > 0.
        eigenvalues: k, how many eigenvalues of D^-1 H may be at 2 / eta at once, at most P.
    """

    vectors: ClassVar[tuple[str, ...]] = ("second_moment",)

    step_size: float
    decay: float
    initial: float
    epsilon: float = 1e-8
    eigenvalues: int = eqx.field(static=True, default=3)

    def __check_init__(self) -> None:
        """Refuse what is no step size, rate, mean or number of eigenvalues.

        Raises:
            ValueError: for any of them.
        """
        check_step(self.step_size)
        check_step(self.epsilon, "epsilon")
        check_count(self.eigenvalues)
        decay, initial = real(self.decay), real(self.initial)
        if decay is None or not 0 < decay < 1:
            raise ValueError(
                f"Argument `decay` must be between 0 and 1, but is {self.decay!r}; give e.g. 0.99."
            )
        if initial is None or not 0 <= initial < np.inf:
            raise ValueError(
                f"Argument `initial` must be a finite number of at least 0, but is "
                f"{self.initial!r}; give a squared gradient's size."
            )

    def _begun(self, problem: Any) -> dict[str, np.ndarray]:
        """v after the first step's gradient; 0 at padding. One gradient."""
        theta = problem.start_on_host
        slope = np.asarray(problem.value_and_grad(problem.start)[1]) / np.asarray(_roots(problem))
        decay, initial = float(self.decay), float(self.initial)
        moment = decay * initial + (1 - decay) * slope**2
        moment[problem.dimension :] = 0
        return {"second_moment": moment.astype(theta.dtype)}

    def rates(self, problem: Any, theta: Float[Array, " P"], further: Further) -> Rates:
        """One gradient, Hessian-vector products and third derivatives, see `oscillation`."""
        moment = further["second_moment"]
        roots = _roots(problem)
        at = lambda slope: self._preconditioner(slope, moment, roots)
        found = self._oscillation(problem, theta, at)
        velocity = -(found.slope + found.force) / self._scale(moment)
        means = found.slope**2 + self._gained(moment) * found.variance
        moved = {"second_moment": self._rate * (means / roots**2 - moment) / self.step_size}
        norm = jnp.linalg.norm(found.slope)
        return Rates(found.loss, norm, velocity, moved, -(found.slope @ velocity))

    def recorded(
        self, problem: Any, thetas: np.ndarray, further: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """What the oscillation says of each theta."""
        pairs = zip(thetas, further["second_moment"], strict=True)
        return stacked(
            self.records, [_looked(self, problem, *map(jnp.asarray, pair)) for pair in pairs]
        )

    def look(
        self, problem: Any, theta: Float[Array, " P"], moment: Float[Array, " P"]
    ) -> tuple[Array, ...]:
        """The records at one theta and v."""
        roots = _roots(problem)
        at = lambda slope: self._preconditioner(slope, moment, roots)
        found = self._oscillation(problem, theta, at)
        return self._records(found, self._scale(moment) / self.step_size)

    @property
    def _rate(self) -> Any:
        """Of v per step."""
        return (1 - self.decay) / self.decay

    def _scale(self, moment: Array) -> Array:
        # An integrator may try states with v < 0 by as much as its tolerance.
        return jnp.sqrt(jnp.maximum(moment, 0)) + self.epsilon

    def _gained(self, moment: Array) -> Array:
        """By diag(Sigma): diag(H Sigma H)."""
        return 4 * (self._scale(moment) / self.step_size) ** 2

    def _preconditioner(self, slope: Array, moment: Array, roots: Any) -> Preconditioner:
        # dP/dv = 1 / (2 eta sqrt(v)); where v = 0 nothing moves.
        safe = jnp.where(moment > 0, moment, 1)
        steep = jnp.where(moment > 0, self._rate / (2 * self.step_size * jnp.sqrt(safe)), 0)
        drift = steep * ((slope / roots) ** 2 - moment)
        gain = steep * self._gained(moment) / roots**2
        return Preconditioner(self._scale(moment) / self.step_size, drift, gain)


def _roots(problem: Any) -> Any:
    """D^(1/2) of the rates: v is of gradients in theta, where the solver sees those in phi."""
    roots = problem.coordinates.roots
    return 1.0 if roots is None else roots


@eqx.filter_jit
def _looked(dynamics: Any, problem: Any, *state: Array) -> tuple[Array, ...]:
    return dynamics.look(problem, *state)


def stacked(names: tuple[str, ...], looks: list[tuple[Array, ...]]) -> dict[str, np.ndarray]:
    """Records of several states, by name.

    Args:
        names: of the records.
        looks: the records of each state.

    Returns:
        Arrays (m, ...).
    """
    columns = zip(*jax.device_get(looks), strict=True)
    return {name: np.stack(column) for name, column in zip(names, columns, strict=True)}


def check_step(value: Any, name: str = "step_size") -> None:
    """Refuse what is no positive finite number.

    Args:
        value: the candidate.
        name: of the argument.

    Raises:
        ValueError: if it is none.
    """
    number = real(value)
    if number is None or not 0 < number < np.inf:
        raise ValueError(
            f"Argument `{name}` must be a positive finite number, but is {value!r}; a central flow "
            "is that of steps of some size (theta' = -grad L is the flow of none)."
        )


def check_count(value: Any) -> None:
    """Refuse what is no number of eigenvalues.

    Args:
        value: the candidate.

    Raises:
        ValueError: if it is no integer of at least 1.
    """
    number = whole(value)
    if number is None or number < 1:
        raise ValueError(
            f"Argument `eigenvalues` must be an integer of at least 1, but is {value!r}; give how "
            "many may be at the edge at once."
        )

"""Losses whose logarithm is known where they underflow, and the logarithm of their mean."""

import abc
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from ..registry import register
from ..showing import shows_itself
from .losses import AbstractLogarithmicLoss, log_softplus
from .task import AbstractObjective, Supervised


class AbstractMarginLoss(AbstractLogarithmicLoss):
    """A loss of the margin y F(x): one real output, and targets +1 or -1 of the same shape."""

    @abc.abstractmethod
    def of_margin(self, margin: Array) -> Array:
        """log ell of a margin."""

    def per_sample(self, outputs: Array, targets: Array) -> Float[Array, " samples"]:
        """ell of every sample."""
        return jnp.exp(self.log_per_sample(outputs, targets))

    def log_per_sample(self, outputs: Array, targets: Array) -> Float[Array, " samples"]:
        """log ell of every sample."""
        margin = outputs * targets.astype(outputs.dtype)
        return self.of_margin(margin.reshape(margin.shape[0]))

    def check(self, outputs: tuple[int, ...], targets: tuple[int, ...]) -> None:
        """Refuse shapes that would broadcast, and several outputs.

        Args:
            outputs: shape of the outputs.
            targets: shape of the targets.

        Raises:
            ValueError: if they differ, or hold more than one number for each sample.
        """
        if outputs != targets or int(np.prod(outputs[1:])) != 1:
            raise ValueError(
                "Argument `model` must give one output of the targets' shape for a loss of "
                f"margins, but gives {outputs} for targets of shape {targets}; take cross-entropy "
                "for several classes."
            )

    def check_targets(self, outputs: jax.ShapeDtypeStruct, targets: Array) -> None:
        """Refuse complex outputs, and targets that are not +1 or -1.

        Args:
            outputs: shape and type of the outputs.
            targets: the targets.

        Raises:
            ValueError: for either, or shapes that do not fit.
        """
        self.check(outputs.shape, targets.shape)
        if not jnp.issubdtype(outputs.dtype, jnp.floating):
            raise ValueError(
                f"Argument `model` must give real outputs for a loss of margins, but gives "
                f"{outputs.dtype}; take their real part."
            )
        traced = isinstance(targets, jax.core.Tracer)  # pyright: ignore[reportAttributeAccessIssue]
        if not traced and not np.isin(np.asarray(targets), (-1, 1)).all():
            raise ValueError(
                "Argument `targets` must be +1 or -1 for a loss of margins, but holds "
                f"{np.unique(np.asarray(targets))[:3]}; encode both classes so."
            )


@shows_itself
@register("loss", "exponential")
class ExponentialLoss(eqx.Module, AbstractMarginLoss):
    """exp(-y F(x)), targets y = +1 or -1."""

    def of_margin(self, margin: Array) -> Array:
        """-margin."""
        return -margin


@shows_itself
@register("loss", "logistic")
class LogisticLoss(eqx.Module, AbstractMarginLoss):
    """log(1 + exp(-y F(x))), in nats, targets y = +1 or -1."""

    def of_margin(self, margin: Array) -> Array:
        """log log(1 + exp(-margin))."""
        return log_softplus(-margin)


@shows_itself
class LogOf(AbstractObjective):
    """log L of a mean over samples, by log-sum-exp.

    Attributes:
        objective: L, with an `AbstractLogarithmicLoss`.
    """

    objective: Supervised

    def __call__(self, model: PyTree) -> Float[Array, ""]:
        """log L(model)."""
        loss = self.objective.loss
        assert isinstance(loss, AbstractLogarithmicLoss)
        each = loss.log_per_sample(self.objective.outputs(model), self.objective.targets)
        # A number of Python's takes the precision of what it meets.
        return jax.scipy.special.logsumexp(each) - math.log(each.size)

    def check(self, model: PyTree) -> None:
        """As the objective.

        Args:
            model: the model.

        Raises:
            ValueError: as the objective's.
        """
        self.objective.check(model)

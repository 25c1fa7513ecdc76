"""Losses of one sample. The loss of a task is their **mean over samples**, always.

With L = mean over samples, time in d theta/dt = -grad L is t = learning rate x number of gradient
descent steps for this same L; multiplying L by c divides time by c (theory, section 4).
"""

import abc
import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class AbstractLoss(abc.ABC):
    """A loss of outputs and targets, sample by sample."""

    @abc.abstractmethod
    def per_sample(self, outputs: Array, targets: Array) -> Float[Array, " samples"]:
        """The loss of every sample, from outputs and targets (samples, ...)."""

    @abc.abstractmethod
    def check(self, outputs: tuple[int, ...], targets: tuple[int, ...]) -> None:
        """Raise ValueError unless outputs and targets of these shapes fit."""


@dataclasses.dataclass(frozen=True)
class SquaredLoss(AbstractLoss):
    """|F(x) - f*(x)|^2: the sum over outputs of squared residuals, without a factor 1/2.

    L = mean over samples of it, the loss of theory, section 4.
    """

    def per_sample(self, outputs: Array, targets: Array) -> Float[Array, " samples"]:
        """The squared residual summed over all axes but the first."""
        return jnp.sum((outputs - targets) ** 2, axis=tuple(range(1, outputs.ndim)))

    def check(self, outputs: tuple[int, ...], targets: tuple[int, ...]) -> None:
        """Refuse shapes that would broadcast.

        Args:
            outputs: shape of the outputs.
            targets: shape of the targets.

        Raises:
            ValueError: if they differ.
        """
        if outputs != targets:
            raise ValueError(
                f"Argument `model` must have outputs of the targets' shape {targets}, but has "
                f"{outputs}; change the output vertex or the targets."
            )


@dataclasses.dataclass(frozen=True)
class CrossEntropy(AbstractLoss):
    """Softmax cross-entropy -log softmax(F(x))[label], in nats; outputs are logits.

    Targets are integer labels (samples,) or probabilities (samples, classes).
    """

    def per_sample(self, outputs: Array, targets: Array) -> Float[Array, " samples"]:
        """The cross-entropy of every sample."""
        log_probability = jax.nn.log_softmax(outputs, axis=-1)
        if targets.ndim == 1:
            return -jnp.take_along_axis(log_probability, targets[:, None], axis=-1)[:, 0]
        return -jnp.sum(targets * log_probability, axis=-1)

    def check(self, outputs: tuple[int, ...], targets: tuple[int, ...]) -> None:
        """Refuse anything but (samples, classes) logits with fitting targets.

        Args:
            outputs: shape of the outputs.
            targets: shape of the targets.

        Raises:
            ValueError: if they do not fit.
        """
        if len(outputs) != 2 or targets not in (outputs, outputs[:1]):
            raise ValueError(
                "Argument `model` must give logits of shape (samples, classes) for cross-entropy, "
                f"but gives {outputs} for targets of shape {targets}; give the output vertex one "
                "copy per class."
            )


@dataclasses.dataclass(frozen=True)
class PerSample(AbstractLoss):
    """Any callable ell(output, target) -> scalar for one sample.

    Attributes:
        function: the callable, differentiable by JAX in its first argument.
    """

    function: Callable

    def per_sample(self, outputs: Array, targets: Array) -> Float[Array, " samples"]:
        """The callable under vmap."""
        return jax.vmap(self.function)(outputs, targets)

    def check(self, outputs: tuple[int, ...], targets: tuple[int, ...]) -> None:
        """Refuse a callable that does not give one number per sample.

        Args:
            outputs: shape of the outputs.
            targets: shape of the targets.

        Raises:
            ValueError: if it returns something else.
        """
        one = [jax.ShapeDtypeStruct(s[1:], jnp.float32) for s in (outputs, targets)]
        result = jax.eval_shape(self.function, *one)
        if getattr(result, "shape", None) != ():
            raise ValueError(
                f"Argument `loss` must return one number per sample, but returns {result}; "
                "sum over the outputs."
            )


LOSSES: dict[str, AbstractLoss] = {
    "squared": SquaredLoss(),
    "cross-entropy": CrossEntropy(),
}


def resolve_loss(loss: str | AbstractLoss | Callable) -> AbstractLoss:
    """The loss meant by a name, a loss or a callable of one sample.

    Args:
        loss: "squared", "cross-entropy", an `AbstractLoss`, or ell(output, target) -> scalar.

    Returns:
        The loss.

    Raises:
        ValueError: for an unknown name.
    """
    if isinstance(loss, AbstractLoss):
        return loss
    if callable(loss):
        return PerSample(loss)
    if loss not in LOSSES:
        raise ValueError(
            f"Argument `loss` must be callable or one of {', '.join(LOSSES)}, but is {loss!r}; "
            "choose one of them."
        )
    return LOSSES[loss]

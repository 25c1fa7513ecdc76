"""Losses of one sample. The loss of a task is their **mean over samples**, always.

With L = mean over samples, time in d theta/dt = -grad L is t = learning rate x number of gradient
descent steps for this same L; multiplying L by c divides time by c (theory, section 4).
"""

import abc
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..registry import known, register
from ..showing import shows_itself


class AbstractLoss(abc.ABC):
    """A loss of outputs and targets, sample by sample.

    That each sample's loss depends on its own output and target alone is part of the promise:
    samples may be cut into chunks. A loss with arrays is an `equinox.Module` as well; its arrays
    are data.
    """

    @abc.abstractmethod
    def per_sample(self, outputs: Array, targets: Array) -> Float[Array, " samples"]:
        """The loss of every sample, from outputs and targets (samples, ...)."""

    @abc.abstractmethod
    def check(self, outputs: tuple[int, ...], targets: tuple[int, ...]) -> None:
        """Raise ValueError unless outputs and targets of these shapes fit."""

    def check_targets(self, outputs: jax.ShapeDtypeStruct, targets: Array) -> None:
        """Raise ValueError unless these targets can be compared with such outputs.

        Args:
            outputs: shape and type of the outputs.
            targets: the targets themselves.
        """
        self.check(outputs.shape, targets.shape)


class AbstractLogarithmicLoss(AbstractLoss):
    """A positive loss that says its logarithm, also where its value underflows."""

    @abc.abstractmethod
    def log_per_sample(self, outputs: Array, targets: Array) -> Float[Array, " samples"]:
        """log of the loss of every sample, from outputs and targets (samples, ...)."""

    def has_logarithm(self, targets: Array) -> bool:
        """Whether it does so for such targets."""
        del targets
        return True


# Below, log log(1 + e^x) = x - e^x / 2 to 5/24 e^2x: rounding in both precisions.
_FAR = -20.0


def log_softplus(x: Array) -> Array:
    """log log(1 + e^x), where e^x underflows as well.

    Args:
        x: any array.

    Returns:
        The same shape.
    """
    far = x < _FAR
    low, high = jnp.where(far, x, _FAR), jnp.where(far, _FAR, x)
    return jnp.where(far, low - 0.5 * jnp.exp(low), jnp.log(jax.nn.softplus(high)))


@shows_itself
@register("loss", "squared")
class SquaredLoss(eqx.Module, AbstractLoss):
    """|F(x) - f*(x)|^2: the sum over outputs of squared residuals, without a factor 1/2.

    Of complex outputs or targets it is the squared modulus. L = mean over samples of it, the loss
    of theory, section 4.
    """

    def per_sample(self, outputs: Array, targets: Array) -> Float[Array, " samples"]:
        """The squared residual summed over all axes but the first."""
        targets = _exact(targets, outputs)
        if jnp.iscomplexobj(outputs) or jnp.iscomplexobj(targets):
            squares = (outputs.real - targets.real) ** 2 + (outputs.imag - targets.imag) ** 2
        else:
            squares = (outputs - targets) ** 2
        return jnp.sum(squares, axis=tuple(range(1, outputs.ndim)))

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


@shows_itself
@register("loss", "cross-entropy")
class CrossEntropy(eqx.Module, AbstractLogarithmicLoss):
    """Softmax cross-entropy -log softmax(F(x))[label], in nats; outputs are logits.

    Targets are integer labels 0 .. C - 1, (samples,), or probabilities (samples, classes C).
    """

    def per_sample(self, outputs: Array, targets: Array) -> Float[Array, " samples"]:
        """The cross-entropy of every sample."""
        log_probability = jax.nn.log_softmax(outputs, axis=-1)
        if targets.ndim == 1:
            return -jnp.take_along_axis(log_probability, targets[:, None], axis=-1)[:, 0]
        return -jnp.sum(_exact(targets, log_probability) * log_probability, axis=-1)

    def log_per_sample(self, outputs: Array, targets: Array) -> Float[Array, " samples"]:
        """log log(1 + sum over the other classes of exp(F_k - F_label)), of labels."""
        wrong = 1 - jax.nn.one_hot(targets, outputs.shape[-1], dtype=outputs.dtype)
        right = jnp.take_along_axis(outputs, targets[:, None], axis=-1)
        return log_softplus(jax.scipy.special.logsumexp(outputs - right, axis=-1, b=wrong))

    def has_logarithm(self, targets: Array) -> bool:
        """Of labels: with probabilities the least loss is their entropy."""
        return targets.ndim == 1

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

    def check_targets(self, outputs: jax.ShapeDtypeStruct, targets: Array) -> None:
        """Refuse labels that are none of the classes.

        Args:
            outputs: shape and type of the outputs.
            targets: the targets.

        Raises:
            ValueError: if shapes do not fit, logits are complex, labels are no integers or lie
                outside 0 .. C - 1, or probabilities are negative or do not add up to 1.
        """
        self.check(outputs.shape, targets.shape)
        if not jnp.issubdtype(outputs.dtype, jnp.floating):
            raise ValueError(
                f"Argument `model` must give real logits for cross-entropy, but gives "
                f"{outputs.dtype}; take their modulus or real part."
            )
        if targets.ndim == 1:
            _check_labels(targets, outputs.shape[1])
        elif jnp.iscomplexobj(targets):
            raise ValueError(
                "Argument `targets` must hold real probabilities for cross-entropy, but holds "
                f"{targets.dtype}; give probabilities."
            )
        else:
            _check_probabilities(targets)


@shows_itself
class PerSample(eqx.Module, AbstractLoss):
    """Any callable ell(output, target) -> scalar for one sample, mapped over samples by vmap.

    Attributes:
        function: the callable, differentiable by JAX in its first argument.
    """

    function: Callable

    def per_sample(self, outputs: Array, targets: Array) -> Array:
        """The callable under vmap."""
        return jax.vmap(self.function)(outputs, targets)

    def check(self, outputs: tuple[int, ...], targets: tuple[int, ...]) -> None:
        """Nothing to refuse by shapes: what the callable returns is looked at, see `Supervised`."""


def _exact(targets: Array, outputs: Array) -> Array:
    """Integers and booleans among floating-point outputs become floating-point numbers."""
    if jnp.issubdtype(targets.dtype, jnp.inexact):
        return targets
    return targets.astype(jnp.finfo(outputs.dtype).dtype)


# What probabilities in half precision miss of a sum of 1 over a thousand classes.
_SUM = 1e-2


def _check_probabilities(targets: Array) -> None:
    if isinstance(targets, jax.core.Tracer):  # pyright: ignore[reportAttributeAccessIssue]
        return
    values = np.asarray(targets, float)
    sums = values.sum(axis=1)
    wrong = np.flatnonzero(~((values >= 0).all(axis=1) & (np.abs(sums - 1) <= _SUM)))
    if wrong.size:
        raise ValueError(
            "Argument `targets` must hold probabilities, at least 0 and adding up to 1 for each "
            f"sample, for cross-entropy, but sample {wrong[0]} has a sum of {sums[wrong[0]]:.6g} "
            f"and a least value of {values[wrong[0]].min():.6g}; normalise them, or give a loss of "
            "your own."
        )


def _check_labels(labels: Array, classes: int) -> None:
    rule = f"Argument `targets` must hold integer labels from 0 to {classes - 1} for cross-entropy"
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(
            f"{rule}, but holds {labels.dtype}; convert them to integers, or give probabilities "
            "(samples, classes)."
        )
    if isinstance(labels, jax.core.Tracer):  # pyright: ignore[reportAttributeAccessIssue]
        return
    values = np.asarray(labels)
    wrong = np.flatnonzero((values < 0) | (values >= classes))
    if wrong.size:
        raise ValueError(
            f"{rule}, one for each output of the model, but sample {wrong[0]} has the label "
            f"{values[wrong[0]]}; number the classes from 0, or give the model more outputs."
        )


def resolve_loss(loss: str | AbstractLoss | Callable) -> AbstractLoss:
    """The loss meant by a name, a loss or a callable of one sample.

    Args:
        loss: a registered name such as "squared" or "cross-entropy", an `AbstractLoss`, or
            ell(output, target) -> scalar.

    Returns:
        The loss.

    Raises:
        ValueError: for an unknown name.
    """
    if isinstance(loss, AbstractLoss):
        return loss
    if callable(loss):
        return PerSample(loss)
    losses = known("loss")
    make = losses[loss].function if isinstance(loss, str) and loss in losses else None
    if make is None:
        raise ValueError(
            f"Argument `loss` must be callable or one of {', '.join(losses)}, but is {loss!r}; "
            "choose one of them."
        )
    return resolve_loss(make())

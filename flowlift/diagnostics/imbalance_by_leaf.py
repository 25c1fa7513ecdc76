"""What each leaf of a model brings to an imbalance: |w|^2 / d, and what added terms do to it."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from ..flow.rates import Rates, rates_of
from ..tasks import AbstractObjective, Penalised, Supervised
from ..tasks.losses import AbstractLoss
from ..tasks.scaled import INPUTS, OFFSETS, ScaledOutput


class ByLeaf(eqx.Module):
    """Three trees of a model's structure.

    Attributes:
        squares: w^2 / d of each weight, 0 where the rate d is.
        added: w dR/dw of each weight, R all that is added to the loss of samples; 0 likewise.
        rates: d of each leaf.
    """

    squares: PyTree
    added: PyTree
    rates: PyTree

    @property
    def flows(self) -> PyTree:
        """For each leaf 1, or 0 where it does not flow."""
        return jax.tree.map(jnp.sign, self.rates)


def rates_by_leaf(model: PyTree, rates: Rates | None) -> tuple[float, ...]:
    """The rate of each leaf of a model, none left out.

    Args:
        model: the model.
        rates: as for `flowlift.solve`, 0 for a leaf that does not flow; None for 1.

    Returns:
        Rates in the order of the floating-point leaves.

    Raises:
        ValueError: as for `flowlift.flow.rates.rates_of`.
    """
    leaves = eqx.filter(model, eqx.is_inexact_array)
    return tuple(rates_of(leaves, 1.0 if rates is None else rates))


def by_leaf(model: PyTree, objective: AbstractObjective, rates: tuple[float, ...]) -> ByLeaf:
    """What each leaf brings.

    Args:
        model: the model.
        objective: L, with its added terms. Cost: one gradient of these.
        rates: as given by `rates_by_leaf`.

    Returns:
        The trees.
    """
    theta, rest = eqx.partition(model, eqx.is_inexact_array)
    leaves, structure = jax.tree.flatten(theta)
    if isinstance(objective, Penalised):
        added = lambda at: objective.added(eqx.combine(at, rest)).astype(leaves[0].dtype)
        slopes = jax.tree.leaves(jax.grad(added)(theta))
    else:
        slopes = [jnp.zeros_like(w) for w in leaves]
    inverse = [1 / rate if rate > 0 else 0.0 for rate in rates]
    whole = lambda parts: eqx.combine(structure.unflatten(parts), rest)
    each = [jnp.asarray(rate, w.dtype) for rate, w in zip(rates, leaves, strict=True)]
    squares = [d * w**2 for d, w in zip(inverse, leaves, strict=True)]
    moved = [jnp.sign(d) * w * s for d, w, s in zip(each, leaves, slopes, strict=True)]
    return ByLeaf(whole(squares), whole(moved), structure.unflatten(each))


class ScaledLoss(eqx.Module):
    """ell(s (F - offset)), of outputs F.

    Attributes:
        loss: ell.
        apply: s.
        offsets: what is subtracted; None for nothing.
    """

    loss: AbstractLoss
    apply: ScaledOutput
    offsets: Array | None

    def per_sample(self, outputs: Array, targets: Array) -> Float[Array, " samples"]:
        """The loss of every sample."""
        return self.loss.per_sample(self.apply.of(outputs, self.offsets), targets)


def samples_of(objective: AbstractObjective) -> Supervised | None:
    """The samples of an objective with the loss of the model's own outputs.

    Args:
        objective: L.

    Returns:
        They; None where L has none, or is a function of something else than these outputs.
    """
    data = objective.data if isinstance(objective, Penalised) else objective
    if not isinstance(data, Supervised):
        return None
    scaled = data.apply
    if isinstance(scaled, ScaledOutput) and scaled.apply is None:
        loss = ScaledLoss(data.loss, scaled, data.inputs.get(OFFSETS))
        return dataclasses.replace(data, inputs=data.inputs[INPUTS], loss=loss, apply=None)
    return data if scaled is None else None

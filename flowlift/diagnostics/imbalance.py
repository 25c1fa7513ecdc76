"""The imbalance of every unit, and the law by which it changes along the flow.

A unit v' takes z in by weights w_in, biases among them, gives h = T(z), and goes out by weights
w_out. Where weights enter as products with what they are applied to, Euler's identity gives
<w_in, dL/dw_in> = <z, dL/dz> and <w_out, dL/dw_out> = <h, dL/dh>, sums over samples included, so
that along d theta/dt = -grad L

    I = sum |w_out|^2 - sum |w_in|^2,    dI/dt = 2 sum_samples <T'(z) z - T(z), dL/dh>.

With T pointwise the rate is 2 sum (z sigma'(z) - sigma(z)) dL/dh: 0 for linear and ReLU units,
whose I is conserved (Du, Hu & Lee, NeurIPS 2018, arXiv 1806.00900). It holds for every T of one
unit's own z, pooling, normalisation and gates included. What a weight enters by a product of degree
k, or not at all, counts k fold. The rate needs no derivative by the weights: that its integral is
the change of I tests an integration from outside of it.

With rates D each square counts |w|^2 / d, which has the same law, since d/dt |w|^2 / d =
-2 <w, dL/dw>. Weights that do not flow count nowhere, neither in I nor in its rate. Of a term R
added to the loss, such as decay, the rate has 2 sum_in <w, dR/dw> - 2 sum_out <w, dR/dw> more.
"""

from collections.abc import Callable, Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from ..flow.dynamics import AbstractDynamics
from ..flow.rates import Rates
from ..lift import Lift
from ..precision import check_real
from ..showing import shows_itself
from ..tasks import AbstractObjective, Penalised, Supervised, Task, resolve_objective
from ..tasks.added import data_of
from .imbalance_by_leaf import by_leaf, rates_by_leaf, samples_of
from .imbalance_of_chains import chain_terms
from .imbalance_of_lifts import lift_terms, not_covered_of_lift
from .tangent import in_precision_of

# Per name of a vertex or a layer, a number for each unit, or a matrix.
Values = dict[str, Float[Array, "..."]]


@shows_itself
class Imbalance(eqx.Module):
    """Imbalances with their predicted rates, for the gradient flow.

    Attributes:
        value: I, of |w|^2 / d where there are rates d, by vertex of a lift, (copies,), or by place
            of a layer of an equinox model, such as "layers[0]", (units,).
        rate: dI/dt there, predicted from activations.
        matrices: for layers between which nothing stands but linear units, the conserved matrix
            W'^T W' - W W^T - b b^T, (units, units), each product over its rate, whose diagonal is
            `value`; none where a leaf does not flow or the loss has added terms.
        not_covered: vertices or layers without a law here, and why.
    """

    value: Values
    rate: Values
    matrices: Values
    not_covered: dict[str, str] = eqx.field(static=True)

    @property
    def flat(self) -> tuple[Float[Array, " units"], Float[Array, " units"]]:
        """All values in one vector, in the order of the names, and all rates."""
        join = lambda of: jnp.concatenate([jnp.ravel(part) for part in of.values()])
        return join(self.value), join(self.rate)


def imbalance(
    model: PyTree, task: Task | AbstractObjective | Callable, *, rates: Rates | None = None
) -> Imbalance:
    """The imbalance of every hidden unit, with its rate along the flow.

    Args:
        model: a lift, an `equinox.nn.MLP`, or an `equinox.nn.Sequential` of Linear, Conv, pointwise
            functions (Lambda), pooling, Identity and `jnp.ravel`.
        task: a task with samples and without an `apply` of its own, decay, terms of the parameters,
            scaled and centred outputs included.
        rates: of the flow, as for `flowlift.solve`; 0 for leaves that do not flow.

    Returns:
        Values, rates, conserved matrices of deep linear layers, and what is not covered. It takes
        two gradients, and the memory of all activations of all samples.

    Raises:
        ValueError: for another model, a task without samples or with `apply`, complex weights,
            rates that are none, or a model of which nothing is covered.
    """
    objective, data = _checked(model, task)
    found = _imbalance(model, objective, data, rates_by_leaf(model, rates))
    if not found.value:
        raise ValueError(
            "Argument `model` must have hidden units of which an imbalance is known, but has none: "
            f"{_listed(found.not_covered)}; see diagnostics.imbalance."
        )
    return found


def check_law(
    model: PyTree, dynamics: AbstractDynamics, flowing: Mapping[str, float], rates: Rates | None
) -> None:
    """Refuse the law of an imbalance for a flow that does not have it.

    Args:
        model: the model.
        dynamics: how theta moves.
        flowing: the flow's rate of each leaf.
        rates: those that the imbalance is told.

    Raises:
        ValueError: for another dynamics than the gradient flow, or other rates.
    """
    check_law_of_dynamics(dynamics)
    told = dict(zip(flowing, rates_by_leaf(model, rates), strict=True))
    if told != dict(flowing):
        wrong = ", ".join(f"{name} {d:g}" for name, d in flowing.items() if told[name] != d)
        raise ValueError(
            f"Argument `observers` must give the imbalance the flow's own rates, but does not give "
            f"it {wrong}; write observer('imbalance', task, rates=...), 0 for what does not flow."
        )


def check_law_of_dynamics(dynamics: AbstractDynamics) -> None:
    """Refuse a dynamics under which an imbalance has no law that activations give.

    Args:
        dynamics: how theta moves.

    Raises:
        ValueError: for any but the gradient flow.
    """
    if not dynamics.plain:
        raise ValueError(
            "The imbalance must be left out of what is observed, since the law of its rate is that "
            f"of the gradient flow, but theta moves by {dynamics.title}; observe `theta`, or take "
            "the gradient flow."
        )


def imbalance_defect(
    times: Float[np.ndarray, " m"], values: Float[np.ndarray, "m 2 units"]
) -> Float[np.ndarray, " units"]:
    """What the integrated rate misses of the change of I between the first and the last time.

    The rate is integrated as a cubic spline, in t or in log(t + t_1), t_1 the first positive time,
    whichever spaces the times more evenly: as many records as the flow has scales are needed, say
    30 a decade.

    Args:
        times: increasing times of a flow from 0 on, (m,), four at least.
        values: records of `observer("imbalance", task)` there: I and its rate.

    Returns:
        The largest defect over the times, for each unit.

    Raises:
        ValueError: for fewer than four times.
    """
    from scipy.interpolate import CubicSpline

    if len(times) < 4:
        raise ValueError(
            f"Argument `times` must hold at least 4 times, but holds {len(times)}; save more."
        )
    t, (level, rate) = np.asarray(times, float), np.moveaxis(np.asarray(values, float), 1, 0)
    late = np.log(t + t[1])
    uneven = lambda s: np.diff(s).max() / np.median(np.diff(s))
    s, pace = (t, np.ones_like(t)) if uneven(t) <= uneven(late) else (late, t + t[1])
    gained = CubicSpline(s, rate * pace[:, None]).antiderivative()(s)
    missed = level - level[0] - gained
    return np.abs(missed).max(axis=0)


@eqx.filter_jit
def _imbalance(
    model: PyTree, objective: AbstractObjective, data: Supervised, rates: tuple[float, ...]
) -> Imbalance:
    leaves = by_leaf(model, objective, rates)
    if isinstance(model, Lift):
        terms, matrices, without = lift_terms(model, data, leaves), {}, not_covered_of_lift(model)
    else:
        terms, matrices, without = chain_terms(model, data, leaves)
    if isinstance(objective, Penalised) or not all(rates):
        matrices = {}
    value = {name: out - into for name, (into, out, _) in terms.items()}
    return Imbalance(value, {name: rate for name, (_, _, rate) in terms.items()}, matrices, without)


def _checked(
    model: PyTree, task: Task | AbstractObjective | Callable
) -> tuple[AbstractObjective, Supervised]:
    """L in the model's precision, and its samples, refused where there are none."""
    objective = resolve_objective(task)
    if samples_of(objective) is None:
        known = isinstance(data_of(objective), Supervised)
        raise ValueError(
            "Argument `task` must have samples that the model takes itself, but "
            + ("has `apply`" if known else "is no mean over samples")
            + "; the rate of an imbalance is a sum over activations."
        )
    theta = eqx.filter(model, eqx.is_inexact_array)
    for leaf in jax.tree.leaves(theta):
        check_real("model", leaf)
    objective = in_precision_of(theta, objective)
    objective.check(model)
    data = samples_of(objective)
    assert data is not None
    return objective, data


def _listed(without: Mapping[str, str]) -> str:
    return "; ".join(f"{name}, {why}" for name, why in without.items()) or "no hidden unit"

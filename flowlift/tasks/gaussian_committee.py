"""ReLU committees that learn a committee on Gaussian inputs: the population loss in closed form."""

import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from ..lift import Lift
from ..memory import check_memory
from ..modules import Hidden, InnerProduct, Pointwise, edge_name
from ..numbers import plain_numbers, whole
from ..precision import check_precision
from ..protocols import AbstractSmoothness
from ..registry import register
from ..streams import Purpose, stream
from .held_out import held_out_count, provenance_of
from .losses import PerSample
from .task import AbstractObjective, Supervised, Task

Rows = Float[Array, "n d"]


class GaussianCommittee(AbstractObjective, AbstractSmoothness):
    """L(W) = 1/2 E_x (sum_i relu(<w_i, x>) - sum_j relu(<v_j, x>))^2 for x ~ N(0, I_d).

    By the arc-cosine kernel of degree 1 (Cho & Saul, NeurIPS 2009), theta the angle of u and w,

        E relu(<u, x>) relu(<w, x>) = |u| |w| (sin theta + (pi - theta) cos theta) / (2 pi),

    and L is the sum over all pairs (Safran & Shamir, ICML 2018, arXiv 1712.08968). Mind the 1/2:
    it halves the rate of the flow against the mean squared error.

    L is twice continuously differentiable where no w_i is 0: at theta = 0 and pi the singular terms
    of the arc-cosine cancel. Value, gradient and Hessian products are written without them (see
    `_gradient`, `_hessian_product`), so they are accurate to rounding at every angle; third
    derivatives are not. At w_i = 0, where L has a cone, 0 / 0 counts as 0.

    Cost of each: (students + teachers) x students x d.

    Attributes:
        teachers: v_j as rows, (teachers, d).
    """

    teachers: Rows

    @property
    def smooth(self) -> bool:
        """The mean over all x has none of the kinks at single ones."""
        return True

    def __call__(self, model: PyTree) -> Float[Array, ""]:
        """L(model), to an absolute rounding error of about eps (sum |w_i| + sum |v_j|)^2."""
        return committee_loss(students_of(model), self.teachers)

    def check(self, model: PyTree) -> None:
        """Refuse what is no ReLU committee of the teachers' inputs.

        Args:
            model: the model.

        Raises:
            ValueError: if it is no complete lift of the ReLU `committee`, or its inputs do not have
                the teachers' dimension.
        """
        shape, d = jnp.shape(students_of(model)), self.teachers.shape[1]
        if shape[1:] != (d,):
            raise ValueError(
                f"Argument `model` must have inputs of the teachers' dimension {d}, but has "
                f"weights of shape {shape}; give both the same `inputs`."
            )


@register("task")
@plain_numbers
def gaussian_committee(
    teachers: int,
    *,
    inputs: int | None = None,
    held_out: int | None = None,
    precision: str = "float64",
) -> Task:
    """Learn sum_j relu(x_j), j = 1 .. k, of x ~ N(0, I_d), in the population: no samples.

    The setting of Safran & Shamir, ICML 2018: orthonormal teachers. For lifts of
    `modules.committee(inputs, activation="relu")`; see `GaussianCommittee` for the loss, which
    takes any teachers.

    Args:
        teachers: k.
        inputs: d >= k; None for k.
        held_out: how many samples a flow's loss 1/2 (F - f*)^2 is recorded on, always the same
            ones: their mean is L to within its random error. None for none.
        precision: "float64" or "float32".

    Returns:
        The task. Its facts hold "least loss" = 0, reached with at least k students, and
        "directions", the teachers as rows.

    Raises:
        ValueError: if k is below 1 or d below k, or the teachers exceed the machine's memory.
    """
    check_precision(precision)
    d = teachers if inputs is None else inputs
    for name, value, least in (("teachers", teachers, 1), ("inputs", d, teachers)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(
                f"Argument `{name}` must be an integer of at least {least}, but is {value!r}; "
                "give at least one teacher, and an input for each."
            )
    check_memory("teachers", teachers, 4 * teachers * d, f"teachers of {d} numbers each")
    count = committee_count(held_out)
    rows = jnp.eye(teachers, d, dtype=precision)
    return Task(
        "gaussian-committee",
        GaussianCommittee(rows),
        {"source": "arXiv 1712.08968", "teachers": teachers, "inputs": d, **provenance_of(count)},
        {"least loss": 0.0, "directions": rows},
        committee_samples(lambda z: np.maximum(z, 0), teachers, d, count, precision),
    )


def committee_samples(
    unit: Callable, teachers: int, d: int, count: int, precision: str
) -> Supervised | None:
    """1/2 (F - f*)^2 as a mean over samples x ~ N(0, I_d), of which a population loss is the limit.

    Args:
        unit: phi, of f* = sum_j phi(x_j).
        teachers: how many.
        d: inputs.
        count: samples, always the same ones: no task of a population has a seed of its own.
        precision: "float64" or "float32".

    Returns:
        The samples; None for none.
    """
    if not count:
        return None
    x = stream(0, Purpose.HELD_OUT).standard_normal((count, d)).astype(precision)
    targets = np.asarray(unit(x[:, :teachers])).sum(axis=1).astype(precision)
    return Supervised(jnp.asarray(x), jnp.asarray(targets), PerSample(_half_square))


def committee_count(held_out: int | None) -> int:
    """How many held-out samples of a population are meant; a fraction of none is refused.

    Args:
        held_out: a number, or None for none.

    Returns:
        The number.

    Raises:
        ValueError: for anything else.
    """
    return held_out_count(held_out if held_out is None or whole(held_out) else "a fraction", 0)


def _half_square(output: Array, target: Array) -> Array:
    return jnp.sum((output - target) ** 2) / 2


def students_of(model: PyTree) -> Rows:
    """The w_i of a committee, one per hidden copy.

    Args:
        model: a complete lift of `modules.committee(d, activation="relu")`.

    Returns:
        The rows, (copies, d).

    Raises:
        ValueError: for any other model.
    """
    edges = model.module.edges if isinstance(model, Lift) else ()
    maps = [v.map for v in model.module.vertices if isinstance(v, Hidden)] if edges else []
    if not (
        isinstance(model, Lift)
        and [type(edge.map).__name__ for edge in edges] == ["InnerProduct", "Identity"]
        and maps == [Pointwise("relu")]
        and all(fibre.is_complete for fibre in model.fibres.values())
    ):
        raise ValueError(
            "Argument `model` must be a complete lift of modules.committee(d, activation='relu'), "
            f"but is {_described(model)}; give such a module, and complete edges."
        )
    return next(model.weights[edge_name(e)] for e in edges if isinstance(e.map, InnerProduct))


def _described(model: PyTree) -> str:
    if not isinstance(model, Lift):
        return type(model).__name__
    return "a lift of " + " ".join(str(model.module).split())


class _Pairs(eqx.Module):
    """Students w_i against all units u_b, students first: b < n is a student, sign +1, else -1.

    Attributes:
        units: u_b, (m, d).
        signs: (m,).
        lengths: |u_b|, (m,).
        directions: u_b / |u_b|, (m, d).
        sine: sin of the angle of w_i and u_b, (n, m), to relative accuracy at every angle.
        cosine: likewise; to absolute accuracy.
        rest: pi - angle.
    """

    units: Rows
    signs: Float[Array, " m"]
    lengths: Float[Array, " m"]
    directions: Rows
    sine: Float[Array, "n m"]
    cosine: Float[Array, "n m"]
    rest: Float[Array, "n m"]

    @staticmethod
    def of(students: Rows, teachers: Rows, *, all_units: bool = False) -> "_Pairs":
        """The pairs; with `all_units` teachers are paired too, as further rows."""
        units = jnp.concatenate([students, teachers])
        n = len(units) if all_units else len(students)
        lengths = jnp.sqrt(jnp.sum(units**2, axis=1))
        directions = units / jnp.where(lengths > 0, lengths, 1)[:, None]
        # Kahan's formula: from chords, since arccos loses half the digits where vectors align.
        near = _norm(directions[None] - directions[:n, None])
        far = _norm(directions[None] + directions[:n, None])
        signs = jnp.where(jnp.arange(len(units)) < len(students), 1, -1).astype(units.dtype)
        return _Pairs(
            units,
            signs,
            lengths,
            directions,
            near * far / 2,
            (far - near) * (far + near) / 4,
            2 * jnp.arctan2(far, near),
        )

    @property
    def kernel(self) -> Float[Array, "n m"]:
        """2 pi E relu(<w_i, x>) relu(<u_b, x>)."""
        lengths = self.lengths[: len(self.sine), None] * self.lengths[None]
        return lengths * (self.sine + self.rest * self.cosine)

    def normals(self) -> Float[Array, "n m d"]:
        """The unit vectors orthogonal to w_i in the plane of w_i and u_b, on u_b's side; else 0."""
        n = len(self.sine)
        own, other = self.directions[:n, None], self.directions[None]
        # sin times the normal is u - cos w: written so that nothing cancels at either end.
        near, far = other - own, other + own
        short = near + jnp.sum(near**2, axis=-1, keepdims=True) / 2 * own
        long = far - jnp.sum(far**2, axis=-1, keepdims=True) / 2 * own
        normal = jnp.where(self.cosine[..., None] > 0, short, long)
        length = _norm(normal)[..., None]
        return normal / jnp.where(length > 0, length, 1)


@jax.custom_jvp
def committee_loss(students: Rows, teachers: Rows) -> Float[Array, ""]:
    """L as a function of the rows w_i and v_j.

    Args:
        students: w_i, (n, d).
        teachers: v_j, (k, d); their derivatives count as 0.

    Returns:
        The loss.
    """
    pairs = _Pairs.of(students, teachers, all_units=True)
    return pairs.signs @ pairs.kernel @ pairs.signs / (4 * math.pi)


@committee_loss.defjvp
def _committee_loss_jvp(primals, tangents):
    students, teachers = primals
    slope = jnp.sum(_gradient(students, teachers) * tangents[0])
    return committee_loss(students, teachers), slope


@jax.custom_jvp
def _gradient(students: Rows, teachers: Rows) -> Rows:
    """grad_i L = sum_b s_b (|u_b| sin(theta) w_i / |w_i| + (pi - theta) u_b) / (2 pi)."""
    pairs = _Pairs.of(students, teachers)
    along = (pairs.sine * (pairs.signs * pairs.lengths)[None]).sum(axis=1, keepdims=True)
    across = (pairs.rest * pairs.signs[None]) @ pairs.units
    return (along * pairs.directions[: len(students)] + across) / (2 * math.pi)


@_gradient.defjvp
def _hessian_product(primals, tangents):
    # 2 pi grad_i L changes, with b the normals and w, u the directions, by the sum over b of s_b
    #     |u_b| / |w_i| sin(theta) (dw_i - w <w, dw_i> + b <b, dw_i>)
    #     + (pi - theta) du_b + sin(theta) (a <b, du_b> + u <w, du_b>),    a = sin w - cos b:
    # the Hessian of Safran & Shamir, every term bounded, since d theta has been eliminated.
    students, teachers = primals
    change = tangents[0]
    pairs, n = _Pairs.of(students, teachers), len(students)
    own, normals, signs = pairs.directions[:n], pairs.normals(), pairs.signs
    lengths = pairs.lengths[:n, None]
    stiff = pairs.sine * (signs * pairs.lengths)[None] / jnp.where(lengths > 0, lengths, 1)
    along = jnp.sum(own * change, axis=1, keepdims=True)
    bent = jnp.einsum("ib,ibd->id", stiff * jnp.einsum("ibd,id->ib", normals, change), normals)
    result = stiff.sum(axis=1, keepdims=True) * (change - own * along) + bent
    # Only students move.
    sine, cosine, normals = pairs.sine[:, :n], pairs.cosine[:, :n], normals[:, :n]
    result += pairs.rest[:, :n] @ change
    across = sine * jnp.einsum("ibd,bd->ib", normals, change)
    result += (across * sine).sum(axis=1, keepdims=True) * own
    result -= jnp.einsum("ib,ibd->id", across * cosine, normals)
    result += (sine * (own @ change.T)) @ own
    return _gradient(students, teachers), result / (2 * math.pi)


def _norm(vectors: Float[Array, "... d"]) -> Float[Array, "..."]:
    return jnp.sqrt(jnp.sum(vectors**2, axis=-1))

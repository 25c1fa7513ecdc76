"""Committees of erf or polynomial units on Gaussian inputs: the population loss in closed form."""

import dataclasses
import math

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from ..lift import Lift
from ..memory import check_memory
from ..modules import Hidden, Identity, InnerProduct, Pointwise, Scalar, edge_name
from ..precision import check_precision
from ..protocols import AbstractSmoothness
from ..registry import register
from .arguments import count
from .gaussian_committee import committee_count, committee_samples
from .gaussian_kernels import AbstractGaussianKernel, ErfKernel, PolynomialKernel
from .held_out import provenance_of
from .task import AbstractObjective, Task

Rows = Float[Array, "n d"]


class PopulationCommittee(AbstractObjective, AbstractSmoothness):
    """L = 1/2 E (sum_i a_i phi(<w_i, x>) - sum_j b_j phi(<v_j, x>))^2 for x ~ N(0, I_d).

    A function of Q_il = <w_i, w_l>, R_ij = <w_i, v_j>, T_jm = <v_j, v_m> alone, by E phi(u) phi(v)
    of Gaussian numbers (Saad & Solla, Phys. Rev. E 52 (1995)). Mind the 1/2: it halves the rate of
    the flow against the mean squared error.

    Cost of each: (students + teachers)^2 x d.

    Attributes:
        kernel: phi with its E phi(u) phi(v).
        teachers: v_j as rows, (teachers, d).
        read_outs: b_j, (teachers,).
    """

    kernel: AbstractGaussianKernel = eqx.field(static=True)
    teachers: Rows
    read_outs: Float[Array, " teachers"]

    @property
    def smooth(self) -> bool:
        """It is analytic in the weights."""
        return True

    def __call__(self, model: PyTree) -> Float[Array, ""]:
        """L(model), to an absolute rounding error of about eps (sum |a phi| + sum |b phi|)^2."""
        rows, read_outs = units_of(model, self.kernel)
        units = jnp.concatenate([rows, self.teachers])
        signs = jnp.concatenate([read_outs, -self.read_outs])
        inner = units @ units.T
        own = jnp.diagonal(inner)
        return signs @ self.kernel(inner, own[:, None], own[None]) @ signs / 2

    def check(self, model: PyTree) -> None:
        """Refuse what is no committee of these units on the teachers' inputs.

        Args:
            model: the model.

        Raises:
            ValueError: if it is no complete lift of such a module, or its inputs do not have the
                teachers' dimension.
        """
        shape, d = jnp.shape(units_of(model, self.kernel)[0]), self.teachers.shape[1]
        if shape[1:] != (d,):
            raise ValueError(
                f"Argument `model` must have inputs of the teachers' dimension {d}, but has "
                f"weights of shape {shape}; give both the same `inputs`."
            )


@register("task")
def erf_committee(
    teachers: int,
    *,
    inputs: int | None = None,
    held_out: int | None = None,
    precision: str = "float64",
) -> Task:
    """Learn sum_j erf(x_j / sqrt 2), j = 1 .. K, of x ~ N(0, I_d), in the population.

    Saad & Solla, Phys. Rev. E 52 (1995). For lifts of `modules.committee(d)`, or of
    `modules.two_layer(d, activation="erf_root2", bias=False)` with trained read-outs.

    Args:
        teachers: K, orthonormal.
        inputs: d >= K; None for K.
        held_out: how many samples a flow's loss 1/2 (F - f*)^2 is recorded on, always the same
            ones: their mean is L to within its random error. None for none.
        precision: "float64" or "float32".

    Returns:
        The task; see `PopulationCommittee` for the loss, with its 1/2. Its facts hold "least loss"
        = 0, reached with at least K students; "directions", the teachers as rows; and of the
        symmetric plateau of K students with read-outs 1, all Q_il = "plateau Q" = 1 / (2K - 1), all
        R_ij = "plateau R" = 1 / sqrt(K (2K - 1)), "plateau loss" = (K / pi)(pi / 6 -
        K asin(1 / (2K))).

    Raises:
        ValueError: if K is below 1 or d below K, or the teachers exceed the machine's memory.
    """
    task = _committee("erf-committee", ErfKernel(), teachers, inputs, held_out, precision)
    k = len(task.objective.teachers)  # pyright: ignore[reportAttributeAccessIssue]
    plateau = {
        "plateau loss": k / math.pi * (math.pi / 6 - k * math.asin(1 / (2 * k))),
        "plateau Q": 1 / (2 * k - 1),
        "plateau R": 1 / math.sqrt(k * (2 * k - 1)),
    }
    return dataclasses.replace(task, facts={**task.facts, **plateau})


@register("task")
def polynomial_committee(
    teachers: int,
    coefficients: tuple[float, ...],
    *,
    inputs: int | None = None,
    held_out: int | None = None,
    precision: str = "float64",
) -> Task:
    """Learn sum_j phi(x_j), j = 1 .. K, phi = sum_k c_k he_k, of x ~ N(0, I_d), in the population.

    For lifts of `modules.polynomial_committee(d, coefficients)`, or of `modules.two_layer` without
    biases and with `modules.HermiteSum(coefficients)` as activation. (0, 0, 1) are quadratic units,
    up to a constant and a factor (Sarao Mannelli, Vanden-Eijnden & Zdeborova, NeurIPS 2020, arXiv
    2006.15459).

    Args:
        teachers: K, orthonormal.
        coefficients: c_0, c_1, ..., of normalised Hermite polynomials.
        inputs: d >= K; None for K.
        held_out: how many samples a flow's loss 1/2 (F - f*)^2 is recorded on, always the same
            ones: their mean is L to within its random error. None for none.
        precision: "float64" or "float32".

    Returns:
        The task; see `PopulationCommittee` for the loss, with its 1/2. Its facts hold "least loss"
        = 0, reached with at least K students; "directions", the teachers as rows; "information
        exponent" of a unit, None for a constant; "null loss", of an output 0, 1/2 (K sum c_k^2 +
        K (K - 1) c_0^2).

    Raises:
        ValueError: if K is below 1 or d below K, for no finite coefficients, or if the teachers
            exceed the machine's memory.
    """
    kernel = PolynomialKernel(coefficients)
    c, k = kernel.function.coefficients, count("teachers", teachers)
    task = _committee("polynomial-committee", PolynomialKernel(c), k, inputs, held_out, precision)
    facts = {
        "information exponent": next((i for i, one in enumerate(c) if i and one), None),
        "null loss": (k * sum(one**2 for one in c) + k * (k - 1) * c[0] ** 2) / 2,
    }
    given = {**task.provenance, "coefficients": list(c)}
    return dataclasses.replace(task, provenance=given, facts={**task.facts, **facts})


def units_of(model: PyTree, kernel: AbstractGaussianKernel) -> tuple[Rows, Float[Array, " n"]]:
    """The w_i and a_i of a committee, one per hidden copy.

    Args:
        model: a complete lift of x -> h -> y, without biases, with the kernel's activation.
        kernel: which.

    Returns:
        The rows, (copies, d), and the read-outs, (copies,): ones where they are not trained.

    Raises:
        ValueError: for any other model.
    """
    edges = model.module.edges if isinstance(model, Lift) else ()
    maps = [v.map for v in model.module.vertices if isinstance(v, Hidden)] if edges else []
    if not (
        isinstance(model, Lift)
        and len(edges) == 2
        and isinstance(edges[0].map, InnerProduct)
        and isinstance(edges[1].map, Identity | Scalar)
        and maps == [Pointwise(kernel.function)]  # pyright: ignore[reportArgumentType]
        and all(fibre.is_complete for fibre in model.fibres.values())
        and model.copies[edges[1].target] == 1
    ):
        raise ValueError(
            "Argument `model` must be a complete lift of x -> h -> y with one output, no biases "
            f"and the activation {kernel.function}, as modules.committee and modules.two_layer "
            f"make it, but is {_described(model)}; give such a module, and complete edges."
        )
    first, second = (model.weights[edge_name(edge)] for edge in edges)
    trained = isinstance(edges[1].map, Scalar)
    return first, second if trained else jnp.ones(len(first), first.dtype)


def _described(model: PyTree) -> str:
    if not isinstance(model, Lift):
        return type(model).__name__
    return "a lift of " + " ".join(str(model.module).split())


def _committee(
    name: str, kernel: AbstractGaussianKernel, teachers, inputs, held_out, precision
) -> Task:
    check_precision(precision)
    kept = committee_count(held_out)
    k = count("teachers", teachers)
    d = k if inputs is None else count("inputs", inputs, k)
    check_memory("teachers", k, 4 * k * d, f"teachers of {d} numbers each")
    rows = jnp.eye(k, d, dtype=precision)
    # Pointwise knows functions by name.
    act = Pointwise(kernel.function)  # pyright: ignore[reportArgumentType]
    unit = lambda z: act.batched((jnp.asarray(z),))
    return Task(
        name,
        PopulationCommittee(kernel, rows, jnp.ones(k, precision)),
        {"source": "Saad & Solla, Phys. Rev. E 52 (1995)", "teachers": k, "inputs": d}
        | provenance_of(kept),
        {"least loss": 0.0, "directions": rows},
        committee_samples(unit, k, d, kept, precision),
    )

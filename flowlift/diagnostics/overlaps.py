"""Order parameters of a first layer: the overlaps of its units, and with given directions."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from ..lift import Lift
from ..modules import InnerProduct, edge_name
from ..tasks import AbstractObjective, Task


def student_overlaps(model: PyTree) -> Float[Array, "units units"]:
    """Q_il = <w_i, w_l> of the units of the first layer (Saad & Solla, Phys. Rev. E 52 (1995)).

    Args:
        model: a lift whose vector input is read by inner products, or an `equinox.nn.MLP`.

    Returns:
        Q, symmetric, positive semidefinite.

    Raises:
        ValueError: for another model.
    """
    rows = first_rows(model)
    return rows @ rows.T


def teacher_overlaps(
    model: PyTree, *, directions: Float[Array, "teachers d"]
) -> Float[Array, "units teachers"]:
    """R_ij = <w_i, v_j> of the units of the first layer and given directions.

    Args:
        model: as for `student_overlaps`.
        directions: v_j as rows; see `directions_of` for those of a task.

    Returns:
        R.

    Raises:
        ValueError: for another model, or inputs of another dimension.
    """
    rows = first_rows(model)
    if rows.shape[1:] != directions.shape[1:]:
        raise ValueError(
            f"Argument `directions` must have as many numbers as the model has inputs, "
            f"{rows.shape[1]}, but has {directions.shape[1]}; give the directions of its own task."
        )
    return rows @ jnp.asarray(directions, rows.dtype).T


def directions_of(task: Task | AbstractObjective | object) -> Float[Array, "teachers d"]:
    """The directions on which the targets of a task depend, as rows.

    Args:
        task: a task with the fact "directions": `single_index`, `multi_index` and the committees.

    Returns:
        The rows.

    Raises:
        ValueError: for a task that has none.
    """
    known = task.facts if isinstance(task, Task) else {}
    if "directions" not in known:
        raise ValueError(
            "Argument `task` must have the fact 'directions' for overlaps with them, as "
            "single_index, multi_index and the committees have, but has "
            f"{', '.join(map(repr, known)) or 'no facts'}; give `directions` yourself."
        )
    return jnp.asarray(known["directions"])


def first_rows(model: PyTree) -> Float[Array, "units d"]:
    """The weights of the first layer, a row for each unit.

    Args:
        model: as for `student_overlaps`.

    Returns:
        The rows.

    Raises:
        ValueError: for another model.
    """
    if isinstance(model, eqx.nn.MLP):
        return model.layers[0].weight
    inputs = {v.name for v in model.module.inputs} if isinstance(model, Lift) else set()
    if isinstance(model, Lift):
        for edge in model.module.edges:
            name = edge_name(edge)
            reads = edge.source in inputs and isinstance(edge.map, InnerProduct)
            if reads and model.weights[name].ndim == 2 and model.fibres[name].is_complete:
                return model.weights[name]
    raise ValueError(
        "Argument `model` must be a lift whose vector input is read by inner products, every unit "
        f"once, or an equinox.nn.MLP, but is {type(model).__name__}; observe a function of your "
        "own."
    )

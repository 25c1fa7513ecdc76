"""L on a plane through theta, along leading directions of its Hessian, with a trajectory on it."""

import dataclasses
from collections.abc import Callable, Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from ..showing import shows_itself
from ..tasks import AbstractObjective, Task
from .checks import check_concrete, whole
from .sharpness import Landscape, hessian_top, landscape
from .tangent import Trainable

# How far beyond the trajectory the plane is shown, as a part of its reach.
_MARGIN = 1.2


@shows_itself
@dataclasses.dataclass(frozen=True)
class LandscapeSlice:
    """L(theta + a d_1 + b d_2) on a grid of (a, b), with the trajectory projected on the plane.

    Attributes:
        places: a, and b likewise, symmetric around 0, (points,).
        loss: L at (b, a), (points, points): rows go along d_2.
        directions: d_1 and d_2, orthonormal, (2, P).
        curvatures: the second derivatives of L along them at theta, d_i . H d_i, (2,).
        times: of the trajectory, (m,).
        path: (theta(t) - theta) . d_i, (m, 2).
        off_plane: the distance of theta(t) from the plane, (m,).
    """

    places: np.ndarray
    loss: np.ndarray
    directions: np.ndarray
    curvatures: np.ndarray
    times: np.ndarray
    path: np.ndarray
    off_plane: np.ndarray


def landscape_slice(
    model: PyTree,
    task: Task | AbstractObjective | Callable,
    *,
    trajectory: Mapping[float, PyTree] | None = None,
    directions: Float[Array, "2 P"] | None = None,
    reach: float | None = None,
    points: int = 41,
    trainable: Trainable = eqx.is_inexact_array,
) -> LandscapeSlice:
    """The loss on the plane through a model along two directions.

    Args:
        model: theta, the centre of the plane: the end of a flow, say.
        task: a task, an objective or a callable model -> L.
        trajectory: models by time, such as `solution.snapshots`; they are projected on the plane.
        directions: two vectors, made orthonormal; by default the eigenvectors of the two largest
            eigenvalues of H at theta (`hessian_top`).
        reach: the greatest a and b; by default a fifth more than the trajectory needs, or 1.
        points: along each direction, odd, so that theta itself is one of them.
        trainable: which leaves are theta.

    Returns:
        The slice. Cost: points^2 losses, and that of `hessian_top` for two eigenvalues.

    Raises:
        ValueError: for fewer than 3 or an even number of points, directions of another shape or
            that do not span a plane, a reach that is not positive, or inside `jax.jit`.
    """
    check_concrete("landscape_slice", model)
    points = whole("points", points, 3)
    if points % 2 == 0:
        raise ValueError(f"Argument `points` must be odd, but is {points}; add 1.")
    at = landscape(model, task, trainable)
    theta = ravel_pytree(at.tree)[0]
    given = hessian_top(model, task, 2, trainable=trainable).vectors
    given = given if directions is None else jnp.asarray(directions, theta.dtype)
    plane = _orthonormal(at, given, theta.size)
    models = {} if trajectory is None else dict(trajectory)
    moved = [ravel_pytree(eqx.filter(m, trainable))[0] - theta for m in models.values()]
    moves = np.asarray(jnp.stack(moved) if moved else jnp.zeros((0, theta.size)))
    path = moves @ np.asarray(plane).T
    off = np.sqrt(np.maximum(np.sum(moves**2, axis=1) - np.sum(path**2, axis=1), 0.0))
    if reach is None:
        reach = _MARGIN * float(np.abs(path).max()) if path.any() else 1.0
    if not 0 < reach < np.inf:
        raise ValueError(f"Argument `reach` must be positive, but is {reach}; name a distance.")
    places = np.linspace(-reach, reach, points)
    loss, curvatures = _on_the_plane(at, plane, jnp.asarray(places, theta.dtype))
    times = np.array(list(models), float)
    return LandscapeSlice(
        places, np.asarray(loss), np.asarray(plane), np.asarray(curvatures), times, path, off
    )


def _orthonormal(at: Landscape, given: Float[Array, "2 P"], size: int) -> Float[Array, "2 P"]:
    if given.shape != (2, size):
        raise ValueError(
            f"Argument `directions` must have the shape {(2, size)}, but has {given.shape}; pass "
            "two vectors of the size of theta."
        )
    first, second = at.mask * given
    first = first / jnp.linalg.norm(first)
    length = jnp.linalg.norm(second)
    second = second - (first @ second) * first
    # What rounding leaves of a parallel vector is no direction.
    if not float(jnp.linalg.norm(second)) > 1e-6 * float(length):
        raise ValueError(
            "Argument `directions` must span a plane, but its two vectors are parallel or zero; "
            "pass independent ones."
        )
    return jnp.stack([first, second / jnp.linalg.norm(second)])


@eqx.filter_jit
def _on_the_plane(
    at: Landscape, plane: Float[Array, "2 P"], places: Float[Array, " n"]
) -> tuple[Float[Array, "n n"], Float[Array, " 2"]]:
    theta, unravel = ravel_pytree(at.tree)

    def loss(place: Array) -> Array:
        return at.objective(eqx.combine(unravel(theta + place @ plane), at.rest))

    grid = jnp.stack(jnp.meshgrid(places, places), axis=-1).reshape(-1, 2)
    # One after the other: a plane of samples at once would not fit.
    values = jax.lax.map(loss, grid).reshape(places.size, places.size)
    _, product = at.linearise()
    return values, jnp.stack([d @ product(d) for d in plane])

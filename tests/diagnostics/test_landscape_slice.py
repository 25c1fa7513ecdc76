"""The slice of a quadratic is the quadratic on the plane of its leading eigenvectors."""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest

from flowlift import diagnostics, plot

SIZE = 5
# theta* of L = 1 + 1/2 (w - w*)' H (w - w*), whose H has these eigenvalues along turned axes.
VALUES = np.array([7.0, 3.0, 0.5, 0.2, -0.1])
AXES = np.linalg.qr(np.random.default_rng(0).normal(size=(SIZE, SIZE)))[0]
CENTRE = np.arange(SIZE) / 3
HESSIAN = AXES @ np.diag(VALUES) @ AXES.T


def quadratic(w):
    return 1.0 + 0.5 * (w - CENTRE) @ (jnp.asarray(HESSIAN) @ (w - CENTRE))


@pytest.fixture(scope="module")
def path():
    """The flow of this loss, in closed form."""
    start = CENTRE + AXES @ np.array([1.0, -0.5, 0.3, 0.0, 0.0])
    at = lambda t: CENTRE + AXES @ (np.exp(-VALUES * t) * (AXES.T @ (start - CENTRE)))
    return {t: jnp.asarray(at(t)) for t in (0.0, 0.1, 0.5, 2.0)}


@pytest.fixture(scope="module")
def found(path):
    return diagnostics.landscape_slice(jnp.asarray(CENTRE), quadratic, trajectory=path, points=9)


def test_the_slice_of_a_quadratic_is_exact(found):
    np.testing.assert_allclose(np.abs(found.directions @ AXES[:, :2]), np.eye(2), atol=1e-5)
    np.testing.assert_allclose(found.curvatures, [7.0, 3.0], rtol=1e-9)
    a, b = np.meshgrid(found.places, found.places)
    np.testing.assert_allclose(found.loss, 1 + (7 * a**2 + 3 * b**2) / 2, rtol=1e-8)
    # An odd number of places: theta is one of them.
    assert found.loss[4, 4] == pytest.approx(1.0)


def test_a_trajectory_is_projected_and_keeps_its_distance_from_the_plane(found, path):
    moves = np.stack([np.asarray(w) - CENTRE for w in path.values()])
    squares = np.sum(found.path**2, axis=1) + found.off_plane**2
    np.testing.assert_allclose(squares, np.sum(moves**2, axis=1), rtol=1e-12)
    decay = np.exp(-0.5 * found.times)
    np.testing.assert_allclose(found.off_plane, 0.3 * decay, rtol=1e-5)
    assert np.abs(found.path).max() < found.places.max()


def test_directions_of_ones_own_are_made_orthonormal_and_refused_if_parallel():
    ones, first = np.ones(SIZE), np.eye(SIZE)[0]
    given = jnp.asarray(np.stack([2 * first, first + ones]))
    found = diagnostics.landscape_slice(
        jnp.asarray(CENTRE), quadratic, directions=given, reach=0.5, points=3
    )
    np.testing.assert_allclose(found.directions @ found.directions.T, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(found.places, [-0.5, 0.0, 0.5])
    for wrong, words in (
        ({"directions": jnp.asarray(np.stack([first, -3 * first]))}, "span a plane"),
        ({"directions": jnp.ones((2, 3))}, "shape"),
        ({"points": 4}, "odd"),
        ({"points": 1}, "points"),
        ({"reach": -1.0}, "positive"),
    ):
        with pytest.raises(ValueError, match=words):
            diagnostics.landscape_slice(jnp.asarray(CENTRE), quadratic, **wrong)


@pytest.mark.slow  # compiles two lifts
def test_padding_of_a_lift_is_no_direction():
    from flowlift import modules, tasks
    from flowlift.lift import BernoulliInDegree, sample

    lift = sample(modules.mlp(2, depth=1), copies=6, edges={"*": BernoulliInDegree(1)}, seed=1)
    task = tasks.periodic({1: 1.0}, samples=4)
    found = diagnostics.landscape_slice(lift, task, points=3, reach=0.1)
    top = diagnostics.hessian_top(lift, task, 2)
    np.testing.assert_allclose(found.curvatures, top.values, rtol=1e-5)


@pytest.mark.slow  # a flow, its Hessian and a figure
def test_the_landscape_is_drawn_with_the_path(found):
    _, given = plt.subplots()
    ax = plot.landscape(found, given)
    assert ax is given
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), found.path)
    assert f"up to {found.off_plane.max():.2g}" in plot.caption_of(ax.figure)
    plt.close("all")
    jax.clear_caches()

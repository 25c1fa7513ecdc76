"""0 <= X, 0 <= A + B[X], <X, A + B[X]> = 0: the conditions, and solutions in closed form."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowlift.solvers import complementary
from flowlift.solvers.complementarity import to_matrix, to_triangle

SOLVE = jax.jit(complementary)


def problem(order, seed, rank=None, size=1.0, strength=1.0):
    rng = np.random.default_rng(seed)
    n = order * (order + 1) // 2
    factor = rng.normal(size=(n, rank or n))
    offset = rng.normal(size=(order, order))
    return size * (offset + offset.T), strength * factor @ factor.T


def projected_gradient(offset, operator, steps=20_000):
    """The least value of <A, X> + <X, B[X]> / 2 on the cone, by steps of 1 / |B|."""
    step, order = 1 / np.linalg.norm(operator, 2), len(offset)
    places = np.triu_indices(order)
    weight = np.where(places[0] == places[1], 1.0, 2**0.5)
    primal = np.zeros((order, order))
    for _ in range(steps):
        image = np.zeros((order, order))
        image[places] = operator @ (primal[places] * weight) / weight
        image = image + np.triu(image, 1).T
        values, vectors = np.linalg.eigh(primal - step * (offset + image))
        primal = (vectors * np.maximum(values, 0)) @ vectors.T
    return primal


def test_triangles_keep_the_inner_product():
    rng = np.random.default_rng(0)
    a, b = (m + m.T for m in rng.normal(size=(2, 4, 4)))
    assert to_triangle(jnp.asarray(a)) @ to_triangle(jnp.asarray(b)) == pytest.approx(np.sum(a * b))
    np.testing.assert_allclose(to_matrix(to_triangle(jnp.asarray(a)), 4), a, rtol=1e-15)


@pytest.mark.parametrize(
    ("order", "kinds"),
    [
        (3, [{}, {"size": 1e-6, "strength": 1e5}, {"size": 1e4, "strength": 1e-3}, {"rank": 4}]),
        pytest.param(8, [{}, {"size": 1e-5}, {"rank": 30}], marks=pytest.mark.slow),
    ],
)
def test_the_conditions_hold_to_rounding(order, kinds):
    """They are sufficient: the problem is convex."""
    for seed, kind in enumerate(kinds):
        offset, operator = problem(order, seed, **kind)
        found = SOLVE(jnp.asarray(offset), jnp.asarray(operator))
        primal, dual = np.asarray(found.primal), np.asarray(found.dual)
        image = to_matrix(jnp.asarray(operator) @ to_triangle(found.primal), order)
        np.testing.assert_allclose(dual, offset + image, atol=1e-13 * abs(offset).max())
        x, z = np.abs(primal).max(), np.abs(offset).max()
        assert np.linalg.eigvalsh(primal)[0] >= -1e-12 * x
        assert np.linalg.eigvalsh(dual)[0] >= -1e-11 * z
        assert abs(np.sum(primal * dual)) <= 1e-11 * x * z
        assert x > 0
        assert 0 < int(found.iterations) < 30


def test_the_solution_is_that_of_projected_gradients():
    offset, operator = problem(3, 7)
    operator = operator + np.eye(6)
    found = SOLVE(jnp.asarray(offset), jnp.asarray(operator))
    expected = projected_gradient(offset, operator)
    assert np.linalg.matrix_rank(expected, 1e-6) < 3
    np.testing.assert_allclose(found.primal, expected, atol=1e-9)


def test_one_eigenvalue_has_a_closed_form():
    for a, b in [(-0.3, 2.0), (0.3, 2.0), (0.0, 2.0)]:
        found = complementary(jnp.asarray([[a]]), jnp.asarray([[b]]))
        assert float(found.primal[0, 0]) == max(0.0, -a / b)


def test_commuting_matrices_give_the_linear_complementarity_problem():
    """Diagonal A, and B that keeps diagonal matrices so: of four cases one fits."""
    rng = np.random.default_rng(3)
    for _ in range(20):
        factor = rng.normal(size=(2, 2))
        matrix, offset = factor @ factor.T + 0.1 * np.eye(2), rng.normal(size=2)
        operator = np.zeros((3, 3))
        operator[np.ix_([0, 2], [0, 2])] = matrix
        operator[1, 1] = 1.0
        found = SOLVE(jnp.diag(jnp.asarray(offset)), jnp.asarray(operator)).primal
        np.testing.assert_allclose(found, np.diag(enumerated(matrix, offset)), atol=1e-9)


def enumerated(matrix, offset):
    for active in itertools.product([False, True], repeat=2):
        x, on = np.zeros(2), np.array(active)
        x[on] = -np.linalg.solve(matrix[np.ix_(on, on)], offset[on])
        if (x >= 0).all() and (offset + matrix @ x >= -1e-14).all():
            return x
    raise AssertionError("a linear complementarity problem with M > 0 has a solution")


def test_no_oscillation_where_nothing_is_negative():
    offset, operator = problem(3, 1)
    found = SOLVE(jnp.asarray(offset @ offset), jnp.asarray(operator))
    assert not np.any(found.primal)
    assert int(found.iterations) == 0


def test_what_has_no_solution_is_not_a_number():
    offset, operator = -jnp.eye(2), jnp.zeros((3, 3))
    assert np.isnan(SOLVE(offset, operator).primal).all()
    assert np.isnan(complementary(-jnp.eye(1), jnp.zeros((1, 1))).primal).all()


# One more compilation, of the same steps.
@pytest.mark.slow
def test_float32_solves_to_its_rounding():
    offset, operator = problem(4, 5)
    single = [jnp.asarray(m, "float32") for m in (offset, operator)]
    found = jax.jit(complementary)(*single).primal
    assert found.dtype == jnp.float32
    expected = SOLVE(jnp.asarray(offset), jnp.asarray(operator)).primal
    np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())

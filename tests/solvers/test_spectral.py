"""Lanczos tools against dense eigenvalue problems."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowlift.solvers import generic_vector, ritz_pairs, spectral_ends
from flowlift.solvers.lanczos import ritz
from flowlift.solvers.spectral import lanczos

# Compiled whole: one by one, operations take several times as long to compile.
generic = jax.jit(generic_vector, static_argnums=(0, 1, 2))


@functools.partial(jax.jit, static_argnums=(2, 3))
def pairs_of(matrix, start, count, rtol):
    return ritz_pairs(lambda v: matrix @ v, start, count, rtol=rtol)


@functools.partial(jax.jit, static_argnums=2)
def ends_of(matrix, start, rtol):
    return spectral_ends(lambda v: matrix @ v, start, rtol=rtol)


@functools.partial(jax.jit, static_argnums=(2, 3))
def krylov_of(matrix, start, steps, enough=None):
    return lanczos(lambda v: matrix @ v, start, steps, *([enough] if enough else []))


def symmetric(eigenvalues, seed=0):
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.standard_normal((len(eigenvalues),) * 2))
    return jnp.asarray(basis * eigenvalues @ basis.T), basis


def outliers(size=120):
    """A Hessian's look: a bulk, a few outliers, a little negative curvature."""
    rng = np.random.default_rng(1)
    return np.concatenate([rng.uniform(-0.05, 0.1, size - 6), [-0.7, 2.0, 3.0, 3.1, 8.0, 20.0]])


def test_lanczos_relation_and_orthogonality():
    matrix, _ = symmetric(outliers())
    krylov = krylov_of(matrix, generic(120, matrix.dtype, 0), 40)
    v = np.asarray(krylov.basis)
    np.testing.assert_allclose(v @ v.T, np.eye(41), atol=1e-13)
    t = np.diag(krylov.alpha) + np.diag(krylov.beta[:-1], 1) + np.diag(krylov.beta[:-1], -1)
    rest = v[:-1] @ np.asarray(matrix) - t @ v[:-1]
    np.testing.assert_allclose(rest[:-1], 0, atol=1e-12)
    np.testing.assert_allclose(rest[-1], krylov.beta[-1] * v[-1], atol=1e-12)
    assert krylov.symmetric


def test_largest_pairs_with_residuals_that_bound_the_error():
    eigenvalues = outliers()
    matrix, _ = symmetric(eigenvalues)
    start = generic(120, matrix.dtype, 0)
    pairs = pairs_of(matrix, start, 4, 1e-6)
    np.testing.assert_allclose(pairs.values, [20.0, 8.0, 3.1, 3.0], atol=1e-6)
    x = np.asarray(pairs.vectors)
    np.testing.assert_allclose(x @ x.T, np.eye(4), atol=1e-10)
    true = np.linalg.norm(x @ np.asarray(matrix) - np.asarray(pairs.values)[:, None] * x, axis=1)
    np.testing.assert_allclose(pairs.residuals, true, atol=1e-10)
    assert np.all(true <= 2e-5)
    assert 8 < int(pairs.products) < 60


def test_both_ends():
    eigenvalues = outliers()
    matrix, basis = symmetric(eigenvalues)
    start = generic(120, matrix.dtype, 0)
    ends = ends_of(matrix, start, 1e-5)
    assert ends.lowest == pytest.approx(-0.7, abs=1e-6)
    assert ends.highest == pytest.approx(20.0, abs=1e-6)
    assert ends.lowest >= -0.7 - 1e-12
    assert ends.highest <= 20.0 + 1e-12
    assert 20 <= ends.radius <= 20.001
    assert abs(ends.vectors[1] @ basis[:, -1]) == pytest.approx(1.0, abs=1e-6)
    # A good start is worth the products it saves.
    again = ends_of(matrix, ends.vectors.sum(axis=0), 1e-5)
    assert int(again.products) < int(ends.products) / 3


@pytest.mark.slow
def test_multiple_eigenvalues_are_found_as_often_as_they_occur():
    eigenvalues = np.array([5.0, 5.0, 5.0, 1.0, 1.0, -2.0])
    matrix, _ = symmetric(eigenvalues)
    pairs = pairs_of(matrix, generic(6, matrix.dtype, 0), 6, 1e-9)
    np.testing.assert_allclose(pairs.values, eigenvalues, atol=1e-9)


@pytest.mark.parametrize("size", [1, 5])
def test_small_spaces_are_exhausted(size):
    eigenvalues = np.arange(1.0, size + 1)
    matrix, _ = symmetric(eigenvalues)
    ends = ends_of(matrix, generic(size, matrix.dtype, 0), 1e-12)
    assert ends.lowest == pytest.approx(1.0)
    assert ends.highest == pytest.approx(size)
    assert int(ends.products) == size


def test_zero_operator_and_zero_start():
    ends = ends_of(jnp.zeros((7, 7)), jnp.zeros(7), 1e-3)
    assert float(ends.highest) == float(ends.lowest) == 0.0
    assert np.isfinite(ends.vectors).all()


@pytest.mark.slow
def test_asymmetry_is_seen():
    matrix, _ = symmetric(outliers())
    skewed = matrix.at[3, 5].add(0.5)
    start = generic(120, matrix.dtype, 0)
    assert krylov_of(matrix, start, 10).symmetric
    assert not krylov_of(skewed, start, 10).symmetric
    single = krylov_of(matrix.astype("float32"), start.astype("float32"), 10)
    assert single.symmetric


def test_values_beyond_the_size_sort_last():
    matrix, _ = symmetric(-np.arange(1.0, 9))
    krylov = krylov_of(matrix, generic(8, matrix.dtype, 0), 8, lambda k: k.size >= 3)
    pairs = jax.jit(ritz)(krylov)
    assert int(pairs.size) == 3
    assert np.all(pairs.values[:3] < 0)
    assert np.all(pairs.values[3:] > 0)


def hashed(key: int) -> float:
    """The integer hash behind generic vectors, in Python's integers."""
    for factor in (0x7FEB352D, 0x846CA68B):
        key = (key ^ (key >> 16)) * factor % 2**32
    return (key ^ (key >> 16)) / 2**32 - 0.5


def test_generic_vectors_differ_and_never_change():
    a, b = generic(1000, "float64", 0), generic(1000, "float64", 1)
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.1
    assert abs(float(a.mean())) < 0.03
    assert float(a.std()) == pytest.approx(12**-0.5, rel=0.05)
    np.testing.assert_array_equal(a[:3], [hashed(1), hashed(2), hashed(3)])
    np.testing.assert_array_equal(a[:5], generic(5, "float64", 0))


def test_hessian_of_a_loss_under_jit_and_vmap():
    """As diagnostics use it: products by jvp of the gradient."""

    def loss(theta):
        return jnp.sum(jnp.cos(theta)) + 0.5 * jnp.sum(theta) ** 2

    def sharpness(theta):
        hvp = lambda v: jax.jvp(jax.grad(loss), (theta,), (v,))[1]
        return spectral_ends(hvp, generic_vector(theta.size, theta.dtype), rtol=1e-9).highest

    thetas = jnp.asarray(np.random.default_rng(0).standard_normal((3, 6)))
    exact = [np.linalg.eigvalsh(h)[-1] for h in jax.jit(jax.vmap(jax.hessian(loss)))(thetas)]
    np.testing.assert_allclose(jax.jit(jax.vmap(sharpness))(thetas), exact, rtol=1e-9)


def test_more_pairs_than_dimensions_are_refused():
    with pytest.raises(ValueError, match="`count` must be from 1 to the dimension 3"):
        ritz_pairs(lambda v: v, jnp.ones(3), 4)


@functools.partial(jax.jit, static_argnums=2)
def pairs_above(matrix, start, count, bound):
    return ritz_pairs(lambda v: matrix @ v, start, count, rtol=1e-8, above=bound)


def test_only_pairs_above_a_bound_need_be_accurate():
    """Copies of multiple eigenvalues are among them; where there are none few products tell."""
    matrix, _ = symmetric(np.concatenate([outliers(), [8.0, 20.0]]))
    start = generic(122, matrix.dtype, 0)
    above = pairs_above(matrix, start, 6, 5.0)
    np.testing.assert_allclose(above.values[:4], [20.0, 20.0, 8.0, 8.0], atol=1e-6)
    assert above.complete
    assert np.all(above.values[4:] < 3.2)
    none = pairs_above(matrix, start, 6, 30.0)
    assert none.complete
    assert np.all(none.values < 30)
    assert int(none.products) < 12 < int(above.products)


@pytest.mark.slow  # Two compilations of a second each.
@pytest.mark.parametrize("find", [spectral_ends, functools.partial(ritz_pairs, count=2)])
def test_the_basis_is_held_once(find):
    """By XLA's plan of the memory: nothing copies the vectors, as a slice of them would."""
    size, products = 20_000, 40
    eigenvalues = jnp.linspace(-1, 5, size)
    run = jax.jit(lambda start: find(lambda v: eigenvalues * v, start, max_products=products))
    plan = run.lower(jnp.ones(size)).compile().memory_analysis()
    assert plan.temp_size_in_bytes < 1.3 * (products + 1) * size * eigenvalues.dtype.itemsize

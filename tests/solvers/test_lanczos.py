"""The extendable Lanczos basis and the low-rank model of the Hessian, against dense algebra."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowlift.solvers import lanczos
from flowlift.solvers.curvature import Curvature
from flowlift.solvers.lanczos import Krylov, generic_vector, ritz
from flowlift.solvers.learner import Learner

N = 30


def symmetric(eigenvalues, seed=0):
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.standard_normal((len(eigenvalues),) * 2))
    return jnp.asarray((basis * eigenvalues) @ basis.T)


STIFF = np.concatenate([[50.0, 20.0, 8.0, 3.0], np.linspace(-0.02, 0.05, N - 4)])


# That of a solver that asks for many digits.
CONTRACTION = jnp.asarray(0.2)


@functools.partial(jax.jit, static_argnums=2)
def extended(basis, matrix, steps):
    return jax.lax.fori_loop(0, steps, lambda _, b: b.extended(lambda v: matrix @ v), basis)


@functools.partial(jax.jit, static_argnums=(2, 3))
def model(matrix, c, capacity=20, secants=5):
    empty = Curvature.empty(capacity, secants, jnp.zeros(matrix.shape[0], matrix.dtype))
    # A start nearly orthogonal to an eigenvector may miss it, which costs iterations; this is none.
    start = empty.restarted(empty.point, generic_vector(empty.point.size, empty.point.dtype, 1))
    return start.extended(lambda v: matrix @ v, c, CONTRACTION)


# Compiled whole: one by one, operations take several times as long to compile.
pairs_of = eqx.filter_jit(ritz)
inverse = eqx.filter_jit(lambda curvature, c, v: Learner.of(curvature, c).inverse(v))
product = eqx.filter_jit(lambda curvature, v: Learner.of(curvature, jnp.ones(())).product(v))


@eqx.filter_jit
def taught(curvature, step, image, c, wanted):
    return Learner.of(curvature, c).taught(step, image, wanted).curvature


generic = jax.jit(generic_vector, static_argnums=(0, 1, 2))


@functools.partial(jax.jit, static_argnums=1)
def begun(start, capacity):
    return Krylov.empty(capacity, start).restarted(start)


@eqx.filter_jit
def rows(f, size):
    """The images of the unit vectors."""
    return jax.vmap(f)(jnp.eye(size))


def dense(curvature):
    return np.asarray(rows(Learner.of(curvature, jnp.ones(())).product, curvature.point.size))


def test_the_basis_is_orthonormal_and_tridiagonalises_the_matrix():
    matrix = symmetric(STIFF)
    basis = extended(begun(matrix[0], 12), matrix, 10)
    rows = np.asarray(basis.basis)[:11]
    np.testing.assert_allclose(rows @ rows.T, np.eye(11), atol=1e-13)
    projected = rows[:10] @ np.asarray(matrix) @ rows[:10].T
    outside = np.abs(np.subtract.outer(np.arange(10), np.arange(10))) > 1
    np.testing.assert_allclose(projected[outside], 0, atol=1e-12)
    np.testing.assert_allclose(np.diag(projected), basis.alpha[:10], atol=1e-12)
    assert not np.asarray(basis.basis)[11:].any()


def test_extending_in_two_goes_is_extending_at_once():
    matrix = symmetric(STIFF)
    first = begun(matrix[0], 12)
    at_once, in_two = extended(first, matrix, 10), extended(extended(first, matrix, 4), matrix, 6)
    for a, b in zip(jax.tree.leaves(at_once), jax.tree.leaves(in_two), strict=True):
        np.testing.assert_array_equal(a, b)


def test_residuals_of_ritz_pairs_are_exact():
    matrix = symmetric(STIFF)
    basis = extended(begun(matrix[0], 12), matrix, 10)
    pairs = pairs_of(basis)
    values, coordinates, residuals = pairs.values, pairs.coordinates, pairs.residuals
    vectors = np.asarray(basis.basis)[:-1].T @ np.asarray(coordinates)
    for j in range(10):
        gap = np.asarray(matrix) @ vectors[:, j] - values[j] * vectors[:, j]
        assert np.linalg.norm(gap) == pytest.approx(float(residuals[j]), abs=1e-11)


def test_an_invariant_subspace_is_left_by_a_new_direction():
    """A start in a plane: after two steps the basis goes on outside of it, without NaN."""
    matrix = jnp.diag(jnp.arange(1.0, 9.0))
    start = jnp.zeros(8).at[:2].set(1.0)
    basis = extended(begun(start, 8), matrix, 8)
    np.testing.assert_allclose(np.sort(pairs_of(basis).values), np.arange(1.0, 9.0), rtol=1e-12)
    assert float(basis.beta[1]) == 0.0


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_pseudo_random_vectors_are_centred_and_independent(dtype):
    like = jnp.zeros(20_000, dtype)
    draws = np.stack([generic(like.size, like.dtype, turn) for turn in range(4)])
    assert draws.dtype == dtype
    np.testing.assert_array_equal(draws[1], generic(like.size, like.dtype, 1))
    np.testing.assert_allclose(np.cov(draws), np.eye(4) / 12, atol=0.004)
    np.testing.assert_allclose(draws.mean(axis=1), 0, atol=0.02)
    shifted = np.corrcoef(draws[0][1:], draws[0][:-1])[0, 1]
    assert abs(shifted) < 0.03


@pytest.mark.parametrize("c", [0.01, 1.0, 100.0])
def test_what_the_model_leaves_out_is_contracted(c):
    """|(I + c B)^-1 (I + c H) - I| < 1/2 on the positive part of H: the chord converges."""
    matrix = symmetric(np.maximum(STIFF, 0))
    curvature, products = model(matrix, jnp.asarray(c), N)
    assert int(products) == int(curvature.krylov.size) > 0
    inverse = np.asarray(rows(Learner.of(curvature, jnp.asarray(c)).inverse, N))
    error = inverse @ (np.eye(N) + c * np.asarray(matrix)) - np.eye(N)
    assert np.abs(np.linalg.eigvals(error)).max() < 0.5
    known = dense(curvature)
    np.testing.assert_allclose(inverse @ (np.eye(N) + c * known), np.eye(N), atol=1e-9)


def test_a_larger_c_extends_the_same_basis_and_a_smaller_one_costs_nothing():
    matrix = symmetric(STIFF)
    small, _ = model(matrix, jnp.asarray(0.05))
    further = eqx.filter_jit(lambda b, c: b.extended(lambda v: matrix @ v, c, CONTRACTION))
    large, more = further(small, jnp.asarray(2.0))
    assert 0 < int(more) == int(large.krylov.size) - int(small.krylov.size)
    np.testing.assert_array_equal(
        small.krylov.basis[: int(small.krylov.size)], large.krylov.basis[: int(small.krylov.size)]
    )
    again, none = further(large, jnp.asarray(0.05))
    assert int(none) == 0
    np.testing.assert_array_equal(again.values, large.values)


def test_secants_teach_the_hessian_and_keep_the_inverse_exact():
    """After an update B s = y; the Woodbury inverse is that of the dense matrix."""
    old, new = symmetric(STIFF), symmetric(STIFF * 1.3, seed=0) + 0.5 * symmetric(STIFF, seed=1)
    c = jnp.asarray(0.5)
    curvature, _ = model(old, c)
    rng = np.random.default_rng(3)
    yes = jnp.asarray(True)
    for _ in range(8):
        step = jnp.asarray(rng.standard_normal(N))
        later = taught(curvature, step, new @ step, c, yes)
        if int(later.count) > int(curvature.count) and int(later.count) <= 5:
            np.testing.assert_allclose(product(later, step), new @ step, rtol=1e-9, atol=1e-9)
        curvature = later
    assert int(curvature.count) > 5
    b = dense(curvature)
    np.testing.assert_allclose(b, b.T, atol=1e-9)
    vector = jnp.asarray(rng.standard_normal(N))
    # Bordered secant by secant for the first, made anew for the second.
    for scale in (0.5, 0.05):
        expected = np.linalg.solve(np.eye(N) + scale * b, vector)
        found = inverse(curvature, jnp.asarray(scale), vector)
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-9)
    assert np.linalg.eigvalsh(np.eye(N) + 0.5 * b).min() > 0


def test_useless_secants_are_refused():
    matrix = symmetric(STIFF)
    c, yes = jnp.asarray(0.5), jnp.asarray(True)
    curvature, _ = model(matrix, c)
    step = jnp.ones(N)
    refusals = [
        (step, product(curvature, step), yes),
        (step, jnp.full(N, jnp.nan), yes),
        (step, matrix @ step - 100 * step, yes),
        (step, matrix @ step + 10 * step, jnp.asarray(False)),
    ]
    for s, y, wanted in refusals:
        kept = taught(curvature, s, y, c, wanted)
        assert int(kept.count) == int(curvature.count)
        assert eqx.tree_equal(kept, eqx.tree_at(lambda b: b.scale, curvature, c))
    assert int(taught(curvature, step, matrix @ step + 10 * step, c, yes).count) == 1


def test_the_dense_model_is_the_positive_part_of_the_hessian():
    matrix = symmetric(STIFF)
    curvature = Curvature.dense(matrix, 3, jnp.zeros(N))
    values, vectors = np.linalg.eigh(matrix)
    expected = (vectors * np.maximum(values, 0)) @ vectors.T
    np.testing.assert_allclose(dense(curvature), expected, atol=1e-11)
    assert bool(curvature.knows(jnp.asarray(1e6), CONTRACTION))


def test_many_decompositions_are_those_of_each_and_no_pool_shares_them():
    """On a CPU: XLA's pool could wait for itself where the parts of a batch are handed to it."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        matrices = jnp.asarray(rng.standard_normal((3, 5, 5)))
        matrices = matrices + matrices.swapaxes(1, 2)
        program = jax.jit(jax.vmap(lanczos._eigh)).lower(matrices).compile()
        for found, each in zip(program(matrices), jnp.linalg.eigh(matrices), strict=True):
            np.testing.assert_array_equal(found, each)
        if jax.default_backend() == "cpu":
            calls = [line for line in program.as_text().splitlines() if "syevd_ffi" in line]
            assert calls
            assert not any("f64[3,5,5]" in line for line in calls)

        def of(eigh):
            whole = lambda a: [jnp.sum(part**2 * jnp.arange(5)) for part in eigh((a + a.T) / 2)]
            return jax.grad(lambda a: sum(whole(a)))(matrices[0])

        np.testing.assert_allclose(of(lanczos._eigh), of(jnp.linalg.eigh), rtol=1e-12, atol=1e-12)

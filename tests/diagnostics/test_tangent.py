"""J, J^T, the Rayleigh quotient and the tangent kernel against dense Jacobians."""

import dense
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowlift import diagnostics, tasks
from flowlift.diagnostics import moments, tangent


@pytest.fixture(scope="module")
def case():
    lift, task = dense.small_lift(), dense.small_task()
    assert lift.n_parameters < sum(w.size for w in lift.weights.values())
    j, _ = dense.jacobian(lift, task)
    return lift, task, j, j @ j.T


@pytest.mark.slow
def test_products_are_those_of_the_dense_jacobian_in_l2(case):
    lift, task, j, _ = case
    linear = tangent(lift, task).linearise()
    rng = np.random.default_rng(0)
    v, w = rng.standard_normal(j.shape[1]), rng.standard_normal(j.shape[0])
    np.testing.assert_allclose(linear.push(v), j @ v, atol=1e-12)
    np.testing.assert_allclose(linear.pull(w), j.T @ w, atol=1e-12)
    np.testing.assert_allclose(linear.kernel(w), j @ (j.T @ w), atol=1e-12)
    r = dense.residual(lift, task)
    assert r @ r == pytest.approx(float(task.objective(lift)), rel=1e-13)


def labels():
    rng = np.random.default_rng(1)
    return tasks.supervised(rng.standard_normal((9, 3)), rng.integers(0, 2, 9), "cross-entropy")


@pytest.mark.slow  # compiles both sides
@pytest.mark.parametrize(
    "task",
    [
        pytest.param(dense.small_task(), id="squared"),
        pytest.param(labels(), id="labels", marks=pytest.mark.slow),
    ],
)
def test_squared_gradient_is_rayleigh_times_squared_output_gradient(task):
    lift = dense.small_lift()
    measured = diagnostics.rayleigh(lift, task)
    gradient = eqx.filter_grad(task.objective)(lift)
    squared = sum(float(jnp.sum(g**2)) for g in jax.tree.leaves(gradient))
    assert float(measured.gradient_norm) ** 2 == pytest.approx(squared, rel=1e-12)
    product = measured.quotient * measured.output_gradient_norm**2
    assert float(product) == pytest.approx(squared, rel=1e-12)
    assert float(measured.loss) == pytest.approx(float(task.objective(lift)), rel=1e-13)


def test_for_squared_loss_the_loss_decays_at_four_rayleighs(case):
    lift, task, _, k = case
    r = dense.residual(lift, task)
    measured = diagnostics.rayleigh(lift, task)
    assert float(measured.quotient) == pytest.approx(r @ k @ r / (r @ r), rel=1e-12)
    assert float(measured.descent) == pytest.approx(4 * float(measured.quotient), rel=1e-12)


def test_rayleigh_has_no_value_without_a_direction():
    model = dense.Vector(jnp.ones(2))
    assert np.isnan(diagnostics.rayleigh(model, dense.identity_task([1.0, 1.0])).quotient)


def test_the_kernel_matrix_is_that_of_the_dense_jacobian(case):
    lift, task, _, k = case
    np.testing.assert_allclose(diagnostics.kernel_matrix(lift, task), k, atol=1e-12)


@pytest.mark.slow
def test_kernel_products_and_eigenvalues(case):
    lift, task, _, k = case
    w = np.arange(len(k), dtype=float)
    np.testing.assert_allclose(diagnostics.kernel_product(lift, task, w), k @ w, rtol=1e-10)
    values = np.linalg.eigvalsh(k)[::-1]
    top = diagnostics.kernel_top(lift, task, 5, rtol=1e-8)
    np.testing.assert_allclose(top.values, values[:5], rtol=1e-10)
    for vector, value in zip(top.vectors, top.values, strict=True):
        np.testing.assert_allclose(k @ vector, value * vector, atol=1e-7 * values[0])
    ends = diagnostics.kernel_ends(lift, task, rtol=1e-8)
    assert float(ends.highest) == pytest.approx(values[0], rel=1e-10)
    assert float(ends.lowest) == pytest.approx(values[-1], abs=1e-8 * values[0])


@pytest.mark.slow
def test_moments_rank_alignment_and_drift(case):
    lift, task, _, k = case
    both = diagnostics.kernel_moments(lift, task)
    norm = np.linalg.norm(k)
    assert float(both.trace) == pytest.approx(np.trace(k), rel=1e-12)
    assert float(both.frobenius) == pytest.approx(norm, rel=1e-12)
    rank = np.trace(k) ** 2 / norm**2
    assert float(diagnostics.effective_rank(lift, task)) == pytest.approx(rank, rel=1e-12)
    seen = diagnostics.kernel_alignment(lift, task)
    r, y = dense.residual(lift, task), np.asarray(task.objective.targets).reshape(-1)
    assert float(seen.residual) == pytest.approx(r @ k @ r / (r @ r) / norm, rel=1e-12)
    assert float(seen.target) == pytest.approx(y @ k @ y / (y @ y) / norm, rel=1e-12)
    moved = jax.tree.map(lambda w: 1.1 * w if eqx.is_inexact_array(w) else w, lift)
    j1, _ = dense.jacobian(moved, task)
    drift = np.linalg.norm(j1 @ j1.T - k) / norm
    assert float(diagnostics.kernel_drift(moved, task, lift)) == pytest.approx(drift, rel=1e-10)
    assert float(diagnostics.kernel_drift(lift, task, lift)) < 1e-14


@pytest.mark.slow
def test_labels_have_no_target_alignment():
    assert np.isnan(diagnostics.kernel_alignment(dense.small_lift(), labels()).target)


def test_labels_have_no_tangent_radius():
    lift = dense.small_lift()
    with pytest.raises(ValueError, match="must have squared loss"):
        diagnostics.tangent_radius(lift, labels(), 0.1)
    with pytest.raises(ValueError, match="must have samples"):
        diagnostics.rayleigh(lift, tasks.population(lambda model: jnp.zeros(())))


@pytest.mark.slow
def test_hutch_is_unbiased_and_exact_for_low_rank():
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.standard_normal((60, 60)))
    a = basis @ np.diag(np.arange(1, 61.0) ** -1.5) @ basis.T

    def estimates(matrix, seeds):
        probes = np.stack([diagnostics.sign_probes(60, 18, seed) for seed in range(seeds)])
        one = lambda p: moments(lambda w: jnp.asarray(matrix) @ w, 60, jnp.float64, p)
        found = jax.jit(jax.vmap(one))(probes)
        assert (np.asarray(found.products) == 18).all()
        return np.stack([found.trace, found.frobenius**2], axis=1)

    low = basis[:, :5] @ np.diag([5.0, 4, 3, 2, 1]) @ basis[:, :5].T
    np.testing.assert_allclose(estimates(low, 2), [[15, 55]] * 2, rtol=1e-10)
    drawn = estimates(a, 40)
    truth = np.array([np.trace(a), np.sum(a * a)])
    # Hutchinson's estimate of tr A by 18 probes has variance 2 (|A|_F^2 - sum a_ii^2) / 18.
    plain = [np.sqrt(2 * (np.sum(b * b) - np.sum(np.diag(b) ** 2)) / 18) for b in (a, a @ a)]
    assert (drawn.std(axis=0) < 0.3 * np.array(plain)).all()
    deviations = (drawn.mean(axis=0) - truth) / (drawn.std(axis=0) / np.sqrt(40))
    assert (np.abs(deviations) < 4).all()
    with pytest.raises(ValueError, match="at least 3"):
        diagnostics.sign_probes(5, 2, 0)


def test_a_full_matrix_beyond_the_limit_is_refused(case):
    lift, task, *_ = case
    with pytest.raises(ValueError, match=r"samples x outputs = 30 .* but is 8"):
        diagnostics.kernel_matrix(lift, task, limit=8)


@pytest.mark.slow
def test_observers_measure_along_a_flow_and_after_it(case):
    lift, task, *_ = case
    solution = dense.small_run()
    rayleigh = solution.observations["rayleigh"]
    np.testing.assert_allclose(solution.gradient_norm**2, 4 * rayleigh * solution.loss, rtol=1e-9)
    after = diagnostics.measure_along(solution.snapshots, diagnostics.observer("rayleigh", task))
    at = [list(solution.times).index(t) for t in (0.01, 10.0)]
    np.testing.assert_allclose(after.values, rayleigh[at], rtol=1e-9)
    assert (after.times.tolist(), after.gradients) == ([0.01, 10.0], 4)
    drift = diagnostics.observer("kernel_drift", task, reference=lift, products=30)
    series = diagnostics.measure_along(solution.snapshots, drift)
    assert 0 < series.values[0] < series.values[1]
    assert series.gradients == 2 * (2 + 6 * 30)


def test_unknown_observers_are_refused(case):
    _, task, *_ = case
    with pytest.raises(ValueError, match="must be one of tangent_radius"):
        diagnostics.observer("kapa", task)
    with pytest.raises(ValueError, match="at least one model"):
        diagnostics.measure_along({}, diagnostics.observer("rayleigh", task))


@pytest.mark.slow
def test_every_observer_agrees_with_its_function(case):
    lift, task, _, k = case
    values = np.linalg.eigvalsh(k)[::-1]
    measured = lambda name, **kw: np.asarray(diagnostics.observer(name, task, **kw)(lift))
    np.testing.assert_allclose(measured("kernel_top", count=5, rtol=1e-8), values[:5], rtol=1e-10)
    np.testing.assert_allclose(measured("kernel_trace"), np.trace(k), rtol=1e-12)
    np.testing.assert_allclose(measured("kernel_ends", rtol=1e-8)[1], values[0], rtol=1e-10)
    rank = np.trace(k) ** 2 / np.sum(k * k)
    np.testing.assert_allclose(measured("effective_rank"), rank, rtol=1e-12)
    r = dense.residual(lift, task)
    aligned = r @ k @ r / (r @ r) / np.linalg.norm(k)
    np.testing.assert_allclose(measured("alignment")[0], aligned, rtol=1e-12)
    np.testing.assert_allclose(measured("outputs"), dense.jacobian(lift, task)[1], atol=1e-13)

"""What verdicts and eigenvalues rest on: bounds that hold as often as they say."""

import dense
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowlift import diagnostics, tasks
from flowlift.diagnostics import Kind
from flowlift.solvers import generic_vector, ritz_pairs
from flowlift.solvers.exclusion import Exclusion, component_quantile
from flowlift.solvers.host.restarted import Restarted


def quadratic(eigenvalues, dtype=jnp.float64):
    """L = sum lambda x^2 / 2 at its critical point 0."""
    scale = jnp.asarray(eigenvalues, dtype)
    return dense.Vector(
        jnp.zeros(len(eigenvalues), dtype)
    ), lambda m: jnp.sum(scale * m.theta**2) / 2


def test_a_start_has_a_small_component_as_often_as_the_law_says():
    rng = np.random.default_rng(0)
    points = rng.standard_normal((20_000, 50))
    components = np.abs(points[:, 0]) / np.linalg.norm(points, axis=1)
    for failure in (0.02, 0.3):
        seen = np.mean(components < component_quantile(50, failure))
        assert abs(seen - failure) < 4 * np.sqrt(failure / 20_000)
    assert component_quantile(1, 0.1) == 1.0


@pytest.mark.parametrize("vectors", [12, 6])
def test_the_bound_fails_as_often_as_it_says(vectors):
    """H = diag(linspace(-1, 1)): after 12 of 30 products nothing has settled; restarted or not."""
    size, failure, runs = 30, 0.2, 200
    component = component_quantile(size, failure)
    values = np.linspace(-1.0, 1.0, size)

    def known(start):
        process = Restarted(start, vectors)
        for _ in range(12):
            process.extend(lambda v: values * v)
        return Exclusion([*process.cycles, process.cycle])

    starts = np.random.default_rng(1).standard_normal((runs, size))
    bounds = np.array([known(start).least_bound(component) for start in starts])
    deviation = np.sqrt(failure * (1 - failure) / runs)
    # No more often than stated, and not much less: it gives nothing away.
    assert failure / 2 < np.mean(bounds > -1) <= failure + 3 * deviation
    assert -1.1 < np.median(bounds) < -1
    surer = known(starts[0]).least_bound(component_quantile(size, 1e-6))
    assert -2 < surer < bounds[0]


def spectrum(lower):
    """Outliers above, a bulk around 0, and a lower end."""
    return np.concatenate([lower, np.linspace(-0.5, 0.5, 340), np.geomspace(1, 1e4, 40)])


LOWER_ENDS = {
    "lone": [-1.0],
    "three times": [-1.0, -1.0, -1.0],
    "clustered": -1 + 1e-5 * np.arange(20) ** 2,
    "none": [],
}


@pytest.mark.parametrize("vectors", [100, 12])
@pytest.mark.parametrize("lower", LOWER_ENDS)
def test_no_start_with_a_component_is_deceived(lower, vectors):
    """Nothing rests on chance but the component: at the quantile of 1e-6 the bound holds."""
    values = spectrum(LOWER_ENDS[lower])
    least, component = values.min(), component_quantile(values.size, 1e-6)
    start = np.random.default_rng(0).standard_normal(values.size)
    lowest = values == least
    rest = np.linalg.norm(start[~lowest])
    start[lowest] *= 1.01 * component * rest / np.linalg.norm(start[lowest])
    process = Restarted(start, vectors)
    while process.products < 160:
        process.extend(lambda v: values * v)
        if process.products % 40 == 0:
            known = Exclusion([*process.cycles, process.cycle])
            assert known.least_bound(component) <= least + 1e-12
    # The component, a billionth, is enough to find them, but not to tell neighbours apart.
    apart = lower != "clustered" and vectors == 100
    assert not apart or known.values[0] == pytest.approx(least, abs=1e-6)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_basis_stays_orthonormal_and_keeps_settled_outliers(dtype):
    """T = W H W^T over restarts, beside outliers; with 100 vectors none has to be found again."""
    values = spectrum([-1.0]).astype(dtype)
    process = Restarted(np.random.default_rng(0).standard_normal(values.size).astype(dtype), 100)
    while process.products < 140:
        process.extend(lambda v: values * v)
    assert len(process.cycles) == 2
    basis, unit = process.basis[: process.size + 1].astype(float), np.finfo(dtype).eps
    np.testing.assert_allclose(basis @ basis.T, np.eye(len(basis)), atol=100 * unit)
    basis, matrix = basis[:-1], process.cycle.matrix
    np.testing.assert_allclose(basis * values @ basis.T, matrix, atol=1e4 * 100 * unit)
    settled = np.linalg.eigvalsh(matrix.astype(float))[-20:]
    np.testing.assert_allclose(settled, values[-20:], atol=1e4 * 100 * unit)
    assert process.symmetric


@pytest.mark.parametrize("dense_up_to", [1000, 0])
def test_a_weak_negative_curvature_is_no_minimum(dense_up_to):
    """The least eigenvalue is -8.5e-4 where the sharpness is 20: also if the tolerance is 2e-3."""
    model, loss = quadratic(np.concatenate([[-8.5e-4], np.linspace(0.01, 1, 37), [5.0, 20.0]]))
    settings = {"gradient_norm": 1e-6, "dense": dense_up_to}
    rough = diagnostics.critical_point(model, loss, **settings)
    assert rough.kind is Kind.STATIONARY
    assert -rough.tolerance <= rough.bound <= -8.5e-4
    fine = diagnostics.critical_point(model, loss, curvature=1e-5, **settings)
    assert fine.kind is Kind.SADDLE
    assert -8.5e-4 - 1e-12 <= fine.least < -fine.tolerance
    short = diagnostics.critical_point(model, loss, curvature=1e-5, max_products=4, **settings)
    assert short.kind is (Kind.SADDLE if dense_up_to else Kind.NOT_RESOLVED)


def test_what_is_not_finite_is_not_resolved_and_what_is_zero_is_flat():
    model, loss = quadratic(np.ones(3))
    broken = dense.Vector(jnp.full(3, jnp.nan))
    for up_to in (1000, 0):
        found = diagnostics.critical_point(broken, loss, gradient_norm=1.0, dense=up_to)
        assert found.kind is Kind.NOT_RESOLVED
        flat = diagnostics.critical_point(
            model, lambda m: 0.0 * jnp.sum(m.theta), gradient_norm=1.0, dense=up_to
        )
        assert (flat.kind, flat.bound) == (Kind.STATIONARY, 0.0)


@pytest.mark.slow  # several Lanczos programs
def test_copies_of_a_multiple_eigenvalue_are_not_missed():
    """One process sees one vector of an eigenspace, with every residual small."""
    for values in ([5.0] * 3 + [3.0, 1.0] + [0.0] * 25, [2.0, 2.0, 1.0, 1.0, 0.5] * 6):
        values = np.sort(values)[::-1]
        product = lambda v, values=values: jnp.asarray(values) * v
        pairs = ritz_pairs(product, generic_vector(30, jnp.float64), 4, rtol=1e-9)
        np.testing.assert_allclose(pairs.values, values[:4], atol=1e-8)
        assert bool(pairs.complete)
    few = ritz_pairs(product, generic_vector(30, jnp.float64), 4, max_products=5)
    assert not bool(few.complete)


@pytest.mark.slow  # compiles each observer
def test_eigenvalues_of_observers_have_residuals_and_are_marked_where_unsettled():
    """A linear model with 3 outputs: each eigenvalue of its kernel occurs three times."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((12, 4)), rng.standard_normal((12, 3))
    task = tasks.supervised(x, y, apply=lambda model, x: x @ model.theta.reshape(4, 3))
    model = dense.Vector(jnp.zeros(12))
    exact = np.repeat(np.linalg.eigvalsh(x @ x.T / 12)[::-1][:2], 3)[:5]
    top = diagnostics.observer("kernel_top", task, count=5)
    series = diagnostics.measure_along({0.0: model}, top)
    np.testing.assert_allclose(series.values[0], exact, rtol=1e-6)
    assert series.settled.all()
    assert series.uncertainty.max() <= 1e-6 * exact[0]
    short = diagnostics.observer("kernel_top", task, count=5, max_products=5)
    assert np.isnan(short(model)[1:]).all()
    assert np.isfinite(short.examine(model).value).all()


def test_random_estimates_carry_their_standard_errors():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 40))
    task = tasks.supervised(x, x[:, :1], apply=lambda model, x: x @ model.theta[:, None])
    model = dense.Vector(jnp.zeros(40))
    exact = np.trace(x @ x.T) / 60
    off = []
    for seed in range(6):
        found = diagnostics.kernel_moments(model, task, products=24, seed=seed)
        off.append((float(found.trace) - exact) / float(found.trace_error))
    assert 0.1 < np.sqrt(np.mean(np.square(off))) < 3
    assert float(diagnostics.kernel_moments(model, task, products=60).trace_error) == 0


def refusal(call):
    with pytest.raises(ValueError, match=r"^Arguments? ") as caught:
        call()
    return str(caught.value)


def test_odd_inputs_get_a_sentence():
    model, loss = quadratic(np.ones(3))
    task = dense.identity_task([1.0, 2.0, 3.0])
    complex_model = dense.Vector(jnp.ones(3, complex))
    point = lambda m: diagnostics.critical_point(m, loss, gradient_norm=1e-3).gradient_norm
    assert "traced by jax.jit" in refusal(lambda: jax.jit(point)(model))
    assert "complex128" in refusal(lambda: point(complex_model))
    assert "complex128" in refusal(lambda: diagnostics.rayleigh(complex_model, task))
    whole = lambda m: diagnostics.tangent(m, task, trainable=lambda leaf: True)
    assert "int64" in refusal(lambda: whole(dense.Vector(jnp.arange(3))))
    for wrong in (0, 4, 2.5, True):
        assert "from 1 to 3" in refusal(lambda w=wrong: diagnostics.kernel_top(model, task, w))
        assert "from 1 to 3" in refusal(lambda w=wrong: diagnostics.hessian_top(model, loss, w))
    assert "`failure`" in refusal(lambda: diagnostics.least_curvature(model, loss, failure=1.0))
    number = np.float32(1e-3), jnp.asarray(1e-3)
    for value in number:
        found = diagnostics.critical_point(model, loss, gradient_norm=value)
        assert found.kind is Kind.MINIMUM
    assert int(diagnostics.kernel_top(model, task, np.int64(2)).values.size) == 2


@pytest.mark.slow  # compiles every instrument
def test_nan_is_nowhere_a_number():
    """A radius of 0, a point counted as inside, an eigenvalue of -inf: each was one."""
    broken, task = dense.Vector(jnp.full(3, jnp.nan)), dense.identity_task([1.0, 2.0, 3.0])
    assert np.isnan(diagnostics.tangent_radius(broken, task, 0.1).kappa)
    assert np.isnan(diagnostics.tangent_move(broken, task, 0.1).length)
    assert diagnostics.membership([broken], task, 1.0, 0.1).undecided == 1
    assert np.isnan(diagnostics.hessian_ends(broken, lambda m: jnp.sum(m.theta**3)).highest)
    assert np.isnan(diagnostics.hessian_top(broken, lambda m: jnp.sum(m.theta**3), 2).values).all()
    with pytest.raises(ValueError, match="must have trainable floating-point arrays"):
        diagnostics.ball_point(dense.Vector(jnp.arange(3)), 1.0, 0)

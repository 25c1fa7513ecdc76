"""Hessian spectra and kinds of critical points against dense Hessians and closed forms."""

import dense
import jax.numpy as jnp
import numpy as np
import pytest

from flowlift import diagnostics, flow, tasks
from flowlift.diagnostics import Kind


@pytest.fixture(scope="module")
def case():
    lift, task = dense.small_lift(), dense.small_task()
    matrix, mask = dense.hessian(lift, task.objective)
    return lift, task, np.linalg.eigvalsh(matrix), matrix, mask


def test_the_top_of_a_quadratic_within_its_budget():
    """H = diag(2 a): the 20 largest, by 3 + 2 products gradients."""
    scale = np.geomspace(1e-3, 1, 40)
    task = tasks.population(lambda m: jnp.sum(scale * m.theta**2))
    top = diagnostics.observer("hessian_top", task, count=20)
    values, cost = top.measure(dense.Vector(jnp.ones(40)))
    np.testing.assert_allclose(values, 2 * scale[::-1][:20], atol=1e-3 * 2)
    assert 43 <= int(cost) <= 120


@pytest.mark.slow
def test_both_ends_and_the_top_are_those_of_the_dense_hessian(case):
    lift, task, values, matrix, mask = case
    assert values[0] < 0 < values[-1]
    ends = diagnostics.hessian_ends(lift, task, rtol=1e-7, max_products=90)
    np.testing.assert_allclose([ends.lowest, ends.highest], values[[0, -1]], atol=1e-8 * values[-1])
    top = diagnostics.hessian_top(lift, task, 20, rtol=1e-3)
    assert bool(top.complete)
    np.testing.assert_allclose(top.values, values[::-1][:20], atol=2e-3 * values[-1])
    vectors = np.asarray(top.vectors)
    assert not vectors[:, ~mask].any()
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(20), atol=1e-10)
    errors = np.linalg.norm(
        vectors[:, mask] @ matrix - top.values[:, None] * vectors[:, mask], axis=1
    )
    np.testing.assert_allclose(errors, top.residuals, rtol=1e-3, atol=1e-7 * values[-1])


@pytest.mark.slow
def test_padding_is_no_eigenvalue_even_when_the_space_closes():
    """All live eigenvalues of a tiny lift, negative ones included, and none at 0 from padding."""
    from flowlift.lift import BernoulliInDegree, sample

    lift = sample(
        dense.MODULE,
        copies=3,
        edges={"h1->h2": BernoulliInDegree(1)},
        weights=dense.WEIGHTS,
        seed=3,
    )
    task = dense.small_task()
    matrix, mask = dense.hessian(lift, task.objective)
    values = np.linalg.eigvalsh(matrix)
    assert not mask.all()
    size = len(values)
    top = diagnostics.hessian_top(lift, task, size, max_products=4 * size)
    np.testing.assert_allclose(top.values, values[::-1], atol=1e-8 * values[-1])
    with pytest.raises(ValueError, match=f"from 1 to {size}, but is {size + 1}"):
        diagnostics.hessian_top(lift, task, size + 1)


@pytest.mark.slow
def test_the_least_curvature_is_the_least_eigenvalue(case):
    lift, task, values, _, mask = case
    assert not mask.all()
    least = diagnostics.least_curvature(lift, task)
    # The dense Hessian of the test comes from central differences.
    assert least.lowest == pytest.approx(values[0], abs=1e-9 * values[-1])
    assert least.lowest - 1e-10 * values[-1] <= least.bound <= least.lowest
    assert (least.products, least.failure) == (mask.sum(), 0)
    krylov = diagnostics.least_curvature(lift, task, dense=10)
    assert krylov.lowest == pytest.approx(values[0], abs=1e-9 * values[-1])
    assert values[0] - 2e-6 * values[-1] <= krylov.bound <= values[0] + 1e-9 * values[-1]
    assert krylov.products <= 300
    assert krylov.failure == 1e-6


def kind_of(loss, theta, **kwargs):
    model = dense.Vector(jnp.asarray(theta, float))
    settings = {"gradient_norm": 1e-6} | kwargs
    return diagnostics.critical_point(model, tasks.population(lambda m: loss(m.theta)), **settings)


def test_a_saddle_is_told_with_its_direction():
    saddle = kind_of(lambda x: x[0] ** 2 - 0.1 * x[1] ** 2, [0.0, 0.0])
    assert saddle.kind == Kind.SADDLE
    assert (saddle.least, saddle.sharpness) == pytest.approx((-0.2, 2.0))
    np.testing.assert_allclose(np.abs(saddle.direction), [0, 1], atol=1e-12)
    with pytest.raises(ValueError, match="`gradient_norm` must be positive"):
        kind_of(lambda x: x[0] ** 2, [0.0], gradient_norm=0.0)


@pytest.mark.slow
def test_minima_valleys_and_slopes_are_told_apart():
    bowl = kind_of(lambda x: x[0] ** 2 + 3 * x[1] ** 2, [0.0, 0.0])
    assert (bowl.kind, bowl.least) == (Kind.MINIMUM, pytest.approx(2.0))
    slope = kind_of(lambda x: x[0] ** 2, [1.0, 0.0])
    assert (slope.kind, slope.gradient_norm) == (Kind.MOVING, pytest.approx(2.0))
    valley = kind_of(lambda x: (x[0] * x[1] - 1) ** 2, [1.0, 1.0])
    # At second order a flat direction leaves open what it is: x_0^3 looks alike.
    assert (valley.kind, valley.sharpness) == (Kind.STATIONARY, pytest.approx(4.0))
    assert -1e-13 < valley.bound < 0


@pytest.mark.slow
def test_too_few_products_do_not_resolve_it():
    scale = jnp.linspace(0.0, 1.0, 60) ** 4
    few = kind_of(lambda x: jnp.sum(scale * x**2), np.zeros(60), max_products=4, dense=0)
    assert few.kind == Kind.NOT_RESOLVED
    assert few.bound < -few.tolerance
    assert "not resolved: |grad L| = 0" in few.message
    assert kind_of(lambda x: jnp.sum(scale * x**2), np.zeros(60)).kind == Kind.STATIONARY


@pytest.mark.slow
def test_curvature_observers_are_those_functions(case):
    lift, task, values, *_ = case
    sharpness = diagnostics.observer("sharpness", task, rtol=1e-7, max_products=90)
    value, cost = sharpness.measure(lift)
    assert float(value) == pytest.approx(values[-1], rel=1e-7)
    assert 0 < int(cost) <= 3 + 180


def test_kl_exponents_of_powers():
    """L = x^p has |grad L| = p L^(1 - 1/p)."""
    x = np.geomspace(0.05, 1, 40)
    for p in (2, 4, 6):
        fit = diagnostics.kl_exponent(x**p + 0.5, p * x ** (p - 1), least=0.5)
        assert fit.exponent == pytest.approx(1 - 1 / p, rel=1e-6)
        assert fit.constant == pytest.approx(p, rel=1e-4)
        assert fit.points == 40
    tail = diagnostics.kl_exponent(x**2 + x**4, 2 * x + 4 * x**3, below=0.01)
    assert tail.exponent == pytest.approx(0.5, rel=0.02)
    assert tail.points < 40
    with pytest.raises(ValueError, match="at least 3 points"):
        diagnostics.kl_exponent(x, x, below=1e-9)


@pytest.mark.slow
def test_the_exponent_of_a_deep_linear_chain_along_its_flow():
    """L = (w_1 ... w_d)^2 from balanced weights: L = w^(2d), |grad L| = 2 sqrt(d) w^(2d - 1)."""
    for depth in (2, 3):
        run = flow.solve(jnp.ones(depth), lambda w: jnp.prod(w) ** 2, 1e5, save=flow.LogTimes(2))
        fit = diagnostics.kl_exponent(run.loss, run.gradient_norm)
        assert fit.exponent == pytest.approx(1 - 1 / (2 * depth), rel=1e-6)
        assert fit.constant == pytest.approx(2 * depth**0.5, rel=1e-5)
        assert run.loss[-1] < 1e-5

"""Proved inequalities along flows: they hold, they are sharp where they should, they bite."""

import dataclasses
import types

import dense
import jax.numpy as jnp
import numpy as np
import pytest

from flowlift import diagnostics, flow, tasks


@pytest.fixture(scope="module")
def run():
    return dense.small_run(), dense.EPS


def test_the_certificate_holds_along_a_flow(run):
    solution, eps = run
    found = diagnostics.certificate(solution, eps, solution.observations["kappa"])
    assert found.holds
    assert "hold at" in found.message
    assert solution.loss[-1] < solution.loss[0] / 10
    assert (solution.loss <= found.bound * (1 + 1e-6)).all()
    assert (np.diff(found.bound) <= 0).all()
    assert found.bound[-1] < 0.9 * found.bound[0]
    finite = found.margin[solution.loss > eps]
    assert (finite < 1).all()


def test_a_wrong_kappa_is_called_a_bug(run):
    solution, eps = run
    found = diagnostics.certificate(solution, eps, 0.05 * solution.observations["kappa"])
    assert not found.holds
    assert "there is a bug" in found.message


def test_a_wrong_gradient_is_called_a_bug(run):
    solution, eps = run
    wrong = dataclasses.replace(solution, gradient_norm=0.1 * solution.gradient_norm)
    assert not diagnostics.certificate(wrong, eps, solution.observations["kappa"]).holds


def test_infinite_radii_assert_nothing_and_bad_arguments_are_refused(run):
    solution, eps = run
    nothing = diagnostics.certificate(solution, eps, np.full_like(solution.times, np.inf))
    assert nothing.holds
    assert (nothing.margin == 1).all()
    np.testing.assert_allclose(nothing.bound, solution.loss[0])
    with pytest.raises(ValueError, match="one radius for each"):
        diagnostics.certificate(solution, eps, [1.0])
    names = ("loss", "gradient_norm", "arc_length", "distance")
    late = types.SimpleNamespace(**{name: getattr(solution, name)[2:] for name in names})
    with pytest.raises(ValueError, match="must begin at the start of the flow"):
        diagnostics.certificate(late, eps, solution.observations["kappa"][2:])
    whole = types.SimpleNamespace(**{name: getattr(solution, name) for name in names})
    kappa = solution.observations["kappa"]
    one, other = (diagnostics.certificate(run, eps, kappa) for run in (whole, solution))
    np.testing.assert_array_equal(one.bound, other.bound)
    np.testing.assert_array_equal(one.margin, other.margin)


@pytest.mark.slow
def test_both_inequalities_are_equalities_for_the_identity():
    """F = theta: kappa = |r| - sqrt(eps) and d sqrt(L)/ds = -1, margin 0 throughout."""
    target, eps = np.array([3.0, 4.0]), 0.01
    task, model = dense.identity_task(target), dense.Vector(jnp.zeros(2))
    watch = {"kappa": diagnostics.observer("tangent radius", task, eps=eps)}
    solution = flow.solve(model, task, 1.5, save=[0.5, 1.0], rtol=1e-9, observers=watch)
    kappa = solution.observations["kappa"]
    np.testing.assert_allclose(kappa, np.sqrt(solution.loss) - 0.1, rtol=1e-9)
    found = diagnostics.certificate(solution, eps, kappa)
    assert found.holds
    np.testing.assert_allclose(found.margin, 0, atol=1e-9)
    # Here kappa falls along the run: c = 0, and the bound is the exponential.
    assert found.slope == 0
    expected = (0.1 + 4.9 * np.exp(-solution.arc_length / 4.9)) ** 2
    np.testing.assert_allclose(found.bound, expected, rtol=1e-9)


def test_the_integrated_bound_with_growing_radii(run):
    """kappa = kappa_0 + c s gives d sqrt(L)/ds = -sqrt(L)/kappa exactly: a flow on the bound."""
    s, c = np.linspace(0, 5, 11), 0.5
    kappa = 2 + c * s
    root = (1 + c * s / 2) ** (-1 / c)
    on_it = dataclasses.replace(
        run[0],
        times=s,
        loss=root**2,
        gradient_norm=2 * root * root / kappa,
        arc_length=s,
        distance=s,
    )
    found = diagnostics.certificate(on_it, 0.0, kappa)
    assert found.slope == pytest.approx(c)
    np.testing.assert_allclose(found.margin, 0, atol=1e-12)
    np.testing.assert_allclose(found.bound, root**2, rtol=1e-12)
    assert not diagnostics.certificate(on_it, 0.0, 0.99 * kappa).holds


def test_the_logistic_potential():
    s = np.array([1e-3, 0.1, 1.0, 5.0, 30.0])
    h = 1e-5 * s
    gap = diagnostics.logistic_potential(s + h) - diagnostics.logistic_potential(s - h)
    np.testing.assert_allclose(gap / (2 * h), (1 - np.exp(-s)) ** -2, rtol=1e-6)
    assert diagnostics.logistic_potential(1e11) == 1e11


@pytest.mark.slow
@pytest.mark.parametrize(("setting", "horizon"), [("a", 1e9), ("b", 100.0)])
def test_the_logistic_inequalities_hold(setting, horizon):
    experiment = tasks.logistic(setting)
    solution = flow.solve(
        experiment.model, experiment.task, horizon, save=flow.LogTimes(1), max_steps=3000
    )
    assert len(solution.times) > 3
    bounds = diagnostics.logistic_bounds(solution, experiment.margin, experiment.samples)
    assert bounds.holds
    weak = diagnostics.logistic_bounds(solution, 1e5 * experiment.margin, experiment.samples)
    assert not weak.holds

"""Proved inequalities along flows: they hold, they are sharp where they should, they bite."""

import types

import dense
import jax.numpy as jnp
import numpy as np
import pytest

from flowlift import diagnostics, flow, tasks


@pytest.fixture(scope="module")
def run():
    """The exact flow of F = theta from |r| = 5: kappa = |r| - sqrt(eps), L = |r|^2 = 25 e^{-4t}."""
    times, eps = np.linspace(0, 1.5, 7), 0.01
    root = 5 * np.exp(-2 * times)
    records = types.SimpleNamespace(
        times=times,
        loss=root**2,
        gradient_norm=2 * root,
        arc_length=5 - root,
        distance=5 - root,
        observations={"kappa": root - eps**0.5},
    )
    return records, eps


def but(run, **changes):
    return types.SimpleNamespace(**(vars(run) | changes))


def test_both_inequalities_hold_and_the_first_is_sharp(run):
    solution, eps = run
    found = diagnostics.certificate(solution, eps, solution.observations["kappa"])
    assert found.holds
    np.testing.assert_allclose(found.margin, 0, atol=1e-12)
    # Here kappa falls along the run: c = 0, and the bound is the exponential.
    assert found.slope == 0
    expected = (0.1 + 4.9 * np.exp(-solution.arc_length / 4.9)) ** 2
    np.testing.assert_allclose(found.bound, expected, rtol=1e-12)


@pytest.mark.slow
def test_the_certificate_holds_along_a_flow():
    solution, eps = dense.small_run(), dense.EPS
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
    wrong = but(solution, gradient_norm=0.1 * solution.gradient_norm)
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


@pytest.mark.slow
def test_both_inequalities_are_equalities_for_the_identity():
    """F = theta: kappa = |r| - sqrt(eps) and d sqrt(L)/ds = -1, margin 0 throughout."""
    target, eps = np.array([3.0, 4.0]), 0.01
    task, model = dense.identity_task(target), dense.Vector(jnp.zeros(2))
    watch = {"kappa": diagnostics.observer("tangent_radius", task, eps=eps)}
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
    on_it = but(
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


def softmax_records(setting, step, steps):
    """Loss and |grad L| in NumPy along Heun's method, which follows the flow closely enough."""
    experiment = tasks.logistic(setting)
    objective, w = experiment.task.objective, np.asarray(experiment.model.weights["x->y"]).T
    x, labels = np.asarray(objective.inputs), np.asarray(objective.targets)
    x, w = x.reshape(len(x), -1), w.reshape(x.shape[-1], -1)
    hot = np.eye(w.shape[1])[labels]

    def loss_and_gradient(w):
        logits = x @ w
        shifted = logits - logits.max(axis=1, keepdims=True)
        total = np.exp(shifted).sum(axis=1, keepdims=True)
        loss = np.mean(np.log(total[:, 0]) - (shifted * hot).sum(axis=1))
        return loss, x.T @ (np.exp(shifted) / total - hot) / len(x)

    records = []
    for _ in range(steps):
        loss, slope = loss_and_gradient(w)
        records.append((loss, np.linalg.norm(slope)))
        w = w - step / 2 * (slope + loss_and_gradient(w - step * slope)[1])
    loss, norm = np.array(records).T
    return experiment, types.SimpleNamespace(
        times=step * np.arange(steps), loss=loss, gradient_norm=norm
    )


def test_the_logistic_inequalities_hold_in_numpy():
    experiment, records = softmax_records("b", 0.05, 400)
    assert experiment.task.objective(experiment.model) == pytest.approx(records.loss[0], rel=1e-12)
    bounds = diagnostics.logistic_bounds(records, experiment.margin, experiment.samples)
    assert bounds.holds
    weak = diagnostics.logistic_bounds(records, 1e5 * experiment.margin, experiment.samples)
    assert not weak.holds


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

"""Central flows as dynamics of `solve`: what they keep, what they record, what they refuse."""

import jax.numpy as jnp
import numpy as np
import pytest

from flowlift import BernoulliInDegree, modules, sample, tasks
from flowlift.diagnostics import hessian_top
from flowlift.flow import resume, solve
from flowlift.flow.dynamics import CentralFlow, CentralRMSProp
from flowlift.flow.problem import make_problem
from flowlift.lift import Gaussian, from_edges
from flowlift.tasks import resolve_objective

START = jnp.asarray([0.25, 1.4, 1.6, 0.5])
ETA = 0.36


def quartic(w):
    return 0.5 * (jnp.prod(w) - 1) ** 2


def central(horizon, **options):
    dynamics = options.pop("dynamics", CentralFlow(ETA, eigenvalues=1))
    return solve(options.pop("model", START), quartic, horizon, dynamics=dynamics, **options)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: CentralFlow(0.0), "`step_size` must be a positive finite number, but is 0.0"),
        (lambda: CentralFlow(-0.1), "`step_size` must be a positive finite number, but is -0.1"),
        (lambda: CentralFlow(float("inf")), "`step_size` must be a positive finite number"),
        (lambda: CentralFlow(0.1, eigenvalues=0), "`eigenvalues` must be an integer of at least 1"),
        (lambda: CentralFlow(0.1, eigenvalues=1.5), "`eigenvalues` must be an integer"),
        (lambda: CentralRMSProp(0.0, 0.9, 0.1), "`step_size` must be a positive finite number"),
        (lambda: CentralRMSProp(0.1, 1.0, 0.1), "`decay` must be between 0 and 1, but is 1.0"),
        (lambda: CentralRMSProp(0.1, 0.9, -1.0), "`initial` must be a finite number of at least 0"),
        (lambda: CentralRMSProp(0.1, 0.9, 0.1, 0.0), "`epsilon` must be a positive finite number"),
        (lambda: central(1.0, dynamics=CentralFlow(ETA, 5)), "at most the number of parameters, 4"),
        (lambda: central(1.0, solver="bdf"), "`solver` must be an explicit or stock implicit one"),
        (lambda: central(1.0, solver="rkc2"), "`solver` must be an explicit or stock implicit one"),
        (lambda: central(1.0, solver="exprb"), "`solver` must be an explicit or stock"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(made, message):
    with pytest.raises(ValueError, match=message) as refused:
        made()
    assert "\n" not in str(refused.value)


# All of it is one program, whose compilation is the cost; others follow for float32 and the graph.
@pytest.mark.slow
def test_the_edge_is_kept_and_the_energy_identity_holds():
    solution = central(40 * ETA, save=np.linspace(0.5, 40 * ETA, 80).tolist())
    assert solution.success
    sharpness = solution.observations["eigenvalues"][:, 0]
    edge = 2 / ETA
    assert sharpness.max() <= edge * (1 + 1e-4)
    assert sharpness[20:].min() >= edge * (1 - 1e-4)
    # Integrals take no part in error control, and the field has a kink where the edge is met.
    lost = solution.loss[0] - solution.loss
    np.testing.assert_allclose(solution.energy, lost, atol=3e-5 * solution.loss[0])
    variance = solution.observations["covariance"][:, 0, 0]
    excess = solution.observations["mean_loss"] - solution.loss
    np.testing.assert_allclose(excess[20:], variance[20:] / ETA, rtol=2e-4)
    gradients = solution.observations["mean_squared_gradient"] - solution.gradient_norm**2
    np.testing.assert_allclose(gradients[20:], variance[20:] * edge**2, rtol=4e-4)
    assert (variance[20:] > 0).all()
    assert (solution.observations["evaluation_cost"] >= 3).all()


@pytest.mark.slow
def test_below_the_edge_it_is_the_gradient_flow():
    slow = CentralFlow(0.1, eigenvalues=1)
    times = [0.5, 1.0, 3.0]
    ours = central(3.0, dynamics=slow, save=times)
    plain = solve(START, quartic, 3.0, save=times)
    np.testing.assert_allclose(ours.loss, plain.loss, rtol=1e-4, atol=1e-9)
    assert not np.any(ours.observations["covariance"])
    np.testing.assert_allclose(ours.observations["mean_loss"], ours.loss, rtol=1e-9)


@pytest.mark.slow
def test_a_resumed_central_flow_goes_on():
    whole = central(20 * ETA, save=[10 * ETA, 20 * ETA])
    half = central(10 * ETA, save=[10 * ETA])
    both = resume(half, 20 * ETA, save=[20 * ETA])
    np.testing.assert_allclose(both.loss, whole.loss, rtol=1e-3, atol=1e-9)
    assert both.observations["covariance"].shape == (3, 1, 1)


@pytest.mark.slow
def test_the_graph_and_float32_follow_the_host_and_float64():
    options = {"save": [5 * ETA, 20 * ETA]}
    host = central(20 * ETA, **options)
    graph = central(20 * ETA, engine="graph", **options)
    np.testing.assert_allclose(graph.loss, host.loss, rtol=1e-3, atol=1e-9)
    single = central(20 * ETA, precision="float32", rtol=1e-4, atol=1e-6, **options)
    assert single.success
    predicted = [s.observations["mean_loss"] for s in (single, host)]
    np.testing.assert_allclose(*predicted, rtol=0.02)


def twins():
    """A padded lift, the same network without padding, and their task."""
    module = modules.mlp(8, depth=1, vector_input=False)
    weights = dict.fromkeys(module.edge_by_name, Gaussian())
    edges = BernoulliInDegree(2.0)
    padded = sample(module, copies=6, edges=edges, weights=weights, seed=0)
    kept = {name: padded.edges(name) for name in module.edge_by_name}
    task = tasks.student_teacher(modules.mlp(8, depth=1), samples=12, seed=1, copies=2)
    return padded, from_edges(module, copies=6, edges=kept), task


@pytest.mark.slow
@pytest.mark.parametrize("of_rmsprop", [False, True])
def test_padding_counts_nowhere(of_rmsprop):
    """From a start beyond the edge, so that something oscillates."""
    padded, bare, task = twins()
    sharpness = float(hessian_top(bare, task, 1).values[0])
    dynamics = CentralFlow(2.1 / sharpness)
    if of_rmsprop:
        dynamics = CentralRMSProp(2.1 / sharpness, 0.9, 1.0)
    solutions = [
        solve(model, task, 4.2 / sharpness, dynamics=dynamics, save=[1 / sharpness])
        for model in (padded, bare)
    ]
    first, second = solutions
    assert first.success
    assert first.stats.steps == second.stats.steps
    assert first.stats.gradients == second.stats.gradients
    np.testing.assert_allclose(first.loss, second.loss, rtol=1e-7)
    variances = [np.trace(s.observations["covariance"][1]) for s in solutions]
    assert variances[0] > 0
    assert variances[0] == pytest.approx(variances[1], rel=1e-4)


def test_the_mean_of_squares_starts_from_the_gradient_in_theta_whatever_the_rates():
    start, loss = jnp.array([1.0, -2.0]), lambda w: jnp.sum(jnp.array([1.0, 3.0]) * w**2)
    for rates in (None, 4.0):
        problem = make_problem(start, resolve_objective(loss), "float64", rates=rates)
        moment = CentralRMSProp(0.01, 0.9, 2.0, eigenvalues=1).start(problem)["second_moment"]
        np.testing.assert_allclose(moment, 0.9 * 2 + 0.1 * np.array([2.0, -12.0]) ** 2)

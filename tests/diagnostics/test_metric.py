"""Diagnostics of a flow with rates: kernels J D J^T, radii |D^(-1/2) u|, against dense algebra."""

import dense
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm

from flowlift import diagnostics, solve, studies, sweep, tasks
from flowlift.lift import Lift

RATES = {"w": 4.0, "v": 0.5, "c": 0.0}


def net(model, x):
    return jnp.tanh(x @ model["w"]) @ model["v"] + model["c"]


@pytest.fixture(scope="module")
def case():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, 2))
    task = tasks.supervised(x, np.sin(x[:, 0]), apply=net)
    model = {"w": rng.standard_normal((2, 4)), "v": rng.standard_normal(4), "c": np.zeros(1)}
    model = jax.tree.map(jnp.asarray, model)
    jacobian = jax.jacobian(lambda m: net(m, x) / np.sqrt(5))(model)
    blocks = [np.asarray(jacobian[k]).reshape(5, -1) for k in sorted(model)]
    d = np.concatenate([np.full(model[k].size, RATES[k]) for k in sorted(model)])
    residual = (net(model, x) - task.objective.targets) / np.sqrt(5)
    return model, task, np.concatenate(blocks, axis=1), d, np.asarray(residual)


@pytest.mark.slow  # compiles each quantity twice
def test_kernels_and_quotients_are_those_of_the_flow(case):
    model, task, j, d, r = case
    k = j * d @ j.T
    found = diagnostics.kernel_matrix(model, task, rates=RATES)
    np.testing.assert_allclose(found, k, atol=1e-12)
    top = diagnostics.kernel_top(model, task, 1, rates=RATES)
    np.testing.assert_allclose(top.values[0], np.linalg.eigvalsh(k)[-1], rtol=1e-8)
    seen = diagnostics.rayleigh(model, task, rates=RATES)
    np.testing.assert_allclose(seen.quotient, r @ k @ r / (r @ r), rtol=1e-10)
    # dL/dt = -4 R L, with L and |D^(1/2) grad L| as the flow records them.
    flow = solve(model, task, 1e-3, rates=RATES)
    np.testing.assert_allclose(flow.gradient_norm[0], seen.gradient_norm, rtol=1e-10)
    np.testing.assert_allclose(
        flow.gradient_norm[0] ** 2, 4 * seen.quotient * flow.loss[0], rtol=1e-10
    )


def test_the_shortest_move_is_measured_by_the_rates(case):
    model, task, j, d, r = case
    k, mu = j * d @ j.T, 0.05
    # Of min |r + J u|^2 + mu |D^(-1/2) u|^2: u = -D J^T (K + mu)^{-1} r.
    left = np.linalg.solve(k + mu * np.eye(5), r)
    u, eps = -d * (j.T @ left), mu**2 * (left @ left)
    length = np.sqrt(np.sum(u[d > 0] ** 2 / d[d > 0]))
    radius = diagnostics.tangent_radius(model, task, eps, rates=RATES)
    np.testing.assert_allclose(radius.kappa, length, rtol=1e-6)
    move = diagnostics.tangent_move(model, task, eps, rates=RATES, rtol=1e-12)
    np.testing.assert_allclose(move.step, u, atol=1e-6)
    np.testing.assert_allclose(move.length, length, rtol=1e-6)


@pytest.mark.slow  # The kernel's products, which are tested above, in one more program.
def test_the_linearised_flow_has_the_rates(case):
    model, task, j, d, r = case
    k = j * d @ j.T
    flow = diagnostics.linearised_flow(model, task, 3.0, rates=RATES)
    np.testing.assert_allclose(flow.residual(3.0), expm(-6.0 * k) @ r, atol=1e-7)
    start = np.concatenate([np.ravel(model[name]) for name in sorted(model)])
    # d theta/dt = -2 D J^T r(t), by quadrature through the eigenvectors of K.
    values, modes = np.linalg.eigh(k)
    weights = -np.expm1(-6.0 * values) / (2 * values)
    moved = -2 * d * (j.T @ (modes @ (weights * (modes.T @ r))))
    np.testing.assert_allclose(flow.displacement(3.0), moved, atol=1e-6)
    there = flow.model(3.0)
    found = np.concatenate([np.ravel(there[name]) for name in sorted(there)])
    np.testing.assert_allclose(found, start + moved, atol=1e-6)


def test_the_certificate_holds_along_a_flow_with_rates(case):
    model, task, *_ = case
    kappa = diagnostics.observer("tangent_radius", task, eps=1e-3, rates=RATES)
    times = [0.1, 0.5, 2.0, 5.0]
    flow = solve(model, task, 5.0, rates=RATES, save=times, observers={"kappa": kappa}, rtol=1e-9)
    found = diagnostics.certificate(flow, 1e-3, flow.observations["kappa"])
    assert found.holds, found.message
    # It is the metric that makes it hold: with all of theta's arc length it claims more.
    sharper = diagnostics.certificate(flow, 1e-3, flow.observations["kappa"], largest_rate=1.0)
    assert (sharper.bound <= found.bound).all()
    with pytest.raises(ValueError, match="largest_rate"):
        diagnostics.certificate(flow, 1e-3, flow.observations["kappa"], largest_rate=-1.0)


TEXT = """
name = "seen"
frozen = ["h1->h2"]
[module]
kind = "mlp"
inputs = 2
depth = 2
[lift]
sizes = [4]
edges = { kind = "complete" }
[task]
kind = "periodic"
harmonics = { 1 = 1.0 }
samples = 8
[flow]
horizon = 1.0
[rates]
"x->h1" = "n"
[observe.quantities]
quotient = { kind = "rayleigh" }
"""


@pytest.mark.slow  # A study for one number; what it calls is tested above.
def test_a_study_observes_with_its_rates(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(TEXT)
    study = studies.read_study(path)
    found = sweep.run_study(study, tmp_path / "results").isel(size=0, seed=0)
    lift = sweep.cell.model_maker(study)(4, 0)
    assert isinstance(lift, Lift)
    rates = {"x->h1": 4.0, "h1->h2": 0.0}
    task = sweep.cell.study_task(study)
    by_hand = diagnostics.rayleigh(lift, task, rates=rates)
    np.testing.assert_allclose(found.quotient.values[0], by_hand.quotient, rtol=1e-8)
    assert dense.jacobian(lift, task)[0].shape[1] == lift.n_parameters

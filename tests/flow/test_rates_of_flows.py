"""Rates: a plain flow in phi = D^(-1/2) theta, errors and records in theta."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad, solve_ivp

from flowlift import BernoulliInDegree, flow, modules, sample, tasks, trajectory
from flowlift.flow import Checkpoints, ForeignCheckpoint, Power, resume, solve
from flowlift.lift import Gaussian
from flowlift.solvers import BDF

X, Y = np.array([0.7, -1.2, 0.4]), 1.3
START = {"a": jnp.array([0.6]), "w": jnp.array([0.3, 0.5, -0.2])}
RATES = {"a": 3.0, "w": 0.25}


class Product(eqx.Module):
    """L = (F - y)^2 of F = a <w, x>."""

    def __call__(self, model):
        return jnp.sum((model["a"] * (model["w"] @ X) - Y) ** 2)


def by_scipy(end):
    """theta(t) = (a, w) by an integrator that knows nothing of phi."""

    def field(_, theta):
        a, w = theta[0], theta[1:]
        residual = 2 * (a * (w @ X) - Y)
        return np.append(-RATES["a"] * residual * (w @ X), -RATES["w"] * residual * a * X)

    start = np.concatenate([START["a"], START["w"]])
    found = solve_ivp(field, (0, end), start, "DOP853", dense_output=True, rtol=1e-12, atol=1e-13)
    return found.y[:, -1], found.sol, field


def theta_of(model):
    return np.concatenate([model["a"], model["w"]])


def conserved(model):
    """d_w a^2 - d_a |w|^2."""
    return RATES["w"] * float(model["a"] @ model["a"]) - RATES["a"] * float(model["w"] @ model["w"])


QUICK = [("tsit5", "host"), ("bdf", "host"), ("exprb", "host")]
SLOW = [("rkc2", "host"), ("dopri8", "host"), ("kvaerno5", "graph")]
SLOW += [(name, "graph") for name in ("tsit5", "bdf", "rkc2", "exprb")]
DRIVEN = QUICK + [pytest.param(*pair, marks=pytest.mark.slow) for pair in SLOW]


@pytest.mark.parametrize(("solver", "engine"), DRIVEN)
def test_the_flow_is_that_of_another_integrator_in_theta(solver, engine):
    found = solve(START, Product(), 2.0, solver=solver, engine=engine, rtol=1e-7, rates=RATES)
    theta, path, field = by_scipy(2.0)
    np.testing.assert_allclose(theta_of(found.model), theta, rtol=0, atol=2e-5)
    assert abs(conserved(found.model) - conserved(START)) < 2e-5
    # The integrals come along: the length of the path of theta, and what the loss has lost.
    length = quad(lambda t: np.linalg.norm(field(t, path(t))), 0, 2.0, epsrel=1e-9)[0]
    np.testing.assert_allclose(found.arc_length[-1], length, rtol=2e-5)
    np.testing.assert_allclose(found.energy, found.loss[0] - found.loss, rtol=0, atol=5e-5)
    start = theta_of(START)
    np.testing.assert_allclose(found.distance[-1], np.linalg.norm(theta - start), rtol=2e-5)


def test_the_gradient_norm_is_the_root_of_the_loss_rate():
    found = solve(START, Product(), 1.0, rates=RATES, rtol=1e-9)
    _, path, field = by_scipy(1.0)
    for t, norm in zip(found.times, found.gradient_norm, strict=True):
        moved = field(t, path(t))
        rates = np.repeat([RATES["a"], RATES["w"]], [1, 3])
        np.testing.assert_allclose(norm**2, np.sum(moved**2 / rates), rtol=1e-6)
    stop = flow.GradientNormBelow(float(found.gradient_norm[-1]) * 2)
    halted = solve(START, Product(), 10.0, rates=RATES, rtol=1e-9, stops=[stop])
    assert halted.gradient_norm[-1] <= stop.threshold
    assert halted.time < 1.0


@pytest.mark.parametrize("solver", ["tsit5", "bdf", pytest.param("rkc2", marks=pytest.mark.slow)])
def test_the_steps_are_those_of_a_model_scaled_by_hand(solver):
    # Powers of 4: their roots are exact. Without an absolute tolerance units play no part.
    roots = {"a": 2.0, "w": 0.5}
    by_hand = lambda phi: Product()(jax.tree.map(lambda root, v: root * v, roots, phi))
    options = {"solver": solver, "rtol": 1e-6, "atol": 0.0}
    phi = solve({name: v / roots[name] for name, v in START.items()}, by_hand, 2.0, **options)
    found = solve(START, Product(), 2.0, rates={"a": 4.0, "w": 0.25}, **options)
    assert (found.stats.steps, found.stats.rejected) == (phi.stats.steps, phi.stats.rejected)
    assert found.stats.cost == phi.stats.cost
    np.testing.assert_allclose(found.loss, phi.loss, rtol=1e-12)
    for name, root in roots.items():
        np.testing.assert_allclose(found.model[name], root * phi.model[name], rtol=1e-12)


@pytest.mark.parametrize(("solver", "engine"), DRIVEN)
def test_absolute_tolerances_are_those_of_theta(solver, engine):
    # L = sum theta_i^2 / (2 d_i) has d theta/dt = -theta whatever the rates: with all error
    # control by atol the steps must not know of them.
    counts = []
    for one in (1.0, 4.0**6):
        rates = {"u": one, "v": 1 / one}
        loss = lambda m, d=rates: sum(jnp.sum(m[k] ** 2) / (2 * d[k]) for k in m)
        start = {"u": jnp.array([0.5, 0.25]), "v": jnp.array([0.75])}
        options = {"solver": solver, "engine": engine, "rtol": 1e-12, "atol": 1e-5}
        found = solve(start, loss, 3.0, rates=rates, **options)
        counts.append((found.stats.steps, found.stats.rejected))
        np.testing.assert_allclose(found.model["u"], start["u"] * np.exp(-3.0), atol=2e-4)
    # The integrals, whose errors `exprb` controls too, do know.
    if solver != "exprb":
        assert counts[0] == counts[1]


def test_a_rate_of_zero_freezes_and_rates_of_one_change_no_bit():
    held = jax.tree.map(lambda _: True, START) | {"w": False}
    frozen = solve(START, Product(), 1.0, trainable=held, rtol=1e-6)
    found = solve(START, Product(), 1.0, rates={"w": 0}, rtol=1e-6)
    assert found.rates == {"a": 1.0, "w": 0.0}
    plain = solve(START, Product(), 1.0, rtol=1e-6)
    ones = solve(START, Product(), 1.0, rates={"*": 1, "a": 1.0}, rtol=1e-6)
    for one, other in ((frozen, found), (plain, ones)):
        np.testing.assert_array_equal(one.loss, other.loss)
        np.testing.assert_array_equal(one.model["a"], other.model["a"])
        assert one.stats.gradients == other.stats.gradients
    np.testing.assert_array_equal(found.model["w"], START["w"])
    assert plain.rates is None


def test_one_rate_for_all_is_another_unit_of_time():
    slow = solve(START, Product(), 4.0, rtol=1e-8, rates=0.25)
    fast = solve(START, Product(), 1.0, rtol=1e-8)
    np.testing.assert_allclose(theta_of(slow.model), theta_of(fast.model), rtol=1e-6)


def small_lift(precision="float64", seed=0):
    module = modules.mlp(3, depth=2)
    weights = dict.fromkeys(module.edge_by_name, Gaussian())
    return sample(
        module, copies=5, edges=BernoulliInDegree(2.0), weights=weights, seed=seed,
        precision=precision,
    )  # fmt: skip


def lift_task(precision="float64"):
    x = np.random.default_rng(0).standard_normal((6, 3)).astype(precision)
    return tasks.supervised(x, np.sin(x[:, 0] + x[:, 1]))


NAMED = {"h1->h2": "n**-0.5", "*": Power(0.5), "h2->*": lambda n: 2 / n}


def test_a_lift_takes_functions_of_its_size_and_its_padding_stays():
    lift, task = small_lift(), lift_task()
    found = solve(lift, task, 1.0, rates=NAMED, rtol=1e-8)
    rates = {name.rpartition(".")[2]: d for name, d in found.rates.items()}
    assert rates["h1->h2"] == 5**-0.5
    assert rates["h2->y"] == pytest.approx(0.4)
    assert rates["x->h1"] == 0.5
    np.testing.assert_allclose(found.energy, found.loss[0] - found.loss, rtol=0, atol=1e-6)
    for name, w in found.model.weights.items():
        dead = np.asarray(lift.fibres[name].live(jnp.ones_like(w))) == 0
        assert not np.any(np.asarray(w)[dead])


@pytest.mark.slow  # Five compilations more of what the row above holds for one.
@pytest.mark.parametrize("solver", ["tsit5", "bdf", "rkc2", "exprb", "dopri8"])
def test_every_solver_takes_a_padded_lift_with_rates(solver):
    lift, task = small_lift(), lift_task()
    pure = trajectory(lift, task, [1.0], rates=NAMED, rtol=1e-8)
    found = solve(lift, task, 1.0, rates=NAMED, rtol=1e-7, solver=solver)
    for name, w in found.model.weights.items():
        np.testing.assert_allclose(w, pure.models.weights[name][0], atol=1e-4)


@pytest.mark.slow  # Two more compilations; the coordinates' own tests hold complex leaves.
def test_single_precision_and_complex_leaves_flow_by_their_rate():
    model = {"z": jnp.array([1 + 2j]), "x": jnp.array([1.0])}
    loss = lambda m: 0.5 * jnp.sum(jnp.abs(m["z"]) ** 2) + 0.5 * jnp.sum(m["x"] ** 2)
    found = solve(model, loss, 1.0, rates={"z": 2.0}, precision="float32", rtol=1e-5)
    assert found.model["z"].dtype == jnp.complex64
    np.testing.assert_allclose(found.model["z"], (1 + 2j) * np.exp(-2.0), rtol=1e-4)
    np.testing.assert_allclose(found.model["x"], np.exp(-1.0), rtol=1e-4)
    moved = (1 - np.exp(-2.0)) * np.hypot(1, 2)
    np.testing.assert_allclose(found.distance[-1], np.hypot(moved, 1 - np.exp(-1)), rtol=1e-4)
    pure = trajectory(model, loss, [1.0], rates={"z": 2.0})
    np.testing.assert_allclose(pure.models["z"][0], (1 + 2j) * np.exp(-2.0), rtol=1e-5)


def test_a_flow_with_rates_goes_on_and_its_file_is_its_own(tmp_path):
    options = {"rates": RATES, "rtol": 1e-6, "solver": "bdf"}
    half = solve(START, Product(), 1.0, snapshots=[0.5], **options)
    whole = resume(half, 2.0)
    straight = solve(START, Product(), 2.0, **options)
    np.testing.assert_array_equal(theta_of(whole.model), theta_of(straight.model))
    np.testing.assert_array_equal(whole.arc_length[-1], straight.arc_length[-1])
    assert whole.rates == RATES
    middle = by_scipy(0.5)[0]
    np.testing.assert_allclose(theta_of(half.snapshots[0.5]), middle, atol=1e-4)
    kept = tmp_path / "flow.npz"
    solve(START, Product(), 1.0, checkpoints=Checkpoints(kept, 0.0), **options)
    again = solve(START, Product(), 1.0, checkpoints=Checkpoints(kept, 0.0), **options)
    np.testing.assert_array_equal(theta_of(again.model), theta_of(half.model))
    other = options | {"rates": {"a": 3.0}}
    with pytest.raises(ForeignCheckpoint):
        solve(START, Product(), 1.0, checkpoints=Checkpoints(kept, 0.0), **other)


@pytest.mark.parametrize(
    ("rates", "words"),
    [
        ({"a": -1.0}, "'a' is -1.0"),
        ({"a": np.nan}, "finite numbers of at least 0"),
        ({"a": np.inf}, "finite numbers of at least 0"),
        ({"a": True}, "finite numbers of at least 0"),
        ({"a": "m/2"}, "holds 'm/2'"),
        ({"a": "n"}, "no lift"),
        ({"b": 1.0}, "'b' names none of a, w"),
        ({"*": 0}, "leave a leaf that flows"),
        ({"a*": 1.0, "?": 2.0}, "one rate"),
        ({"a": 1e-310}, "hold numbers whose roots"),
        (-1, "'\\*' is -1"),
    ],
)
def test_what_is_no_rate_is_refused_in_a_sentence(rates, words):
    precision = "float32" if "roots" in words else "float64"
    with pytest.raises(ValueError, match=words) as refused:
        solve(START, Product(), 1.0, rates=rates, precision=precision)
    # Argument, rule, value; remedy.
    assert str(refused.value).startswith("Argument `rates` must ")
    assert str(refused.value).count("; ") == 1
    with pytest.raises(ValueError, match=words):
        trajectory(START, Product(), [1.0], rates=rates, precision=precision)


def test_tolerances_of_the_solver_itself_are_refused_with_rates():
    with pytest.raises(ValueError, match="leave its tolerances to `solve`"):
        solve(START, Product(), 1.0, rates=RATES, solver=BDF(rtol=1e-3, atol=1e-3))

"""The pure flow: against closed forms, finite differences, and `solve`."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowlift
from flowlift import solvers, tasks, trajectory

RATES, START = jnp.array([1.0, 3.0]), jnp.array([1.0, 2.0])
TIMES = [0.0, 0.5, 1.0]
HALF = diffrax.HalfSolver(diffrax.ImplicitEuler())


def quadratic(rates):
    """L = 1/2 sum a w^2: w(t) = w e^{-a t}, L(t) = 1/2 sum a w^2 e^{-2 a t}."""
    return lambda w: 0.5 * jnp.sum(rates.astype(w.dtype) * w**2)


def last_loss(w, rates, **options):
    return trajectory(w, quadratic(rates), TIMES, rtol=1e-8, atol=1e-10, **options).losses[-1]


@pytest.mark.parametrize(
    ("precision", "rtol"),
    # The same program in other numbers, compiled again.
    [("float64", 1e-9), pytest.param("float32", 1e-5, marks=pytest.mark.slow)],
)
def test_a_quadratic_flow_is_an_exponential(precision, rtol):
    end = trajectory(START, quadratic(RATES), TIMES, rtol=rtol, atol=rtol, precision=precision)
    t = np.asarray(TIMES)[:, None]
    exact = np.asarray(START) * np.exp(-t * np.asarray(RATES))
    assert end.success
    assert end.losses.dtype == end.models.dtype == precision
    np.testing.assert_allclose(end.models, exact, rtol=30 * rtol)
    np.testing.assert_allclose(end.losses, 0.5 * exact**2 @ np.asarray(RATES), rtol=60 * rtol)


@pytest.mark.slow  # compiles derivatives of a whole solve
def test_gradients_of_a_final_loss_by_weights_and_by_data():
    by_w, by_a = jax.grad(last_loss, (0, 1))(START, RATES)
    decay = np.exp(-2 * RATES)
    np.testing.assert_allclose(by_w, RATES * START * decay, rtol=1e-6)
    np.testing.assert_allclose(by_a, 0.5 * START**2 * decay * (1 - 2 * RATES), rtol=1e-6)


@pytest.mark.slow
def test_the_gradient_by_time_is_the_rate_of_the_loss():
    def at(t):
        return trajectory(START, quadratic(RATES), t[None], rtol=1e-8, atol=1e-10).losses[-1]

    # dL/dt = -|grad L|^2.
    by_t = jax.grad(at)(jnp.asarray(1.0))
    exact = -np.sum((RATES * START) ** 2 * np.exp(-2 * RATES))
    assert float(by_t) == pytest.approx(float(exact), rel=1e-5)


@pytest.mark.slow
def test_jit_and_vmap_change_nothing_and_members_are_their_own():
    starts = jnp.stack([START, 2 * START, -START])
    each = jnp.stack([last_loss(w, RATES) for w in starts])
    np.testing.assert_allclose(jax.jit(last_loss)(START, RATES), each[0], rtol=1e-12)
    batched = jax.jit(jax.vmap(last_loss, (0, None)))(starts, RATES)
    np.testing.assert_allclose(batched, each, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_an_equinox_model_against_finite_differences_and_against_solve(precision):
    x = np.random.default_rng(0).standard_normal((6, 3))
    model = eqx.nn.MLP(3, "scalar", 4, 1, activation=jnp.tanh, key=jax.random.key(0))
    tight = precision == "float64"
    tolerances = {"rtol": 1e-9, "atol": 1e-11} if tight else {"rtol": 1e-5, "atol": 1e-7}

    @eqx.filter_jit
    def end(at):
        model, x = at
        task = tasks.supervised(x, jnp.sin(x[:, 0]))
        settings = {"precision": precision} | tolerances
        return trajectory(model, task, jnp.array([0.5, 2.0]), **settings).losses[-1]

    at = (model, jnp.asarray(x))
    gradient = eqx.filter_grad(end)(at)
    assert isinstance(gradient[0], eqx.nn.MLP)
    rng, h = np.random.default_rng(1), 1e-4 if tight else 1e-2
    for part in (0, 1):
        along = jax.tree.map(
            lambda g: jnp.asarray(rng.standard_normal(g.shape)), eqx.filter(gradient, eqx.is_array)
        )
        along = eqx.tree_at(lambda p, i=1 - part: p[i], along, replace_fn=_zero)
        both = [
            end(eqx.apply_updates(at, jax.tree.map(lambda a, s=s: s * h * a, along)))
            for s in (1, -1)
        ]
        slope = float(
            sum(
                jnp.vdot(a, g)
                for a, g in zip(*map(jax.tree.leaves, (along, gradient)), strict=True)
            )
        )
        assert float(both[0] - both[1]) / (2 * h) == pytest.approx(
            slope, rel=1e-5 if tight else 2e-2
        )
    task = tasks.supervised(x, np.sin(x[:, 0]))
    direct = flowlift.solve(model, task, 2.0, solver="tsit5", precision=precision, **tolerances)
    assert float(end(at)) == pytest.approx(float(direct.loss[-1]), rel=1e-7 if tight else 1e-3)


def _zero(tree):
    return jax.tree.map(jnp.zeros_like, tree)


def test_what_is_not_reached_is_marked():
    short = trajectory(START, quadratic(RATES), TIMES, max_steps=3)
    assert short.result == diffrax.RESULTS.max_steps_reached
    assert not short.success
    assert np.isfinite(short.losses[0])
    assert np.isnan(short.losses[-1])
    assert np.isnan(short.models[-1]).all()


@pytest.mark.slow
def test_what_is_not_reached_has_no_gradient_and_stops_no_other_member():
    for gradient in jax.grad(last_loss, (0, 1))(START, RATES, max_steps=3):
        assert np.isnan(gradient).all()
    # One member that fails is no other's fault; here its loss is no number from the start.
    both = jax.vmap(lambda w: trajectory(w, lambda w: jnp.sum(jnp.sqrt(w)), [0.1], max_steps=64))(
        jnp.array([[4.0, 9.0], [4.0, -9.0]])
    )
    assert both.success.tolist() == [True, False]


@pytest.mark.slow
def test_other_solvers_and_adjoints_of_diffrax_agree():
    reference = jax.grad(last_loss)(START, RATES)
    for options in ({"solver": diffrax.Dopri5()}, {"adjoint": diffrax.DirectAdjoint()}):
        options |= {"max_steps": 64}
        np.testing.assert_allclose(
            jax.grad(last_loss)(START, RATES, **options), reference, rtol=1e-5
        )
    tangent = jax.jvp(
        lambda w: last_loss(w, RATES, adjoint=diffrax.ForwardMode()), (START,), (START,)
    )
    np.testing.assert_allclose(tangent[1], START @ reference, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"times": [1.0, 0.5]}, "`times` must hold increasing finite times"),
        ({"times": []}, "`times` must hold increasing finite times"),
        ({"times": [0.0]}, "`times` must hold increasing finite times"),
        ({"solver": "bdf"}, "but is 'bdf'; other solvers cannot be differentiated"),
        ({"solver": solvers.BDF()}, "run under flowlift.solve"),
        ({"rtol": 0.0}, "`rtol` must be a finite number"),
        ({"max_steps": 0}, "`max_steps` must be an integer"),
        ({"solver": HALF}, "run under flowlift.solve"),
        ({"model": jnp.arange(3)}, "must have trainable floating-point arrays"),
    ],
)
def test_bad_arguments_get_one_sentence(arguments, message):
    arguments = {"model": START, "times": TIMES} | arguments
    with pytest.raises(ValueError, match=message) as error:
        trajectory(arguments.pop("model"), quadratic(RATES), arguments.pop("times"), **arguments)
    assert str(error.value).count("\n") == 0

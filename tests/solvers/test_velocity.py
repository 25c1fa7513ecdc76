"""How an implicit step of a flow of second order loses its velocity, in the graph."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowlift.solvers.equation import Equation
from flowlift.solvers.field import VectorField
from flowlift.solvers.judging import DAMPED, RESOLVED, steady
from flowlift.solvers.parts import Layout, Momentum

SIZE, FRICTION = 5, 0.3
MOMENTUM = Momentum(lambda y: y[2][0], lambda y, args: args["friction"] / y[2][1])
RNG = np.random.default_rng(2)
HESSIAN = (lambda a: a @ a.T)(RNG.standard_normal((SIZE, SIZE)))


def rates(t, y, args):
    """A quadratic in a ball of friction g / clock, with two integrals."""
    theta, _, (velocity, clock) = y
    force = -args["hessian"] @ theta
    integrals = jnp.stack([velocity @ velocity, force @ velocity])
    return velocity, integrals, (force - args["friction"] / clock * velocity, jnp.ones_like(clock))


def field_and_vector(dtype):
    part = lambda *shape: jnp.asarray(RNG.standard_normal(shape), dtype)
    state = (part(SIZE), part(2), (part(SIZE), jnp.asarray(2.0, dtype)))
    args = {"hessian": jnp.asarray(HESSIAN, dtype), "friction": jnp.asarray(FRICTION, dtype)}
    layout = Layout.of(lambda y: y[0], state, MOMENTUM)
    zero, one = jnp.zeros((), dtype), jnp.ones((), dtype)
    field = VectorField.over(zero, one, layout, diffrax.ODETerm(rates), args)
    return field, layout, state


# Products and equations outside of a program compile operation by operation.
@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_theta_and_velocity_come_first_and_the_products_are_those_of_the_force(dtype):
    field, layout, state = field_and_vector(dtype)
    vector = layout.ravel(state)
    expected = np.concatenate([state[0], state[2][0], state[1], [2.0]])
    np.testing.assert_array_equal(vector, expected)
    for back, part in zip(
        jax.tree.leaves(layout.state(vector)), jax.tree.leaves(state), strict=True
    ):
        np.testing.assert_array_equal(back, part)
    matrix = jax.vmap(lambda v: field.product(vector, v))(jnp.eye(SIZE, dtype=dtype))
    np.testing.assert_allclose(matrix, HESSIAN, rtol=1e-5, atol=1e-5)
    assert matrix.dtype == vector.dtype == dtype
    assert field.friction(vector) == pytest.approx(FRICTION / 2)


@pytest.mark.slow  # as above
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e2])
def test_what_solves_the_equation_of_theta_solves_that_of_both(dtype, scale):
    field, layout, state = field_and_vector(dtype)
    prediction = layout.ravel(state)
    psi = jnp.asarray(RNG.standard_normal(prediction.size), dtype)
    one = jnp.ones((), dtype)
    k = scale * one
    # The prediction of a clock is right.
    psi = psi.at[-1].set(k)
    whole = Equation(prediction, psi, k, jnp.ones(SIZE, dtype), one, one, one, one)
    reduced = whole.without_velocity(field.friction(prediction))
    # d = c F(p + d) - psi', with a matrix that is symmetric and positive.
    matrix = np.eye(SIZE) + float(reduced.c) * HESSIAN
    start = reduced.whole(jnp.zeros(SIZE, dtype), jnp.zeros_like(prediction))
    _, target = reduced.asked(prediction + start, field.of(prediction + start))
    d = np.linalg.solve(matrix, np.asarray(target[:SIZE], float))
    correction = reduced.whole(jnp.asarray(d, dtype), target)
    # The doubled equation, which knows nothing of the elimination; integrals follow afterwards.
    doubled = k * field.of(prediction + correction) - psi
    close = {"float64": 1e-12, "float32": 2e-5}[dtype] * max(scale, 1.0) * 10
    coupled = slice(2 * SIZE)
    np.testing.assert_allclose(correction[coupled], doubled[coupled], rtol=close, atol=close)
    assert correction[-1] == pytest.approx(0.0, abs=close)
    assert correction.dtype == dtype


def test_orders_above_two_are_for_what_is_resolved_or_damped():
    order = lambda *numbers: int(steady(jnp.asarray(5), jnp.asarray(5), *map(jnp.asarray, numbers)))
    assert order(1.0, 0.9 * RESOLVED, 0.0) == 5
    # One order a step at the most.
    assert order(1.0, 1.1 * RESOLVED, 0.0) == 4
    assert order(100.0, 1.0, 2.1 * DAMPED[5]) == 5
    least = lambda damping: int(
        steady(jnp.asarray(3), jnp.asarray(2), jnp.asarray(1e4), jnp.asarray(1.0), 2 * damping)
    )
    assert least(jnp.asarray(0.9 * DAMPED[3])) == 2
    assert least(jnp.asarray(1.1 * DAMPED[3])) == 3

"""A call without its run-time checks computes the same, and does not call back into Python."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowlift.flow.unchecked import unchecked


def checked(x, *, scale):
    """2 scale x^3, where x is positive: checked twice, once in a program within this one."""
    x = eqx.error_if(x, x < 0, "x must be positive", on_error="raise")

    @jax.jit
    def inner(x):
        return eqx.error_if(x, x > 1e6, "x must be small", on_error="raise") ** 3

    return {"value": scale * jax.lax.cond(x > 5, lambda: 2 * inner(x), lambda: x * x), "name": "y"}


def calls_back(function, *args) -> bool:
    return "callback" in str(jax.make_jaxpr(function)(*args))


def test_a_check_at_the_top_is_taken_out_and_nothing_else():
    silent = lambda x: unchecked(checked)(x, scale=1.0)["value"]
    loud = lambda x: checked(x, scale=1.0)["value"]
    at_top = lambda x: eqx.error_if(x, x < 0, "no", on_error="raise") ** 2
    x = jnp.asarray(3.0)
    assert calls_back(at_top, x)
    assert not calls_back(unchecked(at_top), x)
    assert float(jax.jit(silent)(x)) == float(loud(x)) == 9.0
    assert float(jax.jit(silent)(jnp.asarray(10.0))) == 2000.0
    assert float(unchecked(at_top)(jnp.asarray(-3.0))) == 9.0
    assert unchecked(checked)(x, scale=2.0)["name"] == "y"


def test_a_check_in_a_loop_stays():
    def loop(x):
        step = lambda _, x: eqx.error_if(x, x > 100, "too large", on_error="raise") * 2
        return jax.lax.fori_loop(0, 3, step, x)

    assert calls_back(unchecked(loop), jnp.asarray(1.0))
    assert float(unchecked(loop)(jnp.asarray(1.0))) == 8.0
    with pytest.raises(Exception, match="too large"):
        eqx.filter_jit(unchecked(loop))(jnp.asarray(90.0)).block_until_ready()


def test_it_can_be_differentiated_and_batched():
    cube = unchecked(lambda x: eqx.error_if(x, x < 0, "no", on_error="raise") ** 3)
    x = jnp.asarray([0.5, 1.0, 2.0])
    np.testing.assert_allclose(jax.vmap(jax.grad(cube))(x), 3 * x**2)
    np.testing.assert_allclose(jax.jit(jax.vmap(cube))(x), x**3)
    tangent = jax.jvp(cube, (x,), (jnp.ones(3),))[1]
    np.testing.assert_allclose(tangent, 3 * x**2)

"""On a GPU every method means what it means on the CPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowlift.kernels import Fibre, fibre_sum

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def case():
    rng = np.random.default_rng(0)
    t, s = np.nonzero(rng.random((300, 200)) < 0.03)
    fibre, _ = Fibre.build(s, t, 200, 300, capacity=s.size + 40)
    return fibre, rng.standard_normal(fibre.capacity), rng.standard_normal((200, 33))


def derivatives(fibre, w, y, method):
    f = lambda w, y: jnp.sum(jnp.tanh(fibre_sum(fibre, w, y, method=method)) ** 2)
    gradient = jax.grad(f, argnums=(0, 1))
    return jax.jit(lambda: (f(w, y), gradient(w, y), jax.jvp(gradient, (w, y), (w, y))[1]))()


@pytest.mark.parametrize("method", ["auto", "padded", "csr", "dense", "naive"])
def test_methods_agree_with_the_cpu(case, method):
    got = derivatives(*jax.device_put(case, jax.devices("gpu")[0]), method)
    with jax.default_device(jax.devices("cpu")[0]):
        want = derivatives(*jax.device_put(case, jax.devices("cpu")[0]), "naive")
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)

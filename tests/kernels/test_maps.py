import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowlift.kernels import Fibre, fibre_sum_map, fibre_sum_matrix

N_U, N_V, B, M, D = 6, 5, 3, 2, 4


@pytest.fixture(autouse=True)
def _x64():
    with jax.enable_x64(True):
        yield


def make(kind):
    rng = np.random.default_rng(0)
    n_u = 1 if kind.startswith("one") else N_U
    if kind == "complete":
        fibre = Fibre.complete(n_u, N_V)
    elif kind == "regular":
        s = np.concatenate([rng.choice(n_u, 2, replace=False) for _ in range(N_V)])
        fibre, _ = Fibre.build(s, np.repeat(np.arange(N_V), 2), n_u, N_V, regular=2)
    elif kind == "one source, all":
        fibre, _ = Fibre.build(np.zeros(N_V, int), np.arange(N_V), 1, N_V, regular=1)
    elif kind == "one source, some":
        fibre, _ = Fibre.build([0, 0], [1, 3], 1, N_V, capacity=4)
    else:
        t, s = np.nonzero(rng.random((N_V, n_u)) < 0.4)
        fibre, _ = Fibre.build(s, t, n_u, N_V, capacity=17)
    w = jnp.asarray(rng.normal(size=(fibre.capacity, M, D)))
    return fibre, w, jnp.asarray(rng.normal(size=(n_u, B, D)))


KINDS = ["ragged", "regular", "complete", "one source, all", "one source, some"]


def curved(w, y):
    """An edge map that is linear in neither argument."""
    return jnp.tanh(y) @ jnp.sin(w).T


def linear(w, y):
    return y @ w.T


def loop(fibre, edge_fn, w, y):
    s, t = fibre.edges()
    rows = [jnp.zeros((B, M))] * fibre.n_targets
    for e in range(s.size):
        rows[t[e]] = rows[t[e]] + edge_fn(w[e], y[s[e]])
    return jnp.stack(rows)


def everything(sum_, w, y):
    f = lambda w, y: jnp.sum(jnp.sin(sum_(w, y)))
    g = jax.grad(f, argnums=(0, 1))
    return sum_(w, y), g(w, y), jax.jvp(g, (w, y), (jnp.cos(w), jnp.cos(y)))[1]


@functools.cache
def everything_of_the_loop(kind):
    """For all sizes of blocks: compiled once."""
    fibre, w, y = make(kind)
    return jax.jit(lambda w, y: everything(lambda w, y: loop(fibre, curved, w, y), w, y))(w, y)


@pytest.mark.parametrize("block_bytes", [1, 1 << 20])
@pytest.mark.parametrize("kind", KINDS)
def test_value_and_derivatives_equal_the_loop(kind, block_bytes):
    fibre, w, y = make(kind)
    blocks = lambda w, y: fibre_sum_map(fibre, curved, w, y, block_bytes=block_bytes)
    got, want = jax.jit(lambda w, y: everything(blocks, w, y))(w, y), everything_of_the_loop(kind)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11)
    assert not np.any(got[1][0][int(fibre.count) :])


@pytest.mark.parametrize("kind", KINDS)
def test_matrix_edges_equal_the_loop(kind):
    fibre, w, y = make(kind)
    f = lambda sum_: lambda w, y: jnp.sum(jnp.sin(sum_(fibre, w, y)))
    slow = f(lambda fibre, w, y: loop(fibre, linear, w, y))
    got = jax.jit(jax.value_and_grad(f(fibre_sum_matrix), argnums=(0, 1)))(w, y)
    want = jax.jit(jax.value_and_grad(slow, argnums=(0, 1)))(w, y)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11)

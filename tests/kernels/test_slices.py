"""Rows in slices: every edge has one slot, whatever the degrees, and shapes follow from sizes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowlift import BernoulliInDegree, FixedInDegree, modules, sample
from flowlift.kernels import Fibre, fibre_sum
from flowlift.kernels import products as sliced_products
from flowlift.lift import BernoulliOutDegree


def poisson(n_u, n_v, mean, seed):
    rng = np.random.default_rng(seed)
    t, s = np.nonzero(rng.random((n_v, n_u)) < mean / n_u)
    return Fibre.build(s, t, n_u, n_v, capacity=int(1.2 * mean * n_v) + 60)[0]


def hubs(n_u, n_v, seed):
    """Few sources with very many edges, many with none: no uniform law draws this."""
    rng = np.random.default_rng(seed)
    likely = np.minimum(1, 8 / (1 + np.arange(n_u)) ** 1.2)
    t, s = np.nonzero(rng.random((n_v, n_u)) < likely)
    return Fibre.build(s, t, n_u, n_v)[0]


FIBRES = {
    "poisson": lambda: poisson(300, 200, 5, 0),
    "sparse": lambda: poisson(300, 500, 0.5, 1),
    "hubs": lambda: hubs(200, 300, 2),
    "hub targets": lambda: Fibre.build(*reversed(hubs(200, 300, 3).edges()), 300, 200)[0],
    "two rows": lambda: Fibre.build([0, 1, 2, 0], [0, 0, 1, 1], 3, 2)[0],
}


@functools.cache
def fibre_of(name):
    return FIBRES[name]()


@pytest.mark.parametrize("name", FIBRES)
def test_every_edge_has_exactly_one_slot(name):
    fibre = fibre_of(name)
    s, t = fibre.edges()
    ends = {"by_target": (t, s), "by_source": (s, t)}
    for side, (row_of, column_of) in ends.items():
        slices = getattr(fibre, side)
        order = np.asarray(slices.order)
        np.testing.assert_array_equal(order[np.asarray(slices.position)], np.arange(order.size))
        head_rows = np.repeat(order[: slices.n_head], np.diff(slices.head_indptr))
        real = np.asarray(slices.head_edges) < fibre.capacity
        found = [np.asarray(slices.head_edges)[real]]
        np.testing.assert_array_equal(row_of[found[0]], head_rows)
        np.testing.assert_array_equal(np.asarray(slices.head_columns)[real], column_of[found[0]])
        start = slices.n_head
        for columns, edges in zip(slices.columns, slices.edges, strict=True):
            columns, edges = np.asarray(columns), np.asarray(edges)
            i, j = np.nonzero(edges < fibre.capacity)
            np.testing.assert_array_equal(row_of[edges[i, j]], order[start + i])
            np.testing.assert_array_equal(columns[i, j], column_of[edges[i, j]])
            found.append(edges[i, j])
            start += len(columns)
        assert start == order.size
        np.testing.assert_array_equal(np.sort(np.concatenate(found)), np.arange(s.size))
        flat = [slices.head_edges, *(e.reshape(-1) for e in slices.edges)]
        everything = np.concatenate([np.asarray(x) for x in flat])
        np.testing.assert_array_equal(everything[slices.places[: s.size]], np.arange(s.size))


# One width for each fibre in each run, each a program of its own; one column and several are cut
# in two ways.
WIDTHS = {"poisson": 40, "sparse": 1, "hubs": 1, "hub targets": 40, "two rows": 1}
CUTS = [(name, n) for n in (1, 40, 130, 301) for name in FIBRES]
CUTS = [c if WIDTHS[c[0]] == c[1] else pytest.param(*c, marks=pytest.mark.slow) for c in CUTS]


@pytest.mark.parametrize(("name", "columns"), CUTS)
def test_all_products_of_skewed_fibres(name, columns):
    """Value and both derivatives against a dense matrix, for every way of cutting columns."""
    check_all_products(fibre_of(name), columns)


# A second of compiling for each.
@pytest.mark.slow
@pytest.mark.parametrize("name", FIBRES)
def test_all_products_as_of_large_fibres(name, monkeypatch):
    """Weights are brought into slots before the sum, and edge products summed in a few lanes."""
    monkeypatch.setattr(sliced_products, "_WORTH_A_BRANCH", 0)
    check_all_products(fibre_of(name), 70)


def check_all_products(fibre, columns):
    rng = np.random.default_rng(3)
    s, t = fibre.edges()
    w, y, z = (
        rng.standard_normal(shape)
        for shape in (fibre.capacity, (fibre.n_sources, columns), (fibre.n_targets, columns))
    )
    dense = np.zeros((fibre.n_targets, fibre.n_sources))
    dense[t, s] = w[: s.size]

    @jax.jit
    def products(w, y, z):
        value, back = jax.vjp(lambda w, y: fibre_sum(fibre, w, y, method="padded"), w, y)
        return value, back(z)

    value, (dw, dy) = products(w, y, z)
    np.testing.assert_allclose(value, dense @ y, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(dy, dense.T @ z, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(dw[: s.size], np.sum(z[t] * y[s], 1), rtol=1e-11, atol=1e-11)
    assert not dw[s.size :].any()


def test_few_slots_are_empty():
    """Sorted degrees waste little: at most a third beyond the capacity of a Poisson law."""
    fibre = poisson(2048, 2048, 8, 0)
    for slices in (fibre.by_target, fibre.by_source):
        slots = slices.head_edges.size + sum(e.size for e in slices.edges)
        assert slots <= 1.35 * fibre.capacity


def test_rows_too_wide_are_left_to_the_compressed_product():
    fibre = poisson(2000, 8, 900, 0)
    assert fibre.by_target is None
    assert fibre.by_source is not None
    y, w = jnp.ones((2000, 3)), jnp.ones(fibre.capacity)
    got = fibre_sum(fibre, w, y, method="padded")
    np.testing.assert_array_equal(got[:, 0], np.diff(fibre.indptr))


@pytest.mark.parametrize("law", [BernoulliInDegree(6), BernoulliOutDegree(6), FixedInDegree(6)])
def test_one_trace_for_each_size_and_none_for_each_seed(law):
    traces = []

    @jax.jit
    def gradient(arrays, x):
        lift = jax.tree.unflatten(tree, arrays)
        traces.append(1)
        return lift.batch(x).sum()

    module = modules.mlp(3, depth=2, vector_input=False)
    laws = {"*": law, "x->h1": FixedInDegree(2)}
    for copies in (100, 160):
        for seed in range(4):
            lift = sample(module, copies=copies, edges=laws, seed=seed, method="padded")
            arrays, tree = jax.tree.flatten(lift)
            gradient(arrays, jnp.ones((4, 3)))
    assert len(traces) == 2

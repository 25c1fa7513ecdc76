"""A batch of fibres is one fibre with more copies: every product, derivative and padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowlift.kernels import Fibre
from flowlift.kernels.sums import fibre_sum
from flowlift.kernels.trilinear import tapped_push

MEMBERS = 3
SHAPES = {"narrow": (40, 30), "wide": (7, 100), "one source": (1, 20)}


def drawn(rng, shape, regular, **given):
    sources, targets = shape
    if regular:
        degree = min(3, sources)
        rows = [rng.choice(sources, degree, replace=False) for _ in range(targets)]
        names = np.repeat(np.arange(targets), degree)
        return Fibre.build(np.concatenate(rows), names, sources, targets, regular=degree, **given)[
            0
        ]
    count = rng.integers(sources * targets // 4, sources * targets // 3)
    edges = rng.choice(sources * targets, count, replace=False)
    capacity = 64 * (sources * targets // 128 + 1)
    return Fibre.build(edges % sources, edges // sources, sources, targets, capacity, **given)[0]


def stacked(*trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def assert_members_alone(function, axes, *arguments):
    many = jax.vmap(function, axes)(*arguments)
    for k in range(MEMBERS):
        of = lambda tree, axis, k=k: tree if axis is None else jax.tree.map(lambda x: x[k], tree)
        one = function(*(of(tree, axis) for tree, axis in zip(arguments, axes, strict=True)))
        for given, wanted in zip(jax.tree.leaves(many), jax.tree.leaves(one), strict=True):
            np.testing.assert_allclose(given[k], wanted, rtol=1e-12, atol=1e-12)


CASES = [
    (m, r, s) for m in ("padded", "csr", "dense", "naive") for r in (True, False) for s in SHAPES
]
# Rows in slices take ten seconds to compile to second derivatives; the rest are siblings.
QUICK = [("csr", False, "narrow")]


@pytest.mark.slow  # compiles each member's program
@pytest.mark.parametrize(
    ("method", "regular", "shape"),
    [case if case in QUICK else pytest.param(*case, marks=pytest.mark.slow) for case in CASES],
)
def test_members_side_by_side_are_members_alone(method, regular, shape):
    rng = np.random.default_rng(0)
    fibres = stacked(*(drawn(rng, SHAPES[shape], regular) for _ in range(MEMBERS)))
    w = jnp.asarray(rng.normal(size=fibres.sources.shape))
    y = jnp.asarray(rng.normal(size=(MEMBERS, fibres.n_sources, 6)))

    def total(fibre, w, y):
        return jnp.sum(jnp.sin(fibre_sum(fibre, w, y, method=method)))

    def product(fibre, w, y):
        gradient = lambda w, y: jax.grad(total, (1, 2))(fibre, w, y)
        return jax.jvp(gradient, (w, y), (jnp.cos(w), jnp.cos(y)))

    assert_members_alone(product, (0, 0, 0), fibres, w, y)
    assert_members_alone(total, (0, None, 0), fibres, w[0], y)
    assert_members_alone(total, (0, 0, None), fibres, w, y[0])
    one = jax.tree.map(lambda leaf: leaf[0], fibres)
    assert_members_alone(total, (None, 0, 0), one, w, y)


@pytest.mark.slow  # Only the shapes of weights differ from those above.
@pytest.mark.parametrize("method", ["padded", "dense"])
def test_members_whose_edges_carry_kernels(method):
    rng = np.random.default_rng(1)
    build = lambda: drawn(rng, (40, 30), True, compressed=False)
    fibres = stacked(*(build() for _ in range(MEMBERS)))
    w = jnp.asarray(rng.normal(size=(MEMBERS, fibres.sources.shape[1], 2, 3, 2)))
    y = jnp.asarray(rng.normal(size=(MEMBERS, 40, 3, 9)))

    def gradient(fibre, w, y):
        push = lambda w, y: jnp.sum(jnp.sin(tapped_push(fibre, w, y, (0, 2), method)))
        return jax.grad(push, (0, 1))(w, y)

    assert_members_alone(gradient, (0, 0, 0), fibres, w, y)


@pytest.mark.slow  # lowers batches of each method
def test_nothing_runs_member_by_member():
    """No loop over members: the same number of loops for three members as for one."""
    rng = np.random.default_rng(2)
    fibres = stacked(*(drawn(rng, (40, 30), False) for _ in range(MEMBERS)))
    w, y = jnp.ones(fibres.sources.shape), jnp.ones((MEMBERS, 40, 6))

    def loops(function, *arguments):
        text = jax.jit(function).lower(*arguments).as_text()
        return text.count("stablehlo.while")

    push = lambda fibre, w, y: fibre_sum(fibre, w, y, method="padded")
    one = jax.tree.map(lambda leaf: leaf[0], (fibres, w, y))
    assert loops(jax.vmap(push), fibres, w, y) == loops(push, *one)

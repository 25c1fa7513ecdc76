import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowlift.kernels import Fibre


@pytest.mark.slow  # many random graphs
@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1), st.integers(0, 5))
def test_build_sorts_transposes_and_pads(n_u, n_v, seed, extra):
    rng = np.random.default_rng(seed)
    t, s = np.nonzero(rng.random((n_v, n_u)) < 0.5)
    shuffled = rng.permutation(s.size)
    s, t = s[shuffled], t[shuffled]
    fibre, order = Fibre.build(s, t, n_u, n_v, capacity=s.size + extra)
    assert fibre.capacity == s.size + extra
    real = slice(0, s.size)
    got_s, got_t = fibre.edges()
    np.testing.assert_array_equal(got_s, s[order])
    np.testing.assert_array_equal(got_t, t[order])
    assert np.all(np.diff(got_t.astype(int) * n_u + got_s) > 0)
    np.testing.assert_array_equal(np.diff(fibre.indptr), np.bincount(t, minlength=n_v))
    perm = np.asarray(fibre.t_perm)
    assert sorted(perm[real]) == list(range(s.size))
    assert np.all(np.diff(got_s[perm[real]].astype(int) * n_v + got_t[perm[real]]) > 0)
    np.testing.assert_array_equal(fibre.t_targets[real], got_t[perm[real]])
    np.testing.assert_array_equal(np.diff(fibre.t_indptr), np.bincount(s, minlength=n_u))
    assert all(x.dtype == np.int32 for x in jax.tree.leaves(fibre))


def test_many_sources_are_transposed_by_both_digits():
    n = 200_000
    s = np.random.default_rng(0).integers(0, n, 5000)
    fibre, _ = Fibre.build(s, np.arange(5000), n, 5000)
    assert np.all(np.diff(np.asarray(fibre.sources)[fibre.t_perm].astype(int)) >= 0)


def test_complete_has_no_index_arrays():
    fibre = Fibre.complete(3, 2)
    assert fibre.capacity == 6
    assert sum(x.size for x in jax.tree.leaves(fibre)) == 1
    s, t = fibre.edges()
    np.testing.assert_array_equal(s, [0, 1, 2, 0, 1, 2])
    np.testing.assert_array_equal(t, [0, 0, 0, 1, 1, 1])


def test_shape_alone_decides_the_structure_of_the_tree():
    a, _ = Fibre.build([0, 1], [0, 1], 3, 2, capacity=5)
    b, _ = Fibre.build([2, 1, 0], [0, 1, 1], 3, 2, capacity=5)
    assert jax.tree.structure(a) == jax.tree.structure(b)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"sources": [0, 3], "targets": [0, 1]}, "`sources` must lie in 0..2, but spans 0..3"),
        ({"sources": [0, 1], "targets": [-1, 1]}, "`targets` must lie in 0..1, but spans -1..1"),
        ({"sources": [1, 0, 1], "targets": [0, 1, 0]}, "the edge 1 -> 0 occurs twice"),
        ({"sources": [0, 1], "targets": [0]}, "vectors of one length"),
        ({"sources": [0.5], "targets": [0]}, "must hold integers"),
        ({"sources": [0, 1], "targets": [0, 1], "capacity": 1}, "`capacity` must be at least"),
        ({"sources": [0, 1], "targets": [0, 0], "regular": 1}, "in-degrees 0..2"),
        ({"sources": [0], "targets": [0], "n_sources": 0}, "`n_sources` must be at least 1"),
    ],
)
def test_bad_edges_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        Fibre.build(**{"n_sources": 3, "n_targets": 2, **arguments})


def test_live_zeroes_padding_only():
    fibre, _ = Fibre.build([0, 1], [0, 1], 3, 2, capacity=4)
    np.testing.assert_array_equal(fibre.live(jnp.ones((4, 2)))[:, 0], [1, 1, 0, 0])

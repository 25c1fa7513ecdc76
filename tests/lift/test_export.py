"""Lifts as arrays, files and sparse matrices, and back."""

import functools
import sys

import equinox as eqx
import jax
import numpy as np
import pytest
import safetensors.numpy

from flowlift import modules
from flowlift.lift import (
    BernoulliInDegree,
    Complete,
    FixedInDegree,
    Gaussian,
    from_arrays,
    from_edges,
    load_safetensors,
    sample,
    save_safetensors,
    to_arrays,
    to_scipy,
)
from flowlift.modules import AbstractEdgeMap, Edge, Hidden, Input, Output, PerceptronModule, Scalar


def draw(module, copies=5, precision="float64", **laws):
    edges = {"*": BernoulliInDegree(2), **laws}
    weights = dict.fromkeys(module.edge_by_name, Gaussian())
    return sample(module, copies=copies, edges=edges, weights=weights, seed=1, precision=precision)


MAKERS = {
    "mlp": lambda: draw(modules.mlp(3, 2)),
    "cnn": lambda: draw(
        modules.cnn2d(4, 6, 2, 3, stride=2, head="flatten", padding="valid", kernel=2)
    ),
    "transformer": lambda: draw(modules.transformer(3, 2, 2, blocks=1, width=2, head_channels=3)),
    "rnn": lambda: draw(modules.unrolled_rnn(2, 3, gated=True), **{"h1->h2": Complete()}),
}


@functools.cache
def lift_of(name):
    return MAKERS[name]()


# The others compile for seconds.
QUICK = ("mlp", "cnn")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in MAKERS]
)
def test_matrices_are_the_sums_over_fibres(name):
    lift = lift_of(name)
    rng = np.random.default_rng(0)
    for edge, matrix in to_scipy(lift).items():
        base = lift.module.edge_by_name[edge]
        y = rng.standard_normal((lift.copies[base.source], *lift.module.shapes[base.source]))
        z = np.zeros((lift.copies[base.target], *base.map.output_shape(y.shape[1:])))
        sources, targets, weights = lift.edges(edge)
        # One program for all copies of an edge; summed by NumPy, one by one.
        np.add.at(z, targets, jax.jit(jax.vmap(base.map))(weights, y[sources]))
        np.testing.assert_allclose(matrix @ y.ravel(), z.ravel(), atol=1e-12, err_msg=edge)


def test_matrix_of_a_scalar_edge_is_its_weights_and_keeps_zeros():
    lift = sample(modules.mlp(3), copies=6, edges=FixedInDegree(2), seed=0)
    matrix = to_scipy(lift)["h1->h2"]
    sources, targets, weights = lift.edges("h1->h2")
    assert matrix.shape == (6, 6)
    assert matrix.nnz == 12
    np.testing.assert_array_equal(matrix[targets, sources], weights)
    assert to_scipy(lift)["h2->y"].nnz == 6
    assert to_scipy(lift)["h2->y"].data.tolist() == [0.0] * 6


def test_an_edge_map_that_is_not_linear_has_no_matrix():
    class Square(AbstractEdgeMap):
        def weight_shape(self, source):
            return ()

        def output_shape(self, source):
            return source

        def __call__(self, w, y):
            return w * y**2

    module = PerceptronModule(
        [Input("x", (), 2), Hidden("h"), Output("y")],
        [Edge("x", "h", Square()), Edge("h", "y", Scalar())],
    )
    with pytest.raises(ValueError, match="that of edge 'x->h' is not; use `to_arrays`"):
        to_scipy(sample(module, copies=2, edges=Complete(), seed=0))


@pytest.mark.parametrize("name", MAKERS)
def test_a_file_brings_back_the_lift_bit_by_bit(name, tmp_path):
    lift, path = lift_of(name), tmp_path / "lift.safetensors"
    save_safetensors(lift, path)
    again = load_safetensors(lift.module, path)
    assert again.graph_hash == lift.graph_hash
    assert again.sizes == lift.sizes
    for edge in lift.weights:
        for a, b in zip(lift.edges(edge), again.edges(edge), strict=True):
            np.testing.assert_array_equal(a, b)
    assert [p.name for p in tmp_path.iterdir()] == ["lift.safetensors"]
    assert set(safetensors.numpy.load_file(path)) == set(to_arrays(lift))


def test_arrays_are_without_padding_and_keep_the_precision():
    lift = draw(modules.mlp(3), copies=20, precision="float32")
    arrays = to_arrays(lift)
    count = int(lift.fibres["h1->h2"].count)
    assert lift.weights["h1->h2"].shape[0] > count
    assert arrays["h1->h2/weights"].shape == arrays["h1->h2/sources"].shape == (count,)
    assert arrays["copies/h1"] == 20
    again = from_arrays(lift.module, arrays)
    assert again.weights["h1->h2"].dtype == np.float32
    x = np.random.default_rng(0).standard_normal((3, 3)).astype(np.float32)
    np.testing.assert_allclose(again.batch(x), lift.batch(x), rtol=1e-5, atol=1e-5)


def test_complete_fibres_given_edge_by_edge_are_complete():
    lift = sample(modules.mlp(3), copies=4, edges=Complete(), seed=0)
    shuffled = {}
    for name in lift.weights:
        sources, targets, weights = lift.edges(name)
        order = np.random.default_rng(0).permutation(len(sources))
        shuffled[name] = (sources[order], targets[order], weights[order])
    again = from_edges(lift.module, copies=4, edges=shuffled)
    assert all(fibre.is_complete for fibre in again.fibres.values())
    assert eqx.tree_equal(again.weights, lift.weights)


def test_wrong_files_and_arrays_are_refused(tmp_path, monkeypatch):
    lift, path = lift_of("mlp"), tmp_path / "lift.safetensors"
    save_safetensors(lift, path)
    with pytest.raises(ValueError, match="`module` must be the one that"):
        load_safetensors(modules.mlp(3, 1), path)
    arrays = to_arrays(lift)
    with pytest.raises(ValueError, match=r"lacks \['1->y/weights'\] and has besides \['w'\]"):
        from_arrays(lift.module, {"w" if k == "1->y/weights" else k: v for k, v in arrays.items()})
    mixed = arrays | {"1->y/weights": arrays["1->y/weights"].astype(np.float32)}
    with pytest.raises(ValueError, match="weights of one dtype"):
        from_arrays(lift.module, mixed)
    moved = arrays | {"h1->h2/sources": np.sort(arrays["h1->h2/sources"])[::-1].copy()}
    with safetensors.safe_open(path, framework="numpy") as file:
        path.write_bytes(safetensors.numpy.save(moved, file.metadata()))
    with pytest.raises(ValueError, match=r"the file was changed|must map onto the base edge"):
        load_safetensors(lift.module, path)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ImportError, match=r"pip install 'flowlift\[safetensors\]'"):
        save_safetensors(lift, path)

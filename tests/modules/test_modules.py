"""Base graphs: order, inferred spaces, text, and refusals."""

import jax.numpy as jnp
import pytest

from flowlift import modules
from flowlift.modules import (
    Bias,
    Constant,
    Edge,
    Hidden,
    Identity,
    InnerProduct,
    Input,
    Matrix,
    Output,
    PerceptronModule,
    Pointwise,
    Scalar,
    TupleMap,
)


def path(*edges, vertices=()):
    base = [Input("x", (3,)), Constant("1"), Hidden("h"), Output("y")]
    return PerceptronModule([*base, *vertices], edges)


def test_shapes_are_inferred_through_matrices_tuples_and_means():
    module = modules.attention(5, 3, 10, head_channels=2)
    assert module.shapes == {"x": (5, 3), "1": (), "a": (5, 2), "m": (5,), "y": ()}
    assert [module.weight_shape(e) for e in module.edges] == [(2, 3)] * 3 + [(2,), (5,), (), ()]


def test_order_is_topological():
    module = modules.mlp_with_skips(2, depth=4)
    place = {name: i for i, name in enumerate(module.order)}
    assert all(place[e.source] < place[e.target] for e in module.edges)


def test_parallel_edges_get_their_own_names_and_places_in_the_tuple():
    module = path(
        Edge("x", "h", InnerProduct()), Edge("x", "h", InnerProduct()), Edge("h", "y", Scalar())
    )
    assert list(module.edge_by_name) == ["x->h", "x->h#2", "h->y"]
    assert [e.name for e in module.entering("h")] == ["x->h", "x->h#2"]


def test_text_names_vertices_edges_and_spaces():
    text = str(modules.mlp(3, 2))
    for part in (
        "x      Input     R^3",
        "h1     Hidden    R, tanh",
        "y      Output    R, 2 copies",
    ):
        assert part in text
    assert "x->h1          InnerProduct, weights R^3" in text


def test_modules_are_equal_by_value_and_hashable():
    assert modules.mlp(3) == modules.mlp(3) != modules.mlp(4)
    assert hash(modules.mlp(3)) == hash(modules.mlp(3))


def test_smoothness_is_declared_by_the_maps():
    assert modules.mlp(3).smooth
    assert not modules.mlp(3, activation="relu").smooth
    assert not Pointwise(jnp.abs, kinked=True).smooth
    assert TupleMap(lambda a: a).smooth


def test_fan_in_counts_the_products_of_one_entry():
    assert Scalar().fan_in((4,)) == 1
    assert InnerProduct().fan_in((5, 7)) == 7
    assert Matrix(3).fan_in((5, 7)) == 7
    assert Bias((6,)).fan_in(()) == 1
    assert Identity().fan_in((4,)) == 1


GOOD = [Edge("x", "h", InnerProduct()), Edge("h", "y", Scalar())]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: path(
                Edge("x", "h", InnerProduct()),
                Edge("h", "g", Scalar()),
                Edge("g", "h", Scalar()),
                Edge("h", "y", Scalar()),
                vertices=[Hidden("g")],
            ),
            "contains the cycle",
        ),
        (lambda: path(*GOOD, Edge("h", "z", Scalar())), "unknown vertex 'z'"),
        (lambda: path(*GOOD, Edge("h", "x", Scalar())), "must not enter an input"),
        (lambda: path(*GOOD, vertices=[Hidden("g")]), "'g' has none"),
        (lambda: path(*GOOD, vertices=[Hidden("h")]), "'h' appears 2 times"),
        (lambda: path(Edge("1", "h", Bias()), Edge("h", "y", Scalar())), "no path leads from x"),
        (
            lambda: path(
                Edge("x", "h", Scalar()), Edge("1", "h", Bias()), Edge("h", "y", Scalar())
            ),
            r"vertex 'h' must accept .* equal shapes, but gets \(\(3,\), \(\)\)",
        ),
        (
            lambda: path(Edge("x", "h", InnerProduct()), Edge("h", "y", InnerProduct())),
            "edge 'h->y' must fit its source 'h' of shape .*InnerProduct needs",
        ),
        (
            lambda: path(
                *GOOD,
                Edge("x", "g", InnerProduct()),
                vertices=[Hidden("g", TupleMap(lambda q, k, s: q))],
            ),
            "vertex 'g' must accept the pre-activations of x->g",
        ),
        (
            lambda: path(*GOOD, Edge("x", "g", InnerProduct()), vertices=[Hidden("g", shape=(2,))]),
            r"`shape` of vertex 'g' must be what its map returns, \(\), but is \(2,\)",
        ),
        (
            lambda: path(*GOOD, Edge("x", "g", InnerProduct()), vertices=[Hidden("g", "tanh")]),
            "vertex 'g' must be a vertex map, but is 'tanh'",
        ),
        (lambda: path(Edge("x", "h", "scalar"), GOOD[-1]), "'x->h' must be an edge map, but is"),
        (lambda: PerceptronModule([Input("x")], []), "at least one Input and one Output"),
        (lambda: PerceptronModule([Input("x", copies=0), Output("y")], []), "at least 1, but is 0"),
        (lambda: Pointwise("tanhh"), "must be callable or one of tanh"),
        (lambda: Matrix(0), "`rows` of Matrix must be a positive integer"),
        (lambda: modules.mlp(0), "`inputs` must be an integer of at least 1"),
        (lambda: modules.mlp(3, depth=0), "`depth` must be an integer of at least 1"),
    ],
)
def test_bad_base_graphs_are_refused_in_one_sentence(make, message):
    with pytest.raises(ValueError, match=message):
        make()

"""A drawn lift shows every copy and every edge, and picks out what it is asked to."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray
from matplotlib.collections import LineCollection, PathCollection
from overlaps import faults

from flowlift import diagnostics, modules, plot
from flowlift.lift import FixedInDegree, sample

MODULE = modules.mlp(2, depth=2)


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def lift():
    return sample(MODULE, copies=7, edges={"*": FixedInDegree(2)}, seed=0)


def drawn(ax, kind):
    return [c for c in ax.collections if isinstance(c, kind)]


def test_every_copy_is_a_dot_and_every_edge_a_line(lift):
    ax = plot.lift_graph(lift)
    dots = {len(c.get_offsets()) for c in drawn(ax, PathCollection)}
    assert sum(len(c.get_offsets()) for c in drawn(ax, PathCollection)) == sum(lift.copies.values())
    assert dots == {1, 7}
    lines = sum(len(c.get_segments()) for c in drawn(ax, LineCollection))
    assert lines == lift.n_edges
    assert {text.get_text() for text in ax.texts} == set(MODULE.order)
    # Sources lie to the left of their targets.
    for collection in drawn(ax, LineCollection):
        for (x0, _), (x1, _) in collection.get_segments():
            assert x0 < x1


def test_an_in_cone_is_red_and_chosen_copies_are_green(lift):
    cone = diagnostics.in_cone(lift, "h2", 3)
    marked = np.arange(7) == 5
    ax = plot.lift_graph(lift, cone=("h2", 3), marked={"h1": marked})
    red = [c for c in drawn(ax, LineCollection) if c.get_linewidths()[0] > 1]
    assert sum(len(c.get_segments()) for c in red) == sum(len(e) for e in cone.edges.values())
    rims = {
        text.get_text(): c.get_edgecolors()
        for text, c in zip(ax.texts, drawn(ax, PathCollection), strict=True)
    }
    for name, copies in cone.copies.items():
        inside = np.ptp(rims[name][:, :3], axis=1) > 0
        assert np.flatnonzero(inside).tolist() == copies.tolist()
    caption = " ".join(ax.figure.get_supxlabel().split())
    assert "in-cone of copy 3 of h2" in caption
    assert "1 of 7 in h1" in caption


@pytest.mark.parametrize("module", [modules.mlp_with_skips(2, depth=2), modules.attention(2, 2)])
def test_any_module_can_be_drawn(module):
    small = sample(module, copies=3, edges={"*": FixedInDegree(2)}, seed=0)
    ax = plot.lift_graph(small)
    assert sum(len(c.get_segments()) for c in drawn(ax, LineCollection)) == small.n_edges


def of_long_names(depth):
    names = [f"a_hidden_layer_with_a_long_name_{i}" for i in range(depth)]
    hidden = [modules.Hidden(name, modules.Pointwise("tanh")) for name in names]
    vertices = [modules.Input("the_input_of_the_network", (3,)), *hidden, modules.Output("the_end")]
    order = [vertex.name for vertex in vertices]
    edges = [modules.Edge(order[0], order[1], modules.InnerProduct())]
    edges += [modules.Edge(a, b, modules.Scalar()) for a, b in itertools.pairwise(order[1:])]
    return modules.PerceptronModule(vertices, edges)


DRAWN = {
    "deep": lambda: modules.mlp(2, depth=20),
    "skips": lambda: modules.mlp_with_skips(2, depth=4),
    "transformer": lambda: modules.transformer(4, 4),
    "resnet": lambda: modules.resnet((8, 8)),
    "long names": lambda: of_long_names(8),
}


@pytest.mark.parametrize(
    "name",
    # Wide figures, laid out twice: half a second each.
    ["long names", *(pytest.param(n, marks=pytest.mark.slow) for n in DRAWN if n != "long names")],
)
def test_words_of_deep_modules_and_long_names_do_not_overlap(name):
    module = DRAWN[name]()
    assert faults(plot.base_graph(module).figure) == []
    small = sample(module, copies=3, edges={"*": FixedInDegree(2)}, seed=0)
    assert faults(plot.lift_graph(small).figure) == []


def test_too_many_edges_and_wrong_masks_are_refused(lift):
    with pytest.raises(ValueError, match=f"at least the {lift.n_edges} edges"):
        plot.lift_graph(lift, limit=3)
    with pytest.raises(ValueError, match="has shape \\(2,\\) for 'h1' of 7 copies"):
        plot.lift_graph(lift, marked={"h1": np.ones(2, bool)})
    with pytest.raises(ValueError, match="must name a lifted vertex"):
        plot.lift_graph(lift, cone=("h9", 0))


def test_a_scaling_shows_points_fit_and_prediction():
    sizes = np.array([8, 16, 32, 64])
    values = sizes[:, None] ** -0.5 * np.array([[0.9, 1.0, 1.1]])
    values[0] *= 3
    values[1, 0] = np.nan
    data = xarray.DataArray(
        values, {"size": sizes, "seed": range(3)}, attrs={"long_name": "κ", "units": "parameter"}
    )
    ax = plot.scaling(data, predicted=-0.5, from_size=16, name="sparse")
    points, line, dashed = ax.lines
    assert len(points.get_xdata()) == 11
    slope = np.diff(np.log(line.get_ydata())) / np.diff(np.log(line.get_xdata()))
    np.testing.assert_allclose(slope, -0.5, atol=0.05)
    exact = np.diff(np.log(dashed.get_ydata())) / np.diff(np.log(dashed.get_xdata()))
    np.testing.assert_allclose(exact, -0.5)
    assert ax.get_ylabel() == "κ  [parameter]"
    assert "sparse: slope -0.5" in ax.get_legend().get_texts()[0].get_text()

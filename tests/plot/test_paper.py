"""Figures for print have the width of a column, legible text, and colours told apart by all."""

import importlib
import inspect

import matplotlib.pyplot as plt
import numpy as np
import pandas
import pytest
import xarray
from overlaps import faults, smallest
from test_figures_at_scale import at_scale

from flowlift import answers, diagnostics, modules, plot
from flowlift.lift import FixedInDegree, sample
from flowlift.plot.style import OUTCOME_COLOURS, WIDTHS

# Six points are the least that journals print.
LEGIBLE = 6.0
# What writes files, pages or text, or yields figures, is no figure.
NO_FIGURES = {"report", "write_report", "save_figures", "save_comparison"}
NO_FIGURES |= {"figures", "caption", "caption_of", "paper"}
FIGURES = sorted(set(plot.__all__) - NO_FIGURES)


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def drawers():
    """Every figure function, with data."""
    _, data = at_scale(9, 5)
    table = answers.success_probability(data, 0.05)
    lift = sample(modules.mlp(2, depth=2), copies=5, edges={"*": FixedInDegree(2)}, seed=0)
    places, k = np.linspace(-1, 1, 7), np.arange(8)
    bowl = 0.1 + np.add.outer(places**2, places**2)
    path = np.array([[1.0, 0.5], [0.2, 0.1]])
    plane = diagnostics.LandscapeSlice(
        places, bowl, np.eye(2), np.ones(2), np.array([0.0, 9.0]), path, np.zeros(2)
    )
    spectra = diagnostics.Series(10.0**k, np.outer(2.0**-k, [8.0, 4.0, 0.1]), 0)
    both = pandas.concat({2.0: table, 16.0: table}, names=["mean"])
    runs = {
        "solver": ("run", ["tsit5", "dopri8"] * 4),
        "cost": ("run", 10.0 ** (1 + k / 2), {"long_name": "gradients"}),
        "error": ("run", 0.1**k, {"long_name": "largest error"}),
        "reached": ("run", k > 0),
    }
    steps = {
        "step_loss": ("step", 1.0 / (k + 1)),
        "mean_loss": ("step", 1.0 / (k + 2)),
        "loss": (("flow", "step"), 2.0 ** -k[None]),
        "predicted_loss": (("flow", "step"), 2.0 ** -k[None]),
    }
    coords = {"time": ("step", 0.1 * k, {"long_name": "flow time t"}), "flow": ["plain"]}
    steps = xarray.Dataset(steps, coords, {"optimiser": "adam", "window": 3})
    return {
        "base_graph": lambda ax: plot.base_graph(modules.mlp(2, depth=1), ax),
        "lift_graph": lambda ax: plot.lift_graph(lift, ax),
        "landscape": lambda ax: plot.landscape(plane, ax),
        "loss_vs_size": lambda ax: plot.loss_vs_size(data, ax),
        "loss_vs_time": lambda ax: plot.loss_vs_time(data, ax),
        "outcome_shares": lambda ax: plot.outcome_shares(table, ax, event="L ≤ 0.05"),
        "paired_losses": lambda ax: plot.paired_losses(data, data, ax),
        "scaling": lambda ax: plot.scaling(data.final_loss, ax, predicted=-1.0, name="sparse"),
        "spectra_vs_time": lambda ax: plot.spectra_vs_time(spectra, ax),
        "steps_and_flows": lambda ax: plot.steps_and_flows(steps, ax),
        "success_map": lambda ax: plot.success_map(data, 0.05, ax),
        "success_matrix": lambda ax: plot.success_matrix(both, ax),
        "success_vs_size": lambda ax: plot.success_vs_size(table, ax, delta=0.1),
        "survival_vs_time": lambda ax: plot.survival_vs_time(data, 0.05, ax),
        "work_precision": lambda ax: plot.work_precision(xarray.Dataset(runs), ax),
    }


def test_every_figure_takes_axes():
    for name in FIGURES:
        function = inspect.getattr_static(importlib.import_module("flowlift.plot"), name)
        assert "ax" in inspect.signature(function).parameters, name
    assert sorted(drawers()) == FIGURES


@pytest.mark.slow  # Lays out fifteen figures, twice, at two widths.
@pytest.mark.parametrize("width", list(WIDTHS))
def test_every_figure_is_legible_at_column_width(width):
    for name, draw in drawers().items():
        with plot.paper(width):
            figure = draw(None).figure
            assert smallest(figure) >= LEGIBLE, name
            assert faults(figure) == [], name
        assert figure.get_figwidth() == WIDTHS[width].width
        assert figure.get_supxlabel() == "", name
        if name != "scaling":
            assert plot.caption_of(figure), name


@pytest.mark.slow  # Draws fifteen figures.
def test_every_figure_draws_into_the_axes_it_is_given():
    for name, draw in drawers().items():
        _, given = plt.subplots()
        before = plt.get_fignums()
        assert draw(given) is given, name
        assert plt.get_fignums() == before, name


def test_paper_ends_where_its_block_ends():
    before = dict(plt.rcParams)
    with plot.paper("double", captions=True):
        ax = plot.caption(plt.subplots()[1], "words") or plt.gca()
        assert ax.figure.get_supxlabel() == "words"
        assert plt.rcParams["font.size"] != before["font.size"]
    assert dict(plt.rcParams) == before
    with pytest.raises(ValueError, match="single"), plot.paper("wide"):
        pass


# Machado, Oliveira & Fernandes, IEEE TVCG 15 (2009), severity 1: linear RGB as it is seen.
DEFICIENT = {
    "protan": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deutan": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritan": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


def lab(rgb):
    xyz = rgb @ np.array(
        [[0.4124, 0.2126, 0.0193], [0.3576, 0.7152, 0.1192], [0.1805, 0.0722, 0.9505]]
    )
    f = np.cbrt(np.maximum(xyz / [0.9505, 1.0, 1.089], 0.0))
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)


@pytest.mark.parametrize("vision", list(DEFICIENT))
def test_colours_of_outcomes_and_of_curves_differ_for_every_vision(vision):
    with plot.paper():
        cycle = plt.rcParams["axes.prop_cycle"].by_key()["color"]
    for colours in (cycle, list(OUTCOME_COLOURS.values())):
        rgb = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in colours])
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        seen = lab(np.clip(linear @ np.array(DEFICIENT[vision]).T, 0, 1))
        apart = np.linalg.norm(seen[:, None] - seen[None], axis=-1) + 1e3 * np.eye(len(seen))
        # CIE76: 2.3 is just noticeable; areas and lines are told apart from 10 on.
        assert apart.min() > 10, vision


def test_spectra_are_curves_of_their_own_and_zero_is_seen():
    times = np.array([0.0, 1.0, 10.0])
    values = np.array([[4.0, 1.0], [2.0, 0.5], [1.0, 0.0]])
    data = xarray.DataArray(values, {"time": times}, ("time", "rank"), "top")
    ax = plot.spectra_vs_time(data)
    np.testing.assert_array_equal([line.get_ydata() for line in ax.lines], values.T)
    assert ax.lines[0].get_xdata().tolist() == [0.5, 1.0, 10.0]
    assert ax.get_yscale() == "symlog"
    assert "leftmost points are of t = 0" in plot.caption_of(ax.figure)
    with pytest.raises(ValueError, match="two dimensions"):
        plot.spectra_vs_time(data.expand_dims("seed"))


def test_a_matrix_has_a_cell_for_every_size_and_degree_that_was_run():
    index = pandas.MultiIndex.from_tuples([(2, 4), (2, 8), (4, 4)], names=["mean", "lift size"])
    counts = pandas.DataFrame(
        {"converged": [1, 6, 9], "stuck": [9, 4, 0], "undecided": [0, 0, 1]}, index=index
    )
    ax = plot.success_matrix(answers.probability_table(counts))
    mesh = next(c for c in ax.collections if c.get_array() is not None)
    shown = np.ma.filled(np.ma.reshape(mesh.get_array(), (2, 2)), np.nan)
    np.testing.assert_allclose(shown, [[0.1, 0.6], [0.9, np.nan]])
    assert {t.get_text() for t in ax.texts + ax.artists if t.get_text()} == {"1/10", "6/10", "9/10"}
    assert [t.get_text() for t in ax.get_yticklabels()] == ["2", "4"]
    with pytest.raises(ValueError, match="one further axis"):
        plot.success_matrix(answers.probability_table(counts.droplevel(0)))

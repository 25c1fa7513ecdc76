"""Figures show the numbers that they are given, on labelled axes."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray
from matplotlib.patches import FancyArrowPatch

from flowlift import modules, plot
from flowlift.plot.loss_vs_time import _at_times


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


@pytest.fixture
def results():
    time = np.array([0.0, 1.0, 10.0, 100.0])
    loss = np.array([[[1, 0.5, 0.4, 0.3], [1, 0.7, np.nan, np.nan]], [[1, 0.2, 0.1, 0.05]] * 2])
    ends = np.array([[0.3, 0.6], [0.05, 0.05]])
    return xarray.Dataset(
        {
            "loss": (("size", "seed", "time"), loss, {"long_name": "loss L", "units": "loss"}),
            "final_loss": (("size", "seed"), ends),
            "end_time": (("size", "seed"), [[100.0, 5.0], [100.0, 100.0]]),
            "result": (("size", "seed"), [["horizon", "step limit"], ["horizon", "horizon"]]),
        },
        coords={
            "size": ("size", [8, 16], {"long_name": "lift size n"}),
            "seed": [0, 1],
            "time": ("time", time, {"long_name": "flow time t", "units": "learning rate × steps"}),
        },
    )


def test_loss_against_time_has_a_median_and_a_band_per_size(results):
    ax = plot.loss_vs_time(results)
    assert ax.get_xscale() == ax.get_yscale() == "log"
    assert ax.get_xlabel() == "flow time t  [learning rate × steps]"
    assert ax.get_ylabel() == "loss L"
    assert (len(ax.lines), len(ax.collections)) == (3, 2)
    np.testing.assert_allclose(ax.lines[0].get_xdata(), [1, 10, 100])
    # A flow that has ended keeps its last loss, 0.6: an upper bound of what follows.
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [0.6, 0.5, 0.45])
    assert ax.lines[0].get_linestyle() == ":"
    np.testing.assert_allclose(ax.lines[1].get_ydata(), [0.6, np.nan, np.nan])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["n = 8", "n = 16"]
    assert "never rises" in ax.figure.get_supxlabel()


def test_every_flow_is_a_polyline_over_log_time_until_it_ends():
    """Flow by flow by `numpy.interp`: ends before, at, between and after save times, gaps, none."""
    rng, saved = np.random.default_rng(0), np.array([0.0, 0.5, 1.0, 2.0, 4.0])
    losses, finals = rng.uniform(size=(60, 5)), rng.uniform(size=60)
    ends = rng.choice([0.0, 0.3, 0.5, 0.7, 2.0, 3.0, 4.0, 9.0], 60)
    losses[saved > ends[:, None]] = np.nan
    losses[::7, 2], losses[5::11], finals[::5] = np.nan, np.nan, np.nan
    times = np.array([0.2, 0.5, 0.6, 1.0, 1.7, 2.0, 4.0, 9.0])
    drawn, last = _at_times(saved, losses, ends, finals, times)
    for flow, end, final, found, seen in zip(losses, ends, finals, drawn, last, strict=True):
        t, y = saved[np.isfinite(flow)], flow[np.isfinite(flow)]
        if np.isfinite(final) and (not t.size or end > t[-1]):
            t, y = np.append(t, end), np.append(y, final)
        assert seen == (t[-1] if t.size else -np.inf)
        later, expected = t > 0, np.full(len(times), y[-1] if t.size else np.nan)
        if later.any():
            expected = np.interp(np.log(times), np.log(t[later]), y[later])
            expected = np.where(times < t[later][0], y[0], expected)
        np.testing.assert_allclose(found, expected, rtol=1e-14)


def test_loss_against_time_draws_a_single_flow_into_given_axes(results):
    _, ax = plt.subplots()
    single = results.isel(size=0, seed=0)
    assert plot.loss_vs_time(single, ax) is ax
    assert len(ax.lines) == 1
    assert len(ax.collections) == 0


def test_loss_against_size_marks_flows_that_did_not_end_as_asked(results):
    ax = plot.loss_vs_size(results)
    points = {line.get_label(): line.get_xydata() for line in ax.lines}
    np.testing.assert_allclose(points["budget, limit or failure: at most"], [[8, 0.6]])
    assert len(points["at the common end"]) == 3
    np.testing.assert_allclose(points["median over seeds"], [[8, np.nan], [16, 0.05]])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["8", "16"]
    assert ax.get_ylabel()


@pytest.mark.parametrize("module", [modules.mlp_with_skips(3, 2, depth=2), modules.attention(4, 3)])
def test_a_base_graph_shows_every_vertex_and_edge(module):
    ax = plot.base_graph(module)
    texts = [text.get_text() for text in ax.texts]
    for name in module.order:
        assert any(text.split("\n")[0] == name for text in texts)
    arrows = [patch for patch in ax.patches if isinstance(patch, FancyArrowPatch)]
    assert len(arrows) == len(module.edges)


def test_figures_are_written_to_a_folder(results, tmp_path):
    files = plot.save_figures(results, tmp_path / "figures")
    assert [file.name for file in files] == ["loss_vs_time.png", "loss_vs_size.png"]
    assert all(plt.imread(file).shape[0] > 300 for file in files)


def test_losses_that_are_not_positive_are_shown_and_the_label_says_how():
    import jax.numpy as jnp

    from flowlift import flow

    start, scales = jnp.array([1.0, 0.5]), {}
    for shift in (0.0, 1e-3, 2.0):
        loss = lambda w, shift=shift: jnp.sum(w**2) - shift
        data = flow.dataset(flow.solve(start, loss, 5.0, solver="tsit5", save=[0.5]))
        # Zero, not below it: as a loss that is clipped, or exactly fitted.
        data["loss"] = data.loss.clip(0.0) if shift == 1e-3 else data.loss
        ax = plot.loss_vs_time(data)
        scales[shift] = ax.get_yscale(), " ".join(ax.get_ylabel().split())
        low, high = ax.get_ylim()
        assert low <= float(data.loss[1:].min()) < float(data.loss[1:].max()) <= high
    assert [scale for scale, _ in scales.values()] == ["log", "symlog", "linear"]
    assert "(" not in scales[0.0][1]
    assert "some are 0" in scales[1e-3][1]
    assert "linear axis: not all are positive" in scales[2.0][1]


def test_steps_and_flows_draws_what_is_predicted_and_what_is_lost():
    """A flow that predicts its own loss is one line, another one two."""
    k = np.arange(5)
    losses = np.stack([2.0**-k, 3.0**-k])
    data = xarray.Dataset(
        {
            "step_loss": ("step", 1.0 / (k + 1)),
            "mean_loss": ("step", 1.0 / (k + 2)),
            "loss": (("flow", "step"), losses),
            "predicted_loss": (("flow", "step"), losses + np.array([[0.0], [0.1]])),
        },
        coords={"step": k, "time": ("step", 0.1 * k), "flow": ["plain", "central"]},
        attrs={"optimiser": "adam", "window": 3},
    )
    ax = plot.steps_and_flows(data)
    drawn = {line.get_label(): line.get_ydata() for line in ax.get_lines()}
    assert list(drawn) == [
        "adam, each step",
        "mean of 3 steps",
        "plain",
        "central",
        "central, loss of its theta",
    ]
    np.testing.assert_array_equal(drawn["central"], losses[1] + 0.1)
    assert ax.get_yscale() == "log"
    plt.close(ax.figure)

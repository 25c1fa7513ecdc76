"""Figures of few and many sizes and seeds, with long names: no text lies on another one."""

import dataclasses
import tomllib
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray
from made_up_results import ASKED, ended, made_up
from overlaps import faults, overlaps

from flowlift import plot, studies
from flowlift.plot.keys import MANY
from flowlift.plot.ticks import loss_axis, named_ticks, size_axis, time_axis

LONG = "a_law_of_edges_with_a_name_as_long_as_people_write_them"


@pytest.fixture(autouse=True)
def _strictly():
    """A layout that gave up says so by a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    plt.close("all")


def at_scale(sizes, seeds, variants=0, shift=0.0):
    """A question and results: losses fall with size, some flows were stopped, some failed."""
    study = studies.structure_study(tomllib.loads(ASKED))
    # From 4 to some hundred thousand: the widest labels a study will have.
    many = np.unique(np.round(4 * 10 ** np.linspace(0, 5, sizes)).astype(int))
    lift = dataclasses.replace(study.lift, sizes=tuple(many.tolist()))
    study = dataclasses.replace(study, lift=lift, seeds=seeds)
    rng = np.random.default_rng(0)
    shape = (*([variants] if variants else []), len(many), seeds)
    axes = [(LONG, [f"{LONG}_{i}" for i in range(variants)])] if variants else []
    exponents = np.linspace(-1, -4, len(many))[:, None] + 0.7 * rng.normal(size=shape)
    final = 10 ** -(np.abs(exponents) + 0.05)
    at = np.where(rng.uniform(size=shape) < 0.2, 1.5, np.nan)
    how = np.where(rng.uniform(size=shape) < 0.5, "stagnation", "step limit")
    results = ended(made_up(study, final, axes), at, final**0.3, how)
    question = dataclasses.replace(study.question, losses=(0.012345,), times=(2.0,))
    return question, results.assign(
        loss=results.loss - shift, final_loss=results.final_loss - shift
    )


def faults_of_all(question, results):
    return {name: found for name, _, f in plot.figures(results, question) if (found := faults(f))}


def test_no_text_lies_on_another_one_with_sixteen_sizes():
    _, results = at_scale(16, 3)
    assert faults(plot.loss_vs_time(results).figure) == []


@pytest.mark.slow  # Twelve studies, some of 40,000 runs: every figure of each is laid out.
@pytest.mark.parametrize("seeds", [1, 20, 1000])
@pytest.mark.parametrize("sizes", [1, 4, 16, 40])
def test_no_text_lies_on_another_one_in_any_figure_of_a_study(sizes, seeds):
    assert faults_of_all(*at_scale(sizes, seeds)) == {}


@pytest.mark.slow  # Figures of up to four panels.
@pytest.mark.parametrize(("sizes", "seeds", "variants"), [(4, 20, 3), (16, 1, 4), (40, 100, 2)])
def test_long_names_of_variants_leave_room_for_one_another(sizes, seeds, variants):
    assert faults_of_all(*at_scale(sizes, seeds, variants)) == {}


@pytest.mark.slow  # All figures, once more on other axes.
def test_losses_of_both_signs_leave_the_texts_apart():
    question, results = at_scale(16, 20, 2, shift=0.05)
    assert faults_of_all(dataclasses.replace(question, losses=(-0.01,)), results) == {}


def test_from_seven_curves_on_a_bar_tells_colours():
    for sizes in (MANY - 1, MANY):
        _, results = at_scale(sizes, 2)
        ax = plot.loss_vs_time(results)
        legend, bars = ax.get_legend(), [a for a in ax.figure.axes if a is not ax]
        assert (legend is None, len(bars)) == ((False, 0) if sizes < MANY else (True, 1))
    (bar,) = bars
    assert bar.get_ylabel() == "lift size"
    # The colour of every curve stands at its own place of the bar.
    colours = [line.get_color() for line in ax.lines if line.get_label().startswith("n =")]
    mesh = bar.collections[-1]
    faces = mesh.cmap(mesh.norm(np.arange(sizes)))
    np.testing.assert_allclose(faces, colours)
    assert [t.get_text() for t in bar.get_yticklabels()] == [str(n) for n in results["size"].values]


def test_many_seeds_are_ranges_and_their_middle():
    _, results = at_scale(4, 100)
    results = results.assign(
        result=results.result.where(False, "horizon"),
        end_time=results.end_time.where(False, 5.0),
    )
    ax = plot.loss_vs_size(results)
    ranges, middles = (
        np.array([segment[:, 1] for segment in lines.get_segments()]) for lines in ax.collections
    )
    losses = results.final_loss.values
    np.testing.assert_array_equal(ranges, np.stack([losses.min(1), losses.max(1)], axis=1))
    inside = [((row >= a) & (row <= b)).mean() for row, (a, b) in zip(losses, middles, strict=True)]
    np.testing.assert_allclose(inside, 0.8, atol=0.02)


def test_many_pairs_are_counted_and_none_is_lost():
    _, results = at_scale(4, 600)
    ax = plot.paired_losses(results, results.assign(final_loss=2 * results.final_loss))
    (mesh,) = ax.collections
    assert np.ma.sum(mesh.get_array()) == results.final_loss.size


def labels_of(axis):
    return [tick.get_text() for tick in (*axis.get_ticklabels(), *axis.get_ticklabels(minor=True))]


# Each lays a figure out in half a second; two of them stand for these.
SPANS = [pytest.param(s, marks=pytest.mark.slow) for s in (1.05, 1.5, 3.0, 9.0, 1e3, 1e12)]


@pytest.mark.parametrize("span", [11.0, 95.0, *SPANS])
def test_axes_of_few_decades_have_two_labels_that_stand_apart(span):
    figure, (above, below) = plt.subplots(2, figsize=(3.3, 2.5), layout="constrained")
    time = xarray.DataArray([1.0], dims="time", attrs={"long_name": "t"}).rename("t")
    for ax in (above, below):
        time_axis(ax, time)
        loss_axis(ax.yaxis, np.array([0.3, 0.3 * span]), "loss")
        ax.set(xlim=(1.7, 1.7 * span), ylim=(0.3, 0.3 * span))
    assert overlaps(figure) == []
    for axis in (above.xaxis, above.yaxis):
        assert sum(bool(text) for text in labels_of(axis)) >= 2


def test_an_axis_that_is_made_shorter_has_fewer_labels():
    sizes, shown = [4, 8, 16, 1000, 1001, 1002, 123456], []
    for width in (5, 2):
        figure, ax = plt.subplots(figsize=(width, 3), layout="constrained")
        size_axis(ax, sizes)
        ax.set_xlim(3, 2e5)
        named_ticks(ax.yaxis, range(40), list(map(str, range(40))))
        ax.set_ylim(-1, 40)
        assert overlaps(figure) == []
        shown.append(sum(bool(t.get_text()) for t in ax.get_xticklabels()))
    assert shown == sorted(shown, reverse=True)
    assert shown[-1] >= 2


def test_figures_of_other_data_leave_the_texts_apart():
    """Nine solvers of work and precision, one of them exact; graphs with long names."""
    runs = 36
    data = xarray.Dataset(
        {
            "solver": ("run", [f"a_solver_of_{i % 9}_stages" for i in range(runs)]),
            "cost": ("run", np.geomspace(10, 1e5, runs), {"long_name": "gradients"}),
            "error": ("run", np.geomspace(1, 1e-9, runs), {"long_name": "largest error"}),
            "reached": ("run", np.arange(runs) % 5 > 0),
        }
    )
    data["error"][-1] = 0.0
    ax = plot.work_precision(data)
    assert faults(ax.figure) == []
    assert ax.get_yscale() == "symlog"
    assert "some are 0" in ax.get_ylabel()

"""A study of which nothing came still has figures: empty ones."""

import tomllib
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest
from made_up_results import ASKED, ended, made_up

from flowlift import plot, studies
from flowlift.plot.figures import figures


def failed(axes=()):
    """A study's question, and results of runs that failed before they had a loss."""
    study = studies.structure_study(tomllib.loads(ASKED))
    final = np.full((*(len(values) for _, values in axes), 2, 3), 0.5)
    results = ended(made_up(study, final, axes), 0.0, np.nan, "exception")
    return study.question, results.assign(loss=results.loss.where(False))


@pytest.fixture(autouse=True)
def _strictly():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    plt.close("all")


def test_an_axis_without_a_number_is_drawn_without_a_warning():
    _, results = failed()
    figure, (left, middle, right) = plt.subplots(1, 3)
    plot.loss_vs_time(results, left)
    plot.loss_vs_size(results, middle)
    plot.success_map(results, 0.2, right)
    figure.draw_without_rendering()
    # Nothing was observed, which is another thing than a share of zero.
    (mesh,) = (c for c in right.collections if c.get_array() is not None)
    assert np.ma.getmaskarray(mesh.get_array()).all()
    assert right.get_xlim()[0] > 0


@pytest.mark.slow  # Draws all figures of two variants.
def test_all_figures_of_runs_that_all_failed_are_drawn_without_a_warning():
    question, results = failed([("solver", ["tsit5", "bdf"])])
    names = []
    for name, _, figure in figures(results, question):
        figure.draw_without_rendering()
        names.append(name)
    assert {"loss_vs_time", "loss_vs_size", "success_map_1", "outcome_shares_2"} <= set(names)

"""Figures of runs that ended before the others: bounds are bounds, and no line rests on them."""

import dataclasses
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
from made_up_results import ASKED, ended, made_up

from flowlift import answers, plot, studies
from flowlift.plot.bounds import quantile
from flowlift.plot.success_map import success_shares

NAN = float("nan")


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


@pytest.fixture
def study(tmp_path):
    path = tmp_path / "asked.toml"
    path.write_text(ASKED)
    return studies.read_study(path)


@pytest.fixture
def full(study):
    rng = np.random.default_rng(2)
    return made_up(study, 10 ** rng.uniform(-3, -0.2, (2, 9)))


@pytest.fixture
def partly(full):
    """Of size 4 two of nine flows were stopped soon, of size 8 six."""
    at = np.full((2, 9), NAN)
    at[0, :2], at[1, :6] = 1.5, 1.5
    return ended(full, at, full.loss.values[..., 1] * 0.9, "stagnation")


def words_of(ax):
    return " ".join(ax.figure.get_supxlabel().split())


def test_quantiles_are_known_where_no_completion_changes_them():
    """Against all completions on a lattice below the upper bounds."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        n = int(rng.integers(2, 6))
        losses, known = rng.uniform(size=n), rng.uniform(size=n) < 0.6
        share = float(rng.choice([0.1, 0.5, 0.9]))
        value, sure = quantile(losses[:, None], known[:, None], share)
        lowest = np.quantile(np.where(known, losses, -1e9), share)
        assert value[0] == pytest.approx(np.quantile(losses, share))
        assert sure[0] == (lowest == pytest.approx(value[0]))


def test_medians_never_rise_and_are_dotted_where_they_are_bounds(partly, full):
    ax = plot.loss_vs_time(partly)
    for line in ax.lines:
        y = line.get_ydata()
        assert (np.diff(y[np.isfinite(y)]) <= 0).all()
    solid = [line for line in ax.lines if line.get_linestyle() == "-"]
    reference = np.median(full.loss.values, axis=1)
    # To t = 1 all are there; later six of nine say too little at size 8.
    assert np.isfinite(solid[1].get_ydata()).tolist() == [True, False, False]
    np.testing.assert_allclose(solid[1].get_ydata()[0], reference[1, 1])
    assert any(line.get_linestyle() == ":" for line in ax.lines)
    assert "Dotted: an upper bound" in words_of(ax)
    assert "Dotted" not in words_of(plot.loss_vs_time(full))


def test_a_flow_whose_last_loss_is_no_number_does_not_lift_the_median(full):
    """Dropping the flow that fell fastest would let the median rise."""
    best = np.argmin(full.final_loss.values[0])
    at = np.full((2, 9), NAN)
    at[0, best] = 1.5
    ax = plot.loss_vs_time(ended(full, at, NAN, "non-finite"))
    for line in ax.lines:
        y = line.get_ydata()
        assert (np.diff(y[np.isfinite(y)]) <= 0).all()


def test_no_median_and_no_law_rest_on_flows_that_were_stopped(partly, full):
    at_loss = ended(full, np.full((2, 9), 2.0), 1e-2, "loss below")
    ax = plot.loss_vs_size(at_loss)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["stopped by a rule: at most"]
    assert "no line rests on them" in words_of(ax)
    # Two of nine stopped below the median, and cannot move it; six of nine can.
    at = np.full((2, 9), NAN)
    at[0, :2], at[1, :6] = 1.5, 1.5
    below = ended(full, at, 1e-4, "loss below")
    (median,) = [
        line for line in plot.loss_vs_size(below).lines if line.get_label() == "median over seeds"
    ]
    np.testing.assert_allclose(median.get_ydata(), [np.median(below.final_loss.values[0]), NAN])
    assert "ended before" not in words_of(plot.loss_vs_size(full))


def test_the_map_is_hatched_where_flows_were_not_observed(partly):
    times, shares, _, unseen = success_shares(partly, 0.05)
    for i, t in enumerate(times):
        table = answers.success_probability(partly, 0.05, float(t))
        np.testing.assert_allclose(shares[:, i], table["converged"] / table["runs"])
        np.testing.assert_allclose(unseen[:, i], table["not observed"] / table["runs"])
    ax = plot.success_map(partly, 0.05)
    assert len(ax.patches) == (unseen > 0).sum()
    assert "Hatched: at least this share" in words_of(ax)


def test_survival_is_dotted_between_its_bounds(partly):
    ax = plot.survival_vs_time(partly, 0.05)
    assert "Dotted: between these" in words_of(ax)
    assert sum(line.get_linestyle() == ":" for line in ax.lines) == 4


def test_a_share_that_is_not_known_has_no_mark_but_bounds(partly):
    table = answers.success_probability(partly, 0.05)
    ax = plot.success_vs_size(table, delta=0.5)
    assert np.isnan(ax.lines[0].get_ydata()).all()
    assert "8 of 18 runs are not observed: 8 stopped (stagnation)" in words_of(ax)
    bars = plot.outcome_shares(table)
    tops = [[b.get_y() + b.get_height() for b in bar] for bar in bars.containers]
    np.testing.assert_allclose(tops[-1], 1)
    assert [t.get_text() for t in bars.get_legend().get_texts()][-1] == "not observed"


def test_pairs_are_hollow_where_one_had_ended(partly, full):
    ax = plot.paired_losses(full, partly)
    hollow = [line for line in ax.lines if str(line.get_markerfacecolor()) == "none"]
    assert sum(len(line.get_xdata()) for line in hollow) == 8
    assert "Hollow" in words_of(ax)
    assert "Hollow" not in words_of(plot.paired_losses(full, full))


def test_notes_of_all_panels_are_in_the_caption(study, partly):
    """The first variant was stopped, the last was not: the caption says both."""
    varied = dataclasses.replace(study, vary={"flow.solver": ("tsit5", "dopri8")})
    results = made_up(
        varied, np.stack([partly.final_loss.values] * 2), [("solver", ["tsit5", "dopri8"])]
    )
    at = np.full((2, 2, 9), NAN)
    at[0, :, :6] = 1.5
    results = ended(results, at, results.loss.values[..., 1] * 0.9, "loss below")
    found = {
        name: " ".join(figure.get_supxlabel().split())
        for name, _, figure in plot.figures(results, study.question)
    }
    assert "Triangles, crosses" in found["loss_vs_size"]
    assert "Dotted: an upper bound" in found["loss_vs_time"]


def test_the_page_says_what_was_not_observed(partly):
    question = studies.Question((0.05,), delta=0.5)
    text = plot.report(partly, question=question)
    lead = re.sub("<[^>]+>", "", text.split("<main>")[1].split("</section>")[0])
    assert "8 of 18 runs are not observed: 8 stopped (stagnation)" in lead
    assert "not known" in lead
    assert "(6 not observed)" in lead

"""Figures of probabilities show the numbers that they are given; the page holds them all."""

import base64
import dataclasses
import html.parser
import importlib
import io
import re

import matplotlib.pyplot as plt
import numpy as np
import pandas
import pytest
from made_up_results import ASKED, made_up

from flowlift import answers, flow, plot, studies
from flowlift.plot.embedded import bands, embedded
from flowlift.plot.figures import grid
from flowlift.plot.success_map import success_shares


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


@pytest.fixture
def words_alone(monkeypatch):
    """Pages without their figures, which take seconds to draw."""
    monkeypatch.setattr(
        importlib.import_module("flowlift.plot.report"), "figures", lambda *_, **__: []
    )


@pytest.fixture
def study(tmp_path):
    path = tmp_path / "asked.toml"
    path.write_text(ASKED)
    return studies.read_study(path)


@pytest.fixture
def results(study):
    """Losses fall as final^(t/5): final 1e-3 meets 0.2 by t = 2, 0.3 never does."""
    return made_up(study, [[1e-3, 0.3, 0.3, 0.3], [1e-3, 1e-3, 1e-3, 0.3]])


def test_the_map_and_the_survival_curves_say_the_same(results):
    times, shares, sizes, unseen = success_shares(results, 0.2)
    assert not unseen.any()
    np.testing.assert_allclose(times, [1, 2, 5])
    np.testing.assert_allclose(shares, [[0, 0.25, 0.25], [0, 0.75, 0.75]])
    assert sizes.tolist() == [4, 8]
    ax = plot.survival_vs_time(results, 0.2)
    ends = [line.get_ydata()[-1] for line in ax.lines if line.get_label().startswith("n =")]
    np.testing.assert_allclose(ends, 1 - shares[:, -1])
    mesh = plot.success_map(results, 0.2).collections[0]
    np.testing.assert_allclose(np.reshape(mesh.get_array(), shares.shape), shares)


def test_stacked_shares_add_up_to_one(results):
    table = answers.success_probability(results, 0.2)
    ax = plot.outcome_shares(table)
    tops = np.array([[bar.get_y() + bar.get_height() for bar in bars] for bars in ax.containers])
    np.testing.assert_allclose(tops, [[0.25, 0.75], [0.25, 0.75], [1, 1]])


def test_paired_losses_share_an_axis_range(results):
    other = results.assign(final_loss=results.final_loss * 2)
    ax = plot.paired_losses(results, other, names=("a", "b"), loss=0.2)
    assert ax.get_xlim() == ax.get_ylim()
    np.testing.assert_allclose(ax.lines[0].get_xdata() * 2, ax.lines[0].get_ydata())
    assert ax.get_xlabel().endswith("a")


def test_learning_numbers_stand_at_one_minus_delta(results):
    table = answers.success_probability(results, 0.2)
    ax = plot.success_vs_size(table, delta=0.5)
    star = next(line for line in ax.lines if line.get_marker() == "*")
    np.testing.assert_allclose(star.get_xydata(), [[8, 0.5]])


def test_variants_are_lines_and_never_averaged(study):
    study = dataclasses.replace(study, vary={"flow.solver": ("tsit5", "dopri8")})
    final = np.full((2, 2, 5), 1e-3)
    final[1] = 0.9
    results = made_up(study, final, [("solver", ["tsit5", "dopri8"])])
    ax = plot.success_vs_size(answers.success_probability(results, 0.2))
    lines = [bars.lines[0].get_ydata() for bars in ax.containers]
    np.testing.assert_allclose(lines, [[1, 1], [0, 0]])
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["solver = tsit5", "solver = dopri8"]


def test_save_times_of_another_horizon_are_no_part_of_a_variant(results):
    """t = 1.5 and 50 were saved under another horizon alone: medians fall, and end at t = 5."""
    joined = results.reindex(time=[0.0, 1.0, 1.5, 2.0, 5.0, 50.0])
    ax = plot.loss_vs_time(joined)
    for line in ax.lines:
        np.testing.assert_allclose(line.get_xdata(), [1, 2, 5])
        assert (np.diff(line.get_ydata()) < 0).all()
    times, shares, _, unseen = success_shares(joined, 0.2)
    np.testing.assert_allclose(times, [1, 2, 5])
    np.testing.assert_allclose(shares, [[0, 0.25, 0.25], [0, 0.75, 0.75]])
    assert not unseen.any()


def test_flows_that_end_before_the_first_save_time_are_points(results):
    early = results.assign(
        loss=results.loss.where(results.time == 0), end_time=results.end_time * 0 + 0.5
    )
    ax = plot.loss_vs_time(early)
    np.testing.assert_allclose([line.get_xdata() for line in ax.lines], [[0.5], [0.5]])
    medians = np.median(results.final_loss.values, axis=1)
    np.testing.assert_allclose([line.get_ydata()[0] for line in ax.lines], medians)
    times, shares, *_ = success_shares(early, 0.2)
    np.testing.assert_allclose(times, [0.5])
    np.testing.assert_allclose(shares, [[0.25], [0.75]])
    assert plot.success_map(early, 0.2).collections


def test_a_dotted_line_bounds_the_limit_where_some_flows_are_stuck():
    counts = pandas.DataFrame(
        {"converged": [1, 6], "stuck": [5, 0], "undecided": [4, 4]},
        index=pandas.Index([4, 8], name="lift size"),
    )
    dotted = lambda ax: [line.get_ydata() for line in ax.lines if line.get_linestyle() == ":"]
    ax = plot.success_vs_size(answers.probability_table(counts))
    np.testing.assert_allclose(dotted(ax), [[0.5, 1.0]])
    words = " ".join(ax.figure.get_supxlabel().split())
    assert "8 of 20 flows are undecided, counted as not converged; dotted: as converged." in words
    bounded_by_nothing = counts.assign(stuck=0)
    ax = plot.success_vs_size(answers.probability_table(bounded_by_nothing))
    assert dotted(ax) == []
    assert "dotted" not in ax.figure.get_supxlabel()


def test_hatching_appears_where_losses_reach_the_floor(results):
    """rtol = 1e-1 leaves losses below 1e-2 undetermined."""
    hatched = lambda ax: [p for p in ax.patches if p.get_hatch()]
    assert not hatched(plot.loss_vs_time(results))
    (patch,) = hatched(plot.loss_vs_time(results.assign_coords(rtol=0.1)))
    assert patch.get_y() + patch.get_height() == pytest.approx(0.01)


def test_a_caption_says_by_what_theta_moved_and_in_which_time(results, study):
    told = lambda data: " ".join(plot.loss_vs_time(data).figure.get_supxlabel().split())
    assert "along the exact gradient flow; it never rises" in told(results)
    moving = dataclasses.replace(study.flow, dynamics=flow.HeavyBall(1.0))
    text = studies.to_toml(dataclasses.replace(study, flow=moving))
    assert "along the exact flow of HeavyBall; it may rise" in told(
        results.assign_attrs(study=text)
    )
    logs = results.assign(dict.fromkeys(flow.LogLoss.records, results.loss))
    # log L is known however small L is.
    assert not plot.loss_vs_time(logs.assign_coords(rtol=0.1)).patches


class Page(html.parser.HTMLParser):
    """Images with their alternative texts, headings, and whatever points outside the page."""

    def __init__(self, text):
        super().__init__()
        self.images, self.headings, self.outside, self.tables = [], [], [], 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag == "img":
            self.images.append(given)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        self.tables += tag == "table"
        for name in ("src", "href"):
            if not given.get(name, "#").startswith(("#", "data:")):
                self.outside.append(given[name])


def test_the_page_answers_first_and_refers_to_nothing_outside(results, study):
    text = plot.report(results)
    page = Page(text)
    assert page.outside == []
    # The head of an arrow is drawn once, and named by all arrows of the page.
    assert "url(" not in text.replace("url(#flowlift-head)", "")
    assert "<script" not in text
    assert page.headings[0] == 1
    assert max(np.diff(page.headings)) <= 1
    # Two figures of all runs, and four for each loss.
    assert len(page.images) == 2 + 4 * 2
    assert all(image["alt"] and image["src"].startswith("data:image") for image in page.images)
    first = re.sub("<[^>]+>", "", text.split("<main>")[1].split("</section>")[0])
    for words in ("Asked", "Answer", "With which confidence", "L ≤ 0.2 by t = 2"):
        assert words in first
    assert "at the greatest size, 8, 3 of 4 lifts converged" in first
    assert "[question]" in text
    assert "flowlift run study.toml" in text


def test_nothing_of_a_page_is_cut_or_hidden_in_print(results, words_alone):
    """Figures and rows stay whole, scrolling boxes show all, headings stay with what follows."""
    text = plot.report(results)
    style = text.split("<style>")[1].split("</style>")[0]
    printed = style.split("@media print {")[1]
    rules = {
        (selector.strip(), rule.strip())
        for selectors, body in re.findall(
            r"([^{}]+){([^{}]*)}", style.split("@media screen")[0] + printed
        )
        for selector in selectors.split(",")
        for rule in body.split(";")
    }
    for wanted in (
        ("figure", "break-inside: avoid"),
        ("tr", "break-inside: avoid"),
        ("thead", "display: table-header-group"),
        (".scroll", "overflow: visible"),
        ("h3", "break-after: avoid"),
        (".before", "break-after: avoid"),
        ("pre", "white-space: pre-wrap"),
    ):
        assert wanted in rules
    assert text.count('class="note before"') >= 4
    assert "<details" not in text
    assert not re.search(r"https?:|@import", text.replace("data:image", ""))


@pytest.mark.slow  # draws forty panels
def test_tall_figures_are_cut_between_rows_of_panels():
    """Five rows give two images, whose heights add up, and no text crosses the cut."""
    panels = [(f"panel {i}", lambda ax: ax.plot([1, 2])) for i in range(9)]
    figure = grid(panels)
    figure.canvas.draw()
    top, cut, bottom = bands(figure)
    assert (top, bottom) == (0.0, 1.0)
    y = (1 - cut) * figure.bbox.height
    boxes = [ax.get_tightbbox() for ax in figure.axes]
    assert all(box.y0 > y or box.y1 < y for box in boxes)
    assert sum(box.y0 > y for box in boxes) == 6
    found = embedded("many", "Many", figure)
    sizes = [
        plt.imread(io.BytesIO(base64.b64decode(image.split(",")[1]))).shape
        for image in found["images"]
    ]
    assert len(sizes) == 2
    assert sum(height for height, *_ in sizes) == round(figure.get_figheight() * 160)
    assert found["tall"]
    assert found["wide"]


def test_an_answer_of_several_variants_is_given_once(study, words_alone):
    study = dataclasses.replace(study, vary={"flow.solver": ("tsit5", "dopri8", "rkc2")})
    final = np.full((3, 2, 5), 1e-3)
    final[1] = 0.9
    results = made_up(study, final, [("solver", ["tsit5", "dopri8", "rkc2"])])
    lead = plot.report(results).split("<main>")[1].split("</section>")[0]
    lead = re.sub("<[^>]+>", "", lead)
    assert "solver = tsit5, 5 of 5 at n = 8; solver = rkc2, 5 of 5 at n = 8." in lead
    # All were seen to t = 5, so that what they did by t = 2 is known.
    assert "(solver = dopri8): not at the sizes of this study" in lead
    ever = dataclasses.replace(study.question, times=())
    lead = re.sub("<[^>]+>", "", plot.report(results, question=ever))
    assert "(solver = dopri8): not seen at the sizes of this study; the undecided leave" in lead


def test_a_page_of_unfinished_runs_says_how_many_are_missing(study, words_alone):
    results = made_up(study, [[1e-3, np.nan], [1e-3, 1e-3]])
    results["end_time"] = results.end_time.where(np.isfinite(results.final_loss))
    asked = len(study.lift.sizes) * study.seeds
    assert f"from 3 runs of the {asked} that the study asks for" in plot.report(results)


def test_what_is_written_in_a_study_cannot_become_markup(study):
    named = dataclasses.replace(study, name="<script>alert(1)</script>", question=None)
    text = plot.report(made_up(named, [[0.3, 0.1], [0.1, 0.1]]))
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "holds no table [question]" in text

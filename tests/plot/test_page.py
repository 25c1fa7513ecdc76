"""The page says what was studied, shows single flows, and repeats itself bit for bit."""

import dataclasses
import html
import importlib
import re
import shlex
import sys
import tomllib
from dataclasses import MISSING

import numpy as np
import pytest
from made_up_results import ASKED, made_up
from scipy import stats

from flowlift import plot, registry, studies
from flowlift.plot.flow_curves import MOST_FLOWS, flow_curves
from flowlift.plot.phrases import phrase_of, with_article
from flowlift.plot.report import _shown
from flowlift.plot.sentences import enough_seeds, in_a_sentence


@pytest.fixture(autouse=True)
def _words_alone(monkeypatch):
    """Figures are drawn in tests of their own."""
    monkeypatch.setattr(
        importlib.import_module("flowlift.plot.report"), "figures", lambda *_, **__: []
    )


@pytest.fixture
def study():
    return studies.structure_study(tomllib.loads(ASKED))


@pytest.fixture
def results(study):
    results = made_up(study, [[1e-3, 0.3], [1e-3, 0.01]])
    words = {"host": "tinkerbell", "ended": "2026-03-04T05:06:07+00:00", "run": "c0ffee"}
    return results.assign({k: (("size", "seed"), np.full((2, 2), v)) for k, v in words.items()})


def test_the_page_begins_with_what_was_studied(results, study):
    text = plot.report(results)
    first = re.sub("<[^>]+>", " ", text.split("<main>")[1].split("<section")[0])
    for words in ("an MLP (2 inputs, depth 2", "the task periodic (", "mean 2", "sizes 4 and 8"):
        assert words in first
    for words in ("normal weights of deviation 1", "2 seeds", "tsit5", "tolerance 1e-6"):
        assert words in first
    for words in ("tinkerbell", "2026-03-04", "flowlift 0.1.0"):
        assert words in first
    assert not re.search(r"None|=\w|[{}']", in_a_sentence(results, study))
    # The network is drawn: a box for each vertex.
    assert text.split("<section")[0].count("<rect") == 5


def test_a_page_is_the_same_when_it_is_written_again(results):
    assert plot.report(results) == plot.report(results)


def test_the_study_on_the_page_has_no_empty_table_and_reads_as_the_same(study):
    shown = _shown(studies.to_toml(study))
    assert not re.search(r"^\[[^\]]+\]\n(\n|\Z|\[)", shown, re.MULTILINE)
    assert studies.structure_study(tomllib.loads(shown)) == study


def test_every_single_flow_has_a_title_and_its_curve_ends_where_the_flow_did(results):
    drawn, shown, of = flow_curves(results)
    assert (shown, of) == ([(4, 0), (4, 1), (8, 0), (8, 1)], 4)
    titles = re.findall("<g[^>]*><title>([^<]*)</title>", drawn)
    assert titles[1] == "n = 4, seed 1, run c0ffee: loss 0.3 at t = 5, horizon"
    lines = re.findall('<polyline points="([^"]*)"', drawn)
    ends = np.array([[float(v) for v in line.split()[-1].split(",")] for line in lines])
    # The lower a flow ends, the lower its curve; all at the right edge.
    assert len(set(ends[:, 0])) == 1
    losses = results.final_loss.values.ravel()
    heights = np.interp(np.log(losses), [np.log(1e-3), 0.0], [262.0, 22.0])
    top = float(lines[1].split()[0].split(",")[1])
    assert ends[0, 1] == pytest.approx(heights[0], abs=1)
    assert top < ends[1, 1] < ends[3, 1] < ends[0, 1]


def test_a_page_of_many_flows_shows_some_and_says_how_many(study):
    many = made_up(study, np.full((2, 5000), 0.1))
    drawn, shown, of = flow_curves(many, name="flow")
    assert (len(shown), of) == (MOST_FLOWS, 10_000)
    assert {seed for _, seed in shown} == set(range(MOST_FLOWS // 2))
    # Bytes of a page go with what is shown, not with what was run.
    assert len(drawn) < 300_000
    assert f"a sample of {MOST_FLOWS} of the 10000 flows" in plot.report(many)


@pytest.mark.parametrize(("converged", "runs"), [(9, 10), (4, 5), (50, 52)])
def test_enough_seeds_are_the_first_whose_interval_lies_above(converged, runs):
    """Against the quantile of the beta distribution, by which Clopper and Pearson define it."""
    wanted, level = 0.75, 0.95
    n = enough_seeds(converged, runs, wanted, level)
    low = lambda n: stats.beta.ppf((1 - level) / 2, k := n * converged // runs, n - k + 1)
    assert low(n) >= wanted
    assert n == 1 or low(n - 1) < wanted or runs >= n
    assert enough_seeds(converged, runs, converged / runs, level) is None


def test_too_few_seeds_are_told_how_many_would_do(study):
    final = np.full((2, 8), 1e-3)
    final[0, :4] = 0.9
    text = plot.report(made_up(dataclasses.replace(study, seeds=8), final))
    assert "too few for a confident yes, about" in text
    assert re.search(r"about (\d+) seeds a size would do", text)


def test_pages_are_for_day_and_night_and_commands_can_be_copied(results):
    text = plot.report(results)
    assert "prefers-color-scheme: dark" in text
    assert "user-select: all" in text
    # Two of the study, and one of each flow.
    assert text.count('class="command"') == 2 + 4
    assert "<script" not in text


def test_a_click_on_a_flow_leads_to_the_command_that_repeats_it(results):
    text = plot.report(results, place="a place")
    targets = re.findall('<a href="#(flow-[^"]*)"', text)
    assert len(targets) == len(set(targets)) == 4
    for target in targets:
        size, seed = target.split("-")[2:]
        (shown,) = re.findall(f'<p class="one" id="{target}">(.*)</p>', text)
        assert shown.startswith(f"n = {size}, seed {seed}: ")
        command = shlex.split(html.unescape(re.sub("<[^>]*>", "", shown)).partition(": ")[2])
        assert command[:4] == ["flowlift", "run", "study.toml", "--lift.sizes"]
        assert command[4:9] == [size, "--first-seed", seed, "--seeds", "1"]
        assert command[9:] == ["--output", f"a place-n{size}-seed{seed}"]


def test_the_page_says_which_combinations_are_not_drawn(study, monkeypatch):
    monkeypatch.setattr(sys.modules["flowlift.plot.report"], "_MOST_VARIANTS", 1)
    study = dataclasses.replace(study, vary={"task.samples": (10, 20)})
    text = plot.report(made_up(study, np.full((2, 2, 2), 0.1), [("samples", [10, 20])]))
    assert "Of 2 combinations of the further axes the first 1 are drawn." in text
    assert text.count("<h3>Single flows: samples = 10") == text.count("<h3>Single flows") == 1
    assert "vary={&#34;task.samples&#34; = [10]}" in text


@pytest.mark.parametrize(
    ("words", "article"),
    [("MLP (2 inputs)", "an"), ("CNN1D", "a"), ("committee", "a"), ("attention", "an")],
)
def test_articles(words, article):
    assert with_article(words) == f"{article} {words}"


def test_every_law_is_a_phrase_or_a_name_with_numbers():
    """Of fields without defaults each is said."""
    for kind in ("edge_law", "weight_law"):
        for entry in registry.known(kind).values():
            needed = [f for f in dataclasses.fields(entry.function) if f.default is MISSING]
            law = entry.function(**{field.name: 3 for field in needed})
            told = phrase_of(law, kind)
            assert all("3" in told for _ in needed)
            assert not re.search(r"[={}]", told)

"""The studies run by one command, quickly when asked to, and say whether their claim held."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas
import pytest

STUDIES = Path(__file__).parents[1] / "studies"
# Study: its figure, and what its quick grid must say.
QUICK = {
    "03_tangent_radius": ("tangent_radius.png", "predicted -0.5: the claim holds"),
    "04_coverage": ("coverage.png", "the claim holds"),
    "05_certificate": ("certificate.png", "Both inequalities hold"),
    "06_lazy_or_not": ("lazy_or_not.png", "falling with n: holds"),
    "10_exact_linear": ("exact_linear.png", "within 10 x rtol at every tolerance: tsit5"),
    "11_saddle_to_saddle": ("saddle_to_saddle.png", "of the predicted ones: the claim holds"),
    "12_mean_field": ("mean_field.png", "falls with m: the claim holds"),
    "13_edge_of_stability": ("edge_of_stability.png", "met to 0.0013: the claim holds"),
    "14_sharpness_at_the_end": ("sharpness_at_the_end.png", "the lower bound holds"),
    "17_two_time_scales": ("two_time_scales.png", "all found: 0 to 3"),
    "16_max_margin": ("max_margin.png", "none is above the largest: holds"),
    "15_samples_and_neurons": ("samples_and_neurons.png", "all points together"),
    "18_learning_numbers": ("learning_numbers.png", "learning numbers are bounded from above"),
    "19_large_lifts": ("large_lifts.png", "along every flow: holds"),
}
# Those that keep runs in a store.
STORED = ("03_tangent_radius", "05_certificate", "06_lazy_or_not", "18_learning_numbers")

PARTS = ("**Claim.**", "**What one should see.**", "**What one sees.**", "**Verdict.**")
PROBABILITY = STUDIES / "08_convergence_probability"
GATED = STUDIES / "09_gated_products"


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_quick_grids_run_by_one_command(name, tmp_path):
    figure, verdict = QUICK[name]
    places = ["--figures", str(tmp_path / "figures")]
    if name in STORED:
        places += ["--results", str(tmp_path / "results")]
    command = [sys.executable, str(STUDIES / name / "run.py"), "--quick", *places]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert verdict in done.stdout
    assert plt.imread(tmp_path / "figures" / figure).shape[1] > 1000
    assert len(pandas.read_csv(tmp_path / "figures" / "summary.csv")) > 5


@pytest.mark.parametrize("name", QUICK)
def test_each_study_keeps_its_numbers_its_figure_and_its_verdict(name):
    folder = STUDIES / name
    readme = (folder / "README.md").read_text()
    assert f"({QUICK[name][0]})" in readme
    assert (folder / QUICK[name][0]).is_file()
    assert len(pandas.read_csv(folder / "summary.csv")) > 5
    for part in PARTS:
        assert part in readme, part
    assert f"python studies/{name}/run.py" in readme


def test_every_study_has_a_row_among_the_results():
    rows = (STUDIES.parent / "docs" / "results.md").read_text()
    for folder in sorted(path for path in STUDIES.iterdir() if path.is_dir()):
        assert re.search(rf"^\| {folder.name[:2]} \|", rows, re.MULTILINE), folder.name
        command = "make demo" if folder.name == "01_digits" else f"studies/{folder.name}/"
        assert command in rows, folder.name


def loaded(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_large_lifts_run_the_cells_that_are_asked_for():
    large = loaded(STUDIES / "19_large_lifts" / "run.py")
    chosen = large.cells(large.Options(cells=("mnist,dense,1e5", "teacher,1000000", "1e6,dense")))
    million = [("teacher", law, 1_000_000) for law in large.IN_DEGREES]
    others = [(name, "dense", 1_000_000) for name in ("mnist", "cnn")]
    assert chosen == [("mnist", "dense", 100_000), *million, *others]
    with pytest.raises(SystemExit, match="'1e' is none of teacher"):
        large.cells(large.Options(cells=("teacher,1e",)))


def test_the_tables_of_both_large_studies_are_those_of_their_designs(monkeypatch):
    large = loaded(STUDIES / "19_large_lifts" / "run.py")
    rows = pandas.read_csv(STUDIES / "19_large_lifts" / "summary.csv")
    seeds = rows.groupby(["architecture", "law", "size"]).seed.agg(list).to_dict()
    cells = large.cells(large.Options())
    assert seeds == {cell: list(range(large.DECADES[cell[2]])) for cell in cells}
    monkeypatch.syspath_prepend(STUDIES / "18_learning_numbers")
    numbers = loaded(STUDIES / "18_learning_numbers" / "run.py")
    counts = pandas.read_csv(STUDIES / "18_learning_numbers" / "summary.csv")
    places = counts.drop_duplicates(["law", "m", "lift size"])
    sizes = places.groupby(["law", "m"])["lift size"].agg(tuple).to_dict()
    planned = {(law, m): each for law, part in numbers.SIZES.items() for m, each in part.items()}
    assert sizes == planned
    # As many lifts of each size as the study begins with, at least.
    assert counts.runs.min() >= 36


@pytest.fixture(scope="module")
def analyse():
    return loaded(PROBABILITY / "analyse.py")


@pytest.mark.parametrize("name", ["study", "limit"])
def test_every_run_of_the_probability_study_is_kept(name):
    from flowlift import studies
    from flowlift.studies.toml import variants

    file = {"study": "runs.csv", "limit": "limit.csv"}[name]
    runs = pandas.read_csv(PROBABILITY / file)
    kept = runs.groupby(["problem", "law", "size"]).seed.agg(list).to_dict()
    planned = {
        (point["problem"], point["law"], size): list(study.seeds_of(size))
        for point, study in variants(studies.read_study(PROBABILITY / f"{name}.toml"))
        for size in study.lift.sizes
    }
    assert kept == planned


# 240 fits to runs that are kept: seconds for each law, and nothing that other tests do not fit.
@pytest.mark.slow
@pytest.mark.parametrize("law", ["k2", "k4", "k8", "dense"])
def test_the_probability_study_answers_from_its_runs(analyse, law):
    runs = pandas.read_csv(PROBABILITY / "runs.csv")
    numbers = pandas.read_csv(PROBABILITY / "learning_numbers.csv")
    assert set(numbers.law) == set(runs.law) == {"k2", "k4", "k8", "dense"}
    numbers = numbers[numbers.law == law].reset_index(drop=True)
    again = analyse.learning_numbers(runs[runs.law == law])
    pandas.testing.assert_frame_equal(again, numbers, check_dtype=False, rtol=1e-3)
    # The frequency is that of final losses, as the loss never rises.
    counts = analyse.counts_of(runs, 0.01)
    below = (runs.final_loss <= 0.01).groupby([runs.problem, runs.law, runs["size"]]).sum()
    assert (counts.converged == below).all()
    readme = (PROBABILITY / "README.md").read_text()
    for part in (*PARTS, "(probability.png)", "(learning_number.png)"):
        assert part in readme, part


@pytest.mark.slow
def test_the_quick_grid_of_the_probability_study(tmp_path):
    command = [sys.executable, "-m", "flowlift", "run", str(PROBABILITY / "study.toml"), "--quick"]
    done = subprocess.run(
        [*command, "--output", str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert len(re.findall(r"^ +periodic ", done.stdout, re.MULTILINE)) == 4
    assert "failed" not in done.stdout


def test_the_gated_study_keeps_every_run_and_its_sources_are_all_its_own():
    from flowlift import studies

    study = studies.read_study(GATED / "study.toml")
    assert set(study.sources) == {"gated.py"}
    assert set(study.sources["gated.py"]) == {"gated.py", "moons.py"}
    runs = pandas.read_csv(GATED / "runs.csv")
    assert runs.groupby("size").seed.agg(list).to_dict() == {
        size: list(study.seeds_of(size)) for size in study.lift.sizes
    }
    readme = (GATED / "README.md").read_text()
    for part in (*PARTS, "(success_vs_size.png)", "flowlift run studies/09_gated_products/study"):
        assert part in readme, part
    # The table counts what the runs say.
    for size, group in runs.groupby("size"):
        counts = [f"{(group.final_loss <= loss).sum()}/{len(group)}" for loss in (0.1, 0.05, 0.03)]
        assert re.search(rf"^\| {size} \| .*{counts[0]} .*{counts[1]} ", readme, re.MULTILINE)


@pytest.mark.slow
def test_the_quick_grid_of_the_gated_study(tmp_path):
    command = [sys.executable, "-m", "flowlift", "run", str(GATED / "study.toml"), "--quick"]
    done = subprocess.run(
        [*command, "--output", str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert len(re.findall(r"^ +[48] .* 4 horizon$", done.stdout, re.MULTILINE)) == 2
    kept = sorted(path.name for path in (tmp_path / "sources").rglob("*.py"))
    assert kept == ["gated.py", "moons.py"]


# Compiles lifts and their gradients for seconds.
@pytest.mark.slow
@pytest.mark.parametrize("mean", [2.0, None])
def test_the_loss_of_the_learning_numbers_is_that_of_gaussian_inputs(mean):
    from flowlift.lift import BernoulliInDegree, Complete, GaussianWidth, sample

    relus = loaded(STUDIES / "18_learning_numbers" / "relus.py")
    edges = Complete() if mean is None else BernoulliInDegree(mean)
    laws = {"edges": {"x->h1": edges}, "weights": {"h1->y": GaussianWidth()}}
    model = sample(relus.relus(5), copies=7, seed=3, **laws)
    task = relus.sum_of_relus(5)
    # No rounding of cosines makes a negative loss of the teacher itself.
    assert abs(float(task.objective(task.facts["teacher"]))) < 1e-12
    x = np.random.default_rng(0).standard_normal((200_000, 5))
    squares = (np.asarray(model.batch(x)) - np.maximum(x, 0).sum(axis=1)) ** 2
    error = squares.std() / len(x) ** 0.5
    assert abs(float(task.objective(model)) - squares.mean()) < 4 * error
    # The gradient, written without the arc cosine's singular terms, against differences.
    slope = jax.grad(lambda lift: task.objective(lift), allow_int=True)(model)
    for name in ("x->h1", "h1->y"):
        change = np.zeros_like(model.weights[name])
        change[1] = 1e-5
        ends = [
            float(task.objective(eqx.tree_at(lambda m, at=name: m.weights[at], model, w)))
            for w in (model.weights[name] + change, model.weights[name] - change)
        ]
        expected = (ends[0] - ends[1]) / 2e-5
        np.testing.assert_allclose(slope.weights[name][1], expected, rtol=1e-6, atol=1e-9)

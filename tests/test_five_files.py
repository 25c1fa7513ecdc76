"""Adding a task, an observer, a figure, a stopping rule or a solver touches one file each.

Each text below is the whole of a new file: it registers itself by the decorator that built-ins
use, and a study and its page take it by name, without a line elsewhere.
"""

import sys

import diffrax
import numpy as np
import pytest

import flowlift
from flowlift import plot, registry

TASK = '''
import numpy as np
from flowlift import register, tasks

@register("task")
def parabola(samples: int = 8) -> tasks.Task:
    """y = x^2 on a grid."""
    x = np.linspace(-1.0, 1.0, samples)
    return tasks.supervised(x[:, None], x**2, name="parabola")
'''
OBSERVER = '''
import jax.numpy as jnp
from flowlift import register

@register("observer")
def mean_weight(model):
    """The mean weight of the first layer."""
    return jnp.mean(model.layers[0].weight)
'''
STOP = '''
import dataclasses
from flowlift import register
from flowlift.flow import AbstractRule

@register("stop")
@dataclasses.dataclass(frozen=True)
class MovedFar(AbstractRule):
    """Stop at a save time once theta is this far from where it began."""

    distance: float

    def holds(self, records):
        return bool(records["distance"][-1] >= self.distance)
'''
SOLVER = '''
import diffrax
from flowlift import register

@register("solver")
def bosh3() -> diffrax.AbstractSolver:
    """Bogacki-Shampine 3(2)."""
    return diffrax.Bosh3()
'''
FIGURE = '''
from flowlift import register

@register("figure")
def seeds_drawn(data, ax):
    """How many seeds each size has."""
    ax.bar(data["size"].values, data.end_time.notnull().sum("seed").values)
    ax.set(xlabel="size", ylabel="seeds")
    return ax
'''
FILES = {
    "a_task": TASK,
    "an_observer": OBSERVER,
    "a_stop": STOP,
    "a_solver": SOLVER,
    "a_figure": FIGURE,
}


@pytest.fixture
def five_files(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    before = {kind: dict(table) for kind, table in registry._TABLES.items()}
    for name, text in FILES.items():
        (tmp_path / f"{name}.py").write_text(text)
        __import__(name)
    yield
    for kind, table in before.items():
        registry._TABLES[kind].clear()
        registry._TABLES[kind].update(table)
    for name in FILES:
        del sys.modules[name]


def test_five_new_files_are_used_by_name_in_a_study_and_its_page(five_files, tmp_path):
    study = flowlift.study(
        name="five",
        model={"kind": "dense_mlp", "inputs": 1, "depth": 1},
        task="parabola",
        sizes=[2],
        seeds=2,
        horizon=1e3,
        per_decade=4,
        solver="bosh3",
        rtol=1e-3,
        observers={"mean": "mean_weight"},
        observe_per_decade=0,
        rules={"far": {"kind": "moved_far", "distance": 0.05}},
    )
    assert set(study.study.sources) == {"a_task.py", "a_solver.py", "an_observer.py", "a_stop.py"}
    results = study.run(tmp_path / "results", progress=False)
    assert np.all(results.result == "rule")
    # Save times are a quarter of a decade apart, and |theta - theta_0| grows at most like t.
    assert np.all((results.final_distance >= 0.05) & (results.final_distance < 0.05 * 10**0.25))
    assert set(results.solver_used.values.ravel()) == {"Bosh3"}
    assert np.isfinite(results["mean"]).all()
    page = plot.report(results)
    assert "Seeds drawn" in page
    names = [name for name, _, _ in plot.figures(results)]
    assert "seeds_drawn" in names


def test_the_same_names_work_outside_of_studies(five_files):
    solution = flowlift.solve(
        np.array([1.0]), lambda w: (w**2).sum(), 1.0, solver="bosh3", rtol=1e-6
    )
    assert solution.loss[-1] == pytest.approx(np.exp(-4.0), rel=1e-4)
    same = flowlift.solve(
        np.array([1.0]), lambda w: (w**2).sum(), 1.0, solver=diffrax.Bosh3(), rtol=1e-6
    )
    assert same.loss[-1] == solution.loss[-1]

"""Studies from Python: the same records, identities and refusals as study files."""

import dataclasses
import functools
import importlib
import subprocess
import sys

import diffrax
import numpy as np
import own_code
import pytest

import flowlift
from flowlift.lift import Complete, FixedInDegree, Gaussian
from flowlift.studies import read_study
from flowlift.studies.grid import rows
from flowlift.sweep.checking import check_study


def runs(study) -> list[str]:
    return [run for row in rows(study) for run in row.runs]


@pytest.fixture
def gated(tmp_path, monkeypatch):
    own_code.write(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("gated", "parts"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module("gated")
    for name in ("gated", "parts"):
        sys.modules.pop(name, None)


def study(gated, **changes):
    given = {
        "name": "gated",
        "module": functools.partial(gated.gated_product, inputs=2),
        "task": functools.partial(gated.two_moons, samples=np.int64(8)),
        "sizes": np.array([2, 3]),
        "edges": "complete",
        "horizon": 1.0,
        "solver": "tsit5",
        "seeds": np.int32(2),
        "observers": {"out": gated.out_norm},
        "question": {"losses": [0.9]},
    }
    return flowlift.study(**{k: v for k, v in (given | changes).items() if v is not ...})


def test_a_file_and_python_make_the_same_runs(gated, tmp_path):
    file, here = read_study(tmp_path / "study.toml"), study(gated).study
    assert runs(here) == runs(file)
    assert here == file
    check_study(here)
    copy = tmp_path / "copy.toml"
    copy.write_text(study(gated).toml)
    assert read_study(copy) == here


@pytest.mark.parametrize(
    "task",
    [
        lambda gated: functools.partial(gated.two_moons, samples=8),
        lambda gated: {"kind": "gated.py:two_moons", "samples": 8},
        lambda gated: {"kind": "gated.py:two_moons", "samples": np.float64(8).astype(int)},
        lambda gated: gated.two_moons,
        lambda gated: "gated.py:two_moons",
    ],
)
def test_functions_words_and_tables_say_the_same(task, gated, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert runs(study(gated, task=task(gated)).study) == runs(study(gated).study)


def test_all_keys_reach_the_record(gated):
    made = study(
        gated,
        edges=FixedInDegree(np.int64(1)),
        weights=Gaussian(np.float64(0.5)),
        edges_over={"content": Complete(), "gate": "complete"},
        weights_over={"gate": functools.partial(gated.wide, scale=np.float32(2))},
        vary={"module.slope": np.array([1.0, 2.0])},
        question={"losses": (0.5, 0.1), "delta": 0.2},
        frozen=("out",),
        solver=functools.partial(diffrax.Kvaerno3),
        rules={"flat": {"kind": "stagnation", "relative": 0.1}},
        rtol=np.float64(1e-4),
        ratios={"h": 2.0},
        precision="float32",
        observe_per_decade=2,
        loss_below=0.1,
        first_seed=3,
    ).study
    check_study(made)
    assert (made.lift.sizes, made.seeds, made.first_seed) == ((2, 3), 2, 3)
    assert made.lift.edge_laws["*"] == FixedInDegree(1)
    assert made.lift.edge_laws["content"] == made.lift.edge_laws["gate"] == Complete()
    assert made.lift.weight_laws == {"*": Gaussian(0.5), "gate": Gaussian(2.0)}
    assert made.lift.ratios == {"h": 2.0}
    assert made.vary == {"module.slope": (1.0, 2.0)}
    assert made.frozen == ("out",)
    assert (made.question.losses, made.question.delta) == ((0.5, 0.1), 0.2)
    assert isinstance(made.flow.solver.build(), diffrax.Kvaerno3)
    assert (made.flow.rtol, made.precision, made.observe.per_decade) == (1e-4, "float32", 2)
    assert [type(stop).__name__ for stop in made.flow.stops] == ["LossBelow", "Stagnation"]


REFUSED = [
    ({"task": lambda: 1}, "lambdas, closures and methods cannot be written down"),
    ({"task": functools.partial(dict, 8)}, "must give arguments by name"),
    ({"task": "".join}, "`task` must be a function, a registered name or a dict"),
    ({"task": 3}, "`task` must be a function, a registered name or a dict"),
    ({"task": len}, "`task` must be a function, a registered name or a dict"),
    ({"task": "no_such_task"}, "key `task.kind` must be one of"),
    ({"task": "gone.py:task"}, "gone.py' must be readable"),
    ({"task": {"samples": 8}}, "key `task.kind` must name a task"),
    ({"sedes": 3}, "`sedes` must be a key of a study"),
    ({"edges": ...}, "`module` and `edges` must be given together"),
    ({"module": ...}, "`module` and `edges` must be given together"),
    ({"module": ..., "edges": ...}, "`module` and `lift`, or `model` and `sizes`"),
    ({"model": "dense_mlp"}, "key `model.inputs` is missing"),
    ({"seeds": 1.5}, "key `seeds` must be an integer"),
    ({"sizes": []}, "`sizes` must hold distinct lift sizes"),
    ({"solver": diffrax.Tsit5()}, "must be a function, a registered name or a dict"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_refusals(changes, message, gated):
    with pytest.raises(ValueError, match=r"^\S") as error:
        study(gated, **changes)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_an_array_is_no_argument(gated):
    task = functools.partial(gated.two_moons, samples=np.ones(2))
    with pytest.raises(ValueError, match=r"key `task.samples` must be an integer, but is \[1.0"):
        study(gated, task=task)


def test_two_sources_of_one_name_are_refused(gated, tmp_path, monkeypatch):
    own_code.write(tmp_path / "other", gated=own_code.GATED + "# other\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"two sources of this study are called 'gated\.py'"):
        study(gated, task="other/gated.py:two_moons")


def test_a_model_that_is_any_function(gated):
    made = flowlift.study(
        model=gated.controls,
        task=gated.moons_for_controls,
        sizes=[2, 4],
        horizon=1.0,
        frozen=["inner"],
    ).study
    check_study(made)
    with pytest.raises(ValueError, match="size must be at most 50"):
        check_study(dataclasses.replace(made, sizes=(2, 99)))


SCRIPT = """
import jax

jax.config.update("jax_enable_x64", True)
import flowlift
import numpy as np

NOISE = 0.1


def line(samples: int = 8):
    s = np.linspace(-1, 1, samples)
    return flowlift.tasks.supervised(np.stack([s, s**2], 1), np.sign(s) + NOISE * s)


def net(inputs: int):
    return flowlift.modules.mlp(inputs, depth=1)


if __name__ == "__main__":
    import functools

    study = flowlift.study(
        name="script",
        module=functools.partial(net, inputs=2),
        task=line,
        sizes=[2],
        seeds=2,
        edges="complete",
        horizon=0.1,
        solver="tsit5",
    )
    results = study.run("results", workers=2, progress=False)
    assert set(results["result"].values.ravel()) == {"horizon"}, results["reason"].values
"""


@pytest.mark.slow
def test_a_script_with_workers(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py"], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    kept = sorted(path.name for path in (tmp_path / "results" / "sources").rglob("*.py"))
    assert kept == ["line.py", "net.py"]

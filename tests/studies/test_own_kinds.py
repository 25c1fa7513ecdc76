"""Studies of one's own code: identity, provenance, what is executed when, what is refused."""

import dataclasses
import shutil
import subprocess
import sys
import traceback
from pathlib import Path

import matplotlib.pyplot as plt
import own_code
import pytest

from flowlift import answers, plot, sources, store, studies, sweep
from flowlift.studies.grid import rows
from flowlift.studies.kinds import Unloaded
from flowlift.sweep.admission import check_grid
from flowlift.sweep.checking import check_study


def runs(study) -> list[str]:
    return [run for row in rows(study) for run in row.runs]


def read(folder, *overrides, **files):
    return studies.read_study(own_code.write(folder, **files), overrides)


def check_file(path, overrides):
    study = studies.read_study(path, overrides)
    check_grid(study)
    check_study(study)


def refused(folder, *overrides, **files) -> str:
    """The one sentence in which a study is refused, before the first flow."""
    own_code.write(folder, **files)
    with pytest.raises(ValueError, match=r"^\S") as error:
        check_file(folder / "study.toml", overrides)
    said = str(error.value)
    assert "\n" not in said
    assert said.endswith(".")
    return said


# --- Identity -----------------------------------------------------------------------------------


def test_a_folder_is_a_study(tmp_path):
    study = read(tmp_path)
    check_study(study)
    assert sorted(study.sources["gated.py"]) == ["gated.py", "parts.py"]
    assert len(set(runs(study))) == 4
    assert study.module.slope == 1.0
    assert studies.structure_study(studies.toml.plain(study)) == study


def test_the_same_files_in_another_folder_are_the_same_runs(tmp_path):
    here = read(tmp_path / "here")
    own_code.write(tmp_path / "there" / "code")
    below = own_code.STUDY.replace("gated.py:", "code/gated.py:")
    moved = read(tmp_path / "there", study=below)
    assert runs(moved) == runs(here)
    assert studies.to_toml(moved) == studies.to_toml(here)
    absolute = own_code.STUDY.replace("gated.py:", f"{(tmp_path / 'here').as_posix()}/gated.py:")
    assert runs(read(tmp_path / "far" / "away", study=absolute)) == runs(here)


@pytest.mark.parametrize("file", ["gated", "parts"])
def test_another_text_is_another_run(file, tmp_path):
    text = {"gated": own_code.GATED, "parts": own_code.PARTS}[file] + "# a remark\n"
    assert not set(runs(read(tmp_path / "a"))) & set(runs(read(tmp_path / "b", **{file: text})))


def test_files_that_a_run_does_not_name_do_not_count(tmp_path):
    before = read(tmp_path)
    (tmp_path / "unused.py").write_text("raise RuntimeError\n")
    assert runs(read(tmp_path)) == runs(before)
    # A file that only one axis names counts along that axis alone.
    axis = 'alternatives={m={own={}, other={"task.kind"="other.py:two_moons"}}}'
    (tmp_path / "other.py").write_text(own_code.GATED)
    first = read(tmp_path, axis)
    (tmp_path / "other.py").write_text(own_code.GATED + "# a remark\n")
    second = read(tmp_path, axis)
    same = [a == b for a, b in zip(runs(first), runs(second), strict=True)]
    assert same == [True] * 4 + [False] * 4


def test_arguments_and_defaults_are_on_record(tmp_path):
    study = read(tmp_path)
    assert "slope = 1.0" in studies.to_toml(study)
    assert runs(read(tmp_path, "module.slope=1")) == runs(study)
    assert not set(runs(read(tmp_path, "module.slope=2"))) & set(runs(study))


def test_the_record_reads_as_the_study_that_it_is(tmp_path):
    study = read(tmp_path)
    copy = tmp_path / "copy.toml"
    copy.write_text(studies.to_toml(study))
    assert studies.read_study(copy) == study
    (tmp_path / "gated.py").write_text(own_code.GATED + "# a remark\n")
    with pytest.raises(ValueError, match="must be the one that the study records, but has changed"):
        studies.read_study(copy)


# --- Results ------------------------------------------------------------------------------------

POISON = "raise SystemExit('executed')\n"
ASKS = """
import sys
import jax
jax.config.update("jax_enable_x64", True)
import matplotlib
matplotlib.use("agg")
from flowlift import answers, plot, store
results = store.load(sys.argv[1])
assert answers.summary(results) is not None
question = answers.question_of(results)
assert list(answers.answers(results, question))
assert plot.save_figures(results, sys.argv[2], question=question)
assert not any(name.startswith("flowlift_sources") for name in sys.modules)
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    study = read(folder, "lift.sizes=[2]", "flow.per_decade=1")
    sweep.run_study(study, folder / "results", progress=False)
    return folder / "results", study


def forget(monkeypatch):
    """As in a process that has seen none of the code."""
    for table in ("_TEXTS", "_PLACES", "_MODULES"):
        monkeypatch.setattr(sources, table, {})


def test_results_keep_the_sources_and_run_again_alone(results, tmp_path, monkeypatch):
    folder, study = results
    kept = {path.name: path.read_text() for path in folder.rglob("*.py")}
    assert kept == {"gated.py": own_code.GATED, "parts.py": own_code.PARTS}
    copy = tmp_path / "elsewhere"
    shutil.copytree(folder, copy)
    forget(monkeypatch)
    again = studies.read_study(copy / "study.toml")
    assert studies.to_toml(again) == studies.to_toml(study)
    assert runs(again) == runs(study)
    before = {path: path.stat().st_mtime_ns for path in (copy / "cells").iterdir()}
    data = sweep.run_study(again, copy, progress=False)
    assert {path: path.stat().st_mtime_ns for path in (copy / "cells").iterdir()} == before
    assert list(data["run"].values.ravel()) == runs(study)
    # Further seeds are computed from the kept text alone.
    more = dataclasses.replace(again, seeds=3)
    assert "out" in sweep.run_study(more, copy, progress=False)


def test_of_two_kept_versions_the_recorded_one_is_read(results, tmp_path, monkeypatch):
    folder, study = results
    copy = tmp_path / "elsewhere"
    shutil.copytree(folder, copy)
    for digest in ("0" * 16, "f" * 16):
        (copy / "sources" / digest).mkdir()
        (copy / "sources" / digest / "gated.py").write_text(POISON)
    forget(monkeypatch)
    assert runs(studies.read_study(copy / "study.toml")) == runs(study)
    forget(monkeypatch)
    kept = next(p for p in copy.rglob("gated.py") if p.read_text() == own_code.GATED)
    kept.write_text(own_code.GATED + "# altered\n")
    with pytest.raises(ValueError, match="must be as it was kept with the results, but has"):
        studies.read_study(copy / "study.toml")


@pytest.fixture
def poisoned(results, tmp_path):
    """A copy of the results whose sources would end the process that executes them."""
    copy = tmp_path / "elsewhere"
    shutil.copytree(results[0], copy)
    for file in copy.rglob("*.py"):
        file.write_text(POISON)
    return copy


def test_reading_and_drawing_a_page_execute_nothing(poisoned, tmp_path, monkeypatch):
    forget(monkeypatch)
    before = set(sys.modules)
    data = store.load(poisoned)
    assert answers.summary(data) is not None
    assert list(answers.answers(data, answers.question_of(data)))
    plot.write_report(poisoned, tmp_path / "report.html")
    plt.close("all")
    assert not any(name.startswith("flowlift_sources") for name in set(sys.modules) - before)


# Files hold the figures of the page, and take a process and seconds to draw again.
@pytest.mark.slow
def test_reading_and_drawing_execute_nothing(poisoned, tmp_path):
    (tmp_path / "figures").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", ASKS, str(poisoned), str(tmp_path / "figures")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_what_is_only_read_cannot_be_run(results, monkeypatch):
    folder, study = results
    forget(monkeypatch)
    recorded = studies.toml.recorded_study(folder / "study.toml")
    assert isinstance(recorded.module, Unloaded)
    assert runs(recorded) == runs(study)
    with pytest.raises(ValueError, match="must be loaded to be run, but this study was only read"):
        check_study(recorded)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["spawned", "dask"])
def test_workers_get_the_code(where, tmp_path):
    study = read(tmp_path / "code")
    shutil.rmtree(tmp_path / "code")
    workers = {"spawned": lambda: sweep.spawned_workers(2)}
    if where == "dask":
        distributed = pytest.importorskip("distributed")
        cluster = distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None
        )
        workers["dask"] = lambda: sweep.dask_workers(cluster.scheduler_address)
    with workers[where]() as executor:
        data = sweep.run_study(study, tmp_path / "results", executor=executor, progress=False)
    if where == "dask":
        cluster.close()
    assert set(data["result"].values.ravel()) == {"horizon"}
    assert not any(data["reason"].values.ravel())


# --- Bad input ----------------------------------------------------------------------------------


def swap(before: str, after: str, file: str = "gated") -> dict[str, str]:
    text = {"gated": own_code.GATED, "study": own_code.STUDY, "parts": own_code.PARTS}[file]
    assert before in text
    return {file: text.replace(before, after)}


def line_of(text: str) -> int:
    """The line of the user's file that holds a text."""
    return own_code.GATED[: own_code.GATED.index(text)].count("\n") + 1


END = "def applied(model, xs):"
STUDIES = {
    "missing file": (swap("gated.py:gated", "gate.py:gated", "study"), "gate.py' must be readable"),
    "missing function": (
        swap("gated.py:gated_product", "gated.py:gated_produkt", "study"),
        "'gated.py' must define the function 'gated_produkt', but does not; it defines gate, "
        "gated_product, two_moons, out_norm",
    ),
    "no function": (swap("gated.py:gated_product", "gated.py:", "study"), "must read file.py:name"),
    "no colon": (swap("gated.py:gated_product", "gated.py", "study"), "or file.py:name"),
    "unknown argument": (
        swap("inputs = 2", "inputs = 2\nslop = 1.0", "study"),
        "key `module.slop` is unknown; the nearest known key is `module.slope`",
    ),
    "missing argument": (swap("inputs = 2", "", "study"), "key `module.inputs` is missing"),
    "wrong type": (
        swap("inputs = 2", 'inputs = "two"', "study"),
        "key `module.inputs` must be an integer, but is 'two'",
    ),
    "observer's argument": (
        swap(":out_norm", ':out_norm", power = "x', "study"),
        "`observe.quantities.out.power` must be an integer",
    ),
    "no module": (
        swap("return PerceptronModule(vertices, edges)", "return vertices"),
        "`gated.py:gated_product` must return a",
    ),
    "no task": (
        swap('return supervised(x, sign, name="two moons")', "return x, sign"),
        "`gated.py:two_moons` must return a",
    ),
    "text observed": (swap("** power", "* 0 or 'a'"), "must return a real number or an array"),
    "nothing observed": (swap("** power", "* 0 or None"), "must return a real number or an array"),
    "ragged": (swap("** power", "* 0 or [[1], [1, 2]]"), "must return a real number or an array"),
    "complex": (swap("** power", "+ 1j"), "must return a real number or an array"),
    "observer raises": (
        swap('model.weights["out"]', 'model.weights["oot"]'),
        f"raised KeyError: 'oot' (gated.py, line {line_of('return jnp.linalg')}); mend it.",
    ),
    "observer of what": (swap("out_norm(model,", "out_norm(net,"), "must take `model` by name"),
    "raises at import": (
        swap(END, f"raise RuntimeError('boom')\n{END}"),
        f"`gated.py`, raised RuntimeError: boom (gated.py, line {line_of(END)}); mend it.",
    ),
    "ends the program": (swap(END, f"raise SystemExit(3)\n{END}"), "raised SystemExit: 3 (gated"),
    "imports what is not there": (swap("import jax\n", "import jaxx\n"), "No module named 'jaxx'"),
    "raises at call": (
        swap("    vertices = [Input", "    1 / 0\n    vertices = [Input"),
        f"raised ZeroDivisionError: division by zero (gated.py, line {line_of('    vertices =')})",
    ),
    "is refused": (
        swap("(vertices, edges)", "(vertices, edges[:1])"),
        "raised ValueError: Argument `edges` must give every vertex that is no input",
    ),
    "sibling raises": (
        {"parts": "soft = 1\n\n1 / 0\n"},
        "`parts.py`, raised ZeroDivisionError: division by zero (parts.py, line 3)",
    ),
    "syntax": (
        swap(END, "def f(:"),
        f"gated.py' must be Python, but line {line_of(END)} is not",
    ),
    "sibling's syntax": ({"parts": "def f(:"}, "parts.py' must be Python, but line 1 is not"),
    "all arguments": (swap("slope: float = 1.0", "**rest"), "must be named, but it takes **rest"),
    "reserved": (swap("slope: float", "table: float"), "must not be called kind, table"),
    "no lift": (
        swap('[lift]\nsizes = [2, 3]\nedges = { kind = "complete" }', "", "study"),
        "given are `module`; add what is missing",
    ),
    "both": (
        swap("[task]", '[model]\nkind = "dense_mlp"\ninputs = 2\n[task]', "study"),
        "`model` must be given without `module` and `lift`",
    ),
    "no package": (swap("gated.py:gated", "no_such.thing:gated", "study"), "was not found"),
    "no Python": (swap("gated.py:gated", "math:gated", "study"), "and written in Python"),
    "not in the package": (
        swap("gated.py:gated_product", "scipy.special:gama", "study"),
        "must define the function 'gama', but does not; it defines gamma,",
    ),
}


@pytest.mark.parametrize("case", STUDIES)
def test_studies_that_no_run_can_be_made_of(case, tmp_path):
    files, message = STUDIES[case]
    assert message in refused(tmp_path, **files)


ASSIGNED = [
    ('lift.edges={kind="gated.py:wide", scale=1.0}', "`gated.py:wide` must return a"),
    ('lift.weights={kind="gated.py:complete"}', "`gated.py:complete` must return a"),
    ('frozen=["outer"]', "'outer' names none of weights.bias, weights.content, weights.gate"),
    ('frozen=["*"]', "`frozen` must leave a leaf that flows"),
    ('frozen="out"', "key `frozen` must be a list"),
    ("module.inputs=3", "must have samples of shape (3,) for vertex 'x', but has (2,)"),
    ('task={kind="periodic", harmonics={one=1.0}}', "must have keys that are integers, but has"),
    ("sources=3", "key `sources` must be a table"),
    ('sources={"gated.py"=3}', "key `sources.gated.py` must be a table"),
    ('sources={"gated.py"={"gated.py"="0", "parts.py"="1"}}', "the study records, but has changed"),
    ('flow.solver={kind="diffrax:Euler"}', "`solver` must be an adaptive diffrax solver"),
    ('observe.quantities={loss={kind="gated.py:out_norm"}}', "not have a name that results use"),
    ('vary={"module.slope"=["steep"]}', "key `module.slope` must be a number"),
    ('vary={"module.slop"=[1.0]}', "nearest known key is `module.slope`"),
    ('vary={"module.kind"=["gone.py:gated_product"]}', "gone.py' must be readable"),
    ('vary={"module.kind"=["gated.py:two_moons"]}', "`module.inputs` is unknown"),
]


@pytest.mark.parametrize(("assigned", "message"), ASSIGNED, ids=[a for a, _ in ASSIGNED])
def test_assignments_that_no_run_can_be_made_of(assigned, message, tmp_path):
    assert message in refused(tmp_path, assigned)


def test_two_files_of_one_name_are_refused(tmp_path):
    own_code.write(tmp_path / "other", gated=own_code.GATED + "# other\n")
    study = own_code.STUDY.replace("gated.py:two_moons", "other/gated.py:two_moons")
    assert "two are called 'gated.py'; rename one" in refused(tmp_path, study=study)


def test_a_size_that_the_function_refuses_is_refused_before_the_first_flow(tmp_path):
    said = refused(tmp_path, "sizes=[2, 99]", study=own_code.MODEL_STUDY)
    assert "`gated.py:controls`, raised ValueError: size must be at most 50 (gated.py, line" in said


def test_a_model_takes_size_and_seed(tmp_path):
    files = swap("(size: int, seed: int, *,", "(size: int, *,")
    said = refused(tmp_path, study=own_code.MODEL_STUDY, **files)
    assert "the model `gated.py:controls` must take `seed` by name, but takes size, outputs" in said


def test_the_cause_is_kept_for_the_traceback(tmp_path):
    with pytest.raises(ValueError, match="boom") as error:
        read(tmp_path, **swap(END, f"def late():\n    raise RuntimeError('boom')\nlate()\n{END}"))
    whole = "".join(traceback.format_exception(error.value))
    assert "raise RuntimeError('boom')" in whole
    assert "in late" in whole
    assert str(Path(tmp_path) / "gated.py") in whole


def test_laws_losses_and_solvers_of_one_s_own_are_taken(tmp_path):
    laws = ['lift.edges={kind="gated.py:complete"}']
    laws += ['lift.weights={kind="gated.py:wide", scale=0.5}', 'flow.solver={kind="diffrax:Bosh3"}']
    study = read(tmp_path, *laws)
    check_study(study)
    assert type(study.lift.weight_laws["*"]).__name__ == "Gaussian"
    assert study.sources["diffrax"]["diffrax"].startswith("diffrax ")
    assert studies.structure_study(studies.toml.plain(study)) == study


def test_code_of_further_axes_is_loaded_with_the_study_and_never_by_reading(tmp_path, monkeypatch):
    (tmp_path / "other.py").write_text(own_code.GATED)
    study = read(tmp_path, 'vary={"task.kind"=["gated.py:two_moons", "other.py:two_moons"]}')
    check_study(study)
    (tmp_path / "study.toml").write_text(studies.to_toml(study))
    forget(monkeypatch)
    recorded = studies.toml.recorded_study(tmp_path / "study.toml")
    assert runs(recorded) == runs(study)
    assert not sources._MODULES


def test_a_default_that_no_file_can_write_stays_the_function_s_own(tmp_path):
    study = read(tmp_path, **swap("slope: float = 1.0", "slope=np.ones(2)"))
    check_study(study)
    assert "slope" not in studies.to_toml(study)
    said = refused(tmp_path, "module.slope=1.0", **swap("slope: float = 1.0", "slope=np.ones(2)"))
    assert "key `module.slope` is unknown" in said

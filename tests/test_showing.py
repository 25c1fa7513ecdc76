"""Every public object shows its numbers: a few short lines of text, and well-formed HTML."""

import dataclasses
import enum
import importlib
import inspect
import re
from xml.etree import ElementTree

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from made_up_results import ASKED, made_up

import flowlift
from flowlift import answers, diagnostics, flow, modules, store, studies, tasks
from flowlift.flow.frame import frame
from flowlift.showing import COLUMNS, LINES, Card, html_of, shows_itself, text_of
from flowlift.sweep.experiment import Experiment
from flowlift.words import words

ROOMS = ["modules", "kernels", "lift", "tasks", "flow", "flow.dynamics", "diagnostics", "studies"]
ROOMS += ["store", "answers", "sweep", "compare", "solvers", "registry"]
# What one gives to flowlift rather than gets: a line of Python that makes it again is its `repr`.
GIVEN = ("modules.", "lift.edge_laws", "lift.weight_laws", "lift.densities", "flow.stops")
GIVEN += ("flow.schedule", "flow.rates")
# A context, and a tuple of what a field returns inside of a solver.
NOT_LOOKED_AT = {"Holder", "Rates"}


def public_classes():
    found = {}
    for room in ROOMS:
        there = importlib.import_module(f"flowlift.{room}")
        names = getattr(there, "__all__", None) or [n for n in dir(there) if n[0] != "_"]
        for cls in filter(inspect.isclass, (getattr(there, name) for name in names)):
            ours = cls.__module__.startswith("flowlift") and not inspect.isabstract(cls)
            if ours and not issubclass(cls, enum.Enum | BaseException):
                found[f"{cls.__module__.removeprefix('flowlift.')}.{cls.__name__}"] = cls
    return found


CLASSES = public_classes()
RECORDS = {name: cls for name, cls in CLASSES.items() if dataclasses.is_dataclass(cls)}


def check(value, *expected):
    """That a value shows these words, as text and, where it has tables, as HTML."""
    text = repr(value)
    lines = text.split("\n")
    assert len(lines) <= LINES
    assert max(map(len, lines)) <= COLUMNS
    assert " at 0x" not in text
    assert [word for word in expected if word not in text] == []
    if hasattr(value, "_repr_html_"):
        html = value._repr_html_()
        ElementTree.fromstring(html)
        shown = "".join(ElementTree.fromstring(html).itertext())
        assert [word for word in expected if word not in shown] == []


def filled(cls, number):
    """An object of a class with a number in each field, whatever the class says of them."""
    made = object.__new__(cls)
    for i, field in enumerate(dataclasses.fields(cls)):
        object.__setattr__(made, field.name, number(i + 0.25))
    return made


@pytest.mark.parametrize("name", RECORDS)
def test_every_public_record_shows_its_numbers(name):
    cls = RECORDS[name]
    fields = [i for i, f in enumerate(dataclasses.fields(cls)) if f.repr and f.name[0] != "_"]
    # Of more fields than lines the first are shown, and how many are left.
    expected = [str(i + 0.25) for i in fields[: LINES - 2]]
    for number in (np.float64, jnp.float32):
        if name.startswith(GIVEN):
            check(filled(cls, lambda x, number=number: float(number(x))), *expected)
        elif not hasattr(cls, "_card_"):
            check(filled(cls, number), *expected)


def test_every_public_class_has_a_table_but_what_one_gives():
    without = {name for name, cls in CLASSES.items() if not hasattr(cls, "_repr_html_")}
    assert {n for n in without if not n.startswith(GIVEN)} == {
        n for n in CLASSES if n.rpartition(".")[2] in NOT_LOOKED_AT and n in without
    }
    assert len(CLASSES) > 100


@pytest.fixture(scope="module")
def solved():
    lift = flowlift.sample(
        modules.mlp(inputs=2, depth=1, activation="tanh"),
        copies=3,
        edges=flowlift.Complete(),
        seed=1,
    )
    task = tasks.periodic({1: 1.0}, samples=8)
    look = {"norm <w>": lambda model: jnp.linalg.norm(model.weights["h1->y"])}
    return lift, task, flowlift.solve(lift, task, 1.0, observers=look, snapshots=[0.5])


def test_a_module_shows_its_graph():
    check(modules.mlp(inputs=2, depth=2, activation="tanh"), "5 vertices, 6 edges", "h1->h2")
    deep = modules.mlp(inputs=2, depth=30, activation="tanh")
    check(deep, "33 vertices")
    assert "more" in repr(deep).split("\n")[-1]
    drawn = ElementTree.fromstring(deep._repr_html_()).iter("{http://www.w3.org/2000/svg}rect")
    assert len(list(drawn)) == 33


def test_a_lift_shows_counts_and_weights(solved):
    lift, _, solution = solved
    first = f"{float(lift.weights['x->h1'][0, 0]):.6g}"
    check(
        lift, f"{lift.n_edges} edges, {lift.n_parameters} parameters", lift.graph_hash[:16], first
    )
    assert "<svg" in lift._repr_html_()
    assert repr(lift) != repr(solution.model)


def test_a_solution_shows_how_it_ended(solved):
    _, task, solution = solved
    check(task, "periodic", "(8, 2)", "SquaredLoss")
    last = f"{solution.loss[-1]:.6g}"
    check(solution, "horizon at t = 1", last, f"{solution.stats.gradients} gradients", "norm <w>")
    assert "polyline" in solution._repr_html_()
    check(solution.stats, str(solution.stats.steps))
    check(flow.dataset(solution).flowlift, "one flow", f"{solution.loss[-1]:.4g}", "1 horizon")


@pytest.mark.parametrize("outcome", [flow.Outcome.WORKER_CRASHED, flow.Outcome.NON_FINITE])
def test_a_solution_without_records_or_numbers_shows_itself(outcome, solved):
    _, _, solution = solved
    none = {f.name: np.empty(0) for f in dataclasses.fields(solution) if f.name in flow_records()}
    empty = dataclasses.replace(solution, model=None, result=outcome, times=np.empty(0), **none)
    check(empty, outcome.value, "no record")
    nan = {name: np.full(len(solution.times), np.nan) for name in none}
    check(dataclasses.replace(solution, result=outcome, **nan), "nan -> nan")


def flow_records():
    return {"loss", "gradient_norm", "arc_length", "energy", "distance"}


def test_a_study_and_its_answers_show_themselves(tmp_path):
    study = studies.read_study(write(tmp_path / "study.toml", ASKED))
    check(study, "small", "2 seeds", "5")
    check(Experiment(study), "small")
    results = made_up(study, [[0.01, 0.3], [0.01, 0.02]])
    for answer in answers.answers(results, study.question):
        check(answer, f"{answer.loss:g}", "of 2 converged")
    check(store.Rates([], {}), "0 finished runs")
    check(flow.Checkpoints(tmp_path / "<flow>.npz", 30.0), "<flow>.npz", "30 s")


def write(path, text):
    path.write_text(text)
    return path


def test_traced_objects_show_shapes(solved):
    lift, task, _ = solved
    seen = []

    @eqx.filter_jit
    def look(lift, task, radius):
        seen.extend([repr(lift), lift._repr_html_(), repr(task), repr(radius)])
        return lift

    radius = diagnostics.Radius(kappa=jnp.ones(3), lower=jnp.ones(3))
    look(lift, task.objective, radius)
    assert "float64 (3, 2)" in seen[0]
    assert "float64 (8, 2)" in seen[2]
    assert seen[3] == "Radius(kappa=float64 (3,), lower=float64 (3,))"
    struct = jax.eval_shape(lambda: radius)
    assert repr(struct) == seen[3]


def test_long_arrays_are_not_read_through():
    """Ten million numbers: a few are looked at, none is copied."""
    lengthy = np.broadcast_to(np.float64(0.5), (10, 1_000_000))
    assert words(lengthy) == "[0.5, 0.5, ..., 0.5] float64 (10, 1000000)"
    check(diagnostics.Radius(kappa=lengthy, lower=lengthy.T), "(1000000, 10)")
    many = dict.fromkeys(range(100000), lengthy)
    assert len(words(many, 90)) == 90
    assert words([0] * 10**6, 20).startswith("[0, 0")


def test_a_deleted_array_and_a_key_are_shown_by_type():
    gone = jnp.arange(3.0)
    gone.delete()
    assert words(gone) == "float64 (3,)"
    assert words(jax.random.key(0)) == "key<fry> ()"
    assert words(jnp.bfloat16(1.5)) == "1.5"
    assert words(np.array(1 + 2j)) == "1+2j"
    assert words(np.zeros((0, 2))) == "none, float64 (0, 2)"


def test_half_an_object_shows_what_is_there():
    """As in the error of a constructor that prints what it has."""
    made = object.__new__(diagnostics.Radius)
    object.__setattr__(made, "kappa", 0.5)
    assert repr(made) == "Radius(kappa=0.5)"
    made = object.__new__(flowlift.Lift)
    object.__setattr__(made, "method", "auto")
    assert repr(made) == "Lift\n  method  auto"


@shows_itself
class Awkward:
    def _card_(self):
        return Card("<b> & 'quotes'\n\x00", [("</td>", "</table>"), ("a\nb", "\ud800")])


def test_names_are_escaped_and_lines_stay_lines():
    made = Awkward()
    assert repr(made).count("\n") == 2
    told = list(ElementTree.fromstring(made._repr_html_()).itertext())
    assert {"</td>", "</table>"} <= set(told)


def test_text_stays_in_its_bounds():
    rows = [("x" * 200, "y" * 300)] * 500
    lines = text_of(Card("t" * 300, rows)).split("\n")
    assert len(lines) == LINES
    assert max(map(len, lines)) == COLUMNS
    assert lines[-1] == "  ... and 487 more"
    assert html_of(Card("t", rows)).count("<tr>") == 62


def test_showing_changes_neither_equality_nor_what_jax_sees(solved):
    lift, _, _ = solved
    again = flowlift.sample(lift.module, copies=3, edges=flowlift.Complete(), seed=1)
    assert eqx.tree_equal(lift, again)
    assert lift.module == again.module
    assert hash(lift.module) == hash(again.module)
    assert jax.tree.structure(lift) == jax.tree.structure(again)
    assert flow.FlowStats(1) == flow.FlowStats(1) != flow.FlowStats(2)


def test_records_are_a_table(solved):
    _, _, solution = solved
    table = solution.to_dataframe()
    assert table.index.name == "t [learning rate × steps]"
    np.testing.assert_array_equal(table.index, solution.times)
    np.testing.assert_array_equal(table["loss"], solution.loss)
    assert list(table.columns[-1:]) == ["norm <w>"]
    assert table.attrs["result"] == "horizon"


def test_a_table_names_each_number_of_an_array_and_the_clock():
    times = np.array([0.0, 1.0], np.float32)
    observed = {"x": {"a": np.arange(8.0).reshape(2, 2, 2), "b": np.zeros(2)}}
    observed |= {name: np.zeros(2) for name in flow.LogLoss.records}
    table = frame(times, {"loss": times}, observed)
    assert table.index.name == "log(1 + t)"
    assert list(table.columns[:6]) == [
        "loss",
        *(f"x.a[{i}, {j}]" for i in (0, 1) for j in (0, 1)),
        "x.b",
    ]
    np.testing.assert_array_equal(table["x.a[1, 0]"], [2.0, 6.0])
    assert table["loss"].dtype == np.float32


def test_nothing_is_loaded_to_draw():
    """Neither text nor HTML needs a plotting library, nor what is shown JAX or NumPy."""
    for name in ("drawings", "modules.drawn", "modules.places", "showing", "words"):
        text = inspect.getsource(importlib.import_module(f"flowlift.{name}"))
        loaded = re.findall(r"^\s*(?:import|from) (\w+)", text, re.MULTILINE)
        assert not {"matplotlib", "jax", "numpy", "IPython"} & set(loaded)

"""Comparisons of solvers on flows with known answers."""

import math
import sys

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import problems
import pytest

from flowlift.compare import curves, peers
from flowlift.compare.curves import Curve, compare, comparison_table, curve_error
from flowlift.compare.peers import family
from flowlift.plot.work_precision import work_precision

SOLVERS = ["tsit5", "rkc2", "scipy:LSODA", "scipy:DOP853", "gd:0.02", "gd:3.0"]


@pytest.fixture(scope="module")
def quadratic():
    problem = problems.Quadratic.draw(4, 50.0)
    return problem, problems.Vector(jnp.asarray(problem.start))


@pytest.fixture(scope="module")
def results(quadratic):
    problem, model = quadratic
    return compare(model, problem, 20.0, solvers=SOLVERS, rtols=[1e-3, 1e-5], repeats=0)


def rows(results, solver):
    return results.isel(run=np.flatnonzero(results.solver.values == solver))


def test_errors_are_those_against_the_closed_form(results, quadratic):
    problem, _ = quadratic
    true = problem.loss_at(results.time.values)
    np.testing.assert_allclose(results.reference_loss[0], true, rtol=1e-6)
    for run in range(results.sizes["run"]):
        if results.reached[run]:
            direct = curve_error(results.loss[run].values, true)
            assert float(results.error[run]) == pytest.approx(direct, rel=1e-2, abs=1e-7)
    for solver in SOLVERS[:4]:
        loose, tight = rows(results, solver).error.values
        assert tight < loose / 3
        assert tight < 1e-3
        assert rows(results, solver).rtol.values.tolist() == [1e-3, 1e-5]
        assert np.all(np.diff(rows(results, solver).cost) > 0)


def test_gradient_descent_stands_on_the_same_axis(results, quadratic):
    problem, _ = quadratic
    descent = rows(results, "gd:0.02")
    assert descent.sizes["run"] == 1
    assert math.isnan(descent.rtol[0])
    assert int(descent.gradients[0]) == 1000
    # Step by step: modes shrink by 1 - rate x eigenvalue.
    modes = problem.basis.T @ (problem.start - problem.optimum)
    at_end = 0.5 * problem.eigenvalues @ (modes * (1 - 0.02 * problem.eigenvalues) ** 1000) ** 2
    assert float(descent.loss[0, -1]) == pytest.approx(at_end, rel=1e-9)
    assert 1e-4 < float(descent.error[0]) < 0.1


def test_failures_are_shown_as_failures(results, quadratic):
    """A learning rate beyond 2 / sharpness diverges; a small budget is spent."""
    problem, model = quadratic
    known = lambda *times: {
        "repeats": 0,
        "reference": Curve(np.array(times), problem.loss_at(times)),
    }
    diverged = compare(model, problem, 5e3, solvers=["gd:3.0"], rtols=[1e-3], **known(10.0, 4e3))
    assert diverged.result.values[0] == "non-finite"
    assert not diverged.reached[0]
    spent = compare(
        model,
        problem,
        20.0,
        solvers=["tsit5", "scipy:LSODA", "gd:1e-4"],
        rtols=[1e-8],
        max_gradients=40,
        **known(2e-3, 20.0),
    )
    assert spent.result.values.tolist() == ["budget"] * 3
    # What was spent is said, and what was reached with it is not made up; descent ends at a save
    # time that the budget suffices for.
    assert np.all(spent.gradients.values >= [40, 40, 1])
    assert not spent.reached.values.any()
    assert np.all(spent.cost.values <= 40 + 7)
    assert np.isfinite(spent.loss.values[:, 0]).all()
    assert np.isnan(spent.loss.values[:, -1]).all()


def test_a_peer_is_given_up_at_a_multiple_of_the_least_cost(quadratic, capsys):
    """It runs after ours wherever it stands, and rows are printed as they end."""
    problem, model = quadratic
    times = np.array([1.0, 20.0])
    curve = Curve(times, problem.loss_at(times))
    given = {"rtols": [1e-3], "repeats": 0, "reference": curve}
    asked = ["scipy:BDF", "tsit5", "gd:0.001"]
    results = compare(model, problem, 20.0, solvers=asked, cost_ratio=1.0, progress=True, **given)
    assert results.solver.values.tolist() == asked
    bdf, ours, descent = (results.isel(run=place) for place in range(3))
    assert results.given_up.values.tolist() == [True, False, True]
    assert bool(ours.reached)
    assert int(bdf.gradients) <= int(ours.cost)
    assert bdf.result.item() == descent.result.item() == "budget"
    assert comparison_table(results).given_up.tolist() == [True, False, True]
    printed = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in printed if line.split()[:1] and line.split()[0] in asked]
    assert [row[0] for row in rows] == ["tsit5", "scipy:BDF", "gd:0.001"]
    assert f"more than {int(bdf.cost)}" in next(line for line in printed if "BDF" in line)
    # Without a bound it goes on, and by a bound of the user's it fails as everyone would.
    free = compare(model, problem, 20.0, solvers=asked[:2], cost_ratio=math.inf, **given)
    assert free.reached.values.all()
    assert int(free.gradients[0]) > int(ours.cost)
    assert "given_up" not in comparison_table(free)
    few = {"solvers": asked[:2], "max_gradients": 10}
    spent = compare(model, problem, 20.0, cost_ratio=100.0, **given, **few)
    assert spent.given_up.values.tolist() == [False, False]
    ax = work_precision(results)
    assert {line.get_marker() for line in ax.get_lines()} >= {">"}
    plt.close(ax.figure)


@pytest.mark.parametrize(("repeats", "runs"), [(0, 1), (1, 1), (3, 3)])
def test_a_peer_that_compiles_only_the_field_runs_once_for_each_timing(
    quadratic, monkeypatch, repeats, runs
):
    problem, model = quadratic
    begun, run = [], peers.run
    monkeypatch.setattr(curves, "run", lambda *given: begun.append(given[1]) or run(*given))
    curve = Curve(np.array([1.0]), problem.loss_at(np.array([1.0])))
    results = compare(
        model, problem, 1.0, solvers=["scipy:RK45"], rtols=[1e-3], repeats=repeats, reference=curve
    )
    assert begun == ["scipy:RK45"] * runs
    assert 0 < float(results.seconds[0]) < 60


def test_solvers_of_the_reference_family_get_another_judge(quadratic):
    problem, model = quadratic
    results = compare(
        model,
        problem,
        5.0,
        solvers=["exprb", "tsit5"],
        rtols=[1e-4],
        repeats=0,
        save=[1.0, 5.0],
        reference=["exprb", "scipy:Radau"],
    )
    assert results.reference.values.tolist() == ["scipy:Radau", "exprb"]
    assert results.attrs["disagreement"] < 1e-5
    assert family("scipy:Radau") == family("kvaerno5") != family("scipy:LSODA")


def test_a_given_curve_judges_all(quadratic):
    problem, model = quadratic
    times = np.array([0.5, 2.0, 10.0])
    curve = Curve(times, problem.loss_at(times))
    results = compare(
        model, problem, 5.0, solvers=["scipy:RK45"], rtols=[1e-6], repeats=1, reference=curve
    )
    assert results.time.values.tolist() == [0.0, 0.5, 2.0]
    assert 0 < float(results.error[0]) < 1e-4


# Radau differences its Jacobian as BDF does.
@pytest.mark.parametrize(
    "name", ["LSODA", "BDF", pytest.param("Radau", marks=pytest.mark.slow), "DOP853"]
)
def test_evaluations_of_peers_are_true_counts(name):
    """Against a host callback in the gradient itself, difference Jacobians included."""
    calls = []
    # Stiff enough that implicit methods difference their Jacobians; an explicit one takes 2,000
    # evaluations, each with a call to the host.
    stiff = jnp.array([1.0, 30.0, 300.0])

    @jax.custom_vjp
    def counted(theta):
        return theta

    def backward(_, cotangent):
        jax.debug.callback(lambda: calls.append(1))
        return (cotangent,)

    counted.defvjp(lambda theta: (theta, None), backward)

    def loss(m):
        return 0.5 * jnp.sum(stiff * counted(m.theta) ** 2)

    times = np.array([0.5, 2.0])
    curve = Curve(times, 0.5 * np.exp(-2 * np.outer(times, stiff)) @ np.asarray(stiff))
    results = compare(
        problems.Vector(jnp.ones(3)),
        loss,
        2.0,
        solvers=[f"scipy:{name}"],
        rtols=[1e-6],
        repeats=0,
        reference=curve,
    )
    jax.effects_barrier()
    assert int(results.gradients[0]) == len(calls)
    assert float(results.error[0]) < 1e-3


def test_table_and_figure(results):
    table = comparison_table(results)
    assert len(table) == results.sizes["run"] == 10
    assert set(table.solver) == set(SOLVERS)
    ax = work_precision(results)
    assert ax.get_xscale() == ax.get_yscale() == "log"
    assert {text.get_text() for text in ax.get_legend().get_texts()} == set(SOLVERS)
    drawn = {line.get_label(): line for line in ax.get_lines()}
    np.testing.assert_allclose(
        drawn["tsit5"].get_xdata(), np.sort(rows(results, "tsit5").cost), rtol=0
    )
    assert "2 of" not in ax.figure.get_supxlabel()
    plt.close(ax.figure)


def test_sundials_or_a_clear_sentence(quadratic, monkeypatch):
    problem, model = quadratic
    pytest.importorskip("sksundae", reason="optional extra")
    results = compare(
        model, problem, 5.0, solvers=["sundials:cvode"], rtols=[1e-6], repeats=0, save=[1.0, 5.0]
    )
    assert results.reached[0]
    assert float(results.error[0]) < 1e-3


def test_missing_sundials_is_said(quadratic, monkeypatch):
    problem, model = quadratic
    monkeypatch.setitem(sys.modules, "sksundae.cvode", None)
    with pytest.raises(ImportError, match=r"pip install 'flowlift\[sundials\]'"):
        compare(model, problem, 5.0, solvers=["sundials:cvode"], rtols=[1e-6])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"solvers": ["tsit6"]}, "`solvers` must hold names such as tsit5"),
        ({"solvers": ["scipy:Euler"]}, "scipy:NAME with one of LSODA"),
        ({"solvers": ["gd:fast"]}, "gd:LEARNING_RATE"),
        ({"solvers": ["diffrax:Euler"]}, "diffrax:NAME"),
        ({"solvers": []}, "`solvers` must hold at least one"),
        ({"rtols": []}, "`rtols` must hold at least one"),
        ({"cost_ratio": 0.5}, "`cost_ratio` must be a number of at least 1"),
        ({"rtols": [-1e-3]}, "`rtols` must hold numbers between 0 and 1"),
        ({"solvers": ["dopri8"], "reference": "tsit5"}, "of another family than 'dopri8'"),
    ],
)
def test_bad_arguments_are_refused(quadratic, change, message):
    problem, model = quadratic
    with pytest.raises(ValueError, match=message):
        compare(model, problem, 5.0, **{"solvers": ["tsit5"], "rtols": [1e-3]} | change)

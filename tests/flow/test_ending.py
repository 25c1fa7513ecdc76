"""How a flow ends, to the last bit: one decision, from one record, in one precision."""

import functools

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowlift import flow, memory
from flowlift.flow import LogTimes, LossBelow, Outcome, Stagnation
from flowlift.flow.methods import CorrectionNorm, ThetaNorm
from flowlift.flow.stops import AbstractRule

solve = functools.partial(flow.solve, save=LogTimes(2, start=1e-2))
START = jnp.array([1.0, 0.5])


def bowl(w):
    """L = |w|^2, so that w(t) = w(0) exp(-2 t)."""
    return jnp.sum(w**2)


def ends_well(solution):
    """What holds of every flow, however it ended; the shape of its end is one for all."""
    assert np.all(np.diff(solution.times) > 0)
    assert solution.times[-1] == solution.time
    assert set(solution.snapshots) <= set(solution.times)
    later = flow.resume(solution, 2 * solution.time + 1)
    # A limit of steps holds for the resumed part again.
    assert later.time == 2 * solution.time + 1 or later.result == Outcome.STEP_LIMIT
    assert later.time > solution.time
    np.testing.assert_array_equal(later.loss[: len(solution.loss)], solution.loss)
    return solution.result


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("solver", ["tsit5", pytest.param("bdf", marks=pytest.mark.slow)])
def test_a_rule_that_stops_at_a_snapshot_keeps_it(solver, precision):
    """A leg ends at a snapshot, so that the rule is met by the step that ends there."""
    settings = {"solver": solver, "precision": precision, "rtol": 1e-5, "save": [0.5]}
    whole = solve(START, bowl, 1.0, snapshots=[0.5], **settings)
    at = float(whole.loss[1])
    solution = solve(START, bowl, 1.0, snapshots=[0.5], stops=[LossBelow(at)], **settings)
    assert ends_well(solution) == Outcome.LOSS_BELOW
    assert solution.time == 0.5 or solver == "bdf"
    np.testing.assert_allclose(solution.snapshots[0.5], START * np.exp(-1.0), rtol=1e-3)
    if solver == "tsit5":
        np.testing.assert_array_equal(solution.snapshots[0.5], solution.model)


@pytest.mark.parametrize(
    "solver",
    [
        "tsit5",
        pytest.param("dopri8", marks=pytest.mark.slow),
        pytest.param("exprb", marks=pytest.mark.slow),
        pytest.param("bdf", marks=pytest.mark.slow),
        pytest.param("rkc2", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_thresholds_a_bit_beside_the_last_loss(solver, precision):
    """At the last loss or above, met; a bit below it, the horizon: whatever the loop's rounding."""
    settings = {"solver": solver, "precision": precision, "rtol": 1e-5}
    last = solve(START, bowl, 1.0, **settings).loss[-1]
    beside = [np.nextafter(last, last.dtype.type(way)) for way in (0, np.inf)]
    # Between two numbers of the flow's precision; in double precision it is rounded to one of them.
    between = float(last) - float(last - beside[0]) / 2
    expected = [True, True, False, precision == "float64" and between == last]
    for threshold, met in zip([last, *beside[::-1], between], expected, strict=True):
        solution = solve(START, bowl, 1.0, stops=[LossBelow(threshold)], **settings)
        assert (float(solution.loss[-1]) <= threshold) == met
        assert ends_well(solution) == (Outcome.LOSS_BELOW if met else Outcome.HORIZON)
        assert solution.time == 1.0


def test_stops_at_save_times_of_float32():
    """2.2 is no number of float32: the time reached is the one asked for, once."""
    settings = {"solver": "tsit5", "precision": "float32", "rtol": 1e-5, "save": [0.1, 1.1, 2.2]}
    settings |= {"snapshots": [0.1, 1.1]}
    at = solve(START, bowl, 2.2, **settings).loss
    for index, time in ((1, 0.1), (2, 1.1), (3, 2.2)):
        stop = LossBelow(float(at[index]))
        solution = solve(START, bowl, 2.2, stops=[stop], **settings)
        assert ends_well(solution) == Outcome.LOSS_BELOW
        assert solution.time == time
    assert solution.times.tolist() == [0.0, 0.1, 1.1, 2.2]


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["kvaerno5", diffrax.Kvaerno3()])
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_implicit_solvers_take_steps_at_rounding(solver, precision):
    """Where a step is so short that Newton's corrections are rounding from the first on."""
    times = [1e-20, 2e-4, np.nextafter(2e-4, 1), 0.5, np.nextafter(0.5, 1), 1.0]
    settings = {"solver": solver, "save": times, "precision": precision, "rtol": 1e-3}
    solution = solve(START, bowl, 1.0, **settings)
    assert ends_well(solution) == Outcome.HORIZON
    assert solution.times.tolist() == [0.0, *times]
    assert solution.stats.rejected == 0


@pytest.mark.slow  # stock implicit solvers in single precision
@pytest.mark.parametrize("precision", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
def test_a_root_finder_is_not_asked_for_more_than_rounding(precision):
    """Its residual, of the size of a step, cannot be below 1e-13 where a step is 1e-3 of 1."""
    settings = {"solver": diffrax.ImplicitEuler(), "precision": precision, "save": [1.0]}
    solution = solve(START, bowl, 1.0, rtol=1e-3, atol=1e-13, **settings)
    assert ends_well(solution) == Outcome.HORIZON
    # Of first order, with error estimates h^2 / 2 of at most 1e-3: some 20 steps, none unsolved.
    assert 10 < solution.stats.steps < 200
    assert solution.stats.rejected <= 5
    np.testing.assert_allclose(solution.loss[-1], bowl(START) * np.exp(-4.0), rtol=0.15)


def test_corrections_of_a_thousandth_are_none():
    norm = CorrectionNorm(ThetaNorm())
    for size, value in ((2e-3, 2e-3), (0.9e-3, 0.0), (1e-30, 0.0), (np.nan, np.nan)):
        np.testing.assert_allclose(norm((jnp.full(3, size), None)), value)


def test_what_the_last_allowed_step_reaches_is_reached():
    settings = {"solver": "tsit5", "save": [1.0]}
    free = solve(START, bowl, 1.0, **settings)
    for limit in ({"max_steps": free.stats.steps}, {"max_gradients": free.stats.gradients}):
        assert ends_well(solve(START, bowl, 1.0, **limit, **settings)) == Outcome.HORIZON
    stop = [LossBelow(0.3)]
    free = solve(START, bowl, 1.0, stops=stop, **settings)
    for limit in ({"max_steps": free.stats.steps}, {"max_gradients": free.stats.gradients}):
        solution = solve(START, bowl, 1.0, stops=stop, **limit, **settings)
        assert ends_well(solution) == Outcome.LOSS_BELOW
        assert solution.time == free.time
    short = solve(START, bowl, 1.0, stops=stop, max_steps=free.stats.steps - 1, **settings)
    assert ends_well(short) == Outcome.STEP_LIMIT


def test_a_rule_that_the_loop_alone_sees_lets_the_flow_go_on(monkeypatch):
    """As if rounding differed by far more than it does: only the record ends a flow."""
    monkeypatch.setattr("flowlift.flow.march.at_most", lambda threshold, _: 10 * threshold)
    solution = solve(START, bowl, 5.0, solver="tsit5", save=[0.1], stops=[LossBelow(1e-2)])
    assert solution.result == Outcome.LOSS_BELOW
    assert solution.loss[-1] <= 1e-2 < solution.loss[-2]
    assert solution.times[:2].tolist() == [0.0, 0.1]
    assert len(solution.times) == 3


@pytest.mark.parametrize("solver", ["tsit5", pytest.param("bdf", marks=pytest.mark.slow)])
def test_a_record_that_is_no_number_is_no_success(solver):
    """The gradient is finite beyond the edge, where L is not: at t = 1, since w' = 1."""

    def loss(w):
        return -jnp.sum(w) + jnp.where(jnp.sum(w) > 3.5, jnp.nan, 0.0)

    for horizon in (0.9, 5.0):
        solution = solve(START, loss, horizon, solver=solver)
        assert solution.success == (horizon < 1)
        assert np.isfinite(solution.loss).all()
    assert solution.result == Outcome.NON_FINITE
    assert solution.time == pytest.approx(1.0, rel=1e-3)
    with pytest.raises(ValueError, match="must not have failed"):
        flow.resume(solution, 10.0)


@pytest.mark.parametrize(
    "solver",
    [
        "tsit5",
        *(
            pytest.param(n, marks=pytest.mark.slow)
            for n in ("bdf", "dopri8", "rkc2", "exprb", "auto")
        ),
    ],
)
def test_an_overflow_has_one_name(solver):
    """|grad L|^2 = 4 |w|^2 grows as exp(4 t), to 1e308 at t = 177."""
    solution = solve(START, lambda w: -bowl(w), 1000.0, solver=solver)
    assert solution.result == Outcome.NON_FINITE
    assert 170 < solution.time < 400
    # At infinity at t = exp(-1); at L = -1e16 steps are of the rounding of time.
    solution = solve(START, lambda w: -jnp.exp(w).sum(), 1000.0, solver=solver, precision="float64")
    assert solution.result == Outcome.NON_FINITE
    assert solution.time == pytest.approx(np.exp(-1), rel=1e-2)


@pytest.mark.parametrize("precision", ["float64", pytest.param("float32", marks=pytest.mark.slow)])
def test_stagnation_does_not_see_a_constant(precision):
    """L = sum cos w + c stops at one time whatever c, whatever the sign of L."""

    def loss(w):
        return jnp.sum(jnp.cos(w["angle"])) + w["c"][0]

    choose = {"angle": True, "c": False}
    times = []
    for c in (-2.0, -5.0, 0.0, 2.0, 7.0, 100.0):
        model = {"angle": START, "c": jnp.array([c])}
        rule = [Stagnation(1e-3)]
        solution = solve(
            model, loss, 1e6, solver="tsit5", stops=rule, trainable=choose, precision=precision
        )
        assert solution.result == Outcome.STAGNATION
        times.append(solution.time)
    assert len(set(times)) == 1
    assert 10 < times[0] < 1e3


def test_stagnation_is_what_its_formula_says():
    """L = t^-1: the last decade brought 9 L of the 1 - L that it fell in all."""
    t = np.r_[0.0, np.geomspace(1.0, 1e6, 61)]
    loss = 1 / np.maximum(t, 1.0)
    for relative in (1e-1, 1e-3):
        rule = Stagnation(relative)
        upto = ({"time": t[: i + 1], "loss": loss[: i + 1]} for i in range(1, len(t)))
        first = next(i for i, records in enumerate(upto, 1) if rule.holds(records))
        # 9 / t <= relative (1 - 1 / t); interpolating L in log t raises it by at most 0.3%.
        assert t[first - 1] * relative < 9 + relative < t[first] * relative * 1.003


def test_losses_need_not_be_positive():
    solution = solve(START, lambda w: bowl(w) - 1.0, 5.0, solver="tsit5", stops=[LossBelow(-0.5)])
    assert ends_well(solution) == Outcome.LOSS_BELOW
    assert solution.loss[-1] <= -0.5 < solution.loss[-2]


def test_snapshots_at_both_ends_and_at_sums_of_tenths():
    tenths = np.arange(1, 4) * 0.1
    assert tenths[-1] != 0.3
    times = [0, *tenths]
    solution = solve(START, bowl, 0.3, solver="tsit5", save=tenths, snapshots=times)
    assert list(solution.snapshots) == times
    assert solution.times.tolist() == [0.0, 0.1, 0.2, 0.3]
    for t, w in solution.snapshots.items():
        np.testing.assert_allclose(w, START * np.exp(-2 * t), rtol=1e-5)
    more = flow.resume(solution, 1.0, snapshots=[0.1, 0.3, 0.5])
    assert list(more.snapshots) == [*times, 0.3, 0.5]
    np.testing.assert_array_equal(more.snapshots[0.3], solution.model)
    with pytest.raises(ValueError, match="`snapshots` must hold times from 0"):
        flow.resume(solution, 1.0, snapshots=[0.15])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"snapshots": [0.5, 0.1]}, "`snapshots` must hold increasing times"),
        ({"snapshots": [2.0]}, "`snapshots` must hold increasing times from 0 to the horizon 1"),
        ({"snapshots": 0.5}, "`snapshots` must hold increasing flow times, but is 0.5"),
        ({"save": ["a"]}, "`save` must hold increasing flow times"),
        ({"save": [-0.1]}, "`save` must hold increasing times"),
        ({"save": [1e-50], "precision": "float32"}, "at least 1.2e-38 apart in float32"),
        ({"stops": LossBelow(1.0)}, "`stops` must hold stopping rules"),
        ({"max_gradients": jnp.asarray(0)}, "`max_gradients` must be positive"),
        ({"max_gradients": float("nan")}, "`max_gradients` must be positive"),
        ({"max_steps": True}, "`max_steps` must be an integer"),
        ({"checkpoints": "flow.npz"}, r"wrap the file's name: Checkpoints\(path\)"),
        ({"trainable": [True]}, "`trainable` must be a function of a leaf, or a tree"),
        ({"model": [START, jnp.arange(2)], "trainable": True}, r"leaf \[1\], a int\d+ array"),
        ({"model": [START, bowl], "trainable": True}, r"leaf \[1\], a function"),
    ],
)
def test_bad_arguments_get_one_sentence(arguments, message):
    arguments = {"model": START, "solver": "tsit5"} | arguments
    with pytest.raises(ValueError, match=message) as error:
        solve(arguments.pop("model"), bowl, 1.0, **arguments)
    assert str(error.value).count("\n") == 0


@pytest.mark.parametrize("transform", [jax.jit, jax.grad, jax.vmap])
def test_a_traced_solve_says_what_to_use_instead(transform):
    def end(w):
        return solve(w, bowl, 1.0).loss[-1]

    with pytest.raises(ValueError, match=r"outside of jax.jit, .* call flowlift.trajectory"):
        transform(end)(START)

    def data(a):
        return solve(START, lambda w: bowl(w - a), 1.0).loss[-1]

    with pytest.raises(ValueError, match=r"outside of jax.jit, .* call flowlift.trajectory"):
        transform(data)(START)


@pytest.mark.parametrize("number", [np.float64, np.float32, jnp.float32, jnp.asarray, np.asarray])
def test_numbers_of_numpy_and_jax_are_numbers(number):
    solution = solve(
        START,
        bowl,
        number(2.0),
        solver="tsit5",
        rtol=number(0.5**20),
        atol=number(0.5**30),
        save=LogTimes(np.int64(2), start=number(0.5)),
        snapshots=jnp.asarray([0.5]),
        stops=[LossBelow(number(0.5))],
        max_gradients=number(1024),
        max_steps=jnp.asarray(500),
    )
    assert solution.result == Outcome.LOSS_BELOW
    assert type(solution.checkpoint.settings.tolerances[0]) is float
    assert type(LossBelow(number(0.5)).threshold) is float


def test_a_solution_without_its_position_is_not_resumed(tmp_path):
    kept = flow.Checkpoints(tmp_path / "flow.npz", every=0)
    solve(START, bowl, 1.0, solver="tsit5", save=[0.5], checkpoints=kept)
    with pytest.raises(ValueError, match="holds records alone"):
        flow.resume(kept.partial(Outcome.STEP_LIMIT), 2.0)


def test_snapshots_that_memory_does_not_hold_are_refused(monkeypatch):
    """Two numbers of 8 bytes each: three models take 48."""
    settings = {"solver": "tsit5", "save": [0.5, 1.0], "snapshots": [0.2, 0.5, 1.0]}
    monkeypatch.setattr(memory, "machine_memory", lambda: 48)
    solution = solve(START, bowl, 1.0, **settings)
    monkeypatch.setattr(memory, "machine_memory", lambda: 47)
    with pytest.raises(ValueError, match="`snapshots` must fit into this machine's memory"):
        solve(START, bowl, 1.0, **settings)
    with pytest.raises(ValueError, match="`snapshots` must fit into this machine's memory"):
        flow.resume(solution, 2.0, snapshots=[1.5, 1.7, 2.0])


class Asked(AbstractRule):
    """Never holds; notes the times at which it is asked."""

    def __init__(self):
        self.times = []

    def holds(self, records):
        self.times.append(float(records["time"][-1]))
        return False


def test_rules_are_asked_at_save_times_alone():
    """A limit that halts the flow between two of them leaves a record that nobody asked for."""
    rule = Asked()
    settings = {"solver": "tsit5", "save": [0.1, 0.2, 1.0], "stops": [rule]}
    solution = solve(START, bowl, 1.0, max_steps=6, **settings)
    assert solution.result == Outcome.STEP_LIMIT
    assert solution.time not in (0.0, *settings["save"])
    assert set(rule.times) <= {0.0, *settings["save"]}
    assert flow.resume(solution, 1.0, save=[0.1, 0.2, 1.0], stops=[rule]).success
    assert set(rule.times) == {0.0, *settings["save"]}


def barrier(w):
    """Convex on w > 0, with its rest at 0.01: a step of a loose tolerance easily leaves it."""
    return jnp.sum(2 / 3 * w**1.5 - 1e-3 * jnp.log(w))


@pytest.mark.parametrize(
    ("solver", "rtol", "count"),
    # One rule in one place: one row by default.
    [("bdf", 0.3, 400), pytest.param("bdf", 0.03, 400, marks=pytest.mark.slow)]
    + [pytest.param("tsit5", 0.1, 4_000, marks=pytest.mark.slow)]
    + [pytest.param(solver, 0.3, 400, marks=pytest.mark.slow) for solver in ("tsit5", "rkc2")],
)
def test_states_between_steps_stay_where_the_loss_is_a_number(solver, rtol, count):
    """Interpolants left the domain where no step did, and a BDF took steps that ended outside.

    From 30 and 21 both coordinates come to 0.01 by t = 10; the flow never leaves w > 0.
    """
    times = np.linspace(0, 50, count)
    start = np.array([30.0, 21.0])
    settings = {"rtol": rtol, "atol": rtol, "save": times, "snapshots": times[::40]}
    solution = flow.solve(start, barrier, 50.0, solver=solver, **settings)
    assert solution.result == Outcome.HORIZON
    assert solution.times.tolist() == times.tolist()
    assert np.isfinite(solution.loss).all()
    assert all((np.asarray(w) > 0).all() for w in solution.snapshots.values())
    # Beside the rest, where L = 4/3 1e-3 - 2e-3 log(0.01), to a part of the tolerance of w.
    assert solution.loss[-1] == pytest.approx(0.010543673705, rel=0.3)
    assert solution.loss[0] == pytest.approx(float(barrier(start)))

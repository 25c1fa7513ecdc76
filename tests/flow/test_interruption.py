"""Ctrl-C in a flow: what was computed is exact, is gone on with, and counts as nothing else."""

import signal

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowlift
from flowlift import answers, flow, modules, tasks
from flowlift.flow.dynamics import CentralFlow, CentralRMSProp
from flowlift.flow.problem import make_problem
from flowlift.flow.runner import Request

RECORDS = ("times", "loss", "gradient_norm", "arc_length", "energy", "distance")


# Each is a program of its own, compiled for seconds.
COMPILED = [("bdf", "host"), ("tsit5", "graph"), ("bdf", "graph")]


def quartic(theta):
    return jnp.sum(jnp.array([1.0, 10.0, 100.0]) * theta**2) + jnp.sum(theta**4)


START = jnp.array([1.0, -0.5, 0.25])


@pytest.fixture(autouse=True)
def heard():
    """The signal counts, as in a terminal: what a shell starts in its background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class After:
    """Interrupts a flow at some leg."""

    def __init__(self, legs):
        self.legs, self.seen = legs, 0

    def __call__(self, now):
        self.seen += 1
        if self.seen == self.legs:
            signal.raise_signal(signal.SIGINT)


def assert_same(one, other):
    for name in RECORDS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for a, b in zip(jax.tree.leaves(one.model), jax.tree.leaves(other.model), strict=True):
        np.testing.assert_array_equal(a, b)
    counts = ("gradients", "hvps", "steps", "rejected", "observation_gradients", "legs")
    assert [getattr(one.stats, n) for n in counts] == [getattr(other.stats, n) for n in counts]
    assert one.result is other.result
    assert list(one.snapshots) == list(other.snapshots)


def assert_goes_on(model, task, horizon, legs=3, **options):
    """Interrupt, look at what is there, go on, and compare with the flow that nobody touched."""
    whole = flowlift.solve(model, task, horizon, **options)
    assert whole.stats.legs > legs
    part = flowlift.solve(model, task, horizon, progress=After(legs), interrupt="return", **options)
    assert part.result is flow.Outcome.INTERRUPTED
    assert not part.success
    assert not part.result.failed
    assert part.time == part.times[-1] < horizon
    # Its records are those of the whole flow, and one more, of where it was left.
    count = len(part.times) - (part.times[-1] not in whole.times)
    for name in RECORDS:
        np.testing.assert_array_equal(getattr(part, name)[:count], getattr(whole, name)[:count])
    later = [t for t in options.get("snapshots", ()) if t > part.time]
    kept = {name: options[name] for name in ("save", "stops") if name in options}
    assert_same(flowlift.resume(part, horizon, snapshots=later, **kept), whole)


@pytest.mark.parametrize(
    ("solver", "engine"),
    [("tsit5", "host"), *(pytest.param(*pair, marks=pytest.mark.slow) for pair in COMPILED)],
)
def test_what_is_gone_on_with_has_the_bits_of_the_whole(solver, engine):
    assert_goes_on(START, quartic, 5.0, solver=solver, engine=engine)


# Each compiles a flow of its own, some of them for seconds.
@pytest.mark.slow
@pytest.mark.parametrize("engine", ["host", "graph"])
@pytest.mark.parametrize(
    "options",
    [
        {"solver": "auto"},
        {"solver": "rkc2"},
        {"solver": "exprb"},
        {"solver": "dopri8", "save": np.linspace(0.0, 5.0, 40)},
        {"precision": "float32", "rtol": 1e-4, "solver": "tsit5"},
        {"precision": "float32", "rtol": 1e-3, "solver": "bdf"},
        {"dynamics": flow.HeavyBall(1.0), "solver": "tsit5"},
        {"dynamics": flow.Adam(1.0, 1.0), "solver": "tsit5"},
        {"stops": [flow.LossBelow(1e-4)], "solver": "tsit5"},
        {"stops": [flow.Stagnation(1e-3)], "solver": "bdf"},
        {"snapshots": [1e-3, 1.0, 3.0], "observers": {"w": lambda theta: theta[:2]}},
        {"rates": 0.5, "solver": "tsit5"},
        {"dynamics": CentralFlow(0.3, eigenvalues=1), "solver": "tsit5"},
        {"dynamics": CentralRMSProp(0.1, 0.9, 0.1), "solver": "tsit5"},
    ],
)
def test_every_option_is_gone_on_with(options, engine):
    assert_goes_on(START, quartic, 5.0, engine=engine, **options)


# Gradients in passes of samples, whose number the bound decides, in both engines.
@pytest.mark.slow
@pytest.mark.parametrize("engine", ["host", "graph"])
@pytest.mark.parametrize("solver", ["tsit5", "bdf", "rkc2"])
def test_a_flow_in_bounded_memory_is_gone_on_with(solver, engine):
    model = modules.mlp(2, depth=2)
    lift = flowlift.sample(model, copies=6, edges={"*": flowlift.FixedInDegree(2)}, seed=0)
    task = tasks.periodic({1: 1.0, 3: 0.5}, samples=64)
    bound = 2000
    objective = make_problem(lift, task.objective, "float64", memory=bound).objective
    assert len(jax.tree.leaves(objective.parts)[0]) > 1
    assert_goes_on(lift, task, 5.0, 2, solver=solver, engine=engine, memory=bound)
    with pytest.raises(flow.FlowInterrupted) as caught:
        flowlift.solve(lift, task, 5.0, solver=solver, memory=bound, progress=After(2))
    assert 0 < caught.value.solution.time < 5.0


@pytest.mark.slow  # Compiles a central flow.
def test_an_interrupted_central_flow_raises_with_what_it_has():
    dynamics = CentralFlow(0.3, eigenvalues=1)
    with pytest.raises(flow.FlowInterrupted) as caught:
        flowlift.solve(START, quartic, 5.0, dynamics=dynamics, progress=After(3))
    part = caught.value.solution
    whole = flowlift.solve(START, quartic, 5.0, dynamics=dynamics)
    assert part.observations["eigenvalues"].shape == (len(part.times), 1)
    assert_same(flowlift.resume(part, 5.0), whole)


@pytest.mark.parametrize("engine", ["host", pytest.param("graph", marks=pytest.mark.slow)])
def test_an_interruption_within_a_burst_goes_back_to_the_last_leg(engine, monkeypatch):
    """Anywhere: here while the solver works. Then what the leg had begun is no record."""
    whole = flowlift.solve(START, quartic, 5.0, solver="tsit5", engine=engine)
    served, count = Request.served, []

    def once(self):
        count.append(None)
        if len(count) == 12:
            raise KeyboardInterrupt
        return served(self)

    monkeypatch.setattr(Request, "served", once)
    with pytest.raises(flow.FlowInterrupted) as caught:
        flowlift.solve(START, quartic, 5.0, solver="tsit5", engine=engine)
    monkeypatch.undo()
    part = caught.value.solution
    assert part.times[-1] == part.time
    assert caught.value.solutions == (part,)
    assert_same(flowlift.resume(part, 5.0), whole)


def test_a_record_that_breaks_off_leaves_no_part(monkeypatch):
    """In the middle of a record, between one quantity and the next."""
    looked = []

    def interrupt(now):
        looked.append(now)
        if len(looked) == 4:
            append = flow.trace.Trace.append

            def half(trace, times, records):
                trace.times.extend(float(t) for t in times)
                trace.records["loss"].append(np.asarray(records["loss"]))
                monkeypatch.setattr(flow.trace.Trace, "append", append)
                raise KeyboardInterrupt

            monkeypatch.setattr(flow.trace.Trace, "append", half)

    whole = flowlift.solve(START, quartic, 5.0, solver="tsit5", observers={"x": lambda t: t[0]})
    part = flowlift.solve(
        START, quartic, 5.0, solver="tsit5", observers={"x": lambda t: t[0]}, progress=interrupt,
        interrupt="return",
    )  # fmt: skip
    assert part.observations["x"].shape == part.times.shape == part.energy.shape
    assert_same(flowlift.resume(part, 5.0), whole)


def test_the_same_call_goes_on_from_its_file(tmp_path):
    """Nothing of the file's clock: an interruption writes at once."""
    whole = flowlift.solve(START, quartic, 5.0, solver="tsit5")
    call = lambda **options: flowlift.solve(
        START,
        quartic,
        5.0,
        solver="tsit5",
        checkpoints=flow.Checkpoints(tmp_path / "flow.npz"),
        **options,
    )
    with pytest.raises(KeyboardInterrupt):
        call(progress=After(6))
    assert (tmp_path / "flow.npz").exists()
    assert_same(call(), whole)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interruption_that_is_dropped_on_its_way_is_heard():
    """Python ignores exceptions where it clears weak references, as JAX has it do all the time."""

    class Dropped:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    held = [Dropped()]
    drop = lambda now: held.clear()
    part = flowlift.solve(START, quartic, 5.0, solver="tsit5", progress=drop, interrupt="return")
    assert part.result is flow.Outcome.INTERRUPTED
    assert part.stats.legs == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_before_the_first_record_there_is_nothing_to_return():
    def interrupt(theta):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        flowlift.solve(START, interrupt, 1.0, solver="tsit5", interrupt="return")
    assert not isinstance(caught.value, flow.FlowInterrupted)


def test_an_interrupted_flow_can_raise_like_one_that_was_not_reached():
    with pytest.raises(flow.FlowError) as caught:
        flowlift.solve(
            START, quartic, 5.0, solver="tsit5", progress=After(3), interrupt="return", throw=True
        )
    assert caught.value.solution.result.value == "interrupted"


def members(count):
    return [START * (1 + i) for i in range(count)]


@pytest.mark.parametrize("batch", [None, pytest.param(2, marks=pytest.mark.slow)])
def test_an_ensemble_ends_with_the_members_that_were_under_way(batch):
    call = lambda how, legs: list(
        flow.solve_each(
            members(4),
            quartic,
            5.0,
            solver="tsit5",
            batch=batch,
            interrupt=how,
            progress=After(legs),
        )
    )
    whole = list(flow.solve_each(members(4), quartic, 5.0, solver="tsit5", batch=batch))
    legs = whole[0].stats.legs + 3
    found = call("return", legs)
    assert len(found) in (2, 3)
    assert found[-1].result is flow.Outcome.INTERRUPTED
    assert_same(flowlift.resume(found[-1], 5.0), whole[len(found) - 1])
    with pytest.raises(flow.FlowInterrupted) as caught:
        call("raise", legs)
    assert caught.value.solutions[-1].result is flow.Outcome.INTERRUPTED


def test_an_interrupted_flow_counts_as_not_observed():
    runs = []
    for seed, end in enumerate([None, 5]):
        told = After(end) if end else False
        runs.append(
            (
                1,
                seed,
                flowlift.solve(
                    START, quartic, 5.0, solver="tsit5", progress=told, interrupt="return"
                ),
            )
        )
    table = answers.success_probability(flow.gather(runs), 1e-6)
    assert table["converged"].item() <= 1
    assert table["not observed"].item() == 1
    assert "interrupted" in table["why"].item()
    assert not flow.Outcome.INTERRUPTED.reached


@pytest.mark.parametrize(("name", "value"), [("interrupt", "stop"), ("progress", 3)])
def test_another_word_is_refused_before_anything(name, value):
    with pytest.raises(ValueError, match=f"Argument `{name}` must be"):
        flowlift.solve(None, None, 1.0, **{name: value})
    with pytest.raises(ValueError, match=f"Argument `{name}` must be"):
        flow.solve_each([], quartic, 1.0, **{name: value})


def test_a_function_is_told_after_each_leg():
    seen = []
    solution = flowlift.solve(START, quartic, 5.0, solver="tsit5", progress=seen.append)
    assert len(seen) == solution.stats.legs
    fractions = [now.fraction for now in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    last = seen[-1]
    assert (last.time, last.loss) == (5.0, solution.loss[-1])
    assert (last.gradients, last.hvps) == (solution.stats.gradients, solution.stats.hvps)
    assert last.solver == "tsit5"
    assert_same(flowlift.solve(START, quartic, 5.0, solver="tsit5"), solution)


def test_bars_and_lines_are_those_of_diffrax(capsys):
    solve = lambda meter: flowlift.solve(START, quartic, 5.0, solver="tsit5", progress=meter)
    solve(True)
    told = capsys.readouterr().err
    assert "100%" in told
    assert "L = " in told
    assert "gradients" in told
    solve(diffrax.TqdmProgressMeter())
    assert "100%" in capsys.readouterr().err
    solve(diffrax.TextProgressMeter(0.25))
    assert capsys.readouterr().out.count("%\n") in range(3, 6)
    solve(diffrax.NoProgressMeter())
    solve(False)
    assert capsys.readouterr() == ("", "")


# Compiles a flow of its own.
@pytest.mark.slow
def test_a_flow_in_log_time_is_told_in_its_own_clock():
    seen = []
    model = eqx.nn.Linear(2, "scalar", use_bias=False, key=jax.random.key(0))
    loss = tasks.supervised(np.eye(2), np.array([1.0, -1.0]), tasks.ExponentialLoss(), name="signs")
    flowlift.solve(
        model, loss, 2.0, dynamics=flow.LogLoss(), solver="tsit5", rtol=1e-3, progress=seen.append
    )
    assert {now.clock for now in seen} == {"log(1 + t)"}
    assert all(now.fraction == pytest.approx(now.time / 2.0) for now in seen)

"""A flow that is killed and gone on with has the numbers of one that was not, to the last bit."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import problems
import pytest

from flowlift.flow import Checkpoints, ForeignCheckpoint, LossBelow, Outcome, solve
from flowlift.flow.checkpoints import partial


class Killed(BaseException):
    """Nothing in the flow may catch it."""


PROBLEM = problems.Quadratic.draw(4, 50.0)
MODEL = problems.Vector(jnp.asarray(PROBLEM.start))
GIVEN = {"snapshots": [1.0, 15.0], "stops": [LossBelow(1e-6)], "max_gradients": 5000}


def flow(**options):
    return solve(MODEL, PROBLEM, 20.0, **GIVEN | options)


def killed_after(legs, path, **options):
    seen = []

    def kill(checkpoint):
        seen.append(checkpoint.trace.time)
        if len(seen) == legs:
            raise Killed

    with pytest.raises(Killed):
        flow(checkpoints=Checkpoints(path, 0.0, on_leg=kill), **options)
    return seen


def assert_same(one, other):
    assert one.result == other.result
    assert one.solver == other.solver
    for name in ("times", "loss", "gradient_norm", "arc_length", "energy", "distance"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    assert dataclasses.replace(one.stats, seconds=0) == dataclasses.replace(other.stats, seconds=0)
    np.testing.assert_array_equal(one.model.theta, other.model.theta)
    assert list(one.snapshots) == list(other.snapshots)
    for time, model in one.snapshots.items():
        np.testing.assert_array_equal(model.theta, other.snapshots[time].theta)


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("solver", "legs"),
    [
        ("tsit5", 6),
        pytest.param("dopri8", 30, marks=SLOW),
        pytest.param("kvaerno5", 30, marks=SLOW),
        pytest.param("rkc2", 6, marks=SLOW),
        pytest.param("exprb", 30, marks=SLOW),
        pytest.param("bdf", 1, marks=SLOW),
        pytest.param("auto", 6, marks=SLOW),
    ],
)
def test_a_killed_flow_goes_on_with_the_same_bits(tmp_path, solver, legs):
    path = tmp_path / "flow.npz"
    whole = flow(solver=solver)
    times = killed_after(legs, path, solver=solver)
    again = flow(solver=solver, checkpoints=Checkpoints(path))
    assert_same(again, whole)
    # It did go on from there, and what it had before is known without going on. A leg of a solver
    # with a memory ends between save times.
    recorded = np.load(path)["times"][-1]
    assert 0 < recorded <= times[-1] == json.loads(str(np.load(path)["header"]))["time"]
    known = partial(path, Outcome.WORKER_CRASHED)
    np.testing.assert_array_equal(known.loss, whole.loss[: len(known.loss)])
    assert (known.time, known.model, known.result) == (recorded, None, "worker crashed")
    assert 0 < known.stats.gradients < whole.stats.gradients


def test_a_takeover_survives_a_kill(tmp_path):
    """A flow whose solver was changed goes on with the solver that had taken over."""
    path = tmp_path / "flow.npz"
    killed_after(3, path, solver="auto")
    arrays = dict(np.load(path))
    text = str(arrays["header"])
    assert '"names": ["tsit5"]' in text
    renamed = text.replace('"reason": "', '"reason": "tsit5 stalled, ')
    np.savez(path, **arrays | {"header": np.asarray(renamed)})
    assert "stalled" in flow(solver="auto", checkpoints=Checkpoints(path)).solver


def test_the_clock_decides_only_when_a_file_is_written(tmp_path):
    path = tmp_path / "flow.npz"
    assert_same(flow(checkpoints=Checkpoints(path, 1e9)), flow())
    assert not path.exists()
    assert_same(flow(checkpoints=Checkpoints(path, 0.0)), flow())
    assert path.exists()


@pytest.mark.parametrize(
    "change", [{"rtol": 1e-5}, {"stops": []}, {"max_gradients": 400}, {"solver": "dopri8"}]
)
def test_a_checkpoint_of_another_flow_is_refused(tmp_path, change):
    path = tmp_path / "flow.npz"
    killed_after(4, path)
    with pytest.raises(ForeignCheckpoint, match="must name a file of this very flow"):
        flow(checkpoints=Checkpoints(path), **change)


def test_a_torn_checkpoint_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "flow.npz"
    killed_after(4, path)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(ForeignCheckpoint, match="must name a readable checkpoint"):
        flow(checkpoints=Checkpoints(path))
    assert path.exists()
    assert len(partial(path, Outcome.EXCEPTION).times) == 0


def test_a_negative_interval_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`every` must be a number of seconds of at least 0"):
        Checkpoints(tmp_path / "flow.npz", -1.0)

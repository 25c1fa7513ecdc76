"""Losses and accuracies on held-out data along a flow, which they do not change."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowlift import flow, modules, tasks
from flowlift.flow import Checkpoints, resume, solve_each
from flowlift.flow.dataset import dataset, run_of
from flowlift.lift import FixedInDegree, sample

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((12, 3)), RNG.integers(0, 4, 12)
FURTHER = RNG.standard_normal((7, 3)), RNG.integers(0, 4, 7)
SAVE = [0.5, 1.0, 2.0]
# An explicit method compiles in a second.
solve = functools.partial(flow.solve, solver="tsit5")


def classify(loss="cross-entropy", targets=lambda labels: labels):
    further = FURTHER[0], targets(FURTHER[1])
    return tasks.supervised(X, targets(Y), loss, held_out=further)


def net(key=0):
    return eqx.nn.MLP(3, 4, 5, 1, key=jax.random.key(key))


def test_records_are_those_of_the_models_themselves():
    """From the models at the save times, by NumPy."""
    done = solve(net(), classify(), 2.0, save=SAVE, snapshots=[0.0, *SAVE])
    for i, model in enumerate(done.snapshots.values()):
        logits = {n: np.asarray(jax.vmap(model)(x)) for n, x in (("own", X), ("other", FURTHER[0]))}
        p = np.exp(logits["other"]) / np.exp(logits["other"]).sum(axis=1, keepdims=True)
        loss = -np.mean(np.log(p[np.arange(7), FURTHER[1]]))
        assert done.held_out_loss[i] == pytest.approx(loss, rel=1e-12)
        right = np.mean(logits["own"].argmax(axis=1) == Y)
        assert done.accuracy[i] == pytest.approx(right, rel=1e-12)
        right = np.mean(logits["other"].argmax(axis=1) == FURTHER[1])
        assert done.held_out_accuracy[i] == pytest.approx(right, rel=1e-12)
    assert len(done.held_out_loss) == 4


# Both engines record in one place.
@pytest.mark.parametrize("engine", ["host", pytest.param("graph", marks=pytest.mark.slow)])
def test_the_flow_is_the_same_and_the_records_are_observation(engine):
    task = classify()
    plain = solve(net(), task.objective, 2.0, save=SAVE, engine=engine)
    seen = solve(net(), task, 2.0, save=SAVE, engine=engine)
    assert plain.held_out_loss is None
    assert plain.accuracy is None
    np.testing.assert_array_equal(plain.loss, seen.loss)
    assert (plain.stats.gradients, plain.stats.hvps) == (seen.stats.gradients, seen.stats.hvps)
    # 7 held-out and 12 training samples in forward passes: at most two gradients of 12 samples.
    assert seen.stats.observation_gradients - plain.stats.observation_gradients == 2 * 4
    assert seen.observations == {}


@pytest.mark.slow  # compiles a classifier for each kind of label
def test_accuracy_is_of_labels_alone():
    one_hot = solve(net(), classify("squared", lambda y: np.eye(4)[y]), 1.0, save=[1.0])
    assert one_hot.accuracy is not None
    scores = solve(net(), classify("squared", lambda y: np.eye(4)[y] * 2), 1.0, save=[1.0])
    assert scores.accuracy is None
    assert scores.held_out_accuracy is None
    assert len(scores.held_out_loss) == 2


@pytest.mark.slow  # Three more compilations.
def test_chunks_and_single_precision_change_rounding_alone():
    whole = solve(net(), classify(), 1.0, save=[1.0])
    cut = solve(net(), classify(), 1.0, save=[1.0], memory=2000)
    np.testing.assert_allclose(cut.held_out_loss, whole.held_out_loss, rtol=1e-11)
    np.testing.assert_allclose(cut.held_out_accuracy, whole.held_out_accuracy, rtol=1e-11)
    single = solve(net(), classify(), 1.0, save=[1.0], precision="float32")
    assert single.held_out_loss.dtype == np.float32
    np.testing.assert_allclose(single.held_out_loss, whole.held_out_loss, rtol=1e-5)


def test_samples_that_may_be_coupled_are_taken_whole():
    task = tasks.supervised(
        X, X, apply=lambda w, x: x * w - jnp.mean(x), held_out=(FURTHER[0], FURTHER[0])
    )
    done = solve(jnp.ones(3), task, 1.0, save=[1.0])
    x = FURTHER[0]
    assert done.held_out_loss[0] == pytest.approx(3 * x.mean() ** 2, rel=1e-12)


def test_records_of_a_lift_are_those_of_its_outputs():
    module = modules.mlp(3, depth=1)
    task = tasks.student_teacher(module, samples=10, seed=0, held_out=5)
    lift = sample(module, copies=4, edges=FixedInDegree(2), seed=0)
    done = solve(lift, task, 1.0, save=[1.0])
    assert done.held_out_loss[-1] == pytest.approx(float(task.held_out(done.model)), rel=1e-12)
    assert done.accuracy is None


@pytest.mark.slow  # a flow in three pieces
def test_a_flow_that_goes_on_has_the_records_of_a_whole_one():
    whole = solve(net(), classify(), 2.0, save=SAVE)
    half = solve(net(), classify(), 1.0, save=SAVE[:2])
    on = resume(half, 2.0, save=SAVE)
    np.testing.assert_allclose(on.held_out_loss, whole.held_out_loss, rtol=1e-5)
    assert on.held_out_accuracy.shape == whole.held_out_accuracy.shape


class Killed(Exception):
    pass


@pytest.mark.slow  # a flow in three pieces
def test_a_killed_flow_keeps_its_records(tmp_path):
    def die(checkpoint):
        if checkpoint.trace.time > 0.5:
            raise Killed

    file = tmp_path / "flow.npz"
    with pytest.raises(Killed):
        solve(net(), classify(), 2.0, save=SAVE, checkpoints=Checkpoints(file, 0, on_leg=die))
    kept = flow.checkpoints.partial(file, flow.Outcome.WORKER_CRASHED)
    whole = solve(net(), classify(), 2.0, save=SAVE)
    np.testing.assert_array_equal(kept.held_out_loss, whole.held_out_loss[: len(kept.times)])
    assert kept.observations == {}
    on = solve(net(), classify(), 2.0, save=SAVE, checkpoints=Checkpoints(file, 0))
    np.testing.assert_array_equal(on.held_out_loss, whole.held_out_loss)
    np.testing.assert_array_equal(on.accuracy, whole.accuracy)
    # The same training data with other held-out data are another flow.
    other = tasks.supervised(X, Y, "cross-entropy", held_out=(FURTHER[0] + 1, FURTHER[1]))
    with pytest.raises(flow.ForeignCheckpoint):
        solve(net(), other, 2.0, save=SAVE, checkpoints=Checkpoints(file, 0))


def test_datasets_hold_them_with_their_ends():
    done = solve(net(), classify(), 1.0, save=[1.0], observers={"w": lambda m: m.layers[0].bias})
    data = dataset(done)
    assert data.held_out_loss.attrs["units"] == "loss"
    np.testing.assert_array_equal(data.held_out_accuracy, done.held_out_accuracy)
    assert list(done.observations) == ["w"]
    run = run_of(done)
    assert float(run.final_held_out_loss) == done.held_out_loss[-1]
    assert float(run.final_accuracy) == done.accuracy[-1]
    assert "final_held_out_loss" not in run_of(solve(net(), classify().objective, 1.0, save=[1.0]))


def test_each_member_of_an_ensemble_has_them():
    losses = [s.held_out_loss[-1] for s in solve_each([net(0), net(1)], classify(), 1.0)]
    assert len(set(losses)) == 2


def test_a_model_that_does_not_fit_the_held_out_labels_is_refused():
    task = tasks.supervised(X, np.zeros(12, int), "cross-entropy", held_out=FURTHER)
    small = eqx.nn.MLP(3, 2, 5, 1, key=jax.random.key(0))
    with pytest.raises(ValueError, match="integer labels from 0 to 1"):
        solve(small, task, 1.0)

"""A flow that is killed and gone on with has the numbers of one that was not, to the last bit."""

import dataclasses
import errno
import json
import os
import threading
from collections.abc import Callable

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import problems
import pytest

from flowlift.files import NotRead
from flowlift.fingerprint import Unidentified, fingerprint
from flowlift.flow import Checkpoints, ForeignCheckpoint, LossBelow, Outcome, checkpoints, solve
from flowlift.flow.checkpoints import partial
from flowlift.tasks import supervised


class Killed(BaseException):
    """Nothing in the flow may catch it."""


PROBLEM = problems.Quadratic.draw(4, 50.0)
MODEL = problems.Vector(jnp.asarray(PROBLEM.start))
# So tight that a flow takes several legs.
GIVEN = {
    "rtol": 1e-8,
    "snapshots": [1.0, 15.0],
    "stops": [LossBelow(1e-6)],
    "max_gradients": 50_000,
}


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
        # A leg passes many save times where bursts keep the states there.
        ("tsit5", 2),
        pytest.param("dopri8", 6, marks=SLOW),
        pytest.param("kvaerno5", 6, marks=SLOW),
        pytest.param("rkc2", 2, marks=SLOW),
        pytest.param("exprb", 6, marks=SLOW),
        pytest.param("bdf", 1, marks=SLOW),
        pytest.param("auto", 2, marks=SLOW),
    ],
)
def test_a_killed_flow_goes_on_with_the_same_bits(tmp_path, solver, legs):
    path = tmp_path / "flow.npz"
    whole = flow(solver=solver)
    times = killed_after(legs, path, solver=solver)
    again = flow(solver=solver, checkpoints=Checkpoints(path))
    assert_same(again, whole)
    # It did go on from there, and what it had before is known without going on. A leg may end
    # between save times.
    recorded = np.load(path)["times"][-1]
    assert 0 < recorded <= times[-1] == json.loads(str(np.load(path)["header"]))["time"]
    known = partial(path, Outcome.WORKER_CRASHED)
    np.testing.assert_array_equal(known.loss, whole.loss[: len(known.loss)])
    assert (known.time, known.model, known.result) == (recorded, None, "worker crashed")
    assert 0 < known.stats.gradients < whole.stats.gradients


def test_a_takeover_survives_a_kill(tmp_path):
    """A flow whose solver was changed goes on with the solver that had taken over."""
    path = tmp_path / "flow.npz"
    killed_after(2, path, solver="auto")
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
    killed_after(2, path)
    with pytest.raises(ForeignCheckpoint, match="must name a file of this very flow"):
        flow(checkpoints=Checkpoints(path), **change)


class Gated(eqx.Module):
    """A model of which everything but an array decides the flow as well."""

    theta: jax.Array
    act: Callable = eqx.field(static=True)
    key: jax.Array

    def __call__(self, x):
        noise = jax.random.normal(self.key, self.theta.shape)
        return self.act(self.theta + 0.1 * noise) @ x


def double(model, x):
    return 2 * single(model, x)


def single(model, x):
    return jax.vmap(model)(x)[:, None]


def gated(act=jnp.tanh, seed=0):
    return Gated(jnp.arange(1.0, 4.0), act, jax.random.key(seed))


def lopsided(power):
    return lambda model: jnp.sum(jnp.abs(model.theta) ** power)


DATA = np.eye(3), np.array([[0.3], [-0.2], [0.1]])


def task_with(apply):
    return supervised(*DATA, apply=apply)


ONE = {
    "activation": (lambda: gated(jnp.tanh), lambda: task_with(single), None),
    "apply": (lambda: gated(), lambda: task_with(single), None),
    "loss": (lambda: gated(), lambda: lopsided(2), None),
    "key": (lambda: gated(seed=0), lambda: task_with(single), None),
    "observer": (lambda: gated(), lambda: lopsided(2), {"o": lambda m: m.theta[0]}),
    "data": (lambda: gated(), lambda: supervised(*DATA, apply=single), None),
}
OTHER = {
    "activation": (lambda: gated(jnp.sin), lambda: task_with(single), None),
    "apply": (lambda: gated(), lambda: task_with(double), None),
    "loss": (lambda: gated(), lambda: lopsided(4), None),
    "key": (lambda: gated(seed=1), lambda: task_with(single), None),
    "observer": (lambda: gated(), lambda: lopsided(2), {"o": lambda m: m.theta[1]}),
    "data": (lambda: gated(), lambda: supervised(DATA[0], 2 * DATA[1], apply=single), None),
}


@pytest.fixture
def identity_of(monkeypatch, tmp_path):
    """The identity of a flow that is about to begin; nothing is compiled."""
    identify, found = checkpoints._identity, []

    class Known(Exception):
        pass

    def instead(*of):
        found.append(identify(*of))
        raise Known

    def identity(model, task, **options):
        kept = Checkpoints(tmp_path / "none")
        with monkeypatch.context() as patch:
            patch.setattr(checkpoints, "_identity", instead)
            with pytest.raises(Known):
                solve(model, task, 0.2, checkpoints=kept, **options)
        return found[-1]

    return identity


@pytest.mark.parametrize("change", ONE)
def test_code_and_static_parts_belong_to_a_flow(identity_of, change):
    """Shapes are equal throughout; a second making of the same parts is the same flow."""

    def identity(parts):
        model, task, observers = (part() if callable(part) else part for part in parts)
        return identity_of(model, task, observers=observers, solver="tsit5")

    assert identity(ONE[change]) == identity(ONE[change]) != identity(OTHER[change])


def test_settings_belong_to_a_flow(identity_of):
    settings = [{}, {"solver": "tsit5"}, {"solver": diffrax.Tsit5()}, {"solver": "kvaerno5"}]
    settings += [{"solver": diffrax.Kvaerno5()}, {"solver": "bdf"}, {"solver": "dense-bdf"}]
    settings += [{"rtol": 1e-5}, {"atol": 1e-8}, {"precision": "float32"}, {"max_steps": 9}]
    settings += [{"save": [0.1]}, {"snapshots": [0.1]}, {"stops": [LossBelow(1e-3)]}]
    settings += [{"stops": [LossBelow(1e-4)]}, {"max_gradients": 9}]
    digests = [identity_of(MODEL, PROBLEM, **each) for each in settings]
    assert len(set(digests)) == len(settings)
    assert digests == [identity_of(MODEL, PROBLEM, **each) for each in settings]


def test_snapshots_of_models_with_typed_keys_survive_a_kill(tmp_path):
    path, models = tmp_path / "flow.npz", []
    model, task = gated(), task_with(single)
    for kept in (None, Checkpoints(path, 0.0), Checkpoints(path, 0.0)):
        done = solve(model, task, 0.2, snapshots=[0.05, 0.1], solver="tsit5", checkpoints=kept)
        models.append(done.snapshots)
    for at in (0.05, 0.1):
        digests = {fingerprint(snapshots[at]) for snapshots in models}
        assert len(digests) == 1


def test_what_cannot_be_known_needs_a_word_of_the_caller(tmp_path):
    lock = threading.Lock()

    def loss(model):
        return jnp.sum(model.theta**2) if lock else jnp.zeros(())

    def run(identity):
        kept = Checkpoints(tmp_path / "flow.npz", 0.0, identity=identity)
        return solve(MODEL, loss, 0.2, solver="tsit5", checkpoints=kept)

    with pytest.raises(Unidentified, match="`identity` must say what 'lock' in the closure of"):
        run(None)
    assert run("first").success
    with pytest.raises(ForeignCheckpoint, match="of this very flow"):
        run("second")
    with pytest.raises(ValueError, match="`identity` must be a text, but is 3"):
        run(3)


def test_a_torn_checkpoint_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "flow.npz"
    killed_after(2, path)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(ForeignCheckpoint, match="must name a readable checkpoint"):
        flow(checkpoints=Checkpoints(path))
    assert path.exists()
    assert len(partial(path, Outcome.EXCEPTION).times) == 0


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.EACCES])
def test_an_error_of_the_system_says_nothing_of_a_checkpoint(tmp_path, monkeypatch, number):
    path = tmp_path / "flow.npz"
    path.write_bytes(b"whole")

    def refuse(*_, **__):
        raise OSError(number, os.strerror(number), str(path))

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", refuse)
        for look in (checkpoints.read, lambda path: partial(path, Outcome.EXCEPTION)):
            with pytest.raises(NotRead, match=r"flow.npz' could not be read .*; \w"):
                look(path)
    with pytest.raises(FileNotFoundError):
        checkpoints.read(tmp_path / "none.npz")


def test_a_negative_interval_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`every` must be a number of seconds of at least 0"):
        Checkpoints(tmp_path / "flow.npz", -1.0)

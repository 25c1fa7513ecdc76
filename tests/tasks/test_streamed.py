"""Samples in files: the gradient of all of them, a chunk in memory at a time."""

import pickle
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowlift import flow, tasks, trajectory
from flowlift.fingerprint import fingerprint
from flowlift.flow import Checkpoints, LossBelow
from flowlift.flow.problem import make_problem
from flowlift.flow.programs import host_field

SAMPLES = 37


def network(model, inputs):
    return jnp.tanh(inputs @ model["w"]) @ model["a"]


def both(tmp_path, **options):
    """The same task from files and in memory, and a model."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((SAMPLES, 3)), rng.standard_normal((SAMPLES, 2))
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    settings = {"apply": network, "samplewise": True} | options
    model = {"w": rng.standard_normal((3, 5)), "a": rng.standard_normal((5, 2))}
    model = jax.tree.map(jnp.asarray, model)
    return tasks.streamed(mapped, y, **settings), tasks.supervised(x, y, **settings), model


def of_five_rows(task):
    """The bytes with which five samples are in memory at a time."""
    from flowlift.flow.chunking import bytes_per_sample

    rows = task.objective.rows
    like = tasks.Supervised(*rows.like(1), task.objective.loss, network, samplewise=True)
    return None, 5 * (bytes_per_sample(_model_like(), like) + 2 * rows.bytes_of_a_row)


def _model_like():
    return {"w": jnp.zeros((3, 5)), "a": jnp.zeros((5, 2))}


def test_gradient_and_product_are_those_of_all_samples(tmp_path):
    streamed, whole, model = both(tmp_path)
    memory = of_five_rows(streamed)[1]
    fields = [
        host_field(make_problem(model, task.objective, "float64", memory=bound))
        for task, bound in ((streamed, memory), (whole, None))
    ]
    theta = np.random.default_rng(1).standard_normal(25)
    (loss, gradient), (other, expected) = (field.value_and_grad(theta) for field in fields)
    assert loss == pytest.approx(other, rel=1e-13)
    np.testing.assert_allclose(gradient, expected, rtol=1e-11, atol=1e-13)
    products = [field.product(theta, theta) for field in fields]
    np.testing.assert_allclose(*products, rtol=1e-10, atol=1e-12)
    assert float(streamed.objective(model)) == pytest.approx(float(whole.objective(model)))


def test_a_chunk_is_all_that_is_read_at_a_time(tmp_path):
    streamed, _, model = both(tmp_path)
    problem = make_problem(model, streamed.objective, "float32", memory=of_five_rows(streamed)[1])
    parts = list(problem.objective.parts("float32"))
    assert [part.samples.inputs.shape for part in parts] == [(5, 3)] * 8
    assert {part.samples.inputs.dtype.name for part in parts} == {"float32"}
    total = sum(float(part.samples.weights.sum()) for part in parts)
    assert total == pytest.approx(1.0, rel=1e-6)


@pytest.mark.slow  # two flows by each solver
@pytest.mark.parametrize(
    # The others compile programs that other tests compile too, for seconds.
    "solver",
    ["tsit5", *(pytest.param(s, marks=pytest.mark.slow) for s in ("auto", "bdf", "rkc2", "exprb"))],
)
def test_a_flow_is_that_of_the_samples_in_memory(tmp_path, solver):
    streamed, whole, model = both(tmp_path)
    settings = {"solver": solver, "rtol": 1e-6, "save": [0.0, 0.5, 2.0], "rates": {"a": 0.5}}
    found = flow.solve(model, streamed, 2.0, memory=of_five_rows(streamed)[1], **settings)
    expected = flow.solve(model, whole, 2.0, **settings)
    assert found.engine == "host"
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-5)
    assert found.stats.gradients == expected.stats.gradients


# Two flows are compiled for a sum that the test of gradients has but for one term.
@pytest.mark.slow
def test_weight_decay_counts_once(tmp_path):
    streamed, whole, model = both(tmp_path)
    settings = {"solver": "tsit5", "rtol": 1e-8, "save": [0.5]}
    memory = of_five_rows(streamed)[1]
    found = flow.solve(model, tasks.with_decay(streamed, 0.1), 0.5, memory=memory, **settings)
    expected = flow.solve(model, tasks.with_decay(whole, 0.1), 0.5, **settings)
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-10)


def test_what_is_compiled_as_a_whole_is_refused(tmp_path):
    streamed, _, model = both(tmp_path)
    refused = [
        lambda: flow.solve(model, streamed, 1.0, engine="graph"),
        lambda: flow.solve(model, streamed, 1.0, solver="kvaerno5"),
        lambda: flow.solve(model, streamed, 1.0, dynamics=flow.dynamics.HeavyBall(1.0)),
        lambda: trajectory(model, streamed, [1.0], solver="tsit5"),
        lambda: tasks.shard(streamed),
        lambda: tasks.streamed(np.ones((3, 2)), np.ones(3), apply=network),
        lambda: tasks.streamed(np.ones((3, 2)), np.ones(4)),
        lambda: tasks.streamed(np.array([[np.nan]]), np.ones(1)),
        lambda: tasks.streamed(np.ones((3, 2)), "labels"),
        lambda: flow.solve(model, streamed, 1.0, memory=10),
    ]
    for call in refused:
        with pytest.raises(ValueError, match=r"^Arguments? `.*(streams|streamed|must)"):
            call()


def test_views_are_read_where_they_lie_and_copies_on_write_refused(tmp_path):
    both(tmp_path)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    rows = tasks.streamed(mapped[5:20], np.ones(15)).objective.rows
    np.testing.assert_array_equal(rows.read(2, 4)[0], mapped[7:9])
    for bad in (mapped[:, 1:], np.load(tmp_path / "x.npy", mmap_mode="c")):
        with pytest.raises(ValueError, match=r"must be contiguous mappings"):
            tasks.streamed(bad, np.ones(SAMPLES))


def test_a_checkpoint_knows_the_data_by_their_bytes(tmp_path):
    streamed, _, model = both(tmp_path)
    copied = pickle.loads(pickle.dumps(streamed.objective.rows))
    np.testing.assert_array_equal(copied.read(0, 3)[0], streamed.objective.rows.read(0, 3)[0])
    before = fingerprint(streamed.objective)
    path = tmp_path / "flow.npz"
    keep = lambda task: flow.solve(
        model, task, 1.0, solver="tsit5", checkpoints=Checkpoints(path, every=0)
    )
    one = keep(streamed)
    np.testing.assert_array_equal(keep(streamed).loss, one.loss)
    x = np.load(tmp_path / "x.npy")
    x[-1, -1] += 1
    np.save(tmp_path / "x.npy", x)
    changed = tasks.streamed(
        np.load(tmp_path / "x.npy", mmap_mode="r"),
        streamed.objective.rows.read(0, SAMPLES)[1],
        apply=network,
        samplewise=True,
    )
    assert fingerprint(changed.objective) != before
    with pytest.raises(ValueError, match="must name a file of this very flow"):
        keep(changed)


def test_a_rule_on_the_loss_ends_it(tmp_path):
    streamed, whole, model = both(tmp_path)
    start = float(whole.objective(model))
    found = flow.solve(model, streamed, 50.0, solver="tsit5", stops=[LossBelow(0.8 * start)])
    assert found.result is flow.Outcome.LOSS_BELOW
    assert found.loss[-1] <= 0.8 * start


# A process of its own, with a file of twice the bound.
@pytest.mark.slow
def test_peak_memory_keeps_the_bound():
    """Resident memory of a process, over what it has before, at most a fifth above the bound."""
    script = Path(__file__).parents[2] / "benchmarks" / "large.py"
    words = ["streamed", "--samples", "100000", "--memory", "50000000", "--alone"]
    found = subprocess.run(
        [sys.executable, str(script), *words], capture_output=True, text=True, check=True
    ).stdout
    size, bound, more = map(float, re.findall(r"([0-9.e-]+) GB", found)[:3])
    assert size > 2 * bound
    assert more <= 1.2 * bound

"""Held-out samples: apart from the training samples, which they leave as they were."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowlift import modules, tasks
from flowlift.tasks.held_out import labelling, right, split_samples

HARMONICS = {1: 1.0, 3: (0.5, -0.2)}
BUILT_IN = {
    "digits": lambda **k: tasks.digits(200, problem="classification", **k),
    "digits as scores": lambda **k: tasks.digits(200, shape=(8, 8), **k),
    "diabetes": lambda **k: tasks.diabetes(100, seed=3, **k),
    "mnist1d": lambda **k: tasks.mnist1d(100, shape=(1, 40), **k),
    "periodic": lambda **k: tasks.periodic(HARMONICS, samples=32, **k),
    "student-teacher": lambda **k: tasks.student_teacher(
        modules.mlp(3, depth=1), samples=20, seed=1, noise=0.1, **k
    ),
    "mnist": lambda **k: tasks.mnist(100, positive=(3,), patch=7, **k),
    "modular addition": lambda **k: tasks.modular_addition(7, fraction=0.5, **k),
    "parity": lambda **k: tasks.sparse_parity(30, 3, samples=20, **k),
    "index": lambda **k: tasks.single_index(5, {2: 1.0}, samples=20, seed=0, noise=0.1, **k),
    "terms": lambda **k: tasks.multi_index(5, {"1 1": 1.0}, samples=20, seed=0, **k),
    "mixture": lambda **k: tasks.gaussian_mixture(3, 20, distance=1.0, seed=0, **k),
    "three clusters": lambda **k: tasks.gaussian_mixture(
        3, 20, distance=1.0, seed=0, classes=3, problem="classification", **k
    ),
    "xor": lambda **k: tasks.xor_clusters(3, 20, distance=1.0, seed=0, **k),
    "linear teacher": lambda **k: tasks.linear_teacher(
        9, spectrum=1.0, powers=2.0, samples=20, noise=0.1, **k
    ),
    "matrix": lambda **k: tasks.matrix_completion(6, 5, 2, seed=0, observed=0.6, noise=0.1, **k),
    "labels": lambda **k: tasks.random_labels(9, 8, seed=0, directions="orthogonal", **k),
    "logistic": lambda **k: tasks.logistic("b", **k).task,
}


def rows(part):
    return {row.tobytes() for row in np.asarray(part.inputs)}


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_training_data_are_the_same_and_held_out_data_are_others(name):
    make = BUILT_IN[name]
    plain, split = make(), make(held_out=7)
    assert plain.held_out is None
    assert "held out" not in plain.provenance
    assert split.provenance == plain.provenance | {"held out": 7}
    assert eqx.tree_equal(plain.objective, split.objective)
    further = split.held_out
    assert further.targets.shape[0] == 7
    assert len(rows(further)) == 7
    assert rows(further).isdisjoint(rows(plain.objective))
    of_one = lambda part: jax.tree.map(
        lambda x: (x.shape[1:], x.dtype), (part.inputs, part.targets)
    )
    assert of_one(further) == of_one(split.objective)
    assert further.loss == split.objective.loss


def test_a_fraction_is_of_the_whole_data_or_of_the_samples_drawn():
    assert tasks.digits(held_out=0.2).held_out.targets.shape[0] == 359
    assert tasks.digits(held_out=0.2).objective.targets.shape[0] == 1797 - 359
    assert tasks.mnist1d(10, held_out=0.1).held_out.targets.shape[0] == 100
    assert tasks.mnist1d(10, held_out=1.0).held_out.targets.shape[0] == 1000
    assert tasks.periodic(HARMONICS, samples=40, held_out=0.25).held_out.targets.shape[0] == 10


def test_held_out_real_data_do_not_depend_on_the_number_of_training_samples():
    few, many = tasks.digits(10, held_out=0.5), tasks.digits(500, held_out=0.5)
    assert eqx.tree_equal(few.held_out, many.held_out)
    other = tasks.digits(10, held_out=0.5, seed=1).held_out
    assert not np.array_equal(other.inputs, few.held_out.inputs)


def test_a_teacher_labels_its_held_out_samples():
    task = tasks.student_teacher(modules.mlp(3, depth=1), samples=20, seed=1, held_out=0.5)
    further = task.held_out
    assert further.targets.shape[0] == 10
    assert float(further(task.facts["teacher"])) == 0.0


COMMITTEES = {
    "relu": (tasks.gaussian_committee, modules.committee(3, activation="relu")),
    "erf": (tasks.erf_committee, modules.committee(3)),
    "polynomial": (
        lambda k, **given: tasks.polynomial_committee(k, (0.3, 0.5, 1.0), **given),
        modules.polynomial_committee(3, (0.3, 0.5, 1.0)),
    ),
}


@pytest.mark.parametrize("kind", COMMITTEES)
def test_the_samples_of_a_population_have_its_loss_as_their_mean(kind):
    """To within four standard errors of 40,000 samples."""
    make, module = COMMITTEES[kind]
    task = make(3, held_out=40_000)
    assert task.provenance["held out"] == 40_000
    assert make(3).held_out is None
    student = tasks.draw_teacher(module, copies=4, seed=0)
    outputs = student.batch(task.held_out.inputs)
    each = (np.ravel(outputs) - np.asarray(task.held_out.targets)) ** 2 / 2
    loss, error = float(task.objective(student)), each.std() / 200
    assert float(task.held_out(student)) == pytest.approx(each.mean(), rel=1e-12)
    assert abs(each.mean() - loss) < 4 * error


@pytest.mark.parametrize("wrong", [0, -1, 1.0, 0.0, 1.5, np.nan, True, "all", 1797])
def test_what_is_no_number_of_samples_is_refused(wrong):
    with pytest.raises(ValueError, match="Argument `held_out` must be a number of at most 1796"):
        tasks.digits(held_out=wrong)


def test_both_together_are_at_most_all_samples():
    assert [len(part) for part in split_samples(2, 3, 5, 0)] == [2, 3]
    with pytest.raises(ValueError, match="from 1 to 2, the 5 without 3 held out, but is 3"):
        split_samples(3, 3, 5, 0)


def test_a_fraction_of_a_population_and_held_out_data_of_given_inputs_are_refused():
    for make, _ in COMMITTEES.values():
        with pytest.raises(ValueError, match="Argument `held_out` must be a number"):
            make(3, held_out=0.2)
    with pytest.raises(ValueError, match="must be None for setting 'a'"):
        tasks.logistic("a", held_out=1)


@pytest.mark.parametrize(
    ("pair", "said"),
    {
        "no pair": (np.zeros((2, 3)), "must be a pair"),
        "other shapes": ((np.zeros((2, 4)), np.zeros(2)), "shapes of the others"),
        "other targets": ((np.zeros((2, 3)), np.zeros((2, 1))), "shapes of the others"),
        "other numbers": ((np.zeros((2, 3)), np.zeros(3)), "must hold equally many samples"),
        "not finite": ((np.full((2, 3), np.nan), np.zeros(2)), r"`held_out\[0\]` must be finite"),
        "none": ((np.zeros((0, 3)), np.zeros(0)), "at least one"),
    }.values(),
)
def test_held_out_data_that_do_not_fit_are_refused(pair, said):
    with pytest.raises(ValueError, match=said):
        tasks.supervised(np.zeros((5, 3)), np.zeros(5), held_out=pair)


LABELLED = {
    "classes": (np.array([2, 0]), (2, 3), "classes"),
    "one-hot": (np.eye(3)[[2, 0]], (2, 3), "one-hot"),
    "signs": (np.array([1.0, -1.0]), (2,), "signs"),
    "signs of one output": (np.array([[1.0], [-1.0]]), (2, 1), "signs"),
    "scores": (np.array([[0.0, 2.0], [1.0, 0.0]]), (2, 2), None),
    "two ones": (np.array([[1.0, 1.0], [1.0, 0.0]]), (2, 2), None),
    "numbers": (np.array([0.5, 1.0]), (2,), None),
    "one class": (np.array([0, 0]), (2, 1), None),
}


@pytest.mark.parametrize("name", sorted(LABELLED))
def test_labels_are_known_by_their_values(name):
    targets, shape, wanted = LABELLED[name]
    task = tasks.supervised(np.zeros((2, 1)), targets, lambda y, t: jnp.sum(y))
    found = labelling(task.objective, jax.ShapeDtypeStruct(shape, jnp.float64))
    assert found == wanted


def test_the_greatest_output_decides_and_the_first_of_equal_ones():
    outputs = jnp.array([[0.0, 2.0, 1.0], [1.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
    labels = jnp.array([1, 1, 2])
    assert right(outputs, labels, "classes").tolist() == [True, False, True]
    assert right(outputs, jnp.eye(3)[labels], "one-hot").tolist() == [True, False, True]
    signs = right(jnp.array([[0.3], [-0.1], [0.0]]), jnp.array([[1.0], [1.0], [1.0]]), "signs")
    assert signs.tolist() == [True, False, False]


def test_a_task_is_spread_over_devices_with_its_held_out_data():
    task = tasks.digits(20, held_out=5)
    assert eqx.tree_equal(tasks.shard(task).held_out, task.held_out)
    assert dataclasses.replace(task, held_out=None).held_out is None

"""Losses to the last factor, data as promised, facts that can be checked."""

import random

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import problems
import pytest

from flowlift import flow, modules, tasks
from flowlift.lift import FixedInDegree, sample
from flowlift.protocols import AbstractSamplewise


class Table(eqx.Module, AbstractSamplewise):
    """A model that returns its parameters, whatever the input."""

    outputs: jax.Array | np.ndarray

    def batch(self, x):
        return jnp.asarray(self.outputs)


def rng(seed=0):
    return np.random.default_rng(seed)


def test_squared_loss_is_the_mean_over_samples_of_the_sum_over_outputs_without_half():
    outputs, targets = rng().standard_normal((2, 5, 3, 2))
    task = tasks.supervised(np.zeros((5, 1)), targets)
    expected = sum(np.sum((outputs[i] - targets[i]) ** 2) for i in range(5)) / 5
    assert float(task.objective(Table(outputs))) == pytest.approx(expected, rel=1e-14)


def test_cross_entropy_is_minus_the_log_probability_of_the_label():
    logits, labels = rng().standard_normal((6, 4)), rng(1).integers(0, 4, 6)
    task = tasks.supervised(np.zeros((6, 1)), labels, "cross-entropy")
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = -np.mean(np.log(p[np.arange(6), labels]))
    assert float(task.objective(Table(logits))) == pytest.approx(expected, rel=1e-13)
    soft = tasks.supervised(np.zeros((6, 1)), np.eye(4)[labels], "cross-entropy")
    assert float(soft.objective(Table(logits))) == pytest.approx(expected, rel=1e-13)
    assert np.isfinite(task.objective(Table(1e4 * logits)))


def test_custom_loss_is_averaged_over_samples():
    outputs, targets = rng().standard_normal((2, 5))
    task = tasks.supervised(np.zeros((5, 1)), targets, lambda y, t: jnp.abs(y - t) ** 3)
    expected = np.mean(np.abs(outputs - targets) ** 3)
    assert float(task.objective(Table(outputs))) == pytest.approx(expected, rel=1e-14)


def test_apply_serves_models_that_are_no_callables():
    x, y = rng().standard_normal((4, 3)), np.zeros(4)
    task = tasks.supervised(x, y, apply=lambda model, xs: jnp.asarray(xs) @ model["w"])
    w = jnp.array([1.0, 2.0, 3.0])
    assert float(task.objective({"w": w})) == pytest.approx(
        np.mean((x @ np.arange(1.0, 4.0)) ** 2), rel=1e-14
    )


def test_periodic_takes_whole_frequencies_of_any_kind_and_no_others():
    for harmonics in ({1.5: 1.0}, {True: 1.0}, {"1": 1.0}, {float("nan"): 1.0}):
        with pytest.raises(ValueError, match="`harmonics` must have different whole frequencies"):
            tasks.periodic(harmonics)
    plain = tasks.periodic({1: 1.0, 2: (0.1, 0.2)}, samples=8)
    other = tasks.periodic({np.int64(1): jnp.asarray(1.0), 2: [0.1, 0.2]}, samples=np.int64(8))
    assert plain.provenance == other.provenance
    assert type(other.provenance["samples"]) is int
    np.testing.assert_array_equal(plain.objective.targets, other.objective.targets)
    with pytest.raises(ValueError, match="`samples` must be an integer"):
        tasks.periodic({1: 1.0}, samples=8.5)


def test_periodic_targets_are_the_given_harmonics():
    task = tasks.periodic({0: (0.0, 0.3), 2: 1.5, 3: (0.5, -0.25)}, samples=16)
    targets = np.asarray(task.objective.targets)
    spectrum = np.fft.rfft(targets) / 16
    assert spectrum[0].real == pytest.approx(0.3)
    assert 2 * spectrum[2].real == pytest.approx(0.0, abs=1e-14)
    assert -2 * spectrum[2].imag == pytest.approx(1.5)
    assert 2 * spectrum[3].real == pytest.approx(-0.25)
    assert -2 * spectrum[3].imag == pytest.approx(0.5)
    np.testing.assert_allclose(np.abs(np.delete(spectrum, [0, 2, 3])), 0, atol=1e-15)
    # Parseval, and the mean over the grid is the mean over the circle.
    power = 0.3**2 + (1.5**2 + 0.5**2 + 0.25**2) / 2
    assert task.facts["target power"] == pytest.approx(power)
    np.testing.assert_allclose(np.linalg.norm(task.objective.inputs, axis=1), 1, atol=1e-15)
    line = tasks.periodic({1: 1.0}, samples=4, embedding="line")
    np.testing.assert_allclose(line.objective.inputs[:, 0], [-1, -0.5, 0, 0.5])


def test_digits_are_the_real_ones():
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    whole = tasks.digits()
    x = np.asarray(whole.objective.inputs)
    assert x.shape == (1797, 64)
    assert x.mean() == pytest.approx(0, abs=1e-12)
    assert x.std() == pytest.approx(1)
    part = tasks.digits(50, problem="classification", seed=3, shape=(8, 8))
    images = np.asarray(part.objective.inputs).reshape(50, 64) * pixels.std() + pixels.mean()
    rows = {tuple(np.round(image)): label for image, label in zip(pixels, labels, strict=True)}
    found = [rows[tuple(np.round(image))] for image in images]
    np.testing.assert_array_equal(found, part.objective.targets)
    assert len({tuple(np.round(image)) for image in images}) == 50
    regression = tasks.digits(50, seed=3)
    np.testing.assert_array_equal(np.argmax(regression.objective.targets, axis=1), found)
    np.testing.assert_array_equal(np.sum(regression.objective.targets, axis=1), 1)


@pytest.mark.slow  # draws the whole data set
def test_mnist1d_is_what_its_authors_generate():
    from mnist1d.data import get_dataset_args, make_dataset

    legacy = lambda: np.random.get_state()[1].copy()  # noqa: NPY002
    before = legacy(), random.getstate()
    whole = tasks.mnist1d(problem="classification", shape=(1, 40))
    assert random.getstate() == before[1]
    np.testing.assert_array_equal(legacy(), before[0])
    x = np.asarray(whole.objective.inputs)
    assert x.shape == (4000, 1, 40)
    theirs = make_dataset(get_dataset_args())
    rows = {tuple(signal): label for signal, label in zip(theirs["x"], theirs["y"], strict=True)}
    found = [rows[tuple(signal)] for signal in x[:, 0]]
    np.testing.assert_array_equal(found, whole.objective.targets)
    part = tasks.mnist1d(32)
    np.testing.assert_array_equal(np.argmax(part.objective.targets, 1), found[:32])


def test_diabetes_is_standardised_and_knows_its_linear_loss():
    from sklearn.datasets import load_diabetes
    from sklearn.linear_model import LinearRegression

    task = tasks.diabetes()
    x, y = np.asarray(task.objective.inputs), np.asarray(task.objective.targets)
    np.testing.assert_allclose([x.mean(0), x.std(0) - 1], 0, atol=1e-12)
    np.testing.assert_allclose([y.mean(), y.var() - 1], 0, atol=1e-12)
    raw = load_diabetes(return_X_y=True)
    score = LinearRegression().fit(*raw).score(*raw)
    assert task.facts["linear loss"] == pytest.approx(1 - score, rel=1e-10)
    assert tasks.diabetes(20, shape=(1, 10)).objective.inputs.shape == (20, 1, 10)


def test_a_teacher_has_loss_zero_and_noise_adds_its_variance():
    module = modules.mlp(3, 2, depth=2)
    task = tasks.student_teacher(module, samples=40, seed=5, copies=3)
    teacher = task.facts["teacher"]
    assert float(task.objective(teacher)) == 0.0
    noisy = tasks.student_teacher(module, samples=4000, seed=5, copies=3, noise=0.1)
    # Mean over samples, sum over two outputs: 2 sigma^2, with relative deviation 1/sqrt(4000).
    assert float(noisy.objective(teacher)) == pytest.approx(0.02, rel=0.06)
    assert "least loss" not in noisy.facts
    again = tasks.student_teacher(module, samples=40, seed=5, copies=3)
    np.testing.assert_array_equal(again.objective.targets, task.objective.targets)


def test_teachers_and_students_of_one_seed_are_independent():
    module = modules.mlp(3, depth=1)
    student = sample(module, copies=4, edges=FixedInDegree(1), seed=5)
    teacher = tasks.draw_teacher(module, copies=4, seed=5)
    assert np.abs(student.weights["x->h1"] - teacher.weights["x->h1"]).min() > 1e-6


@pytest.mark.parametrize("law", ["gaussian", "sphere", "uniform"])
def test_input_laws_have_their_moments(law):
    task = tasks.student_teacher(modules.mlp(5, depth=1), samples=20000, seed=0, inputs=law)
    x = np.asarray(task.objective.inputs)
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=0.03)
    variance = 1 / 3 if law == "uniform" else 1.0
    np.testing.assert_allclose(np.cov(x.T), variance * np.eye(5), atol=0.04)
    if law == "sphere":
        np.testing.assert_allclose(np.linalg.norm(x, axis=1), np.sqrt(5))


@pytest.mark.parametrize(
    ("setting", "horizon"), [("a", 0.1), pytest.param("b", 100.0, marks=pytest.mark.slow)]
)
def test_logistic_experiments_obey_their_inequalities(setting, horizon):
    """-dL/dt >= (eps/n)^2 (1 - e^-L)^2, and the bound that it integrates to (theory, section 7)."""
    experiment = tasks.logistic(setting, seed=1)
    rate = (experiment.margin / experiment.samples) ** 2
    settings = {"solver": "tsit5", "rtol": 1e-8, "max_steps": 20000}
    solution = flow.solve(experiment.model, experiment.task, horizon, **settings)
    loss, t = solution.loss, solution.times
    assert solution.success
    assert loss[-1] < 0.9 * loss[0]
    assert np.all(solution.gradient_norm**2 >= rate * (1 - np.exp(-loss)) ** 2 * (1 - 1e-9))

    def phi(s):
        # e^-s / (1 - e^-s), without overflow for the large losses at the start.
        return s + np.log1p(-np.exp(-s)) - np.exp(-s) / -np.expm1(-s)

    assert np.all(phi(loss) <= phi(loss[0]) - rate * t + 1e-9 * np.abs(phi(loss[0])))


def test_logistic_settings_are_those_of_the_paper():
    a, b = tasks.logistic("a"), tasks.logistic("b", seed=1)
    # Rows of X W*: 1e6 (2, -1, -1), 1e6 (-1, 2, -1), (-5, -5, 10); |W*|_F^2 = 6 + 6 + 150.
    assert a.margin == pytest.approx(15 / np.sqrt(162))
    assert a.task.objective.targets.tolist() == [0, 1, 2]
    start = np.asarray(a.model.weights["x->y"]).T
    assert np.linalg.norm(start) == pytest.approx(1e5)
    assert b.task.objective.inputs.shape == (100, 5)
    assert b.margin > 0
    x = rng().standard_normal((3, 5))
    w = np.asarray(b.model.weights["x->y"]).T
    np.testing.assert_allclose(b.model.batch(x), x @ w, rtol=1e-12)


def test_population_losses_need_no_samples():
    """The expected squared distance to a fixed vector under unit Gaussian noise."""
    task = tasks.population(lambda m: jnp.sum(m.theta**2) + 2.0, facts={"least loss": 2.0})
    solution = flow.solve(problems.Vector(jnp.ones(2)), task, 3.0, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(solution.loss, 2 + 2 * np.exp(-4 * solution.times), rtol=1e-7)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tasks.digits(0), "`samples` must be an integer from 1 to 1797, but is 0"),
        (lambda: tasks.mnist1d(shape=(4, 9)), "`shape` must hold 40 numbers, but is"),
        (lambda: tasks.mnist1d(4001), "`samples` must be an integer from 1 to 4000"),
        (lambda: tasks.diabetes(443), "`samples` must be an integer from 1 to 442"),
        (lambda: tasks.diabetes(shape=(9,)), "`shape` must hold 10 numbers, but is"),
        (lambda: tasks.digits(1798), "`samples` must be an integer from 1 to 1797"),
        (lambda: tasks.digits(problem="ranking"), "`problem` must be one of regression"),
        (lambda: tasks.digits(shape=(8, 9)), "`shape` must hold 64 numbers, but is"),
        (lambda: tasks.periodic({}), "`harmonics` must hold at least one frequency"),
        (lambda: tasks.periodic({40: 1.0}, samples=80), "below samples / 2 = 40"),
        (lambda: tasks.periodic({1: np.nan}), "must have finite coefficients"),
        (lambda: tasks.periodic({1: 1.0}, embedding="torus"), "`embedding` must be 'circle'"),
        (lambda: tasks.logistic("c"), "`setting` must be 'a' or 'b'"),
        (lambda: tasks.supervised(np.zeros((3, 2)), np.zeros(4)), "equally many samples"),
        (lambda: tasks.supervised(np.zeros((0, 2)), np.zeros(0)), "at least one"),
        (lambda: tasks.supervised(np.full((3, 2), np.nan), np.zeros(3)), "`inputs` must be finite"),
        (lambda: tasks.supervised(np.zeros((3, 2)), np.array([0, np.inf, 0])), "holds 1 values"),
        (lambda: tasks.supervised(np.zeros((3, 2)), np.zeros(3), "hinge"), "`loss` must be"),
        (
            lambda: tasks.student_teacher(modules.mlp(3), samples=0, seed=0),
            "`samples` must be an integer of at least 1",
        ),
        (
            lambda: tasks.student_teacher(modules.mlp(3), samples=4, seed=0, inputs="cauchy"),
            "`inputs` must be one of gaussian, sphere, uniform",
        ),
        (
            lambda: tasks.student_teacher(modules.mlp(3), samples=4, seed=0, noise=-1.0),
            "`noise` must be a finite standard deviation",
        ),
    ],
)
def test_bad_tasks_are_refused_in_one_sentence(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)

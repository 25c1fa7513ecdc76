"""Outputs scaled and centred: the richness of a two-layer linear network; labels with noise."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from flowlift import BernoulliInDegree, diagnostics, modules, sample, solve, tasks
from flowlift.flow.problem import make_problem
from flowlift.lift import Gaussian

TARGET = 1.0


def product(model, x):
    """sum_i a_i h_i x."""
    return x * (model["a"] @ model["h"])


def rich(gamma, model):
    """F = (1 / (gamma N)) sum_i a_i h_i on one sample, with the loss (F - y)^2 / 2."""
    half = lambda output, target: 0.5 * (output - target) ** 2
    task = tasks.supervised(np.ones(1), np.full(1, TARGET), half, apply=product)
    return tasks.with_output(task, scale=1 / (gamma * len(model["a"])))


@pytest.mark.parametrize("gamma", [0.3, 3.0])
def test_rich_and_lazy_networks_keep_their_invariant(gamma):
    rng = np.random.default_rng(0)
    n = 7
    model = {"a": jnp.asarray(rng.standard_normal(n)), "h": jnp.asarray(rng.standard_normal(n))}
    found = solve(model, rich(gamma, model), 2.0, rates=gamma**2 * n, rtol=1e-9)

    def invariant(at):
        k = (at["a"] @ at["a"] + at["h"] @ at["h"]) / (2 * n)
        return float(k**2 - (at["a"] @ at["h"] / n) ** 2)

    assert found.loss[-1] < 0.1 * found.loss[0]
    np.testing.assert_allclose(invariant(found.model), invariant(model), rtol=1e-7)


def test_the_residual_of_infinitely_many_units_follows_its_equation():
    # K = 1 and F = 0 at the start, as for infinitely many Gaussian units.
    gamma, model = 2.0, {"a": jnp.array([1.0, 1.0]), "h": jnp.array([1.0, -1.0])}
    found = solve(model, rich(gamma, model), 1.0, rates=gamma**2 * 2, rtol=1e-10, save=[0.3, 1.0])
    field = lambda t, d: -2 * d * np.sqrt(1 + gamma**2 * (TARGET - d) ** 2)
    exact = solve_ivp(field, (0, 1), [TARGET], rtol=1e-11, atol=1e-12, t_eval=[0.3, 1.0]).y[0]
    np.testing.assert_allclose(np.sqrt(2 * found.loss[1:]), exact, rtol=1e-6)


def padded():
    module = modules.mlp(3, depth=1)
    weights = dict.fromkeys(module.edge_by_name, Gaussian())
    return sample(module, copies=6, edges=BernoulliInDegree(2.0), weights=weights, seed=0)


def data():
    x = np.random.default_rng(0).standard_normal((10, 3))
    return tasks.supervised(x, np.sin(x[:, 0]))


@pytest.mark.slow  # compiles two networks, in chunks and whole
def test_centred_outputs_begin_at_zero_in_chunks_as_whole():
    lift, bare = padded(), data()
    task = tasks.with_output(bare, scale=3.0, start=lift)
    y = bare.objective.targets
    np.testing.assert_allclose(task.objective(lift), np.mean(y**2), rtol=1e-12)
    assert task.provenance["output"] == {"scale": 3.0, "centred": True}
    assert task.objective.separable
    whole = make_problem(lift, task.objective, "float64")
    parts = make_problem(lift, task.objective, "float64", memory=6_000)
    assert type(parts.objective).__name__ == "Chunked"
    moved = whole.start * 1.1
    for one, other in zip(whole.value_and_grad(moved), parts.value_and_grad(moved), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11)
    outputs = 3.0 * (whole.model(moved).batch(bare.objective.inputs) - lift.batch(
        bare.objective.inputs
    ))  # fmt: skip
    np.testing.assert_allclose(whole.loss(moved), np.mean((outputs - y) ** 2), rtol=1e-12)
    # The kernel is that of the outputs that the loss sees.
    np.testing.assert_allclose(
        diagnostics.kernel_matrix(lift, task), 9 * diagnostics.kernel_matrix(lift, bare), rtol=1e-10
    )


def test_noise_of_numbers_has_its_deviation_and_its_seed():
    x = np.zeros((4000, 1))
    bare = tasks.supervised(x, np.zeros(4000))
    noisy = tasks.with_label_noise(bare, 0.5, seed=3)
    again = tasks.with_label_noise(bare, 0.5, seed=3)
    np.testing.assert_array_equal(noisy.objective.targets, again.objective.targets)
    assert np.std(noisy.objective.targets) == pytest.approx(0.5, rel=0.05)
    assert noisy.provenance["label_noise"] == {"noise": 0.5, "seed": 3}
    other = tasks.with_label_noise(bare, 0.5, seed=4)
    assert not np.array_equal(noisy.objective.targets, other.objective.targets)


def test_noise_of_signs_turns_them_and_probabilities_have_none():
    signs = np.where(np.arange(3000) % 2, 1.0, -1.0)
    bare = tasks.supervised(np.zeros((3000, 1)), signs, "exponential")
    noisy = np.asarray(tasks.with_label_noise(bare, 0.2, seed=0).objective.targets)
    assert set(noisy) == {-1.0, 1.0}
    assert np.mean(noisy != signs) == pytest.approx(0.2, abs=0.03)
    shares = tasks.supervised(np.zeros((4, 1)), np.full((4, 2), 0.5), "cross-entropy")
    with pytest.raises(ValueError, match="must have integer labels for label noise"):
        tasks.with_label_noise(shares, 0.1, seed=0)


@pytest.mark.slow  # It imports scikit-learn.
def test_noise_of_real_labels_and_numbers_leaves_held_out_data_as_they_are():
    for make in (
        lambda: tasks.digits(60, problem="classification", held_out=20),
        lambda: tasks.diabetes(60, held_out=20),
    ):
        bare, noisy = make(), tasks.with_label_noise(make(), 0.3, seed=0)
        was, now = (np.asarray(task.objective.targets) for task in (bare, noisy))
        assert was.dtype == now.dtype
        assert np.mean(was != now) > 0.1
        np.testing.assert_array_equal(bare.held_out.targets, noisy.held_out.targets)


def test_noise_of_labels_gives_other_labels():
    labels = np.arange(3000) % 3
    bare = tasks.supervised(np.zeros((3000, 1)), labels, "cross-entropy")
    noisy = np.asarray(tasks.with_label_noise(bare, 0.2, seed=0).objective.targets)
    assert noisy.dtype.kind == "i"
    assert set(noisy) == {0, 1, 2}
    assert np.mean(noisy != labels) == pytest.approx(0.2, abs=0.03)
    np.testing.assert_array_equal(
        tasks.with_label_noise(bare, 0.0, seed=0).objective.targets, labels
    )


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda t: tasks.with_output(t, scale=0.0), "other than 0"),
        (lambda t: tasks.with_output(t, scale=np.inf), "other than 0"),
        (lambda t: tasks.with_label_noise(t, -0.1, seed=0), "finite and at least 0"),
        (lambda t: tasks.with_label_noise(t, np.nan, seed=0), "finite and at least 0"),
        (lambda t: tasks.with_output(tasks.population(lambda m: 0.0), scale=2.0), "have samples"),
    ],
)
def test_what_is_no_scale_or_noise_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make(data())

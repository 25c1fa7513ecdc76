"""Losses with more than data: closed forms, and sums over chunks that count a term once."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowlift import BernoulliInDegree, diagnostics, modules, sample, solve, tasks, trajectory
from flowlift.flow.choice import declared_smooth
from flowlift.flow.problem import make_problem
from flowlift.lift import Gaussian
from flowlift.protocols import AbstractSmoothness


def flat(model):
    return 0.0 * jnp.sum(model["a"])


START = {"a": jnp.array([1.0, -2.0]), "b": jnp.array([3.0])}


@pytest.mark.slow  # three flows, each compiled
def test_where_the_loss_is_flat_weights_decay_like_exponentials():
    task = tasks.with_decay(tasks.population(flat), {"a": 0.5, "*": 2.0})
    found = solve(START, task, 1.5, rtol=1e-9)
    np.testing.assert_allclose(found.model["a"], START["a"] * np.exp(-0.75), rtol=1e-7)
    np.testing.assert_allclose(found.model["b"], 3 * np.exp(-3.0), rtol=1e-7)
    # With rates, d lambda; and trajectory has the same loss.
    rated = solve(START, task, 1.5, rtol=1e-9, rates={"b": 0.5})
    np.testing.assert_allclose(rated.model["b"], 3 * np.exp(-1.5), rtol=1e-7)
    pure = trajectory(START, task, [1.5], rtol=1e-9)
    np.testing.assert_allclose(pure.losses[0], found.loss[-1], rtol=1e-6)
    assert task.provenance["decay"] == {"a": 0.5, "*": 2.0}


def test_frozen_leaves_have_no_decay_and_may_not_be_named():
    held = {"a": True, "b": False}
    every = tasks.with_decay(tasks.population(flat), 1.0)
    found = solve(START, every, 1.0, trainable=held, rtol=1e-8)
    np.testing.assert_array_equal(found.model["b"], START["b"])
    np.testing.assert_allclose(found.loss[0], 0.5 * 5.0)
    named = tasks.with_decay(tasks.population(flat), {"b": 1.0})
    with pytest.raises(ValueError, match="leaves of the model that flow, but 'b'"):
        solve(START, named, 1.0, trainable=held)
    with pytest.raises(ValueError, match="leaves of the model that flow, but 'b'"):
        solve(START, named, 1.0, rates={"b": 0})
    with pytest.raises(ValueError, match="one number"):
        solve(START, tasks.with_decay(named, {"a*": 1.0, "?": 1.0}), 1.0)


def padded_lift():
    module = modules.mlp(3, depth=2)
    weights = dict.fromkeys(module.edge_by_name, Gaussian())
    return sample(module, copies=6, edges=BernoulliInDegree(2.0), weights=weights, seed=0)


def data(samples=10):
    x = np.random.default_rng(0).standard_normal((samples, 3))
    return tasks.supervised(x, np.sin(x[:, 0]))


class Ridge(eqx.Module, AbstractSmoothness):
    """(mean of the first edge's weights - target)^2."""

    target: jax.Array

    @property
    def smooth(self) -> bool:
        return True

    def __call__(self, model):
        return (jnp.mean(model.weights["x->h1"]) - self.target) ** 2


def test_terms_are_counted_once_whatever_the_chunks():
    lift, task = padded_lift(), data()
    task = tasks.with_term(tasks.with_decay(task, {"h1->h2": 0.3}), Ridge(jnp.asarray(2.0)))
    whole = make_problem(lift, task.objective, "float64")
    parts = make_problem(lift, task.objective, "float64", memory=6_000)
    assert len(jax.tree.leaves(parts.objective.data.parts.weights)[0]) > 1
    bare = data().objective(lift)
    w = lift.edges("h1->h2")[2]
    by_hand = bare + 0.15 * np.sum(w**2) + (np.mean(lift.weights["x->h1"]) - 2.0) ** 2
    for problem in (whole, parts):
        value, gradient = problem.value_and_grad(problem.start)
        np.testing.assert_allclose(value, by_hand, rtol=1e-12)
        np.testing.assert_allclose(problem.loss(problem.start), by_hand, rtol=1e-12)
    np.testing.assert_allclose(gradient, whole.value_and_grad(whole.start)[1], rtol=1e-10)
    assert set(task.provenance["terms"]) == {"term"}
    assert task.provenance["decay"] == {"h1->h2": 0.3}


def test_single_precision_stays_single():
    lift = padded_lift()
    task = tasks.with_term(tasks.with_decay(data(), 0.1), tasks.L1(), weight=0.01)
    problem = make_problem(lift, task.objective, "float32")
    value, gradient = problem.value_and_grad(problem.start)
    assert value.dtype == gradient.dtype == jnp.float32


def test_smoothness_is_that_of_all_parts():
    lift, task = padded_lift(), data()
    decayed = tasks.with_decay(task, 0.1)
    told = lambda task: declared_smooth(lift, task.objective)
    assert told(decayed) is told(task) is True
    assert told(tasks.with_term(decayed, Ridge(jnp.asarray(0.0)))) is True
    assert told(tasks.with_term(task, tasks.L1())) is False
    assert told(tasks.with_term(task, lambda model: 0.0)) is None


def test_kernels_are_those_of_the_outputs_and_quotients_are_refused():
    lift, task = padded_lift(), data(4)
    decayed = tasks.with_decay(task, 0.1)
    np.testing.assert_allclose(
        diagnostics.kernel_matrix(lift, decayed), diagnostics.kernel_matrix(lift, task)
    )
    for quantity in (diagnostics.rayleigh, diagnostics.tangent_curve):
        with pytest.raises(ValueError, match="no added terms"):
            quantity(lift, decayed)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda t: tasks.with_decay(t, -1.0), "'\\*' is -1.0"),
        (lambda t: tasks.with_decay(t, {"a": np.inf}), "finite numbers of at least 0"),
        (lambda t: tasks.with_decay(t, {"a": True}), "finite numbers of at least 0"),
        (lambda t: tasks.with_term(t, tasks.L1(), weight=np.nan), "finite number"),
        (lambda t: tasks.with_term(t, 3.0), "function of the model"),
    ],
)
def test_what_is_no_term_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make(data())
    with pytest.raises(ValueError, match="'c' names none of"):
        solve(START, tasks.with_decay(tasks.population(flat), {"c": 1.0}), 1.0)


def test_a_term_that_is_no_number_is_refused():
    task = tasks.with_term(tasks.population(flat), lambda model: model["a"])
    with pytest.raises(ValueError, match="one real"):
        solve(START, task, 1.0)

"""Flows under JAX's strictest settings, which users set to find faults of their own."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowlift import BernoulliInDegree, flow, modules, sample, tasks
from flowlift.lift import Gaussian

SLOW = pytest.mark.slow
SOLVERS = ("tsit5", "bdf", "rkc2", "exprb", "kvaerno5", "auto")


def a_lift():
    module = modules.mlp(3, depth=1)
    weights = dict.fromkeys(module.edge_by_name, Gaussian())
    return sample(module, copies=4, edges=BernoulliInDegree(2.0), weights=weights, seed=0)


def an_equinox_mlp():
    return eqx.nn.MLP(3, "scalar", 4, 1, activation=jnp.tanh, key=jax.random.key(0))


@pytest.mark.parametrize("precision", ["float64", pytest.param("float32", marks=SLOW)])
@pytest.mark.parametrize("make", [a_lift, pytest.param(an_equinox_mlp, marks=SLOW)])
@pytest.mark.parametrize("solver", ["tsit5", *(pytest.param(s, marks=SLOW) for s in SOLVERS[1:])])
def test_no_type_and_no_rank_is_promoted_in_silence(solver, make, precision):
    """With rules and snapshots; the energy identity holds."""
    x = np.random.default_rng(0).standard_normal((6, 3))
    task, model = tasks.supervised(x, np.sin(x[:, 0])), make()
    settings = {"solver": solver, "rtol": 1e-3, "precision": precision, "snapshots": [0.5]}
    stops = [flow.LossBelow(1e-6), flow.GradientNormBelow(1e-6)]
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        strict = flow.solve(model, task, 1.0, stops=stops, **settings)
    assert strict.result == "horizon"
    # At the very start a move within the tolerance is none for some solvers.
    assert (np.diff(strict.loss) <= 0).all()
    # dL/dt = -|grad L|^2; at this tolerance RKC2 may say that it does not resolve the energy.
    fallen = strict.loss[0] - strict.loss[-1]
    assert strict.energy[-1] == pytest.approx(fallen, rel=0.05) or (
        solver == "rkc2" and strict.errors["energy"][-1] > 0.01 * fallen
    )


@pytest.mark.slow  # compiles a solve without the cache
def test_a_trajectory_promotes_no_rank_either():
    """theta' = -theta, from a vector and a matrix."""
    theta = {"v": jnp.ones(3), "m": jnp.ones((2, 2))}
    total = lambda tree: sum(0.5 * jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree))
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        found = flow.trajectory(theta, total, jnp.asarray([0.5, 1.0]), rtol=1e-6)
    assert bool(found.success)
    for leaf in jax.tree.leaves(found.models):
        np.testing.assert_allclose(leaf[0], np.full(leaf.shape[1:], np.exp(-0.5)), rtol=1e-5)
        np.testing.assert_allclose(leaf[1], np.full(leaf.shape[1:], np.exp(-1.0)), rtol=1e-5)

"""Sigma of central flows against dense matrices and closed forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowlift.flow.dynamics import CentralFlow, CentralRMSProp
from flowlift.flow.dynamics.oscillation import NEAR, WITHIN, Preconditioner, oscillation
from flowlift.flow.problem import make_problem
from flowlift.tasks import population


def quartic(w):
    return 0.5 * (jnp.prod(w) - 1) ** 2


START = jnp.asarray([0.4, 1.45, 1.65, 0.6])
HESSIAN = jax.jit(jax.hessian(quartic))


def descent(eta):
    """P = I / eta, which does not move."""
    one = jnp.ones(())
    return lambda slope: Preconditioner(one / eta, 0 * one, 0 * one)


@functools.partial(jax.jit, static_argnums=(0, 3))
def at(loss, theta, eta, count):
    return oscillation(jax.value_and_grad(loss), theta, descent(eta), count)


def closed_form(theta):
    """eta = 2 / S, S the sharpness; sigma^2 = max(0, <-grad L, grad S> / (|grad S|^2 / 2))."""
    values, vectors = np.linalg.eigh(HESSIAN(theta))
    third = np.asarray(jax.jacfwd(jax.hessian(quartic))(theta))
    slope, u = np.asarray(jax.grad(quartic)(theta)), vectors[:, -1]
    rise = np.einsum("ijk,i,j->k", third, u, u)
    return 2 / values[-1], max(0.0, -(slope @ rise) / (0.5 * rise @ rise)), rise


@pytest.mark.slow  # compiles third derivatives
def test_one_eigenvalue_at_the_edge_has_a_closed_form():
    for theta in (START, jnp.asarray([0.9, 1.5, 1.5, 0.6])):
        eta, variance, rise = closed_form(theta)
        found = at(quartic, theta, eta, 1)
        assert (variance > 0) == (theta is START)
        # Sigma = U X U^T with U^T U = eta.
        assert float(found.covariance[0, 0]) * eta == pytest.approx(variance, rel=1e-6)
        np.testing.assert_allclose(found.force, variance * rise / 2, rtol=1e-6, atol=1e-12)
        assert float(found.excess) == pytest.approx(variance / eta, rel=1e-6)
        assert float(found.spread(1 / eta)) == pytest.approx(variance * (2 / eta) ** 2, rel=1e-6)


def test_nothing_oscillates_below_the_edge():
    sharpness = np.linalg.eigvalsh(HESSIAN(START))[-1]
    found = at(quartic, START, 0.9 * NEAR / sharpness, 1)
    assert int(found.near) == 0
    assert not np.any(found.force)
    assert float(found.eigenvalues[0]) == pytest.approx(0.9 * NEAR)


def pair(w):
    """Two copies of one loss in rotated coordinates: every eigenvalue is double."""
    rng = np.random.default_rng(0)
    basis = jnp.asarray(np.linalg.qr(rng.normal(size=(8, 8)))[0])
    turned = basis @ w
    return quartic(turned[:4]) + quartic(turned[4:])


# A double eigenvalue takes further Lanczos processes, whose compilation is long.
@pytest.mark.slow
def test_two_copies_oscillate_like_one_each():
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    eta, variance, rise = closed_form(START)
    found = at(pair, jnp.asarray(basis.T @ np.concatenate([START, START])), eta, 3)
    assert int(found.near) == 2
    sigma = np.asarray(found.vectors.T @ found.covariance @ found.vectors)
    # What the copies have to do with each other moves nothing, and is not determined.
    assert np.trace(sigma) == pytest.approx(2 * variance, rel=1e-6)
    np.testing.assert_allclose(basis @ found.force, np.tile(variance * rise / 2, 2), rtol=1e-6)
    assert float(found.excess) == pytest.approx(2 * variance / eta, rel=1e-6)


def coupled(w):
    """Two nearly equal losses, coupled: both of their leading eigenvalues are near the edge."""
    return quartic(w[:4]) + quartic(w[4:]) + 0.02 * jnp.sin(w[:4] @ (w[4:] ** 2))


WEIGHTS = jnp.concatenate([START, 1.003 * START])


def moved(dynamics, problem, state):
    """A state's rates, and U^T d/dt (2 D / eta - H) U along them, from dense matrices."""
    theta, further = state
    rates = dynamics.rates(problem, theta, further)

    def edge(theta, further):
        moment = further.get("second_moment")
        scale = 1.0 if moment is None else jnp.sqrt(moment) + dynamics.epsilon
        scale = scale * jnp.ones_like(theta)
        return 2 * jnp.diag(scale) / dynamics.step_size - jax.hessian(coupled)(theta)

    now, change = jax.jvp(edge, (theta, further), (rates.theta, rates.further))
    return rates, now, change


@pytest.mark.parametrize(
    ("dynamics", "near"),
    [
        # Third derivatives of a network take seconds to compile; the closed form above is quick.
        pytest.param(CentralFlow, 2, marks=pytest.mark.slow),
        # Its own compilation of everything, for a second preconditioner.
        pytest.param(CentralRMSProp, 2, marks=pytest.mark.slow),
    ],
)
def test_sigma_is_complementary_to_what_the_flow_makes_of_the_edge(dynamics, near):
    """The conditions that define the flow, with derivatives of dense matrices along its rates."""
    moment = jnp.asarray(0.1 + 0.3 * np.tile(np.random.default_rng(3).uniform(size=4), 2))
    plain = dynamics is CentralFlow
    root = jnp.ones(8) if plain else jnp.sqrt(moment) + 1e-8
    further = {} if plain else {"second_moment": moment}
    own = {} if plain else {"decay": 0.9, "initial": 0.1, "epsilon": 1e-8}
    scaled = np.asarray(jax.hessian(coupled)(WEIGHTS) / jnp.sqrt(jnp.outer(root, root)))
    values, vectors = np.linalg.eigh(scaled)
    assert NEAR / 2 < values[-2] / values[-1] < 0.999
    # One eigenvalue a little beyond the edge, one a little below.
    eta = 2 / (0.5 * values[-1] + 0.5 * values[-2])
    made = dynamics(eta, eigenvalues=3, **own)
    problem = make_problem(WEIGHTS, population(coupled).objective, "float64", dynamics=made)
    rates, now, change = jax.jit(functools.partial(moved, made, problem))((WEIGHTS, further))
    basis = vectors[:, -near:] / np.sqrt(root)[:, None]
    edge = basis.T @ (np.asarray(now) / WITHIN + eta * np.asarray(change)) @ basis
    # Sigma from what it does to theta: the force is linear in it.
    third = np.asarray(jax.jacfwd(jax.hessian(coupled))(WEIGHTS))
    pulls = np.einsum("ijk,ia,jb->abk", third, basis, basis) / 2
    slope = np.asarray(jax.grad(coupled)(WEIGHTS))
    force = -np.asarray(rates.theta) * np.asarray(root) - slope
    i, j = np.triu_indices(near)
    rows = pulls[i, j] * np.where(i == j, 1, 2)[:, None]
    entries = np.linalg.lstsq(rows.T, force, rcond=None)[0]
    sigma = np.zeros((near, near))
    sigma[i, j] = sigma[j, i] = entries
    assert np.abs(rows.T @ entries - force).max() <= 1e-6 * np.abs(force).max()
    size = np.abs(sigma).max() * np.abs(edge).max()
    assert np.linalg.eigvalsh(sigma)[0] >= -1e-6 * np.abs(sigma).max()
    assert np.linalg.eigvalsh(sigma)[-1] > 0
    assert np.linalg.eigvalsh(edge)[0] >= -1e-5 * np.abs(edge).max()
    assert abs(np.sum(sigma * edge)) <= 1e-5 * size

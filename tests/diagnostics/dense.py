"""What the instruments measure, by dense linear algebra in NumPy."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from flowlift import diagnostics, flow, modules, tasks
from flowlift.lift import BernoulliInDegree, Gaussian, sample

MODULE = modules.mlp(3, 2, depth=2)
WEIGHTS = dict.fromkeys(MODULE.edge_by_name, Gaussian())


@functools.cache
def small_lift(seed=0, copies=12):
    """From 12 copies on with padding, since the number of edges is random."""
    lift = sample(MODULE, copies=copies, edges=BernoulliInDegree(3), weights=WEIGHTS, seed=seed)
    return lift


@functools.cache
def small_task(samples=15):
    return tasks.student_teacher(modules.mlp(3, 2, depth=1), samples=samples, seed=1, copies=2)


EPS = 1e-3


@functools.cache
def small_run():
    """The flow of the small lift, watched: one compilation for all tests of runs."""
    lift, task = small_lift(), small_task()
    watch = {
        "kappa": diagnostics.observer("tangent_radius", task, eps=EPS),
        "rayleigh": diagnostics.observer("rayleigh", task),
    }
    save = flow.LogTimes(2, start=1e-2)
    return flow.solve(
        lift, task, 100.0, save=save, rtol=1e-7, observers=watch, snapshots=[0.01, 10.0]
    )


def jacobian(model, task):
    """dF/dtheta / sqrt(samples), by `jax.jacobian` on the plain outputs."""
    tree, rest = eqx.partition(model, eqx.is_inexact_array)
    theta, unravel = ravel_pytree(tree)
    outputs = lambda theta: task.objective.outputs(eqx.combine(unravel(theta), rest)).reshape(-1)
    root = np.sqrt(len(task.objective.targets))
    return np.asarray(jax.jacrev(outputs)(theta)) / root, np.asarray(outputs(theta)) / root


def residual(model, task):
    _, outputs = jacobian(model, task)
    targets = np.asarray(task.objective.targets)
    return outputs - targets.reshape(-1) / np.sqrt(len(targets))


def kappa(j, r, eps):
    """min |u| with |r + J u|^2 <= eps through the SVD and bisection; infinite below the floor."""
    u, s, _ = np.linalg.svd(j, full_matrices=False)
    s = np.where(s > 1e-12 * s.max(), s, 0)
    c = (u.T @ r) ** 2
    floor = max(r @ r - c[s > 0].sum(), 0)
    if eps >= r @ r:
        return 0.0
    if eps < floor:
        return np.inf
    low, high = 1e-30, 1e30
    for _ in range(400):
        mu = np.sqrt(low * high)
        value = floor + np.sum(c[s > 0] * (mu / (s[s > 0] ** 2 + mu)) ** 2)
        low, high = (mu, high) if value <= eps else (low, mu)
    return float(np.sqrt(np.sum(c * s**2 / (s**2 + low) ** 2)))


def hessian(model, loss):
    """On the coordinates that are no padding, by central differences of the gradient."""
    tree, rest = eqx.partition(model, eqx.is_inexact_array)
    theta, unravel = ravel_pytree(tree)
    gradient = jax.jit(jax.grad(lambda t: loss(eqx.combine(unravel(t), rest))))
    steps = 1e-5 * np.eye(theta.size)
    matrix = np.stack([(gradient(theta + h) - gradient(theta - h)) / 2e-5 for h in steps])
    counts = {name: int(fibre.count) for name, fibre in model.fibres.items()}
    live = [
        np.broadcast_to((np.arange(len(w)) < counts[n]).reshape(-1, *[1] * (w.ndim - 1)), w.shape)
        for n, w in sorted(model.weights.items())
    ]
    mask = np.concatenate([m.reshape(-1) for m in live])
    matrix = matrix[np.ix_(mask, mask)]
    return (matrix + matrix.T) / 2, mask


class Vector(eqx.Module):
    """The model F = theta on one sample, so that J is the identity."""

    theta: jax.Array


def identity_task(target):
    return tasks.supervised(
        jnp.zeros((1, 1)), np.asarray(target, float)[None], apply=lambda model, _: model.theta[None]
    )

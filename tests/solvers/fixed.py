"""Fixed steps and orders of convergence; flows with gradients, as fields on flat vectors."""

import jax
import jax.numpy as jnp
import numpy as np
import problems
import scipy.integrate


def slopes(errors):
    """log2 of the ratio of successive errors, steps halved each time."""
    errors = np.asarray(errors)
    return np.log2(errors[:-1] / errors[1:])


def quadratic():
    """(gradient, start, end, solution at the end)."""
    problem = problems.Quadratic.draw(6, 50.0)
    hessian = jnp.asarray(problem.hessian)
    gradient = lambda theta: hessian @ (theta - problem.optimum)
    return gradient, jnp.asarray(problem.start), 2.0, problem.theta(2.0)


def linear_net():
    """Two-layer linear network with balanced modes: theta(t) in closed form."""
    strengths, u0 = np.array([2.0, 1.0, 0.5]), 0.1
    n = len(strengths)

    def loss(theta):
        w1, w2 = theta.reshape(2, n, n)
        return 0.5 * jnp.sum((w2 @ w1 - jnp.diag(strengths)) ** 2)

    model = problems.balanced_modes(strengths, u0)
    start = jnp.concatenate([model.w1.ravel(), model.w2.ravel()])
    root = np.diag(np.sqrt([problems.mode_strength(s, u0, 1.0) for s in strengths]))
    return jax.grad(loss), start, 1.0, np.concatenate([root.ravel(), root.ravel()])


def tanh_net():
    """A two-layer tanh network; the solution by Dormand-Prince 8 at 1e-13."""
    rng = np.random.default_rng(3)
    x, y = jnp.asarray(rng.standard_normal((12, 2))), jnp.asarray(rng.standard_normal(12))

    def loss(theta):
        w, a = theta[:8].reshape(4, 2), theta[8:]
        return jnp.mean((jnp.tanh(x @ w.T) @ a - y) ** 2)

    gradient, start, end = jax.grad(loss), rng.standard_normal(12), 2.0
    rate = jax.jit(lambda theta: -gradient(theta))
    exact = scipy.integrate.solve_ivp(
        lambda t, theta: np.asarray(rate(theta)), (0, end), start, "DOP853", rtol=1e-13, atol=1e-14
    )
    return gradient, jnp.asarray(start), end, exact.y[:, -1]


FLOWS = {"quadratic": quadratic, "linear net": linear_net, "tanh net": tanh_net}

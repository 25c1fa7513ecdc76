"""The 3-D heat equation of Sommeijer, Shampine and Verwer 1998, and its semi-discrete solution.

u_t = laplace(u) + f on the unit cube, Dirichlet, with f, boundary and start from
u = tanh(5 (x + 2 y + 1.5 z - 0.5 - t)); 39^3 inner points, second-order differences.
"""

import jax.numpy as jnp
import numpy as np
import scipy.fft

POINTS = 39
STEP = 1 / (POINTS + 1)
RADIUS = 12 / STEP**2
END = 0.7
PUBLISHED = {1e-3: (3.7e-4, 786), 1e-4: (3.9e-5, 1087), 1e-5: (4.3e-6, 1682), 1e-6: (6.5e-7, 2445)}


def exact(t, xp=np):
    """u on all 41^3 points."""
    axis = np.linspace(0, 1, POINTS + 2)
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij", sparse=True)
    return xp.tanh(5 * (x + 2 * y + 1.5 * z - 0.5 - t))


def forcing(t, xp=np):
    """f and the boundary values, as one field on the inner points."""
    u = exact(t, xp)
    slope = 1 - u**2
    f = -5 * slope + 2 * 25 * (1 + 4 + 2.25) * u * slope
    inner = xp.zeros((POINTS + 2,) * 3)
    for axis in range(3):
        for end, neighbour in ((0, 1), (-1, -2)):
            into = [slice(1, -1)] * 3
            of = [slice(1, -1)] * 3
            into[axis], of[axis] = neighbour, end
            into, of = tuple(into), tuple(of)
            if xp is np:
                inner[into] += u[of] / STEP**2
            else:
                inner = inner.at[into].add(u[of] / STEP**2)
    return (f + inner)[1:-1, 1:-1, 1:-1]


def field(t, u, args=None):
    """The semi-discrete right-hand side."""
    p = jnp.pad(u, 1)
    c = slice(1, -1)
    neighbours = (
        p[2:, c, c] + p[:-2, c, c] + p[c, 2:, c] + p[c, :-2, c] + p[c, c, 2:] + p[c, c, :-2]
    )
    return (neighbours - 6 * u) / STEP**2 + forcing(t, jnp)


def start():
    """u at t = 0."""
    return exact(0.0)[1:-1, 1:-1, 1:-1]


def solution(steps: int = 60, stages: int = 6) -> np.ndarray:
    """The semi-discrete solution at t = 0.7: sine modes, each by Radau IIA collocation.

    The system is linear with constant matrix, so each sine mode obeys a scalar equation.
    """
    modes = (2 - 2 * np.cos(np.pi * np.arange(1, POINTS + 1) * STEP)) / STEP**2
    decay = modes[:, None, None] + modes[None, :, None] + modes[None, None, :]
    nodes, matrix = _radau(stages)
    h = END / steps
    system = np.eye(stages) + h * decay[..., None, None] * matrix
    inverse = np.linalg.inv(system)
    u = scipy.fft.dstn(start(), type=1, norm="ortho")
    for n in range(steps):
        drive = [scipy.fft.dstn(forcing((n + c) * h), type=1, norm="ortho") for c in nodes]
        right = u[..., None] + h * np.stack(drive, axis=-1) @ matrix.T
        u = np.einsum("...ij,...j->...i", inverse, right)[..., -1]
    return scipy.fft.idstn(u, type=1, norm="ortho")


def _radau(stages: int):
    """Nodes (the last is 1) and the collocation matrix a_ij = int_0^{c_i} l_j."""
    legendre = np.polynomial.legendre.Legendre
    difference = legendre.basis(stages) - legendre.basis(stages - 1)
    nodes = np.sort((difference.roots() + 1) / 2)
    powers = nodes[:, None] ** np.arange(stages)
    integrals = nodes[:, None] ** np.arange(1, stages + 1) / np.arange(1, stages + 1)
    return nodes, np.linalg.solve(powers.T, integrals.T).T

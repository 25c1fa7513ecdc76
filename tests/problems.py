"""Flows whose answer is known: closed forms, and the reference curves of `reference/flows.npz`."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np


class Vector(eqx.Module):
    """A model that is nothing but its parameters."""

    theta: jax.Array


class Quadratic(eqx.Module):
    """L = 1/2 (theta - optimum)^T H (theta - optimum), so theta(t) = optimum + e^{-Ht} (...).

    A pytree, so that problems of one size share their compilation.
    """

    eigenvalues: np.ndarray
    basis: np.ndarray
    optimum: np.ndarray
    start: np.ndarray

    @staticmethod
    def draw(size: int, condition: float, seed: int = 0) -> "Quadratic":
        rng = np.random.default_rng(seed)
        basis, _ = np.linalg.qr(rng.standard_normal((size, size)))
        eigenvalues = np.geomspace(1.0 / condition, 1.0, size)
        return Quadratic(eigenvalues, basis, rng.standard_normal(size), rng.standard_normal(size))

    @property
    def hessian(self) -> np.ndarray:
        return self.basis @ (self.eigenvalues[:, None] * self.basis.T)

    def __call__(self, model: Vector) -> jax.Array:
        gap = model.theta - self.optimum
        modes = jnp.asarray(self.basis).T @ gap
        return 0.5 * modes @ (self.eigenvalues * modes)

    def theta(self, t: float) -> np.ndarray:
        modes = np.exp(-self.eigenvalues * t) * (self.basis.T @ (self.start - self.optimum))
        return self.optimum + self.basis @ modes

    def loss_at(self, t) -> np.ndarray:
        modes = self.basis.T @ (self.start - self.optimum)
        decay = np.exp(-2 * np.outer(np.atleast_1d(t), self.eigenvalues))
        return 0.5 * decay @ (self.eigenvalues * modes**2)

    def arc_length_at(self, t: float, points: int = 20001) -> float:
        """By quadrature in log(1 + t), independent of any solver."""
        u = np.linspace(0, np.log1p(t), points)
        times = np.expm1(u)
        modes = self.basis.T @ (self.start - self.optimum)
        speed = np.linalg.norm(
            np.exp(-np.outer(times, self.eigenvalues)) * (self.eigenvalues * modes), axis=1
        )
        return float(np.trapezoid(speed * np.exp(u), u))


class TwoLayerLinear(eqx.Module):
    """x -> w2 w1 x without biases."""

    w1: jax.Array
    w2: jax.Array

    def __call__(self, x):
        return self.w2 @ (self.w1 @ x)


def balanced_modes(strengths, u0: float) -> TwoLayerLinear:
    """Balanced initialisation, one hidden unit a mode, product u0 on the diagonal."""
    root = jnp.sqrt(u0) * jnp.eye(len(strengths))
    return TwoLayerLinear(root, root)


def mode_strength(s: float, u0: float, t) -> np.ndarray:
    """u(t) = s e^{2st} / (e^{2st} - 1 + s/u0), for loss 1/2 |target - W2 W1|^2."""
    growth = np.exp(2 * s * np.asarray(t))
    return s * growth / (growth - 1 + s / u0)


@dataclasses.dataclass(frozen=True)
class Reference:
    """One of the reference flows: a start, a loss, and the true loss along the flow."""

    theta0: np.ndarray
    loss: Callable
    times: np.ndarray
    losses: np.ndarray

    def error(self, times, losses) -> float:
        """Largest relative error of a loss curve over the reference times it contains."""
        at = [int(np.flatnonzero(np.isclose(times, t, rtol=1e-9))[0]) for t in self.reached(times)]
        true = self.losses[: len(at)]
        return float(np.max(np.abs(np.asarray(losses)[at] - true) / true))

    def reached(self, times) -> np.ndarray:
        return self.times[self.times <= np.max(times) * (1 + 1e-9)]


def reference(name: str) -> Reference:
    """A_tanh, A_soft, B or C, as laid out in reference/README.md."""
    data = np.load(Path(__file__).parent / "reference" / "flows.npz")
    x, y = jnp.asarray(data[f"{name}.inputs"]), jnp.asarray(data[f"{name}.targets"])
    network = {"A_tanh": _a(jnp.tanh), "A_soft": _a(jax.nn.softplus), "C": _c}.get(name)
    if name == "B":
        network = _b(jnp.asarray(data["B.sources"]))

    def loss(theta):
        return jnp.mean((network(theta, x) - y) ** 2)

    return Reference(data[f"{name}.theta0"], loss, data[f"{name}.t"], data[f"{name}.loss"])


def _a(act):
    def network(theta, x):
        w, a, b, c = theta[:128].reshape(32, 4), theta[128:160], theta[160:192], theta[192]
        return act(x @ w.T + b) @ a + c

    return network


def _c(theta, x):
    w, a, b = theta[:4096].reshape(1024, 4), theta[4096:5120], theta[5120:6144]
    return jnp.tanh(x @ w.T / 2.0 + b) @ a / 32.0 + theta[6144]


def _b(sources):
    def network(theta, x):
        w1, rest = theta[:256].reshape(128, 2), theta[256:]
        w2, w3 = rest[:768].reshape(128, 6), rest[768:1536].reshape(128, 6)
        a, b1, b2, b3 = rest[1536:2048].reshape(4, 128)
        h1 = jnp.tanh(x @ w1.T + b1)
        h2 = jnp.tanh(jnp.einsum("sok,ok->so", h1[:, sources[0]], w2) + b2)
        h3 = jnp.tanh(jnp.einsum("sok,ok->so", h2[:, sources[1]], w3) + b3)
        return h3 @ a + rest[2048]

    return network

"""One gradient of a sparse convolutional net and of a sparse transformer, beside the dense network.

The peer is the same network with the same weights in dense arrays under a mask, written as one
would write it by hand: channels last, one product or convolution per layer.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from flowlift import FixedInDegree, modules, sample, tasks
from flowlift.flow.problem import Problem, make_problem
from flowlift.lift import GaussianFanIn, Lift

IN_DEGREE, SAMPLES = 8, 256
DEPTH, SIDE = 3, 8
BLOCKS, TOKENS, CHANNELS = 2, 16, 4

ARCHITECTURES = ("cnn2d", "transformer")

Parameters = dict[str, jax.Array]


def compare_architecture(
    architecture: str, copies: int, dtype: str
) -> tuple[Problem, Callable[[], tuple]]:
    """The lift's problem and the dense network's gradient, whose losses are equal."""
    lift, (x, targets) = draw(architecture, copies, dtype), data(architecture, dtype)
    problem = make_problem(lift, tasks.supervised(x, targets).objective, dtype)
    peer = masked_gradient(architecture, lift, x, targets)
    np.testing.assert_allclose(peer()[0], problem.loss(problem.start), rtol=1e-4)
    return problem, peer


def draw(architecture: str, copies: int, dtype: str) -> Lift:
    """The lift of a zoo module, all biases and residuals included."""
    if architecture == "cnn2d":
        module = modules.cnn2d(SIDE, SIDE, depth=DEPTH)
    else:
        module = modules.transformer(TOKENS, CHANNELS, blocks=BLOCKS)
    weights = dict.fromkeys(module.edge_by_name, GaussianFanIn(IN_DEGREE**-0.5))
    edges = FixedInDegree(IN_DEGREE)
    return sample(module, copies=copies, edges=edges, weights=weights, seed=0, precision=dtype)


def data(architecture: str, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Digits as images, or their 2 x 2 squares as 16 tokens; the target is the class's parity."""
    from sklearn.datasets import load_digits

    images, classes = load_digits(return_X_y=True)
    x = images[:SAMPLES].reshape(-1, 1, SIDE, SIDE) / 16
    if architecture == "transformer":
        squares = x.reshape(-1, SIDE // 2, 2, SIDE // 2, 2).transpose(0, 1, 3, 2, 4)
        x = squares.reshape(-1, TOKENS, CHANNELS)
    return x.astype(dtype), (classes[:SAMPLES] % 2).astype(dtype)


def dense(lift: Lift) -> tuple[Parameters, Parameters]:
    """Weights and masks (targets, sources, *W) of the edges that join copies."""
    weights, masks = {}, {}
    for name, fibre in lift.fibres.items():
        sources, targets, w = lift.edges(name)
        shape = (fibre.n_targets, fibre.n_sources, *w.shape[1:])
        matrix, mask = np.zeros(shape, w.dtype), np.zeros(shape[:2], w.dtype)
        matrix[targets, sources], mask[targets, sources] = w, 1
        weights[name] = jnp.asarray(matrix)
        if fibre.n_sources > 1 and not fibre.is_complete and matrix[0, 0].size:
            masks[name] = jnp.asarray(mask.reshape(*mask.shape, *[1] * (w.ndim - 1)))
    return weights, masks


def masked_gradient(
    architecture: str, lift: Lift, x: np.ndarray, targets: np.ndarray
) -> Callable[[], tuple]:
    """One gradient of the dense network with masked weights."""
    forward = {"cnn2d": _cnn2d, "transformer": _transformer}[architecture]

    def loss(weights, masks, x, targets):
        used = {name: w * masks[name] if name in masks else w for name, w in weights.items()}
        return jnp.mean((forward(used, x) - targets) ** 2)

    run = jax.jit(jax.value_and_grad(loss))
    arguments = (*dense(lift), jnp.asarray(x), jnp.asarray(targets))
    return lambda: jax.block_until_ready(run(*arguments))


def _cnn2d(w: Parameters, x: jax.Array) -> jax.Array:
    y, names = x.transpose(0, 2, 3, 1), ("NHWC", "HWIO", "NHWC")
    for i in range(1, DEPTH + 1):
        before = "x" if i == 1 else f"h{i - 1}"
        kernel = w[f"{before}->h{i}"].transpose(2, 3, 1, 0)
        z = lax.conv_general_dilated(y, kernel, (1, 1), "SAME", dimension_numbers=names)
        y = jnp.tanh(z + w[f"1->h{i}"][:, 0])
    return y.mean((1, 2)) @ w[f"h{DEPTH}->y"][0] + w["1->y"][0, 0]


def _transformer(w: Parameters, x: jax.Array) -> jax.Array:
    def linear(name: str, y: jax.Array) -> jax.Array:
        matrix = w[name].transpose(0, 2, 1, 3)
        rows = matrix.shape[0] * matrix.shape[1]
        return y @ matrix.reshape(rows, -1).T

    def heads(name: str, y: jax.Array) -> jax.Array:
        return linear(name, y).reshape(*y.shape[:2], -1, w[name].shape[2])

    bias = lambda name: w[name][:, 0].reshape(-1)
    r = linear("x->r0", x) + w["1->r0"][:, 0].transpose(1, 0, 2).reshape(x.shape[1], -1)
    for i in range(1, BLOCKS + 1):
        q, k, s = (heads(f"{letter}{i}", r) for letter in "qks")
        logits = jnp.einsum("bthr,buhr->bhtu", q, k) / q.shape[-1] ** 0.5
        a = jnp.einsum("bhtu,buhc->bthc", jax.nn.softmax(logits, axis=-1), s)
        u = r + linear(f"a{i}->u{i}", a.reshape(*r.shape[:2], -1))
        m = jax.nn.gelu(linear(f"u{i}->m{i}", u) + bias(f"1->m{i}"), approximate=False)
        r = u + linear(f"m{i}->r{i}", m) + bias(f"1->r{i}")
    return r.mean(1) @ w[f"r{BLOCKS}->y"].reshape(-1) + w["1->y"][0, 0]

"""No array of size edges x samples, memory linear in copies x samples, one pass for all records."""

import re

import equinox as eqx
import jax
import numpy as np
import pytest

from flowlift import BernoulliInDegree, FixedInDegree, modules, sample, tasks
from flowlift.flow.problem import Quadratures, make_problem, observe
from flowlift.kernels.blocks import BLOCK_BYTES
from flowlift.lift.fibre_sums import edge_sum
from flowlift.modules import Convolution

K, SAMPLES = 16, 128


def problem(copies, edges, method):
    module = modules.mlp(16, depth=3, bias=False, vector_input=False)
    lift = sample(module, copies=copies, edges=edges, seed=0, precision="float32", method=method)
    rng = np.random.default_rng(0)
    x, targets = rng.standard_normal((SAMPLES, 16)), rng.standard_normal(SAMPLES)
    return make_problem(lift, tasks.supervised(x, targets).objective, "float32")


def compiled(problem):
    arrays, static = eqx.partition(problem, eqx.is_array)
    run = jax.jit(lambda arrays, theta: eqx.combine(arrays, static).value_and_grad(theta))
    return run.lower(arrays, problem.start).compile()


def largest_array(text):
    """Bytes of the largest array that a compiled program names."""
    sizes = {"f32": 4, "s32": 4, "f64": 8, "s64": 8, "pred": 1}
    shapes = re.findall(r"\b(f32|s32|f64|s64|pred)\[([\d,]+)\]", text)
    return max(
        sizes[kind] * int(np.prod([int(d) for d in dims.split(",")])) for kind, dims in shapes
    )


@pytest.mark.slow  # traces large fibres
@pytest.mark.parametrize(
    ("method", "edges"),
    [
        ("padded", FixedInDegree(K)),
        ("csr", FixedInDegree(K)),
        pytest.param("padded", BernoulliInDegree(K), marks=pytest.mark.slow),
    ],
)
def test_no_array_exceeds_the_block(method, edges):
    copies = 1024
    gathered = copies * K * SAMPLES * 4
    assert gathered >= 8 * BLOCK_BYTES
    assert largest_array(compiled(problem(copies, edges, method)).as_text()) <= BLOCK_BYTES


@pytest.mark.slow
def test_no_array_of_edges_times_samples_is_written_for_kernels():
    n, k, batch = 128, 8, 8
    lift = sample(modules.cnn2d(8, 8, n), copies=n, edges=FixedInDegree(k), seed=0)
    fibre, w, y = lift.fibres["h1->h2"], np.ones((k * n, 3, 3)), np.ones((n, batch, 8, 8))
    f = lambda w, y: (edge_sum(Convolution((3, 3)), fibre, w, y, "auto") ** 2).sum()
    text = jax.jit(jax.grad(f, argnums=(0, 1))).lower(w, y).compile().as_text()
    # Maps have 81 numbers with their margins; the gathered ones would be k times as many.
    assert largest_array(text) <= 2 * n * batch * 81 * 8


def test_the_measure_sees_a_gathered_array():
    run = jax.jit(lambda y, s: (y[s] ** 2).sum(1).sort())
    text = run.lower(np.ones((8, 128), np.float32), np.zeros(50, np.int32)).compile().as_text()
    assert largest_array(text) == 50 * 128 * 4


@pytest.mark.slow
def test_memory_is_linear_in_copies():
    temporaries = [
        compiled(problem(n, FixedInDegree(K), "padded")).memory_analysis().temp_size_in_bytes
        for n in (1024, 2048, 4096)
    ]
    small, middle, large = temporaries
    assert large - middle <= 2.2 * (middle - small)
    assert large <= 8 * 4096 * SAMPLES * 4 + 4 * BLOCK_BYTES


def count(jaxpr, name):
    """How often a primitive occurs, in all nested programs."""
    return str(jaxpr).count(f"{name}[")


def test_records_come_from_the_one_pass_of_the_gradient():
    p = problem(64, FixedInDegree(K), "padded")
    state = (p.start, Quadratures.zero("float32"))
    arrays, static = eqx.partition(p, eqx.is_array)
    jaxpr = jax.make_jaxpr(lambda a, s: observe(s, eqx.combine(a, static), ()))(arrays, state)
    assert count(jaxpr, "fibre_push") == 4
    assert count(jaxpr, "fibre_pull") == 3
    assert count(jaxpr, "fibre_edge") == 4

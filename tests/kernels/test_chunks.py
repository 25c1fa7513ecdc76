"""Samples in chunks: the same L, the same derivatives, less memory."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowlift import FixedInDegree, flow, modules, sample, tasks
from flowlift.flow.chunking import bytes_per_sample, chunk_samples
from flowlift.flow.problem import make_problem
from flowlift.lift import Gaussian
from flowlift.tasks.chunks import Chunked

SAMPLES = 23


@pytest.fixture(scope="module")
def lift():
    module = modules.mlp(3, depth=2)
    weights = dict.fromkeys(module.edge_by_name, Gaussian())
    return sample(module, copies=12, edges=FixedInDegree(3), weights=weights, seed=0)


@pytest.fixture(scope="module")
def task():
    return tasks.student_teacher(modules.mlp(3, depth=1), samples=SAMPLES, seed=0)


def everything(problem):
    """L, grad L, and a Hessian-vector product by forward and by reverse mode."""
    theta = problem.start
    v = jnp.cos(jnp.arange(theta.size, dtype=theta.dtype))
    gradient = lambda theta: problem.value_and_grad(theta)[1]
    return jax.jit(
        lambda theta: (
            problem.loss(theta),
            *problem.value_and_grad(theta),
            jax.jvp(gradient, (theta,), (v,))[1],
            jax.linearize(gradient, theta)[1](v),
            jax.grad(lambda theta: gradient(theta) @ v)(theta),
            jax.grad(problem.loss)(theta),
        )
    )(theta)


# Six derivatives of two problems: seconds to compile in each precision.
@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float64", pytest.param("float32", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "samples", [*(pytest.param(n, marks=pytest.mark.slow) for n in (1, 4)), 22]
)
def test_chunks_change_nothing_but_rounding(lift, task, precision, samples):
    whole = make_problem(lift, task.objective, precision)
    per_sample = bytes_per_sample(lift, task.objective)
    memory = samples * per_sample // (1 if precision == "float64" else 2) + per_sample // 4
    parts = make_problem(lift, task.objective, precision, memory=memory)
    assert isinstance(parts.objective, Chunked)
    assert parts.objective.parts.weights.shape[1] <= samples
    tol = 1e-12 if precision == "float64" else 2e-5
    for got, want in zip(everything(parts), everything(whole), strict=True):
        assert got.dtype == want.dtype == precision
        np.testing.assert_allclose(got, want, rtol=tol, atol=tol * float(jnp.abs(want).max()))


@pytest.mark.slow
def test_a_chunked_flow_equals_the_whole_one(lift, task):
    memory = 5 * bytes_per_sample(lift, task.objective)
    whole = flow.solve(lift, task, 1.0, rtol=1e-8)
    parts = flow.solve(lift, task, 1.0, rtol=1e-8, memory=memory)
    np.testing.assert_allclose(parts.loss, whole.loss, rtol=1e-10)
    assert parts.stats.gradients == whole.stats.gradients


@pytest.mark.parametrize("samples", [pytest.param(8, marks=pytest.mark.slow), 64])
@pytest.mark.slow
def test_xla_keeps_within_the_bound(samples):
    """What XLA allocates beyond a chunk of one sample stays within the memory asked for."""
    module = modules.mlp(16, depth=3, bias=False, vector_input=False)
    big = sample(module, copies=512, edges=FixedInDegree(4), seed=0)
    rng = np.random.default_rng(0)
    data = tasks.supervised(rng.standard_normal((256, 16)), rng.standard_normal(256)).objective
    per_sample = bytes_per_sample(big, data)

    def temporaries(memory):
        problem = make_problem(big, data, "float64", memory=memory)
        arrays, static = eqx.partition(problem, eqx.is_array)
        run = jax.jit(lambda arrays, theta: eqx.combine(arrays, static).value_and_grad(theta))
        return run.lower(arrays, problem.start).compile().memory_analysis().temp_size_in_bytes

    fixed = temporaries(per_sample)
    assert temporaries(samples * per_sample) - fixed <= samples * per_sample
    # All 256 samples at a time take twice as much, nearly: XLA uses memory again.
    assert temporaries(None) - fixed > 1.9 * (temporaries(samples * per_sample) - fixed)


def test_closed_forms_and_tiny_bounds_are_refused(lift, task):
    with pytest.raises(ValueError, match=r"must be at least .* the activations of one sample"):
        make_problem(lift, task.objective, "float64", memory=1)
    with pytest.raises(ValueError, match="must be a whole number of bytes"):
        chunk_samples(lift, task.objective, 1e9)
    closed = tasks.population(lambda model: jnp.sum(model["w"] ** 2))
    with pytest.raises(ValueError, match="must be None for a loss without samples"):
        make_problem({"w": jnp.ones(2)}, closed.objective, "float64", memory=1 << 20)


def test_sharding_needs_samples(task):
    with pytest.raises(ValueError, match="must have samples to spread"):
        tasks.shard(tasks.population(lambda model: jnp.sum(model["w"] ** 2)))
    with pytest.raises(ValueError, match="must name between 1 and 23 devices"):
        tasks.shard(task, [])

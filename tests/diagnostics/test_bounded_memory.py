"""Instruments in little memory: the same numbers from fewer vectors and fewer samples at a time."""

import dense
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowlift import diagnostics, tasks
from flowlift.diagnostics import observer
from flowlift.diagnostics.sharpness import landscape
from flowlift.diagnostics.tangent import tangent
from flowlift.flow.chunking import bytes_per_sample

SAMPLES = 23


def network(model, inputs):
    return jnp.tanh(inputs @ model["w"]) @ model["a"]


@pytest.fixture(scope="module")
def small():
    """A network of 32 parameters, 23 samples, and bytes for five of them at a time."""
    rng = np.random.default_rng(0)
    model = {"w": jnp.asarray(rng.standard_normal((2, 8))), "a": jnp.ones((8, 2)) / 8}
    inputs, targets = rng.standard_normal((SAMPLES, 2)), rng.standard_normal((SAMPLES, 2))
    task = tasks.supervised(inputs, targets, apply=network, samplewise=True)
    return model, task, 5 * bytes_per_sample(model, task.objective)


def arrays_of(jaxpr) -> int:
    """The bytes of the largest array of a traced program, of all programs within as well."""
    sizes = [0]
    for equation in jaxpr.eqns:
        sizes += [v.aval.size * v.aval.dtype.itemsize for v in equation.outvars]
        for inner in jax.tree.leaves(equation.params, is_leaf=lambda x: hasattr(x, "eqns")):
            inner = getattr(inner, "jaxpr", inner)
            sizes += [arrays_of(inner)] if hasattr(inner, "eqns") else []
    return max(sizes)


def test_products_with_the_hessian_are_the_same_in_chunks(small):
    model, task, memory = small
    whole = landscape(model, task, eqx.is_inexact_array)
    parts = landscape(model, task, eqx.is_inexact_array, memory)

    @eqx.filter_jit
    def both(at):
        gradient, product = at.linearise()
        return jnp.stack([gradient, product(at.start)])

    np.testing.assert_allclose(both(whole), both(parts), rtol=1e-11, atol=1e-13)


def test_products_with_the_differential_are_the_same_in_chunks(small):
    model, task, memory = small
    found = {"*": 0.5}
    whole = tangent(model, task, rates=found).linearise()
    parts = tangent(model, task, rates=found, memory=memory).linearise()
    assert parts.outputs.shape == (2 * SAMPLES,)
    np.testing.assert_allclose(whole.outputs, parts.outputs, rtol=1e-12)
    rng = np.random.default_rng(1)
    theta = tangent(model, task).theta
    v, w = (jnp.asarray(rng.standard_normal(n)) for n in (theta.size, 2 * SAMPLES))
    np.testing.assert_allclose(whole.push(v), parts.push(v), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(whole.pull(w), parts.pull(w), rtol=1e-10, atol=1e-12)
    assert float(w @ parts.push(v)) == pytest.approx(float(v @ parts.pull(w)), rel=1e-10)


def test_no_array_of_a_product_grows_with_all_samples(small):
    model, task, memory = small
    largest = {}
    for bound in (None, memory):
        at = landscape(model, task, eqx.is_inexact_array, bound)
        largest[bound] = arrays_of(
            jax.make_jaxpr(lambda v, at=at: at.product(at.theta, v))(at.theta)
        )
    # Activations of eight units; data and theta are there in any case.
    activations = 8 * SAMPLES * 8
    assert largest[None] >= activations
    assert largest[memory] < activations


def test_a_bound_from_few_vectors_is_that_of_all(small):
    model, task, _ = small
    all_of_h = diagnostics.least_curvature(model, task)
    size = len(all_of_h.direction)
    few = diagnostics.least_curvature(model, task, dense=0, memory=21 * 8 * size, max_products=300)
    assert few.bound <= all_of_h.lowest + 1e-12
    assert few.lowest == pytest.approx(all_of_h.lowest, abs=1e-6 * all_of_h.highest)
    assert few.bound == pytest.approx(few.lowest, abs=2e-6 * all_of_h.highest)
    assert few.highest == pytest.approx(all_of_h.highest, rel=1e-6)
    hessian_vector = landscape(model, task, eqx.is_inexact_array).linearise()[1]
    image = hessian_vector(jnp.asarray(few.direction))
    np.testing.assert_allclose(image, few.lowest * few.direction, atol=1.1 * few.residual + 1e-12)


def test_a_weak_negative_curvature_is_seen_with_eight_vectors():
    values = np.concatenate([[-8.5e-4], np.linspace(0.01, 1, 200), [5.0, 20.0]])
    model = dense.Vector(jnp.zeros(values.size))
    loss = lambda m: jnp.sum(jnp.asarray(values) * m.theta**2) / 2
    settings = {"gradient_norm": 1e-6, "curvature": 1e-5, "max_products": 2000, "dense": 0}
    found = diagnostics.critical_point(model, loss, memory=9 * 8 * values.size, **settings)
    assert found.kind is diagnostics.Kind.SADDLE
    assert found.bound <= -8.5e-4 <= found.least + 1e-12
    with pytest.raises(ValueError, match="must hold at least 9 vectors of 1624 bytes each"):
        diagnostics.critical_point(model, loss, memory=8 * 8 * values.size, **settings)


# Lanczos processes compiled anew for each bound: seconds.
@pytest.mark.slow
def test_fewer_products_are_made_where_fewer_vectors_fit(small):
    model, task, memory = small
    size = landscape(model, task, eqx.is_inexact_array).mask.size
    ends = diagnostics.hessian_ends(model, task, rtol=0.0, memory=max(memory, 11 * 8 * size))
    assert 2 < int(ends.products) <= max(memory, 11 * 8 * size) // (8 * size)
    # In function space vectors are short.
    assert int(diagnostics.kernel_ends(model, task, rtol=0.0, memory=memory).products) <= 46
    radius = diagnostics.tangent_radius(model, task, 0.5, memory=memory)
    usual = diagnostics.tangent_radius(model, task, 0.5)
    np.testing.assert_allclose(radius.kappa, usual.kappa, rtol=1e-6)


# Lanczos processes compiled anew for each bound: seconds.
@pytest.mark.slow
def test_an_observer_in_chunks_works_inside_jit(small):
    model, task, memory = small
    see = observer("sharpness", task, rtol=1e-3, memory=20 * memory)
    cut = observer("sharpness", task, rtol=1e-3, memory=memory * 4)
    value, other = (eqx.filter_jit(o.measure)(model)[0] for o in (see, cut))
    np.testing.assert_allclose(value, other, rtol=2e-3)


@pytest.mark.parametrize(
    ("quantity", "arguments"),
    [
        ("sharpness", {"max_products": 9, "rtol": 0.0}),
        ("tangent_radius", {"eps": 0.5, "max_products": 7, "rtol": 0.0}),
        ("rayleigh", {}),
        # The same by longer programs.
        pytest.param("hessian_top", {"count": 2, "max_products": 12}, marks=pytest.mark.slow),
        pytest.param("kernel_drift", {"products": 10}, marks=pytest.mark.slow),
    ],
)
def test_the_cost_is_said_before_it_is_spent(small, quantity, arguments):
    model, task, _ = small
    arguments = arguments | ({"reference": model} if quantity == "kernel_drift" else {})
    see = observer(quantity, task, **arguments)
    said = diagnostics.foreseen(see, model)
    spent = int(see.examine(model).gradients)
    assert spent <= said.gradients <= 1.5 * spent + 2
    assert f"at most {said.gradients} gradients" in said.text


def test_a_large_sharpness_is_foreseen_within_its_memory():
    """A million parameters in double precision, none of them made: 250 vectors of 8 MB."""
    model = {"w": jax.ShapeDtypeStruct((1000, 1000), np.float64)}
    task = lambda m: jnp.sum(m["w"] ** 2)
    whole = lambda leaf: True
    usual = diagnostics.foreseen(observer("sharpness", task, trainable=whole), model)
    assert usual.gradients == 3 + 2 * 250
    assert 1.9e9 < usual.bytes <= 2.01e9
    few = observer("sharpness", task, trainable=whole, memory=10**9)
    assert diagnostics.foreseen(few, model).bytes <= 1.01e9

"""1 == 1.0 == True, but what was compiled for a model with one of them serves no other."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowlift import diagnostics, flow, tasks


class Power(eqx.Module):
    """sum_i theta_i^p x_i, with p = 3 for the flag True."""

    theta: jax.Array
    power: object
    fixed: object = eqx.field(static=True, default=1)

    def __call__(self, x):
        exponent = 3 if self.flagged else self.power
        return jnp.sum(self.theta**exponent * x)[None]

    @property
    def flagged(self):
        return self.power is True or self.fixed is True


START = np.array([1.5, 0.7])
MODELS = [Power(jnp.asarray(START), *given) for given in [(1,), (True,), (1, True), (1.0,)]]


def exponent(model):
    return 3 if model.flagged else 1


def task():
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((6, 2))
    return tasks.supervised(inputs, inputs.sum(axis=1, keepdims=True)), inputs


def test_the_hessian_is_that_of_the_model():
    data, inputs = task()
    for model in MODELS:
        p = exponent(model)
        slope = p * START ** (p - 1)
        residual = (START**p * inputs).sum(axis=1) - inputs.sum(axis=1)
        bent = p * (p - 1) * START ** max(p - 2, 0)
        hessian = 2 * (inputs * slope).T @ (inputs * slope) / len(inputs)
        hessian += np.diag(2 * (residual @ inputs) / len(inputs) * bent)
        ends = diagnostics.hessian_ends(model, data)
        assert float(ends.highest) == pytest.approx(np.linalg.eigvalsh(hessian)[-1], rel=1e-6)


@pytest.mark.slow  # compiles kernels of complex models
def test_the_tangent_kernel_is_that_of_the_model():
    data, inputs = task()
    for model in MODELS:
        p = exponent(model)
        jacobian = inputs * (p * START ** (p - 1)) / len(inputs) ** 0.5
        largest = np.linalg.eigvalsh(jacobian @ jacobian.T)[-1]
        top = diagnostics.kernel_top(model, data, count=1)
        assert float(top.values[0]) == pytest.approx(largest, rel=1e-6)


class Scaled(eqx.Module):
    """The sum of theta, times 5 for the flag True."""

    factor: object

    def __call__(self, model):
        return (5 if self.factor is True else self.factor) * jnp.sum(model.theta)


def test_observers_record_what_they_are():
    loss = lambda model: jnp.sum(model.theta**2)
    for engine in ("host", "graph"):
        for factor, value in ((1, 1), (True, 5), (1.0, 1)):
            done = flow.solve(
                MODELS[0],
                loss,
                0.01,
                save=[0.01],
                observers={"sum": Scaled(factor)},
                solver="tsit5",
                engine=engine,
            )
            assert done.observations["sum"][0] == pytest.approx(value * START.sum(), rel=1e-12)


def test_shapes_are_those_of_the_model():
    inputs = jnp.ones((4, 2), int)

    def apply(model, inputs):
        return inputs * model.power

    types = [tasks.outputs.output_shapes(m, inputs, apply).dtype for m in MODELS]
    assert [str(t) for t in types] == ["int64", "int64", "int64", "float64"]

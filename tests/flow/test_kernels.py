"""What a flow makes XLA compile: kernels beyond the gradient and the product, copies of either."""

import jax
import jax.numpy as jnp
import numpy as np
import problems
import pytest
from jax.extend import core

from flowlift.flow import programs, solve
from flowlift.solvers.host import lean


def curved(m):
    """Its gradient holds erf once, and nothing of a solver does."""
    return jnp.sum(jax.scipy.special.erf(m.theta) ** 2)


def occurrences(jaxpr, name="erf"):
    """How often a primitive is called, inner functions included."""
    inner = getattr(jaxpr, "jaxpr", jaxpr)
    return sum(
        (equation.primitive.name == name)
        + sum(occurrences(part) for part in core.jaxprs_in_params(equation.params))
        for equation in inner.eqns
    )


def fused(program, arguments):
    """Fused loops of a compiled program."""
    return program.lower(*arguments).compile().as_text().count(" fusion(")


def watched(monkeypatch, module, name):
    """The programs that a cached factory hands out, with what each was called with last."""
    make, seen = getattr(module, name), {}

    def making(*given):
        def watch(program):
            def called(*arguments):
                seen[program] = arguments
                return program(*arguments)

            called.trace = getattr(program, "trace", None)
            return called

        made = make(*given)
        return tuple(watch(each) for each in made) if isinstance(made, tuple) else watch(made)

    monkeypatch.setattr(module, name, making)
    return seen


@pytest.mark.parametrize(
    ("solver", "copies"), [("bdf", 0), ("exprb", 0), ("tsit5", 1), ("dopri8", 1), ("rkc2", 1)]
)
def test_a_solver_adds_few_kernels_and_one_copy_of_the_gradient(monkeypatch, solver, copies):
    own = watched(monkeypatch, programs, "_programs")
    beyond = watched(monkeypatch, lean, "_program")
    start = problems.Vector(jax.device_put(np.linspace(0.1, 2.0, 9)))
    done = solve(start, curved, 3.0, solver=solver)
    assert done.success
    assert done.engine == "host"
    (gradient, given), *_ = own.items()
    once = occurrences(gradient.trace(*given).jaxpr)
    assert once == 1
    assert len(beyond) == copies
    assert sum(occurrences(of.trace(*with_).jaxpr) for of, with_ in beyond.items()) == copies
    kernels = sum(fused(*each) for each in beyond.items())
    # One at least is the gradient's: the count counts.
    assert copies <= kernels <= 80 + copies * fused(gradient, given)

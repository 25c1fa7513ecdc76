"""The solvers under plain `diffrax.diffeqsolve`, with the controller that each offers."""

import diffrax
import jax.numpy as jnp
import numpy as np
import pytest

from flowlift.solvers import BDF, RKC2, ExpRosenbrock

SOLVERS = [BDF, RKC2, ExpRosenbrock]
STIFF = 1e3


def field(t, y, args):
    """-grad of y_0^2 / 2 + STIFF y_1^2 / 2 + (b - 1)^4 / 4, on a pytree."""
    return {"a": -args * y["a"], "b": -((y["b"] - 1) ** 3)}


def solve(solver, controller, **kwargs):
    y0 = {"a": jnp.ones(2), "b": jnp.asarray(2.0)}
    return diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        solver,
        0.0,
        3.0,
        None,
        y0,
        args=jnp.array([1.0, STIFF]),
        saveat=diffrax.SaveAt(t1=True, controller_state=True),
        stepsize_controller=controller,
        **kwargs,
    )


# The slow ones are compiled whole here; BDF is run so by docs/solvers.md as well.
DEAR = [pytest.param(solver, marks=pytest.mark.slow) for solver in (BDF, ExpRosenbrock)]


@pytest.mark.slow  # compiles each solver on a pytree
@pytest.mark.parametrize("solver", [RKC2, *DEAR])
def test_a_pytree_with_args_follows_its_closed_form(solver):
    """e^-t, e^(-1000 t), and b - 1 = (1 + 2 t)^(-1/2); the tolerance is the controller's."""
    solution = solve(solver(), solver.default_controller(1e-6, 1e-9))
    np.testing.assert_allclose(solution.ys["a"][0], [np.exp(-3), 0], rtol=0, atol=1e-5)
    np.testing.assert_allclose(solution.ys["b"][0], 1 + 7**-0.5, rtol=1e-5)
    work = solution.controller_state.work
    steps = int(solution.stats["num_steps"])
    # An explicit method of order 5 is held to 3.3 / 1000 a step, of six evaluations.
    assert steps <= int(work.gradients) < 5_000
    assert int(work.cost) == int(work.gradients) + 2 * int(work.hvps)
    assert int(work.hvps) >= 2


@pytest.mark.parametrize("solver", SOLVERS)
def test_another_controller_is_refused(solver):
    with pytest.raises(ValueError, match=f"give {solver.__name__}.default_controller"):
        solve(solver(), diffrax.PIDController(rtol=1e-3, atol=1e-6))

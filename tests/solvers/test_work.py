"""The controller that counts: when it halts."""

import diffrax
import jax.numpy as jnp
import pytest

from flowlift.solvers import Halt, WorkController


@pytest.mark.parametrize(("threshold", "halted"), [(0.5, Halt.CONDITION), (-1.0, Halt.NONE)])
def test_a_condition_halts_at_the_first_accepted_step_where_it_holds(threshold, halted):
    """y = exp(-t) passes 1/2 between two steps of length 1/8; it never passes -1."""
    inner = diffrax.PIDController(1e-3, 1e-3, dtmax=0.125, factormax=1.0)
    controller = WorkController(inner, 6, until=lambda y, bound: (y <= bound).all())
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: -y),
        diffrax.Tsit5(),
        0.0,
        2.0,
        0.125,
        jnp.ones(1),
        args=jnp.asarray(threshold),
        saveat=diffrax.SaveAt(t1=True, controller_state=True),
        stepsize_controller=controller,
        throw=False,
    )
    assert solution.ts is not None
    assert solution.controller_state is not None
    assert int(solution.controller_state.halt) == halted
    # ln 2 = 0.693 lies between 5/8 and 6/8.
    assert float(solution.ts[0]) == pytest.approx(0.75 if halted else 2.0)

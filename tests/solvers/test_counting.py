"""Counts of marked evaluations against what is known beforehand, and against the host."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import optimistix as optx
import pytest

from flowlift.solvers import Counting, Uncountable, WorkController, counted, evaluation


def f(x):
    return evaluation(jnp.sin(x))


def sum_until(bound):
    """Adds f(1) until the sum passes the bound."""

    def run(x):
        return jax.lax.while_loop(lambda s: s < bound, lambda s: s + f(1.0), x)

    return run


def scanned(x):
    return jax.lax.scan(lambda c, a: (f(c) + f(a), None), x, jnp.arange(7.0))[0]


def branched(x):
    return jax.lax.cond(x > 0, lambda: f(f(x)), lambda: x)


def nested(x):
    body = lambda i, c: jax.lax.cond(i % 2 == 0, lambda: f(f(c)), lambda: f(c))
    return jax.lax.fori_loop(0, 6, lambda i, c: jax.lax.fori_loop(0, i, body, c), x)


def newton(x):
    step = lambda i, y: y - f(y) / jax.grad(f)(y)
    return jax.lax.fori_loop(0, 3, step, x)


BASIS = jnp.eye(5)
CASES = {
    "nothing": (lambda x: x + 1, 1.0, 0, 0),
    "known results": (lambda x: (f(x), jnp.array(True), jnp.int32(3)), 1.0, 1, 0),
    "twice": (lambda x: f(x) + f(2 * x), 1.0, 2, 0),
    # 1 / sin(1) = 1.19 per unit.
    "while": (sum_until(10.0), 0.0, 12, 0),
    "while that never runs": (sum_until(10.0), 11.0, 0, 0),
    "scan": (scanned, 1.0, 14, 0),
    "cond": (branched, 1.0, 2, 0),
    "other branch": (branched, -1.0, 0, 0),
    # Sum over i < 6 of (i + the even numbers below i).
    "nested loops": (nested, 1.0, 15 + 0 + 1 + 1 + 2 + 2 + 3, 0),
    "jit and vmap": (jax.jit(jax.vmap(f)), jnp.ones(5), 5, 0),
    "remat": (jax.checkpoint(f), 1.0, 1, 0),
    "jvp": (lambda x: jax.jvp(f, (x,), (x,)), 1.0, 1, 1),
    "vjp": (lambda x: jax.vjp(f, x)[1](x), 1.0, 1, 1),
    "linearised once": (lambda x: jax.vmap(jax.linearize(f, x)[1])(BASIS), jnp.ones(5), 1, 5),
    "dense Jacobian": (jax.jacfwd(f), jnp.ones(5), 1, 5),
    "Newton": (newton, 3.0, 6, 3),
}


@pytest.mark.parametrize("name", CASES)
def test_counts_that_are_known(name):
    function, x, gradients, products = CASES[name]
    x = jnp.asarray(x)
    value, work = jax.jit(counted(function))(x)
    assert (int(work.gradients), int(work.hvps)) == (gradients, products)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(counted(function)(x)))
    jax.tree.map(lambda a, b: assert_equal(a, b), value, jax.jit(function)(x))


def assert_equal(one, other):
    assert one.dtype == other.dtype
    assert jnp.array_equal(one, other)


def test_a_count_that_cannot_be_kept_is_refused():
    double = lambda v: evaluation(2 * v)
    with pytest.raises(Uncountable, match="must not evaluate the field in the condition"):
        counted(lambda x: jax.lax.while_loop(lambda s: f(s) < 0.5, lambda s: s + 1, x))(0.0)
    with pytest.raises(Uncountable, match="does so inside 'custom_linear_solve'"):
        counted(lambda x: jax.lax.custom_linear_solve(double, x, lambda mv, b: b / 2))(jnp.ones(()))


class Saturating(eqx.Module):
    """-tanh(A y) on two time scales, which counts its evaluations on the host."""

    scales: jax.Array

    def __call__(self, t, y, args):
        jax.debug.callback(TALLY.append, 1)
        return evaluation(-jnp.tanh(self.scales * y))


TALLY: list[int] = []
CHORD = diffrax.VeryChord(1e-6, 1e-9, optx.rms_norm)
GMRES = lx.GMRES(1e-8, 1e-8)
SLOW = pytest.mark.slow
SOLVERS = {
    "chord": diffrax.ImplicitEuler(root_finder=CHORD),
    "kvaerno3": diffrax.Kvaerno3(root_finder=CHORD),
    "kvaerno5": diffrax.Kvaerno5(root_finder=CHORD),
    "newton": diffrax.ImplicitEuler(root_finder=optx.Newton(1e-6, 1e-9)),
    "newton-gmres": diffrax.ImplicitEuler(root_finder=optx.Newton(1e-6, 1e-9, linear_solver=GMRES)),
    "dogleg": diffrax.ImplicitEuler(root_finder=optx.Dogleg(1e-6, 1e-9)),
    "half": diffrax.HalfSolver(diffrax.ImplicitEuler(root_finder=CHORD)),
    "half euler": diffrax.HalfSolver(diffrax.Euler()),
    "tsit5": diffrax.Tsit5(),
    "bosh3": diffrax.Bosh3(),
}
QUICK = ("chord",)


@pytest.mark.slow  # compiles every stock solver
@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=SLOW) for name in SOLVERS]
)
def test_every_stock_solver_is_counted_as_the_host_counts(name):
    controller = WorkController(diffrax.PIDController(1e-3, 1e-6))
    TALLY.clear()
    arguments = (0.0, 1.0, 0.1, jnp.ones(2))
    options = {"adjoint": diffrax.ForwardMode(), "stepsize_controller": controller}
    term = diffrax.ODETerm(Saturating(jnp.array([1.0, 20.0])))
    saveat = diffrax.SaveAt(t1=True, controller_state=True)
    done = diffrax.diffeqsolve(term, Counting(SOLVERS[name]), *arguments, saveat=saveat, **options)
    jax.effects_barrier()
    assert done.controller_state is not None
    assert int(done.controller_state.work.gradients) == len(TALLY) > 10
    if name == "half":
        # diffrax looks for the wrapped solver's root finder in the wrapper, and fails.
        return
    # The same controller: PIDController alone repeats an attempt that is not finite, such as one
    # whose root finder fails, with a fifth of the step in place of half.
    plain = diffrax.diffeqsolve(term, SOLVERS[name], *arguments, stepsize_controller=controller)
    assert plain.ys is not None
    assert jnp.allclose(done.ys, plain.ys, rtol=1e-12)


def test_a_step_that_the_solver_cannot_solve_is_repeated_with_half_its_size():
    """Two Newton iterations are too few for steps of a tenth; sinh(a y) falls as e^(-a t)."""
    few = diffrax.ImplicitEuler(root_finder=optx.Newton(1e-6, 1e-9), root_find_max_steps=2)
    controller = WorkController(diffrax.PIDController(1e-1, 1e-1))
    scales = jnp.array([1.0, 20.0])
    done = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: evaluation(-jnp.tanh(scales * y))),
        Counting(few),
        0.0,
        1.0,
        0.4,
        jnp.ones(2),
        stepsize_controller=controller,
        saveat=diffrax.SaveAt(t1=True, controller_state=True),
    )
    assert done.ys is not None
    assert done.controller_state is not None
    state = done.controller_state
    assert int(state.attempts - state.accepted) > 1
    exact = jnp.arcsinh(jnp.sinh(scales) * jnp.exp(-scales)) / scales
    assert jnp.allclose(done.ys[0], exact, atol=0.2)

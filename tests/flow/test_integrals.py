"""Integrals along a flow are right, or marked: against SciPy and against the energy's balance."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from flowlift import tasks
from flowlift.flow import Adam, HeavyBall, LogLoss, Nesterov, RMSProp, resume, solve
from flowlift.flow.dynamics import CentralFlow, CentralRMSProp, GradientFlow
from flowlift.flow.integrals import RESOLVED

SPECTRUM, START = np.array([1.0, 10.0, 300.0]), np.array([1.0, -0.7, 0.4])
SAVE = [0.03, 0.1, 0.3, 1.0, 3.0]


def bowl(w):
    return jnp.sum(jnp.asarray(SPECTRUM, w.dtype) * w**2) / 2


def gradient(w):
    return SPECTRUM * w


def plain(t, y):
    return -gradient(y)


def ball(t, y):
    w, v = np.split(y, 2)
    return np.concatenate([v, -2.0 * v - gradient(w)])


def nesterov(t, y):
    w, v = np.split(y, 2)
    fall = -gradient(w) / 4 if t == 0 else -3 / t * v - gradient(w)
    return np.concatenate([v, fall])


def unbiased(average, now, age):
    return now if age == 0 else average / -np.expm1(-age)


def adam(t, y):
    w, m, v = np.split(y, 3)
    g = gradient(w)
    move = -unbiased(m, g, t / 0.5) / (np.sqrt(np.abs(unbiased(v, g**2, t / 2.0))) + 1e-3)
    return np.concatenate([move, (g - m) / 0.5, (g**2 - v) / 2.0])


def rmsprop(t, y):
    w, v = np.split(y, 2)
    g = gradient(w)
    move = -g / (np.sqrt(np.abs(unbiased(v, g**2, t / 0.1))) + 1e-2)
    return np.concatenate([move, (g**2 - v) / 0.1])


FLOWS = {
    "plain": (GradientFlow(), plain, 0),
    "heavy ball": (HeavyBall(2.0), ball, 1),
    "nesterov": (Nesterov(), nesterov, 1),
    "adam": (Adam(0.5, 2.0, 1e-3), adam, 2),
    "rmsprop": (RMSProp(0.1, 1e-3), rmsprop, 1),
}


def reference(rates, vectors):
    """The arc lengths at the save times, by SciPy's Radau with the integral as one more state."""

    def along(t, y):
        found = rates(t, y[:-1])
        return np.append(found, np.linalg.norm(found[:3]))

    start = np.concatenate([START, np.zeros(3 * vectors + 1)])
    settings = {"method": "Radau", "rtol": 1e-8, "atol": 1e-10, "t_eval": SAVE}
    return solve_ivp(along, (0.0, SAVE[-1]), start, **settings).y[-1]


def check(solution, arcs, rtol):
    """Each number is right to what is promised, or NaN; how many are NaN."""
    most = max(RESOLVED, 10 * rtol)
    fell = (solution.loss[0] - solution.loss.astype(float))[1:]
    rounding = 64 * np.finfo(solution.loss.dtype).eps * solution.loss[0]
    energy, arc = solution.energy[1:].astype(float), solution.arc_length[1:].astype(float)
    seen = np.isfinite(energy)
    assert (abs(energy - fell)[seen] <= most * abs(fell[seen]) + rounding).all()
    seen = np.isfinite(arc)
    below = rtol * (1 + np.linalg.norm(START))
    assert (abs(arc - arcs)[seen] <= most * arcs[seen] + below).all()
    return np.isnan(solution.energy).sum() + np.isnan(solution.arc_length).sum()


def solved(name, rtol, **more):
    dynamics = FLOWS[name][0]
    return solve(
        jnp.asarray(START), bowl, SAVE[-1], dynamics=dynamics, rtol=rtol, atol=1e-3 * rtol,
        save=SAVE, max_gradients=20_000, **more
    )  # fmt: skip


def test_integrals_that_stability_disturbs_are_marked_and_others_are_right():
    # tsit5 takes steps of 3.3 / 300: at rtol = 1e-2 its stages turn about the valley.
    arcs = reference(plain, 0)
    assert check(solved("plain", 1e-2, solver="tsit5"), arcs, 1e-2) > 0
    assert check(solved("plain", 1e-6, solver="tsit5"), arcs, 1e-6) == 0
    stiff = solved("plain", 1e-3, solver="bdf")
    assert check(stiff, arcs, 1e-3) == 0
    assert (abs(stiff.arc_length[1:] - arcs) <= stiff.errors["arc_length"][1:]).all()


def test_a_flow_of_rmsprop_says_which_of_its_integrals_are_not_resolved():
    arcs = reference(rmsprop, 1)
    loose = solved("rmsprop", 1e-2, precision="float32")
    assert check(loose, arcs, 1e-2) > 0
    # What a rule reads, and what goes on, is the same.
    on = resume(loose, 3.5)
    kept = on.arc_length[: len(loose.times)]
    assert np.array_equal(kept, loose.arc_length, equal_nan=True)


@pytest.mark.slow  # Thirty and more flows, several of 20,000 gradients.
@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("name", FLOWS)
def test_integrals_of_every_dynamics_are_right_or_marked(name, precision):
    _, rates, vectors = FLOWS[name]
    arcs = reference(rates, vectors)
    for rtol in (1e-2, 1e-3, 1e-6):
        for solver in ("auto", "tsit5"):
            solution = solved(name, rtol, solver=solver, precision=precision)
            marked = check(solution, arcs[: len(solution.times) - 1], rtol)
            if solution.success and rtol == 1e-6:
                assert marked <= (2 if name == "rmsprop" else 0)


@pytest.mark.slow  # The graph's programs compile for seconds each.
@pytest.mark.parametrize("solver", ["tsit5", "bdf", "rkc2", "exprb", "kvaerno5"])
def test_both_engines_estimate_the_same_errors(solver):
    graph = solved("plain", 1e-3, solver=solver, engine="graph")
    assert check(graph, reference(plain, 0), 1e-3) >= 0
    if solver != "kvaerno5":
        host = solved("plain", 1e-3, solver=solver, engine="host")
        # The exponential method's dense output is the host's own: it is compared at its end.
        rows = slice(-1 if solver == "exprb" else 0, None)
        for name in ("arc_length", "energy"):
            room = 1e-6 + 1e-2 * host.errors[name]
            assert (abs(graph.errors[name] - host.errors[name]) <= room)[rows].all()
            assert (np.isnan(getattr(graph, name)) == np.isnan(getattr(host, name))).all()


@pytest.mark.slow  # Central flows compile third derivatives.
@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize(
    "dynamics", [CentralFlow(0.5), CentralRMSProp(step_size=0.02, decay=0.95, initial=0.1)]
)
def test_central_flows_and_their_integrals(dynamics, precision):
    def valley(w):
        return (jnp.prod(w) - 1) ** 2 / 2

    start = jnp.array([0.25, 1.4, 1.6, 0.5])
    settings = {"dynamics": dynamics, "save": [0.1, 1.0, 3.0]}
    fine = solve(start, valley, 3.0, rtol=1e-8, atol=1e-11, **settings)
    for rtol in (1e-2, 1e-3, 1e-6):
        found = solve(start, valley, 3.0, rtol=rtol, atol=1e-9, precision=precision, **settings)
        arc, seen = found.arc_length, np.isfinite(found.arc_length)
        most = max(RESOLVED, 10 * rtol) * fine.arc_length + 4 * rtol
        assert (abs(arc - fine.arc_length)[seen] <= most[seen]).all()
        fell, seen = found.loss[0] - found.loss, np.isfinite(found.energy)
        assert (
            abs(found.energy - fell)[seen] <= max(RESOLVED, 10 * rtol) * abs(fell[seen]) + 1e-6
        ).all()


@pytest.mark.slow  # Three flows over hundreds of units of log t, in both precisions.
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_a_log_loss_flow_and_its_integrals(precision):
    x = np.array([[2.0, 1.0], [1.0, 2.0], [-1.0, -2.0], [-2.0, -0.5]])
    signs = np.array([1.0, 1.0, -1.0, -1.0])
    task = tasks.supervised(x, signs, "exponential", apply=lambda m, x: x @ m)

    def along(u, y):
        pull = np.exp(-(signs * (x @ y[:2])) + u) @ (signs[:, None] * x) / 4
        return np.append(pull, np.linalg.norm(pull))

    save = [0.1, 1.0, 10.0, 100.0]
    exact = solve_ivp(
        along, (0, 100.0), [0.1, -0.1, 0.0], method="Radau", rtol=1e-9, atol=1e-11, t_eval=save
    ).y[-1]
    for rtol in (1e-2, 1e-3, 1e-6):
        found = solve(
            jnp.array([0.1, -0.1]), task, 100.0, dynamics=LogLoss(1.0), rtol=rtol, save=save,
            precision=precision,
        )  # fmt: skip
        arc, seen = found.arc_length[1:], np.isfinite(found.arc_length[1:])
        most = max(RESOLVED, 10 * rtol) * exact + rtol
        assert seen.any()
        assert (abs(arc - exact)[seen] <= most[seen]).all()

"""The population loss of ReLU committees against integrals over the angle, at every angle."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowlift
from flowlift import flow, lift, modules, tasks
from flowlift.tasks.gaussian_committee import committee_loss

NODES, WEIGHTS = np.polynomial.legendre.leggauss(40)


def over_both(theta, function):
    """(1 / pi) int function(phi) d phi over directions phi that both 0 and theta see."""
    low, high = theta - np.pi / 2, np.pi / 2
    phi = (low + high) / 2 + (high - low) / 2 * NODES
    return (high - low) / 2 * (function(phi) @ WEIGHTS) / np.pi


def pair(w, u):
    """f = E relu(<w, x>) relu(<u, x>), f_w, f_ww and f_wu for w, u = (length, angle) in a plane.

    With x = r (cos phi, sin phi) and E r^2 = 2 these are integrals over phi; f_ww is one over the
    line <w, x> = 0; a third direction is orthogonal to the plane.
    """
    (p, alpha), (q, beta) = w, u
    theta = abs(np.angle(np.exp(1j * (beta - alpha))))
    side = np.sign(np.sin(beta - alpha)) or 1.0
    own = np.array([np.cos(alpha), np.sin(alpha), 0])
    normal = side * np.array([-np.sin(alpha), np.cos(alpha), 0])
    frame, up = np.stack([own, normal]), np.array([0, 0, 1.0])
    unit = lambda phi: np.stack([np.cos(phi), np.sin(phi)])
    value = p * q * over_both(theta, lambda phi: np.cos(phi) * np.cos(phi - theta))
    slope = q * over_both(theta, lambda phi: np.cos(phi - theta) * unit(phi)) @ frame
    second = lambda phi: unit(phi)[:, None] * unit(phi)[None]
    mixed = frame.T @ over_both(theta, second) @ frame
    mixed += over_both(theta, np.ones_like) / 2 * np.outer(up, up)
    bend = 2 * np.outer(normal, normal) + np.outer(up, up)
    return value, slope, q * np.sin(theta) / (2 * np.pi * p) * bend, mixed


def reference(students, teachers):
    """L, its gradient (n, 3) and Hessian (n, 3, n, 3), by summing over pairs of polar vectors."""
    units, n = [*students, *teachers], len(students)
    signs = np.where(np.arange(len(units)) < n, 1, -1)
    loss, slope, bend = 0.0, np.zeros((n, 3)), np.zeros((n, 3, n, 3))
    for i, w in enumerate(units):
        for j, u in enumerate(units):
            value, f_w, f_ww, f_wu = pair(w, u)
            loss += signs[i] * signs[j] * value / 2
            if i < n:
                slope[i] += signs[j] * f_w
                bend[i, :, i] += signs[j] * f_ww
                if j < n:
                    bend[i, :, j] += f_wu
    return loss, slope, bend


def cartesian(vectors):
    return jnp.asarray([[r * np.cos(a), r * np.sin(a), 0] for r, a in vectors])


ANGLES = [0.0, 1e-12, 1e-8, 1e-3, 0.7, np.pi / 2, 2.5, np.pi - 1e-3, np.pi - 1e-9, np.pi]
VALUE, SLOPE = jax.jit(committee_loss), jax.jit(jax.grad(committee_loss))
BEND = jax.jit(jax.hessian(committee_loss))


@pytest.mark.parametrize("angle", ANGLES)
@pytest.mark.parametrize("between_students", [False, True])
def test_value_gradient_and_hessian_are_the_integrals_at_every_angle(angle, between_students):
    students, teachers = [(1.3, 0.4), (0.6, 2.2)], [(1.0, -1.1), (0.8, 1.7)]
    if between_students:
        students[1] = (0.6, 0.4 + angle)
    else:
        teachers[0] = (1.0, 0.4 + angle)
    expected = reference(students, teachers)
    w, v = cartesian(students), cartesian(teachers)
    np.testing.assert_allclose(VALUE(w, v), expected[0], atol=4e-15)
    np.testing.assert_allclose(SLOPE(w, v), expected[1], atol=4e-15)
    bend = np.asarray(BEND(w, v))
    np.testing.assert_allclose(bend, expected[2], atol=1e-14)
    np.testing.assert_allclose(bend, bend.transpose(2, 3, 0, 1), atol=1e-14)


def test_the_loss_is_the_mean_over_gaussian_inputs():
    rng = np.random.default_rng(3)
    w, v = rng.standard_normal((3, 4)) / 2, np.eye(2, 4)
    x = rng.standard_normal((200_000, 4))
    outputs = [np.maximum(x @ rows.T, 0).sum(1) for rows in (w, v)]
    losses = (outputs[0] - outputs[1]) ** 2 / 2
    error = losses.std() / np.sqrt(len(losses))
    assert float(VALUE(w, v)) == pytest.approx(losses.mean(), abs=4 * error)


def test_orders_and_common_rotations_change_nothing():
    rng = np.random.default_rng(0)
    w, v = rng.standard_normal((2, 3)), rng.standard_normal((2, 3))
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    loss, slope = VALUE(w, v), np.asarray(SLOPE(w, v))
    for order, orthogonal in (([1, 0], np.eye(3)), ([0, 1], turn), ([1, 0], -turn)):
        moved, target = w[order] @ orthogonal, v[::-1] @ orthogonal
        np.testing.assert_allclose(VALUE(moved, target), loss, rtol=1e-14)
        np.testing.assert_allclose(SLOPE(moved, target), slope[order] @ orthogonal, atol=1e-14)
    # relu is homogeneous.
    np.testing.assert_allclose(VALUE(3 * w, 3 * v), 9 * loss, rtol=1e-14)


def test_permuted_teachers_and_their_parts_are_global_minima():
    v = np.eye(3)[:2]
    same = v[[0, 0]]
    for students, teachers in ((v[::-1], v), (same * [[0.6], [1.4]], same), (same, same)):
        assert float(VALUE(students, teachers)) == pytest.approx(0, abs=1e-15)
        np.testing.assert_allclose(SLOPE(students, teachers), 0, atol=1e-15)
        assert np.linalg.eigvalsh(BEND(students, teachers).reshape(6, 6))[0] > -1e-15


def test_nothing_is_divided_by_a_student_that_vanishes():
    zeros, v = np.zeros((2, 3)), np.eye(3)[:2]
    assert float(VALUE(zeros, v)) == pytest.approx((2 / 2 + 2 / (2 * np.pi)) / 2)
    assert np.isfinite(SLOPE(zeros, v)).all()
    assert np.isfinite(BEND(zeros, v)).all()


def committee(students, inputs, seed=0, precision="float64", activation="relu", **laws):
    module = modules.committee(inputs, activation=activation)
    given = {"edges": lift.Complete(), "weights": lift.GaussianFanIn()} | laws
    return flowlift.sample(module, copies=students, seed=seed, precision=precision, **given)


@pytest.mark.parametrize("precision", ["float64", pytest.param("float32", marks=pytest.mark.slow)])
def test_the_task_is_that_loss_of_a_lift(precision):
    model = committee(3, 4, precision=precision)
    task = tasks.gaussian_committee(2, inputs=4, precision=precision)
    task.objective.check(model)
    loss = eqx.filter_jit(task.objective)(model)
    assert loss.dtype == precision
    rows = np.asarray(model.weights["x->h1"], float)
    tolerance = 1e-14 if precision == "float64" else 1e-6
    np.testing.assert_allclose(loss, VALUE(rows, np.eye(2, 4)), rtol=tolerance)
    assert task.facts["least loss"] == 0
    # The initial law is N(0, I / d).
    many = np.asarray(committee(4000, 4).weights["x->h1"])
    np.testing.assert_allclose(np.cov(many.T), np.eye(4) / 4, atol=4 * 0.25 * (2 / 4000) ** 0.5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: committee(3, 5), "inputs of the teachers' dimension 4, but has weights"),
        (lambda: committee(3, 4, activation="tanh"), "complete lift of modules.committee"),
        (lambda: {"w": jnp.ones((3, 4))}, "complete lift of modules.committee.*but is dict"),
        (
            lambda: committee(3, 4, edges={"*": lift.Complete(), "h1->y": lift.FixedInDegree(2)}),
            "complete lift of modules.committee",
        ),
    ],
)
def test_other_models_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        tasks.gaussian_committee(4).objective.check(make())


def test_meaningless_teachers_are_refused():
    with pytest.raises(ValueError, match="`teachers` must be an integer of at least 1"):
        tasks.gaussian_committee(0)
    with pytest.raises(ValueError, match="`inputs` must be an integer of at least 3, but is 2"):
        tasks.gaussian_committee(3, inputs=2)


@pytest.mark.slow
def test_a_flow_ends_in_the_published_spurious_minimum():
    """Safran & Shamir 2018: the commonest level at k = n = 9 is .020014."""
    task = tasks.gaussian_committee(9)
    ends = []
    for seed in range(12):
        solution = flow.solve(
            committee(9, 9, seed), task, 1e6, solver="dense-bdf", rtol=1e-4, atol=1e-7,
            stops=[flow.GradientNormBelow(1e-9)],
        )  # fmt: skip
        assert solution.gradient_norm[-1] <= 1e-9
        ends.append(float(solution.loss[-1]))
    ends = np.asarray(ends)
    spurious = ends > 1e-3
    np.testing.assert_allclose(ends[~spurious], 0, atol=1e-13)
    assert 0.020014 in np.round(ends[spurious], 6)

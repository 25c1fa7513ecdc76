"""Population losses of erf and polynomial committees against quadrature, and their plateaus."""

import math

import equinox as eqx
import jax
import numpy as np
import pytest
from numpy.polynomial.hermite_e import hermegauss
from scipy.special import erf

import flowlift
from flowlift import diagnostics, flow, lift, modules, studies, sweep, tasks
from flowlift.tasks.gaussian_kernels import ErfKernel, PolynomialKernel

Z, W = hermegauss(80)
W = W / math.sqrt(2 * math.pi)
HERMITE = (0.2, -0.5, 1.0, 0.3)


def phi(kind, z):
    if kind == "erf":
        return erf(z / math.sqrt(2))
    return sum(c * tasks.hermite(k, z) for k, c in enumerate(HERMITE))


def kernel_of(kind):
    return ErfKernel() if kind == "erf" else PolynomialKernel(HERMITE)


def mean_of_products(kind, cross, own, other):
    """E phi(u) phi(v) by quadrature over two independent Gaussian numbers."""
    u = math.sqrt(own) * Z[:, None]
    v = cross / math.sqrt(own) * Z[:, None] + math.sqrt(max(0, other - cross**2 / own)) * Z[None]
    return W @ (phi(kind, u) * phi(kind, v)) @ W


@pytest.mark.parametrize("kind", ["erf", "polynomial"])
def test_kernels_are_means_over_two_gaussian_numbers(kind):
    for own, other, cosine in ((1.0, 1.0, 0.3), (0.5, 1.7, -0.8), (0.09, 0.3, 1.0), (2.0, 1, 0)):
        cross = cosine * math.sqrt(own * other)
        found = float(kernel_of(kind)(*(np.asarray(a) for a in (cross, own, other))))
        # 80 nodes resolve erf of these arguments to 1e-9, polynomials to rounding.
        assert found == pytest.approx(mean_of_products(kind, cross, own, other), abs=1e-9)


@eqx.filter_jit
def value_and_slope(objective, model):
    """L and its gradient by the first layer, in one program."""
    value, slope = eqx.filter_value_and_grad(objective)(model)
    return value, slope.weights["x->h1"]


def committee(kind, students, inputs, seed=0, *, trained=False, **given):
    function = "erf_root2" if kind == "erf" else modules.HermiteSum(HERMITE)
    if trained:
        module = modules.two_layer(inputs, activation=function, bias=False)
        given |= {"weights": {"*": lift.GaussianFanIn(), "h1->y": lift.Gaussian()}}
    else:
        module = modules.committee(inputs, activation=function)
        given |= {"weights": lift.GaussianFanIn()}
    return flowlift.sample(module, copies=students, edges=lift.Complete(), seed=seed, **given)


def task_of(kind, teachers, **given):
    if kind == "erf":
        return tasks.erf_committee(teachers, **given)
    return tasks.polynomial_committee(teachers, HERMITE, **given)


# Siblings of the first, each with a program of its own.
@pytest.mark.parametrize(
    ("kind", "trained"),
    [
        ("erf", False),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in [("erf", True), ("polynomial", False), ("polynomial", True)]
        ),
    ],
)
def test_the_loss_is_the_mean_over_gaussian_inputs(kind, trained):
    model, task = committee(kind, 3, 4, trained=trained), task_of(kind, 2, inputs=4)
    task.objective.check(model)
    x = np.random.default_rng(3).standard_normal((200_000, 4))
    residual = np.asarray(model.batch(x)) - phi(kind, x[:, :2]).sum(1)
    losses = residual**2 / 2
    error = losses.std() / math.sqrt(len(losses))
    assert float(value_and_slope(task.objective, model)[0]) == pytest.approx(
        losses.mean(), abs=5 * error
    )


def with_rows(model, rows):
    return eqx.tree_at(lambda m: m.weights["x->h1"], model, jax.numpy.asarray(rows))


@pytest.mark.parametrize("kind", ["erf", "polynomial"])
def test_teachers_have_loss_zero_and_nothing_has_less(kind):
    model, task = committee(kind, 3, 3), task_of(kind, 3)
    at = with_rows(model, np.eye(3)[[2, 0, 1]])
    loss, slope = value_and_slope(task.objective, at)
    np.testing.assert_allclose(loss, 0, atol=1e-14)
    np.testing.assert_allclose(slope, 0, atol=1e-14)
    assert float(value_and_slope(task.objective, model)[0]) > 0
    if kind == "polynomial":
        null = with_rows(model, np.zeros((3, 3)))
        # Units of vanishing weights put out phi(0), which the null loss does not have.
        constant = 3 * phi(kind, np.zeros(1))[0]
        power = 3 * sum(c**2 for c in HERMITE) + 6 * HERMITE[0] ** 2
        expected = power / 2 - constant * 3 * HERMITE[0] + constant**2 / 2
        found = value_and_slope(task.objective, null)[0]
        assert float(found) == pytest.approx(expected, rel=1e-13)
        assert task.facts["null loss"] == pytest.approx(power / 2, rel=1e-14)


@pytest.mark.parametrize(
    ("teachers", "plateau"),
    [
        (2, 0.01161084),
        # Siblings of the first, each with a program of its own.
        pytest.param(3, 0.02029659, marks=pytest.mark.slow),
        pytest.param(4, 0.02837726, marks=pytest.mark.slow),
        pytest.param(5, 0.03622632, marks=pytest.mark.slow),
        pytest.param(8, 0.0592634, marks=pytest.mark.slow),
    ],
)
def test_the_symmetric_plateau_is_a_critical_point_of_the_published_loss(teachers, plateau):
    """theory, section 8: all students are R sum_j v_j, so that Q = K R^2."""
    task = tasks.erf_committee(teachers)
    facts = task.facts
    assert facts["plateau loss"] == pytest.approx(plateau, abs=6e-8)
    rows = np.full((teachers, teachers), facts["plateau R"])
    model = with_rows(committee("erf", teachers, teachers), rows)
    loss, slope = value_and_slope(task.objective, model)
    assert float(loss) == pytest.approx(facts["plateau loss"], rel=1e-12)
    np.testing.assert_allclose(slope, 0, atol=1e-15)
    overlaps = diagnostics.student_overlaps(model)
    np.testing.assert_allclose(overlaps, facts["plateau Q"], rtol=1e-13)
    overlaps = diagnostics.teacher_overlaps(model, directions=facts["directions"])
    np.testing.assert_allclose(overlaps, facts["plateau R"], rtol=1e-13)


@pytest.mark.slow  # A flow to t = 1e4 of a small system.
def test_a_flow_rests_at_the_plateau_and_leaves_it():
    """From small weights in d = 30 a flow passes within a percent of Q, R and L of the plateau."""
    task = tasks.erf_committee(3, inputs=30)
    start = committee("erf", 3, 30, seed=1)
    start = with_rows(start, 1e-3 * np.asarray(start.weights["x->h1"]))
    observers = {
        name: diagnostics.observer(name, task) for name in ("student_overlaps", "teacher_overlaps")
    }
    solution = flow.solve(start, task, 1e4, observers=observers, rtol=1e-6, atol=1e-9)
    flat = int(np.argmin(np.abs(solution.loss / task.facts["plateau loss"] - 1)))
    assert solution.loss[flat] == pytest.approx(task.facts["plateau loss"], rel=0.01)
    q, r = (np.asarray(solution.observations[name])[flat] for name in observers)
    np.testing.assert_allclose(q, task.facts["plateau Q"], rtol=0.05)
    np.testing.assert_allclose(r, task.facts["plateau R"], rtol=0.05)
    assert solution.loss[-1] < 1e-3 * task.facts["plateau loss"]


def test_overlaps_are_inner_products_of_any_first_layer():
    rows = np.random.default_rng(0).standard_normal((4, 3))
    model = with_rows(committee("erf", 4, 3), rows)
    np.testing.assert_allclose(diagnostics.student_overlaps(model), rows @ rows.T, rtol=1e-14)
    net = eqx.nn.MLP(3, "scalar", 5, 2, key=jax.random.key(0))
    first = np.asarray(net.layers[0].weight)
    task = tasks.single_index(3, {2: 1.0}, samples=4, seed=0)
    found = diagnostics.observer("teacher_overlaps", task)(net)
    np.testing.assert_allclose(found, first @ task.facts["directions"].T, rtol=1e-13)
    with pytest.raises(ValueError, match="must have the fact 'directions'"):
        diagnostics.observer("teacher_overlaps", tasks.sparse_parity(3, 2))
    with pytest.raises(ValueError, match="whose vector input is read by inner products"):
        diagnostics.student_overlaps({"w": rows})
    with pytest.raises(ValueError, match="as many numbers as the model has inputs, 3, but has 2"):
        diagnostics.teacher_overlaps(net, directions=np.eye(2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: committee("erf", 3, 5), "inputs of the teachers' dimension 4, but has weights"),
        (lambda: committee("polynomial", 3, 4), "and the activation erf_root2"),
        (lambda: {"w": np.ones((3, 4))}, "complete lift of x -> h -> y .* but is dict"),
        (
            lambda: flowlift.sample(
                modules.two_layer(4, activation="erf_root2"),
                copies=3, edges=lift.Complete(), seed=0,
            ),
            "no biases",
        ),
    ],
)  # fmt: skip
def test_other_models_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        tasks.erf_committee(4).objective.check(make())


def test_meaningless_committees_are_refused():
    with pytest.raises(ValueError, match="`teachers` must be an integer of at least 1"):
        tasks.erf_committee(0)
    with pytest.raises(ValueError, match="`inputs` must be an integer of at least 3, but is 2"):
        tasks.polynomial_committee(3, (0, 1), inputs=2)
    with pytest.raises(ValueError, match="`coefficients` must hold at least one finite number"):
        tasks.polynomial_committee(3, ())


STUDY = """
name = "plateaus"
seeds = 1

[module]
kind = "polynomial_committee"
inputs = 3
coefficients = [0.0, 0.0, 1.0]

[lift]
sizes = [2]
edges = { kind = "complete" }
weights = { kind = "gaussian_fan_in" }

[task]
kind = "polynomial_committee"
teachers = 2
inputs = 3
coefficients = [0.0, 0.0, 1.0]

[flow]
horizon = 1.0
per_decade = 1

[observe]
per_decade = 0
quantities.q = { kind = "student_overlaps" }
quantities.r = { kind = "teacher_overlaps" }
"""


@pytest.mark.slow  # Whole studies.
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_a_study_observes_the_order_parameters(tmp_path, precision):
    (tmp_path / "study.toml").write_text(f'precision = "{precision}"\n{STUDY}')
    study = studies.read_study(tmp_path / "study.toml")
    results = sweep.run_study(study, tmp_path / "results", progress=False)
    q = results.q.sel(size=2, seed=0).isel(observation_time=0).values
    r = results.r.sel(size=2, seed=0).isel(observation_time=0).values
    module = modules.polynomial_committee(3, (0.0, 0.0, 1.0))
    start = flowlift.sample(
        module, copies=2, edges=lift.Complete(), weights=lift.GaussianFanIn(), seed=0
    )
    rows = np.asarray(start.weights["x->h1"])
    np.testing.assert_allclose(q, rows @ rows.T, rtol=1e-5)
    np.testing.assert_allclose(r, rows[:, :2], rtol=1e-5)
    assert float(results.q_gradients.values.ravel()[0]) == 0
    # Quadratic units: 2 (q q^T + ...) in closed form, for he_2 = (z^2 - 1) / sqrt 2.
    gram = np.vstack([rows, np.eye(2, 3)])
    signs = np.array([1, 1, -1, -1])
    c = gram @ gram.T
    own = np.diag(c)
    pair = c**2 + (own[:, None] - 1) * (own[None] - 1) / 2
    expected = signs @ pair @ signs / 2
    assert float(results.initial_loss.values.ravel()[0]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow  # A study with a model of its own shape.
def test_overlaps_without_directions_are_refused_before_anything_runs(tmp_path):
    text = STUDY.replace('"polynomial_committee"\nteachers = 2\ninputs = 3', '"sparse_parity"\nN')
    text = text.replace("N\ncoefficients = [0.0, 0.0, 1.0]", "inputs = 3\ndegree = 2")
    (tmp_path / "study.toml").write_text(text)
    study = studies.read_study(tmp_path / "study.toml")
    with pytest.raises(ValueError, match="must have the fact 'directions'"):
        sweep.run_study(study, tmp_path / "results", progress=False)

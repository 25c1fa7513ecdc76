"""Linear teachers and matrices against closed-form flows, singular values, and covariances."""

import math

import jax
import numpy as np
import pytest

from flowlift import flow, studies, sweep, tasks


def linear(d, samples=None, **given):
    task = tasks.linear_teacher(d, samples=samples, **given)
    return task, np.asarray(task.objective.inputs), np.asarray(task.objective.targets)


def test_the_exact_design_flows_as_on_all_inputs():
    """L(t) = sum_k p_k exp(-4 lambda_k t) from 0, for x -> <w, x>."""
    d, a, b = 40, 1.5, 2.0
    task, x, _ = linear(d, spectrum=a, powers=b)
    np.testing.assert_allclose(x.T @ x / d, np.diag(np.arange(1, d + 1) ** -a), rtol=1e-14)
    model = tasks.supervised(x, task.objective.targets, apply=lambda w, xs: xs @ w)
    solution = flow.solve(np.zeros(d), model, 100.0, solver="tsit5", rtol=1e-9, atol=1e-12)
    values, powers = task.facts["spectrum"], task.facts["powers"]
    exact = [powers @ np.exp(-4 * values * t) for t in solution.times]
    np.testing.assert_allclose(solution.loss, exact, rtol=1e-6)
    np.testing.assert_allclose(task.facts["teacher weights"] ** 2 * values, powers, rtol=1e-14)


def test_the_loss_is_a_power_law_between_the_ends_of_the_spectrum():
    """d log L / d log t = -(b - 1) / a, to a percent where 1 << t << 1 / lambda_d."""
    task = linear(1000, spectrum=2.0, powers=3.0)[0]
    values, powers = task.facts["spectrum"], task.facts["powers"]
    t = np.array([1e2, 1e3])
    loss = np.exp(-4 * np.outer(t, values)) @ powers
    slope = np.diff(np.log(loss))[0] / math.log(10)
    assert slope == pytest.approx(-1, rel=0.05)


def test_drawn_inputs_have_the_covariance_and_the_teacher():
    n = 40_000
    given = {"spectrum": (4.0, 1.0, 0.25), "powers": (1.0, 0.0, 0.5), "seed": 2}
    _, x, y = linear(3, n, **given)
    # Entries of an empirical covariance have deviations of at most sqrt(2 / n) of the scales.
    scales = np.sqrt(np.outer((4, 1, 0.25), (4, 1, 0.25)))
    assert np.abs((x.T @ x / n - np.diag((4, 1, 0.25))) / scales).max() < 5 * math.sqrt(2 / n)
    np.testing.assert_allclose(y, x @ [0.5, 0, math.sqrt(2)], atol=1e-12)
    noisy, x2, y2 = linear(3, n, noise=0.3, **given)
    np.testing.assert_array_equal(x, x2)
    fit = np.linalg.solve(x.T @ x, x.T @ y2)
    assert noisy.facts["linear loss"] == pytest.approx(np.mean((y2 - x @ fit) ** 2), rel=1e-10)
    assert noisy.facts["linear loss"] == pytest.approx(0.09, rel=5 * math.sqrt(2 / n))
    assert "least loss" not in noisy.facts


def test_factorisation_knows_its_least_losses():
    task = tasks.matrix_completion(7, 5, 3, seed=1, singular_values=(3.0, 2.0, 0.5))
    matrix = task.facts["matrix"]
    u, s, v = np.linalg.svd(matrix)
    np.testing.assert_allclose(s, [3, 2, 0.5, 0, 0], atol=1e-14)
    for rank, least in enumerate(task.facts["losses by rank"]):
        model = tasks.MatrixProduct((u[:, :rank] * s[:rank], v[:rank]))
        assert float(task.objective(model)) == pytest.approx(least, abs=1e-15)
    equal = tasks.matrix_completion(7, 5, 3, seed=1)
    assert np.mean(equal.facts["matrix"] ** 2) == pytest.approx(1, rel=1e-13)


def test_a_flow_finds_the_best_matrix_of_lower_rank():
    """From a small start a product of inner dimension 1 ends at Eckart and Young's loss."""
    task = tasks.matrix_completion(6, 4, 2, seed=0, singular_values=(2.0, 1.0))
    model = tasks.matrix_product(1, 0, rows=6, columns=4, scale=0.1)
    solution = flow.solve(model, task, 300.0, rtol=1e-7, atol=1e-10)
    assert solution.loss[-1] == pytest.approx(task.facts["losses by rank"][1], rel=1e-6)


def test_completion_sees_some_entries_and_the_model_gives_them():
    task = tasks.matrix_completion(6, 5, 2, seed=3, observed=0.5, noise=0.0)
    places, targets = np.asarray(task.objective.inputs), np.asarray(task.objective.targets)
    assert len({tuple(p) for p in places}) == 15
    np.testing.assert_array_equal(task.facts["matrix"][tuple(places.T)], targets)
    assert "losses by rank" not in task.facts
    model = tasks.matrix_product(3, 1, rows=6, columns=5, depth=3, scale=0.7)
    w1, w2, w3 = (np.asarray(w) for w in model.factors)
    assert (w1.shape, w2.shape, w3.shape) == ((6, 3), (3, 3), (3, 5))
    product = w1 @ w2 @ w3
    np.testing.assert_allclose(jax.vmap(model)(places), product[tuple(places.T)], rtol=1e-13)
    loss = np.mean((product[tuple(places.T)] - targets) ** 2)
    assert float(task.objective(model)) == pytest.approx(loss, rel=1e-13)


def test_a_symmetric_matrix_and_its_model():
    task = tasks.matrix_completion(5, 5, 2, seed=0, symmetric=True, precision="float32")
    matrix = task.facts["matrix"]
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-14)
    assert np.linalg.eigvalsh(matrix).min() > -1e-13
    assert task.objective.targets.dtype == "float32"
    model = tasks.matrix_product(5, 0, rows=5, scale=0.3, start="identity")
    np.testing.assert_array_equal(model.matrix(), 0.09 * np.eye(5))
    # Entries start with deviation `scale`.
    drawn = np.asarray(tasks.matrix_product(100, 0, rows=100, scale=2.0).factor)
    assert drawn.std() == pytest.approx(2, rel=5 / math.sqrt(2 * drawn.size))


STUDY = """
name = "completion"
seeds = 2
sizes = [1, 2]

[model]
kind = "matrix_product"
rows = 4
columns = 3
scale = 0.1

[task]
kind = "matrix_completion"
rows = 4
columns = 3
rank = 1
observed = 0.75
seed = 0

[flow]
horizon = 3.0
per_decade = 1
"""


@pytest.mark.slow  # Two shapes are compiled.
def test_products_of_matrices_are_models_of_a_study(tmp_path):
    (tmp_path / "study.toml").write_text(STUDY)
    study = studies.read_study(tmp_path / "study.toml")
    results = sweep.run_study(study, tmp_path / "results", progress=False)
    assert set(results.result.values.ravel()) == {"horizon"}
    assert results.parameters.sel(size=2, seed=0) == 14


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: linear(3, spectrum=(1.0, 2.0), powers=1.0),
            "`spectrum` must be an exponent, or 3",
        ),
        (lambda: linear(2, spectrum=(1.0, 0.0), powers=1.0), "2 positive numbers"),
        (lambda: linear(2, spectrum=None, powers=1.0), "`spectrum` must be a list"),
        (lambda: tasks.matrix_completion(3, 4, 1, seed=0, singular_values=2.0), "must be a list"),
        (lambda: linear(2, spectrum=1.0, powers=(1.0, -1.0)), "not negative, but is"),
        (lambda: linear(2, spectrum=1.0, powers=1.0, noise=0.1), "must be 0 without samples"),
        (lambda: linear(10**6, spectrum=1.0, powers=1.0), "`inputs` must fit into this machine's"),
        (lambda: tasks.matrix_completion(3, 4, 4, seed=0), "`rank` must be .* from 1 to 3"),
        (
            lambda: tasks.matrix_completion(3, 4, 1, seed=0, observed=2.0),
            "`observed` must be a fra",
        ),
        (lambda: tasks.matrix_completion(3, 4, 1, seed=0, symmetric=True), "make it square"),
        (
            lambda: tasks.matrix_completion(3, 4, 1, seed=0, singular_values=(1.0, 2.0)),
            "must hold 1 numbers",
        ),
        (lambda: tasks.matrix_completion(10**6, 10**6, 1, seed=0), "this machine's memory"),
        (lambda: tasks.matrix_product(2, 0, rows=3, depth=3), "`depth` must be .* from 2 to 2"),
        (lambda: tasks.matrix_product(2, 0, rows=3, start="zero"), "one of gaussian, identity"),
        (lambda: tasks.matrix_product(0, 0, rows=3), "`size` must be an integer of at least 1"),
    ],
)
def test_bad_matrices_are_refused_in_one_sentence(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)

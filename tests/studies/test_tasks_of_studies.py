"""Every built-in task as a table of a study file: the same task as in Python."""

import jax
import numpy as np
import pytest

from flowlift import modules, registry, studies, tasks
from flowlift.studies.kinds import build_task

CASES = {
    "periodic": ("harmonics = { 1 = 1.0 }", lambda: tasks.periodic({1: 1.0})),
    "student_teacher": (
        'samples = 4\nseed = 1\nteacher = { kind = "mlp", inputs = 2 }',
        lambda: tasks.student_teacher(modules.mlp(2), samples=4, seed=1),
    ),
    "digits": ("samples = 4", lambda: tasks.digits(4)),
    "mnist1d": ("samples = 4", lambda: tasks.mnist1d(4)),
    "diabetes": ("samples = 4", lambda: tasks.diabetes(4)),
    "mnist": (
        "samples = 4\npositive = [3, 5]\nshape = [1, 28, 28]",
        lambda: tasks.mnist(4, positive=(3, 5), shape=(1, 28, 28)),
    ),
    "gaussian_committee": ("teachers = 2", lambda: tasks.gaussian_committee(2)),
    "erf_committee": ("teachers = 2\ninputs = 3", lambda: tasks.erf_committee(2, inputs=3)),
    "polynomial_committee": (
        "teachers = 2\ncoefficients = [0, 0.5, 1]",
        lambda: tasks.polynomial_committee(2, (0, 0.5, 1)),
    ),
    "linear_teacher": (
        "inputs = 3\nspectrum = 1.5\npowers = [1.0, 0.5, 0]",
        lambda: tasks.linear_teacher(3, spectrum=1.5, powers=(1.0, 0.5, 0.0)),
    ),
    "single_index": (
        "inputs = 3\ncoefficients = { 2 = 1.0, 4 = 0.5 }\nsamples = 5\nseed = 0",
        lambda: tasks.single_index(3, {2: 1.0, 4: 0.5}, samples=5, seed=0),
    ),
    "multi_index": (
        'inputs = 3\nterms = { "1 0" = 1, "1 1" = 0.5 }\nsamples = 5\nseed = 0',
        lambda: tasks.multi_index(3, {(1, 0): 1.0, (1, 1): 0.5}, samples=5, seed=0),
    ),
    "sparse_parity": ("inputs = 4\ndegree = 2", lambda: tasks.sparse_parity(4, 2)),
    "modular_addition": (
        'modulus = 5\nfraction = 0.5\ninputs = "tokens"\nproblem = "classification"',
        lambda: tasks.modular_addition(5, fraction=0.5, inputs="tokens", problem="classification"),
    ),
    "random_labels": (
        "inputs = 4\nsamples = 3\nseed = 0\nnorms = [1, 1]",
        lambda: tasks.random_labels(4, 3, seed=0, norms=(1, 1)),
    ),
    "gaussian_mixture": (
        "inputs = 4\nsamples = 3\nseed = 0\ndistance = 2\nclasses = 3",
        lambda: tasks.gaussian_mixture(4, 3, seed=0, distance=2, classes=3),
    ),
    "xor_clusters": (
        "inputs = 4\nsamples = 3\nseed = 0\ndistance = 2.0",
        lambda: tasks.xor_clusters(4, 3, seed=0, distance=2.0),
    ),
    "matrix_completion": (
        "rows = 4\ncolumns = 3\nrank = 2\nseed = 0\nsingular_values = [2, 1]",
        lambda: tasks.matrix_completion(4, 3, 2, seed=0, singular_values=(2, 1)),
    ),
}
STUDY = """
name = "any"
seeds = 1

[module]
kind = "mlp"
inputs = 2

[lift]
sizes = [2]
edges = {{ kind = "complete" }}

[flow]
horizon = 1.0

[task]
kind = "{kind}"
{arguments}
"""


def test_every_built_in_task_has_a_case():
    built_in = [n for n, e in registry.known("task").items() if e.origin == "built in"]
    assert sorted(CASES) == sorted(built_in)


# Signals are generated, and scikit-learn is imported, for seconds.
LONG = ("mnist1d", "digits", "diabetes")


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] * (kind in LONG)) for kind in CASES]
)
def test_a_table_of_a_study_is_the_task_of_its_function(tmp_path, kind):
    arguments, make = CASES[kind]
    (tmp_path / "study.toml").write_text(STUDY.format(kind=kind, arguments=arguments))
    study = studies.read_study(tmp_path / "study.toml")
    # What is written beside results is read back as the same study.
    (tmp_path / "again.toml").write_text(studies.to_toml(study))
    assert studies.read_study(tmp_path / "again.toml") == study
    found, expected = build_task(study.task, "float64"), make()
    assert found.name == expected.name
    assert found.provenance == expected.provenance
    assert list(found.facts) == list(expected.facts)
    leaves = jax.tree.leaves(found.objective)
    assert jax.tree.structure(found.objective) == jax.tree.structure(expected.objective)
    for leaf, other in zip(leaves, jax.tree.leaves(expected.objective), strict=True):
        np.testing.assert_array_equal(leaf, other)

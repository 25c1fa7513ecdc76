"""The flows on which solvers are compared by `solver_regret.py`, small enough for minutes."""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import problems

from flowlift import lift, modules, tasks
from flowlift.compare.curves import Curve
from flowlift.flow.choice import declared_smooth
from flowlift.flow.problem import make_problem
from flowlift.flow.programs import host_field
from flowlift.flow.sharpness import spectrum_on_host
from flowlift.studies.toml import read_study, variants
from flowlift.sweep.cell import model_maker, study_task

ROOT = Path(__file__).parents[1]
# Of drawn flows, T x sharpness at the start: from mild flows to those that only stiff methods end.
LEAST_STIFF, MOST_STIFF = 1.0, 1e5


@dataclasses.dataclass(frozen=True)
class Case:
    """A flow.

    Attributes:
        name: what it is called in tables.
        make: () -> (model, task, horizon).
        curve: the loss along it, where it is known otherwise.
    """

    name: str
    make: Callable[[], tuple[Any, Any, float]]
    curve: Curve | None = None


def of_study(folder: str, size: int, horizon: float, *changes: str) -> Case:
    """A lift of a study, to a horizon; its rules that end flows early are left out.

    Args:
        folder: of the study, by its number.
        size: of the lift.
        horizon: the end.
        changes: as on the command line.

    Returns:
        The flow.
    """

    def make():
        (path,) = (ROOT / "studies").glob(f"{folder}_*/study.toml")
        study = read_study(path, changes)
        return model_maker(study)(size, study.first_seed), study_task(study), horizon

    what = "".join(f" {change.split('=', 1)[1]}" for change in changes[:1])
    return Case(f"study {folder}, n = {size}{what if len(what) < 20 else ''}", make)


def architectures(name: str) -> Case:
    """A sparse lift of 500 parameters of the study of architectures, to t = 30."""

    def make():
        study = read_study(ROOT / "studies/07_architectures/study.toml")
        study = _alternative(study, architecture=name, law="sparse")
        return model_maker(study)(500, 0), study_task(study), 30.0

    return Case(f"study 07, {name}", make)


def convergence(problem: str, size: int, horizon: float, law: str = "k4") -> Case:
    """A lift of the study of the probability of convergence."""

    def make():
        study = read_study(ROOT / "studies/08_convergence_probability/study.toml")
        study = _alternative(study, problem=problem, law=law)
        return model_maker(study)(size, 0), study_task(study), horizon

    return Case(f"study 08, {problem}, {law}", make)


def _alternative(study, **chosen: str):
    for point, variant in variants(study):
        if all(point.get(axis) == label for axis, label in chosen.items()):
            return variant
    raise ValueError(f"No alternative {chosen}.")


def logistic(setting: str, horizon: float) -> Case:
    """The logistic experiment of study 05."""

    def make():
        experiment = tasks.logistic(setting)
        return experiment.model, experiment.task, horizon

    return Case(f"study 05, logistic {setting}", make)


def reference(name: str, horizon: float) -> Case:
    """A reference flow of tests/reference."""
    known = problems.reference(name)
    curve = Curve(known.times, known.losses)

    def make():
        model = problems.Vector(jnp.asarray(known.theta0))
        return model, lambda m: known.loss(m.theta), horizon

    return Case(f"{name} to {horizon:.0e}", make, curve)


def readme() -> Case:
    """README's example in Python."""

    def make():
        module = modules.mlp(inputs=2, depth=2, activation="tanh")
        drawn = lift.sample(module, copies=32, edges=lift.BernoulliInDegree(4.0), seed=0)
        return drawn, tasks.periodic({1: 1.0, 3: 0.5}, samples=64), 100.0

    return Case("README, periodic", make)


STUDIED = (
    of_study("01", 16, 1e3),
    of_study("02", 9, 1e4),
    of_study("03", 64, 10.0),
    of_study("05", 128, 100.0, "task.samples=32"),
    logistic("a", 1e9),
    logistic("b", 1e3),
    of_study("06", 64, 3.0),
    *(architectures(name) for name in ("mlp", "cnn2d", "resnet", "rnn", "cnn1d", "skips")),
    convergence("periodic", 100, 1e4),
    convergence("teacher_mlp", 100, 1e4),
    convergence("teacher_skips", 130, 1e4, "dense"),
    convergence("teacher_attention", 130, 1e4),
    convergence("digits", 300, 1e3),
    reference("A_tanh", 1e4),
    reference("A_tanh", 1e6),
    reference("A_soft", 1e6),
    reference("B", 1e3),
    reference("C", 1e4),
    readme(),
)


def drawn(seed: int) -> Case:
    """A random flow: module, activation, laws, task, loss and horizon are drawn.

    Args:
        seed: which.

    Returns:
        The flow.
    """

    def make():
        rng = np.random.default_rng([20, seed])
        inputs, outputs = int(rng.choice([1, 2, 4, 10])), rng.choice([0, 0, 1, 4])
        activation = str(rng.choice(["tanh", "tanh", "softplus", "sine", "gelu", "relu"]))
        kind = str(rng.choice(["mlp", "mlp", "mlp_with_skips", "deep_linear", "committee"]))
        copies, degree = int(2 ** rng.uniform(2.5, 6)), int(rng.integers(2, 7))
        edges = [lift.Complete(), lift.FixedInDegree(degree), lift.BernoulliInDegree(degree)]
        laws = rng.integers(0, 3), rng.choice(["lecun", "gaussian"])
        module = _module(kind, inputs, int(outputs), activation, int(rng.integers(1, 4)))
        task = _task(rng, module, inputs, int(outputs))
        model = _lifted(module, copies, edges[laws[0]], laws[1], degree, seed)
        stiffness = np.exp(rng.uniform(np.log(LEAST_STIFF), np.log(MOST_STIFF)))
        problem = make_problem(model, tasks.resolve_objective(task), "float64")
        sharpness = spectrum_on_host(host_field(problem), problem.start_on_host).highest
        return model, task, float(f"{stiffness / sharpness:.2g}")

    return Case(f"drawn {seed}", make)


def _module(kind: str, inputs: int, outputs: int, activation: str, depth: int):
    several = outputs or None
    if kind == "deep_linear":
        return modules.deep_linear(inputs, several, depth=depth)
    if kind == "committee" and not outputs:
        return modules.committee(inputs, activation=activation)
    if kind == "mlp_with_skips":
        return modules.mlp_with_skips(inputs, several, depth=depth, activation=activation)
    return modules.mlp(inputs, several, depth=depth, activation=activation)


def _task(rng, module, inputs: int, outputs: int):
    """A teacher of the same module, noise, a function of a few waves, or labels."""
    samples = int(2 ** rng.uniform(4, 8))
    which, x = rng.integers(0, 4), rng.standard_normal((samples, inputs))
    size = (samples, outputs) if outputs else (samples,)
    if which == 0:
        return tasks.student_teacher(module, samples=samples, seed=int(rng.integers(100)), copies=3)
    if which == 1:
        return tasks.supervised(x, rng.standard_normal(size), name="noise")
    if which == 2 and outputs > 1:
        labels = np.argmax(x @ rng.standard_normal((inputs, outputs)), axis=1)
        return tasks.supervised(x, labels, loss=tasks.CrossEntropy(), name="labels")
    waves = np.sin(x @ rng.standard_normal((inputs, max(outputs, 1))) * 2)
    return tasks.supervised(x, waves.reshape(size), name="waves")


def _lifted(module, copies: int, edges, weights: str, degree: int, seed: int):
    law = lift.LecunNormal() if weights == "lecun" else lift.Gaussian(degree**-0.5)
    return lift.sample(
        module,
        copies=copies,
        edges=edges,
        weights=dict.fromkeys(module.edge_by_name, law),
        seed=seed,
    )


def description(model, horizon: float, task) -> str:
    """P, T x sharpness at the start and the declared smoothness, for tables."""
    problem = make_problem(model, tasks.resolve_objective(task), "float64")
    sharpness = spectrum_on_host(host_field(problem), problem.start_on_host).highest
    smooth = {True: "smooth", False: "kinks", None: "?"}[declared_smooth(model)]
    return f"P = {problem.dimension}, T x sharpness = {horizon * sharpness:.2g}, {smooth}"

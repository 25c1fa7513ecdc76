"""The logistic experiment of Robin, Scaman & Lelarge, NeurIPS 2022 (theory, section 7)."""

import dataclasses

import numpy as np

from ..lift import Lift, from_edges
from ..modules import Edge, InnerProduct, Input, Output, PerceptronModule
from ..showing import shows_itself
from ..streams import Purpose, stream
from .held_out import HeldOut, held_out_count, provenance_of
from .task import Task, supervised


@shows_itself
@dataclasses.dataclass(frozen=True)
class LogisticExperiment:
    """The task with the model at its start.

    Attributes:
        model: x -> x W, logits, at theta_0; a lift without hidden vertices.
        task: mean softmax cross-entropy to the labels argmax(x W*).
        margin: eps = min_i (top1 - top2 of x_i W*) / |W*|_F.
        samples: n. Along the flow -dL/dt >= (margin/n)^2 (1 - exp(-L))^2.
    """

    model: Lift
    task: Task
    margin: float
    samples: int


def logistic(setting: str, *, seed: int = 0, held_out: HeldOut = None) -> LogisticExperiment:
    """One of the two settings of theory, section 7.

    Args:
        setting: "a": n = 3, d = 4, k = 3, the adversarial design with entries 1e6, from
            -1e5 W*/|W*|; "b": n = 100, d = 5, k = 4, Gaussian X and W*, from N(0, 100^2).
        seed: seeds setting "b".
        held_out: of setting "b", how many further samples, or which fraction of the 100, a flow's
            loss and accuracy are recorded on; None for none. They have a stream of their own.

    Returns:
        Model, task and margin, float64.

    Raises:
        ValueError: for another setting, or held-out data of setting "a", whose inputs are no draw.
    """
    if setting not in ("a", "b"):
        raise ValueError(f"Argument `setting` must be 'a' or 'b', but is {setting!r}; choose one.")
    count = held_out_count(held_out, 100)
    if count and setting == "a":
        raise ValueError(
            f"Argument `held_out` must be None for setting 'a', whose three inputs are given, but "
            f"is {held_out!r}; leave it out, or take setting 'b'."
        )
    x, target, start = _setting_a() if setting == "a" else _setting_b(seed)
    scores = np.sort(x @ target, axis=1)
    margin = float(np.min(scores[:, -1] - scores[:, -2]) / np.linalg.norm(target))
    labels = np.argmax(x @ target, axis=1)
    task = supervised(
        x,
        labels,
        "cross-entropy",
        name=f"logistic-{setting}",
        provenance={"source": "arXiv 2301.08117", "setting": setting, "seed": seed}
        | provenance_of(count),
        facts={"margin": margin, "samples": len(x), "least loss": 0.0},
        held_out=_further(count, seed, target) if count else None,
    )
    return LogisticExperiment(linear_model(start), task, margin, len(x))


def linear_model(weights: np.ndarray) -> Lift:
    """The bias-free linear model x -> x W as a lift of the base graph x -> y.

    Args:
        weights: W, (d, k).

    Returns:
        A lift with one input copy in R^d and k output copies.
    """
    d, k = weights.shape
    module = PerceptronModule(
        [Input("x", (d,)), Output("y", copies=k)], [Edge("x", "y", InnerProduct())]
    )
    edges = {"x->y": (np.zeros(k, int), np.arange(k), weights.T)}
    return from_edges(module, copies={}, edges=edges)


def _setting_a() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x = np.array([[1e6, 0, 0, 0], [0, 1e6, 0, 0], [0, 0, 1, 0]])
    target = np.array([[2.0, -1, -1], [-1, 2, -1], [-5, -5, 10], [0, 0, 0]])
    return x, target, -1e5 * target / np.linalg.norm(target)


def _setting_b(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = stream(seed, Purpose.DATA)
    x, target = rng.standard_normal((100, 5)), rng.standard_normal((5, 4))
    return x, target, 100 * rng.standard_normal((5, 4))


def _further(count: int, seed: int, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x = stream(seed, Purpose.HELD_OUT).standard_normal((count, len(target)))
    return x, np.argmax(x @ target, axis=1)

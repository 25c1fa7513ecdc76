"""Student-teacher tasks: targets computed by a module or any other model."""

import math

import numpy as np
from jaxtyping import PyTree

from ..lift import Complete, Gaussian, GaussianFanIn, sample
from ..memory import check_memory
from ..modules import InnerProduct, Input, PerceptronModule
from ..numbers import whole
from ..precision import check_precision
from ..registry import register
from ..streams import Purpose, stream
from .held_out import HeldOut, held_out_count, provenance_of
from .outputs import predict
from .task import Task, supervised

INPUT_LAWS = ("gaussian", "sphere", "uniform")


def draw_teacher(
    module: PerceptronModule, *, copies: int = 1, seed: int, precision: str = "float64"
) -> PyTree:
    """A teacher network: the complete lift of a module with Gaussian weights everywhere [choice].

    Args:
        module: the base module.
        copies: copies of every hidden vertex.
        seed: an integer; the stream differs from a student's of the same seed.
        precision: "float64" or "float32".

    Returns:
        A lift: read-outs N(0, 1), vector inputs N(0, 1/d), all else N(0, 1).
    """
    laws = {
        name: GaussianFanIn() if isinstance(edge.map, InnerProduct) else Gaussian()
        for name, edge in module.edge_by_name.items()
    }
    inner_seed = int(stream(seed, Purpose.TEACHER).integers(2**62))
    return sample(
        module,
        copies=copies,
        edges=Complete(),
        weights=laws,
        seed=inner_seed,
        precision=precision,
    )


@register("task", tables={"teacher": "module"})
def student_teacher(
    teacher: PyTree,
    *,
    samples: int,
    seed: int,
    inputs: str = "gaussian",
    copies: int = 1,
    noise: float = 0.0,
    held_out: HeldOut = None,
    precision: str = "float64",
) -> Task:
    """Learn the outputs of a teacher on random inputs, with squared loss.

    Args:
        teacher: a `PerceptronModule` (a teacher is drawn by `draw_teacher`) or a `Lift`.
        samples: number of samples.
        seed: seeds the inputs, the noise and the teacher, by separate streams.
        inputs: "gaussian", N(0, 1) entries; "sphere", uniform of norm sqrt(d); "uniform", [-1, 1].
        copies: hidden copies of a teacher drawn from a module.
        noise: standard deviation of Gaussian noise added to the targets.
        held_out: how many further samples, or which fraction of `samples`, with noise of the same
            law, a flow's loss is recorded on; None for none. They have a stream of their own.
        precision: "float64" or "float32".

    Returns:
        The task. Its facts hold "teacher" and, without noise, "least loss" = 0.

    Raises:
        ValueError: for an unknown input law, fewer than one sample, several inputs, or samples that
            exceed the machine's memory.
    """
    check_precision(precision)
    _check_teacher(samples, inputs, noise)
    samples = int(samples)
    if isinstance(teacher, PerceptronModule):
        teacher = draw_teacher(teacher, copies=copies, seed=seed, precision=precision)
    count = held_out_count(held_out, samples)

    def draw(count: int, purpose: Purpose) -> tuple[np.ndarray, np.ndarray]:
        rng = stream(seed, purpose)
        x = _draw_inputs(teacher.module.inputs, count, inputs, rng).astype(precision)
        targets = np.asarray(predict(teacher, x))
        return x, targets + noise * rng.standard_normal(targets.shape).astype(precision)

    provenance = {
        "seed": seed,
        "inputs": inputs,
        "samples": samples,
        "noise": noise,
        "teacher graph": teacher.graph_hash,
        **provenance_of(count),
    }
    facts = {"teacher": teacher} | ({"least loss": 0.0} if noise == 0 else {})
    return supervised(
        *draw(samples, Purpose.DATA),
        name="student-teacher",
        provenance=provenance,
        facts=facts,
        held_out=draw(count, Purpose.HELD_OUT) if count else None,
    )


def _check_teacher(samples: int, inputs: str, noise: float) -> None:
    count = whole(samples)
    if count is None or count < 1:
        raise ValueError(
            f"Argument `samples` must be an integer of at least 1, but is {samples!r}; "
            "give the number of samples."
        )
    if inputs not in INPUT_LAWS:
        raise ValueError(
            f"Argument `inputs` must be one of {', '.join(INPUT_LAWS)}, but is {inputs!r}; "
            "choose one of them."
        )
    if not 0 <= noise < np.inf:
        raise ValueError(
            f"Argument `noise` must be a finite standard deviation of at least 0, but is {noise!r};"
            " give 0 for none."
        )


def _draw_inputs(vertices: tuple[Input, ...], samples: int, law: str, rng) -> np.ndarray:
    if len(vertices) != 1:
        raise ValueError(
            f"Argument `teacher` must have one input vertex, but has {len(vertices)}; "
            "build the inputs yourself and use tasks.supervised."
        )
    (vertex,) = vertices
    shape = (() if vertex.copies is None else (vertex.copies,)) + vertex.shape
    numbers = math.prod(shape)
    # Inputs in float64, and at least half as much again in the precision asked for.
    check_memory("samples", samples, 12 * numbers * samples, f"inputs of {numbers} numbers each")
    if law == "uniform":
        return rng.uniform(-1, 1, (samples, *shape))
    x = rng.standard_normal((samples, *shape))
    if law == "sphere":
        flat = x.reshape(samples, -1)
        norms = np.linalg.norm(flat, axis=1, keepdims=True)
        x = (flat * np.sqrt(flat.shape[1]) / norms).reshape(x.shape)
    return x

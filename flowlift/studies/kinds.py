"""What a study file can name: modules, tasks and laws, as frozen dataclasses with a `kind`.

A choice of a module or a task is made from the function that builds it: its fields are the
function's arguments, so that a study file, the command line and the library say the same thing.
"""

import dataclasses
import inspect
import re
import typing
from collections.abc import Callable, Mapping
from typing import Any

from .. import lift, modules, tasks
from ..modules import PerceptronModule
from ..tasks import Task


def choice(function: Callable, **annotations: Any) -> type:
    """A frozen dataclass whose fields are a function's arguments, with a method `build`.

    The argument `precision` is left out: a study says it once, and `build` passes it on.

    Args:
        function: a builder, documented in Google style.
        **annotations: types of arguments that a study file writes otherwise than Python does.

    Returns:
        The class; `build(**given)` calls the function with the fields and what is given.
    """
    fields = [
        (name, annotations.get(name, parameter.annotation), _default(parameter))
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "precision"
    ]
    name = "".join(part.capitalize() for part in function.__name__.split("_"))
    cls = dataclasses.make_dataclass(
        name, fields, frozen=True, kw_only=True, namespace={"build": _builder(function)}
    )
    cls.__doc__, cls.__module__ = inspect.getdoc(function), __name__
    return cls


def _default(parameter: inspect.Parameter) -> Any:
    if parameter.default is inspect.Parameter.empty:
        return dataclasses.field()
    return dataclasses.field(default=parameter.default)


def _builder(function: Callable) -> Callable:
    def build(self, **given):
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        accepted = inspect.signature(function).parameters
        return function(**fields, **{k: v for k, v in given.items() if k in accepted})

    return build


def kind_of(cls: type) -> str:
    """The word that names a choice in a study file: the class's name in snake case."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()


def _union(*classes: type) -> Any:
    return typing.Union[classes]  # noqa: UP007


def _student_teacher(
    *,
    teacher,
    samples: int,
    seed: int,
    inputs: str = "gaussian",
    copies: int = 1,
    noise: float = 0.0,
    precision: str = "float64",
) -> Task:
    return tasks.student_teacher(
        teacher.build(),
        samples=samples,
        seed=seed,
        inputs=inputs,
        copies=copies,
        noise=noise,
        precision=precision,
    )


_student_teacher.__doc__ = tasks.student_teacher.__doc__
_student_teacher.__name__ = "student_teacher"


def _periodic(
    *,
    harmonics: Mapping[str, float],
    samples: int = 256,
    embedding: str = "circle",
    precision: str = "float64",
) -> Task:
    given = {int(frequency): amplitude for frequency, amplitude in harmonics.items()}
    return tasks.periodic(given, samples=samples, embedding=embedding, precision=precision)


_periodic.__doc__ = tasks.periodic.__doc__
_periodic.__name__ = "periodic"

MODULES = (
    choice(modules.mlp, activation=str),
    choice(modules.mlp_with_skips, activation=str),
    choice(modules.attention),
    choice(modules.two_layer, activation=str),
    choice(modules.deep_linear),
    choice(modules.committee, activation=str),
    choice(modules.siren),
    choice(modules.cnn1d, activation=str, padding=str),
    choice(modules.cnn2d, activation=str, padding=str),
    choice(modules.resnet, activation=str),
    choice(modules.transformer, activation=str),
    choice(modules.unrolled_rnn, activation=str),
)
EdgeLaw = (
    lift.BernoulliInDegree
    | lift.BernoulliOutDegree
    | lift.FixedInDegree
    | lift.Complete
    | lift.OneToOne
)
WeightLaw = (
    lift.Gaussian
    | lift.GaussianFanIn
    | lift.GaussianWidth
    | lift.LecunNormal
    | lift.Uniform
    | lift.Zero
)
if typing.TYPE_CHECKING:
    ModuleChoice = TaskChoice = Any
else:
    ModuleChoice = _union(*MODULES)
    TaskChoice = _union(
        choice(tasks.diabetes),
        choice(tasks.digits),
        choice(tasks.mnist1d),
        choice(_periodic, harmonics=dict[str, float]),
        choice(_student_teacher, teacher=ModuleChoice),
        choice(tasks.gaussian_committee),
    )
# The types of a study's fields whose tables carry a `kind`.
UNIONS = (ModuleChoice, TaskChoice, EdgeLaw, WeightLaw)


def build_module(chosen: Any) -> PerceptronModule:
    """The module that a choice means."""
    return chosen.build()


def build_task(chosen: Any, precision: str) -> Task:
    """The task that a choice means, in a precision."""
    return chosen.build(precision=precision)

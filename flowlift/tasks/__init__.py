"""Tasks: what is to be learnt, with the loss stated to the last factor."""

from .chunks import shard, total
from .diabetes import diabetes
from .digits import digits
from .gaussian_committee import GaussianCommittee, gaussian_committee
from .logistic import LogisticExperiment, linear_model, logistic
from .losses import AbstractLoss, CrossEntropy, PerSample, SquaredLoss, resolve_loss
from .mnist1d import mnist1d
from .outputs import predict
from .periodic import periodic
from .task import (
    AbstractObjective,
    Population,
    Supervised,
    Task,
    check_value,
    population,
    resolve_objective,
    supervised,
)
from .teachers import draw_teacher, student_teacher

__all__ = [
    "AbstractLoss",
    "AbstractObjective",
    "CrossEntropy",
    "GaussianCommittee",
    "LogisticExperiment",
    "PerSample",
    "Population",
    "SquaredLoss",
    "Supervised",
    "Task",
    "check_value",
    "diabetes",
    "digits",
    "draw_teacher",
    "gaussian_committee",
    "linear_model",
    "logistic",
    "mnist1d",
    "periodic",
    "population",
    "predict",
    "resolve_loss",
    "resolve_objective",
    "shard",
    "student_teacher",
    "supervised",
    "total",
]

"""Tasks: what is to be learnt, with the loss stated to the last factor."""

from .chunks import shard, total
from .digits import digits
from .gaussian_committee import GaussianCommittee, gaussian_committee
from .logistic import LogisticExperiment, linear_model, logistic
from .losses import AbstractLoss, CrossEntropy, PerSample, SquaredLoss, resolve_loss
from .periodic import periodic
from .task import (
    AbstractObjective,
    Population,
    Supervised,
    Task,
    population,
    predict,
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
    "digits",
    "draw_teacher",
    "gaussian_committee",
    "linear_model",
    "logistic",
    "periodic",
    "population",
    "predict",
    "resolve_loss",
    "shard",
    "student_teacher",
    "supervised",
    "total",
]

"""Tasks: what is to be learnt, with the loss stated to the last factor."""

from .added import L1, Penalised, with_decay, with_term
from .chunks import shard, total
from .diabetes import diabetes
from .digits import digits
from .gaussian_committee import GaussianCommittee, gaussian_committee
from .hermite import hermite, hermite_coefficients
from .index_models import leap, multi_index, single_index
from .linear_teachers import linear_teacher
from .logarithmic import ExponentialLoss, LogisticLoss, LogOf
from .logistic import LogisticExperiment, linear_model, logistic
from .losses import (
    AbstractLogarithmicLoss,
    AbstractLoss,
    CrossEntropy,
    PerSample,
    SquaredLoss,
    resolve_loss,
)
from .matrices import MatrixProduct, SymmetricProduct, matrix_completion, matrix_product
from .mixtures import gaussian_mixture, xor_clusters
from .mnist import mnist
from .mnist1d import mnist1d
from .modular import modular_addition
from .outputs import predict
from .parity import sparse_parity
from .periodic import periodic
from .population_committees import PopulationCommittee, erf_committee, polynomial_committee
from .random_labels import random_labels
from .scaled import with_label_noise, with_output
from .streamed import Streamed, streamed
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
    "L1",
    "AbstractLogarithmicLoss",
    "AbstractLoss",
    "AbstractObjective",
    "CrossEntropy",
    "ExponentialLoss",
    "GaussianCommittee",
    "LogOf",
    "LogisticExperiment",
    "LogisticLoss",
    "MatrixProduct",
    "Penalised",
    "PerSample",
    "Population",
    "PopulationCommittee",
    "SquaredLoss",
    "Streamed",
    "Supervised",
    "SymmetricProduct",
    "Task",
    "check_value",
    "diabetes",
    "digits",
    "draw_teacher",
    "erf_committee",
    "gaussian_committee",
    "gaussian_mixture",
    "hermite",
    "hermite_coefficients",
    "leap",
    "linear_model",
    "linear_teacher",
    "logistic",
    "matrix_completion",
    "matrix_product",
    "mnist",
    "mnist1d",
    "modular_addition",
    "multi_index",
    "periodic",
    "polynomial_committee",
    "population",
    "predict",
    "random_labels",
    "resolve_loss",
    "resolve_objective",
    "shard",
    "single_index",
    "sparse_parity",
    "streamed",
    "student_teacher",
    "supervised",
    "total",
    "with_decay",
    "with_label_noise",
    "with_output",
    "with_term",
    "xor_clusters",
]

"""Lifts of perceptron modules: edge laws, weight laws, sampling."""

from .edge_laws import (
    AbstractBernoulli,
    AbstractEdgeLaw,
    BernoulliInDegree,
    BernoulliOutDegree,
    Complete,
    FixedInDegree,
    OneToOne,
)
from .lift import Lift, graph_digest
from .sampling import check_plan, from_edges, resolve_copies, sample
from .streams import Purpose, check_seed, stream
from .weight_laws import (
    AbstractWeightLaw,
    Gaussian,
    GaussianFanIn,
    GaussianWidth,
    Uniform,
    Zero,
)

__all__ = [
    "AbstractBernoulli",
    "AbstractEdgeLaw",
    "AbstractWeightLaw",
    "BernoulliInDegree",
    "BernoulliOutDegree",
    "Complete",
    "FixedInDegree",
    "Gaussian",
    "GaussianFanIn",
    "GaussianWidth",
    "Lift",
    "OneToOne",
    "Purpose",
    "Uniform",
    "Zero",
    "check_plan",
    "check_seed",
    "from_edges",
    "graph_digest",
    "resolve_copies",
    "sample",
    "stream",
]

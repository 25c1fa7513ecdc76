"""Lifts of perceptron modules: laws, sampling, networks read, witnesses planted, files."""

from ..streams import Purpose, check_seed, stream
from .counts import copies_for_count, expected_counts
from .densities import ErdosRenyi, erdos_renyi
from .edge_laws import (
    AbstractBernoulli,
    AbstractEdgeLaw,
    BernoulliInDegree,
    BernoulliOutDegree,
    Complete,
    FixedInDegree,
    OneToOne,
)
from .export import from_arrays, load_safetensors, save_safetensors, to_arrays, to_scipy
from .lift import Lift, graph_digest
from .parametrisation import PARAMETRISATIONS, parametrised_rates
from .plant import Planting, plant
from .reading import read_equinox
from .rewiring import densified, flexible, rewirable, with_edges
from .sampling import check_plan, from_edges, resolve_copies, sample
from .torch_weights import read_torch
from .weight_laws import (
    AbstractWeightLaw,
    Gaussian,
    GaussianFanIn,
    GaussianWidth,
    LecunNormal,
    Uniform,
    Zero,
)

__all__ = [
    "PARAMETRISATIONS",
    "AbstractBernoulli",
    "AbstractEdgeLaw",
    "AbstractWeightLaw",
    "BernoulliInDegree",
    "BernoulliOutDegree",
    "Complete",
    "ErdosRenyi",
    "FixedInDegree",
    "Gaussian",
    "GaussianFanIn",
    "GaussianWidth",
    "LecunNormal",
    "Lift",
    "OneToOne",
    "Planting",
    "Purpose",
    "Uniform",
    "Zero",
    "check_plan",
    "check_seed",
    "copies_for_count",
    "densified",
    "erdos_renyi",
    "expected_counts",
    "flexible",
    "from_arrays",
    "from_edges",
    "graph_digest",
    "load_safetensors",
    "parametrised_rates",
    "plant",
    "read_equinox",
    "read_torch",
    "resolve_copies",
    "rewirable",
    "sample",
    "save_safetensors",
    "stream",
    "to_arrays",
    "to_scipy",
    "with_edges",
]

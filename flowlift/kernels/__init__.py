"""The sum over a fibre of lifted edges, several ways, one meaning."""

from flowlift.kernels.choice import METHODS, choose, samples_per_pass
from flowlift.kernels.fibre import Fibre
from flowlift.kernels.maps import (
    array_method,
    fibre_sum_convolution,
    fibre_sum_map,
    fibre_sum_matrix,
)
from flowlift.kernels.sums import fibre_sum
from flowlift.kernels.taps import applies
from flowlift.kernels.trilinear import same_variance

__all__ = [
    "METHODS",
    "Fibre",
    "applies",
    "array_method",
    "choose",
    "fibre_sum",
    "fibre_sum_convolution",
    "fibre_sum_map",
    "fibre_sum_matrix",
    "same_variance",
    "samples_per_pass",
]

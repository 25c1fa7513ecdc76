"""The sum over a fibre of lifted edges, several ways, one meaning."""

from flowlift.kernels.choice import METHODS, choose, samples_per_pass
from flowlift.kernels.fibre import Fibre
from flowlift.kernels.maps import fibre_sum_convolution, fibre_sum_map, fibre_sum_matrix
from flowlift.kernels.sums import fibre_sum
from flowlift.kernels.taps import applies

__all__ = [
    "METHODS",
    "Fibre",
    "applies",
    "choose",
    "fibre_sum",
    "fibre_sum_convolution",
    "fibre_sum_map",
    "fibre_sum_matrix",
    "samples_per_pass",
]

"""Instruments: see why a lift converges. One quantity per file, its equation first.

Norms are those of L^2(D); costs are counted in gradients of the same model (theory, sections 5-7).
"""

from .certificate import Certificate, certificate
from .coverage import covered, good_copies
from .coverage_rate import coverage_rate
from .critical_point import CriticalPoint, Kind, critical_point
from .degrees import Degrees, DegreeTest, degree_laws, degree_test, degrees
from .fibration import fibration_defects, is_fibration
from .foreseen import Foreseen, foreseen
from .imbalance import Imbalance, imbalance, imbalance_defect
from .in_cones import InCone, in_cone, tree_copies, tree_fractions
from .kl_exponent import KLFit, kl_exponent
from .landscape_slice import LandscapeSlice, landscape_slice
from .least_curvature import LeastCurvature, least_curvature
from .linearised_flow import LinearisedFlow, lazy_distance, linearised_flow
from .logistic_bounds import LogisticBounds, logistic_bounds, logistic_potential
from .moments import Moments, moments, sign_probes
from .observers import QUANTITIES, Measurement, Observer, Series, measure_along, observer
from .overlaps import directions_of, first_rows, student_overlaps, teacher_overlaps
from .planting import plant_in_tree
from .rayleigh import Rayleigh, rayleigh
from .sharpness import hessian_ends, hessian_top
from .spectral_measure import SpectralMeasure
from .tangent import Linearised, Tangent, tangent
from .tangent_approximation import (
    Move,
    Radius,
    TangentCurve,
    tangent_curve,
    tangent_move,
    tangent_radius,
)
from .tangent_kernel import (
    Alignment,
    effective_rank,
    kernel_alignment,
    kernel_change,
    kernel_drift,
    kernel_ends,
    kernel_matrix,
    kernel_moments,
    kernel_product,
    kernel_top,
)
from .tangent_set import Membership, ball_point, membership
from .unfolding import InTree, unfold

# The earlier name of `plant_in_tree`, before `lift.plant` planted whole witnesses.
plant = plant_in_tree

__all__ = [
    "QUANTITIES",
    "Alignment",
    "Certificate",
    "CriticalPoint",
    "DegreeTest",
    "Degrees",
    "Foreseen",
    "Imbalance",
    "InCone",
    "InTree",
    "KLFit",
    "Kind",
    "LandscapeSlice",
    "LeastCurvature",
    "Linearised",
    "LinearisedFlow",
    "LogisticBounds",
    "Measurement",
    "Membership",
    "Moments",
    "Move",
    "Observer",
    "Radius",
    "Rayleigh",
    "Series",
    "SpectralMeasure",
    "Tangent",
    "TangentCurve",
    "ball_point",
    "certificate",
    "coverage_rate",
    "covered",
    "critical_point",
    "degree_laws",
    "degree_test",
    "degrees",
    "directions_of",
    "effective_rank",
    "fibration_defects",
    "first_rows",
    "foreseen",
    "good_copies",
    "hessian_ends",
    "hessian_top",
    "imbalance",
    "imbalance_defect",
    "in_cone",
    "is_fibration",
    "kernel_alignment",
    "kernel_change",
    "kernel_drift",
    "kernel_ends",
    "kernel_matrix",
    "kernel_moments",
    "kernel_product",
    "kernel_top",
    "kl_exponent",
    "landscape_slice",
    "lazy_distance",
    "least_curvature",
    "linearised_flow",
    "logistic_bounds",
    "logistic_potential",
    "measure_along",
    "membership",
    "moments",
    "observer",
    "plant",
    "plant_in_tree",
    "rayleigh",
    "sign_probes",
    "student_overlaps",
    "tangent",
    "tangent_curve",
    "tangent_move",
    "tangent_radius",
    "teacher_overlaps",
    "tree_copies",
    "tree_fractions",
    "unfold",
]

"""Whether a flow has ended at a critical point: examined at its end, stored with the bounds."""

import numpy as np
import xarray

from ..diagnostics import least_curvature
from ..flow import FlowSolution
from ..tasks import Task
from .study import FlowPlan

# Variable: meaning, unit. NaN where no certificate was asked for, or the gradient was too large.
CERTIFICATE = {
    "least_eigenvalue": ("least eigenvalue of the Hessian at the end", "loss / parameter^2"),
    "gradient_norm_bound": ("gradient norm below which that was computed", "loss / parameter"),
    "curvature_bound": ("negative curvature that counts as none", "loss / parameter^2"),
    "certificate_hvps": ("Hessian-vector products of the certificate, not in `hvps`", "1"),
}


def certificate_of(
    plan: FlowPlan, solution: FlowSolution, task: Task
) -> dict[str, tuple[tuple[()], float, dict[str, str]]]:
    """The certificate of a flow's end, as scalar variables of its dataset.

    Args:
        plan: which bounds were asked for.
        solution: the flow.
        task: its task.

    Returns:
        Variables named as in `CERTIFICATE`. Cost: that of `least_curvature`, spent only where the
        gradient norm is at most its bound.
    """
    values = dict.fromkeys(CERTIFICATE, np.nan) | {"certificate_hvps": 0.0}
    bound = plan.critical_gradient_norm
    if bound is not None and plan.critical_curvature is not None:
        values["gradient_norm_bound"] = bound
        values["curvature_bound"] = plan.critical_curvature
        if solution.gradient_norm[-1] <= bound:
            least = least_curvature(solution.model, task)
            values |= {"least_eigenvalue": least.value, "certificate_hvps": float(least.products)}
    return {
        name: ((), values[name], {"long_name": meaning, "units": unit})
        for name, (meaning, unit) in CERTIFICATE.items()
    }


def stuck(results: xarray.Dataset) -> xarray.DataArray:
    """Whether each run ended at a certified critical point, by the bounds stored with it.

    Args:
        results: as given by `load`; those of stores older than certificates hold none.

    Returns:
        Booleans over `size` and `seed`: final gradient norm at most its bound, and least Hessian
        eigenvalue at least minus its own.
    """
    if "least_eigenvalue" not in results:
        return xarray.zeros_like(results.end_time, dtype=bool)
    flat = results.final_gradient_norm <= results.gradient_norm_bound
    return flat & (results.least_eigenvalue >= -results.curvature_bound)

"""Whether a flow has ended at a critical point: examined at its end, stored with the bounds."""

import numpy as np

from ..diagnostics import least_curvature
from ..doing import doing
from ..flow import FlowSolution
from ..studies.records import FlowPlan
from ..tasks import Task

# Variable: meaning, unit. NaN where no certificate was asked for, or the gradient was too large.
CERTIFICATE = {
    "least_eigenvalue": ("no eigenvalue of the Hessian at the end is less", "loss / parameter^2"),
    "least_curvature": ("least curvature seen at the end", "loss / parameter^2"),
    "certificate_failure": ("probability that `least_eigenvalue` is no bound", "1"),
    "gradient_norm_bound": ("gradient norm below which that was computed", "loss / parameter"),
    "curvature_bound": ("negative curvature that counts as none", "loss / parameter^2"),
    "certificate_hvps": ("Hessian-vector products of the certificate, not in `hvps`", "1"),
}


def certificate_of(
    plan: FlowPlan, solution: FlowSolution, task: Task, *, sought: bool = True
) -> dict[str, tuple[tuple[()], float, dict[str, str]]]:
    """The certificate of a flow's end, as scalar variables of its dataset.

    Args:
        plan: which bounds were asked for.
        solution: the flow.
        task: its task.
        sought: whether it is to be had; else it says that none was asked for.

    Returns:
        Variables named as in `CERTIFICATE`. Cost: that of `least_curvature`, spent only where the
        gradient norm is at most its bound.
    """
    values = dict.fromkeys(CERTIFICATE, np.nan) | {"certificate_hvps": 0.0}
    bound = plan.critical_gradient_norm
    if sought and bound is not None and plan.critical_curvature is not None:
        values["gradient_norm_bound"] = bound
        values["curvature_bound"] = plan.critical_curvature
        if solution.gradient_norm[-1] <= bound:
            c = plan.critical_curvature
            with doing("certificate of its end"):
                least = least_curvature(
                    solution.model, task, settled=lambda seen: seen.bound >= -c or seen.lowest < -c
                )
            values |= {
                "least_eigenvalue": least.bound,
                "least_curvature": least.lowest,
                "certificate_failure": least.failure,
                "certificate_hvps": float(least.products),
            }
    return {
        name: ((), values[name], {"long_name": meaning, "units": unit})
        for name, (meaning, unit) in CERTIFICATE.items()
    }

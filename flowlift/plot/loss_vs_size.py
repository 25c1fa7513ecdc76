"""Final loss against lift size."""

import numpy as np
import xarray
from matplotlib.axes import Axes

from ..answers import PowerLaw, power_law
from .style import axes_for, caption, label, loss_axis, seeds_per_size, size_axis

_MARKERS = {True: ("o", "ended as asked"), False: ("x", "budget, limit or failure")}


def loss_vs_size(data: xarray.Dataset, ax: Axes | None = None) -> Axes:
    """Final loss against lift size on log-log axes: every seed a point, the median a line.

    Args:
        data: a study's results (`flowlift.store.load`).
        ax: axes to draw into; a new figure if None.

    Returns:
        The axes. Flows that ended by a budget, a limit or a failure have a mark of their own; a
        power law is drawn where the data allow one (`flowlift.answers.power_law`).
    """
    from ..flow import Outcome

    ax = axes_for(ax)
    sizes, losses = data["size"].values, data.final_loss.transpose("size", "seed").values
    reached = {outcome.value: outcome.reached for outcome in Outcome}
    verdicts = np.vectorize(lambda r: reached.get(str(r), False), otypes=[bool])(
        data.result.transpose("size", "seed").values
    )
    where = np.broadcast_to(sizes[:, None], losses.shape)
    for verdict, (marker, name) in _MARKERS.items():
        chosen = (verdicts == verdict) & np.isfinite(losses)
        if chosen.any():
            ax.plot(where[chosen], losses[chosen], marker, color="C0", alpha=0.6, label=name)
    ax.plot(sizes, np.nanmedian(losses, axis=1), "-", color="0.2", label="median over seeds")
    _law(ax, sizes, power_law(data))
    ax.set(xlabel=label(data["size"]))
    loss_axis(ax.yaxis, losses, "loss L at the end")
    size_axis(ax, sizes)
    ax.grid(alpha=0.25)
    ax.legend(fontsize=8)
    caption(ax, _caption(data))
    return ax


def _law(ax: Axes, sizes: np.ndarray, law: PowerLaw) -> None:
    if law.refused:
        return
    ends = np.array([sizes.min(), sizes.max()], float)
    name = f"$n^{{-{law.exponent:.2f}}}$, exponent in [{law.low:.2f}, {law.high:.2f}]"
    ax.plot(ends, law.prefactor * ends**-law.exponent, "--", color="#D55E00", label=name)


def _caption(data: xarray.Dataset) -> str:
    end = float(data.end_time.max())
    return (
        f"Loss where each flow ended (at most t = {end:.4g}), {seeds_per_size(data.final_loss)}."
        " If gradient flow reaches lower losses the larger the lift, points fall to the"
        " right."
    )

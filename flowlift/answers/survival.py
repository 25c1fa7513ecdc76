"""Times to a loss: survival curves, with bounds where flows were not watched to the end."""

import warnings

import numpy as np
import pandas
import xarray

from ..flow import Outcome
from .held_out import TRAINING
from .verdicts import stuck, there, time_to_loss


def survival(
    results: xarray.Dataset,
    loss: float,
    size: int,
    *,
    level: float = 0.95,
    on: str = TRAINING,
) -> pandas.DataFrame:
    """The share of flows of one size that have not met a loss by t (Kaplan & Meier 1958).

    A flow that ended at its horizon is right-censored there: the horizon was fixed before the
    flow. One that ended above the loss at a certified critical point (`outcomes`) never meets it.
    All other ends, by a stopping rule, a budget or a failure, depend on the flow itself, so that
    the flows that go on do not stand for those that ended: two curves are computed, one as if such
    a flow had met the loss when it ended, one as if it never did. `low` and `high` are the
    pointwise intervals' ends of these; `share` is known where the two agree.

    Args:
        results: as given by `load`, of one variant (`by_variant`).
        loss: eps, a finite number.
        size: the lift size.
        level: of the pointwise interval (log-log transformed).
        on: which loss: "training", or "held out": the time when that was first seen to be met.

    Returns:
        A table with columns `time`, `share` (NaN where it is not known), `least` and `most` that
        it may be, `low`, `high`: step functions from 1 at t = 0; with the number `censored`, those
        that ended at each time without having met the loss, and `not observed`, how many have
        ended up to then otherwise than at the horizon or a certified point. Ends of the interval
        are NaN where the share is 0 or 1.
    """
    part = results.sel(size=size)
    times, met = time_to_loss(part, loss, on=on)
    done = there(part).values
    times, met = times.values[done], met.values[done]
    at_rest = stuck(part).values[done] & ~met
    at_horizon = part.result.values[done] == Outcome.HORIZON.value
    unseen = ~met & ~at_rest & ~(at_horizon & np.isfinite(part.final_loss.values[done]))
    grid = np.unique(times)
    ends = [
        _kaplan_meier(np.where(never, np.inf, times), events, grid, level)
        for never, events in ((at_rest, met | unseen), (at_rest | unseen, met))
    ]
    (least, low, _), (most, _, high) = ends
    share = np.where(np.isclose(least, most, rtol=0, atol=1e-12), most, np.nan)
    # Where one bound is 0 or 1 its interval has no end, but the other bound's has.
    low, high = (np.where(np.isnan(share) & np.isnan(e), o, e) for e, o in ((low, 0), (high, 1)))
    return pandas.DataFrame(
        {
            "time": grid,
            "share": share,
            "least": least,
            "most": most,
            "low": low,
            "high": high,
            "censored": np.bincount(np.searchsorted(grid, times[~met]), minlength=len(grid)),
            "not observed": np.searchsorted(np.sort(times[unseen]), grid, side="right"),
        }
    )


def _kaplan_meier(times, events, grid, level: float) -> tuple[np.ndarray, ...]:
    """The estimate and its interval's ends on a grid that holds all finite times."""
    from scipy import stats

    last = grid[-1] + 1.0
    # Those that never meet the loss are watched for longer than anything happens.
    times = np.where(np.isinf(times), last, times)
    curve = stats.ecdf(stats.CensoredData(uncensored=times[events], right=times[~events])).sf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        interval = curve.confidence_interval(level, method="log-log")
    return tuple(f.evaluate(grid) for f in (curve, interval.low, interval.high))

"""What counts as a success: one predicate on stored results, at any loss and any time."""

import numpy as np
import xarray


def converged(results: xarray.Dataset, loss: float, time: float | None = None) -> xarray.DataArray:
    """Whether the loss was at most `loss` at some time up to `time`.

    Along the exact flow the loss never rises, so this says the same of the limit of small losses:
    once below, always below. A flow that has not converged is *undecided*, never a proven failure:
    its loss may fall later, and a budget, a limit or a failure may have ended it.

    Args:
        results: as given by `load`.
        loss: eps > 0.
        time: up to which flow time to look; None: all that was computed.

    Returns:
        Booleans over `size` and `seed`; only where `there` is true do they mean anything.

    Raises:
        ValueError: if `loss` or `time` is not positive.
    """
    _check_positive("loss", loss)
    until = np.inf if time is None else time
    _check_positive("time", until)
    on_grid = ((results.loss <= loss) & (results.time <= until)).any("time")
    at_end = (results.final_loss <= loss) & (results.end_time <= until)
    return (on_grid | at_end).rename("converged")


def outcomes(results: xarray.Dataset, loss: float, time: float | None = None) -> xarray.DataArray:
    """One of three words for every run: "converged", "stuck" or "undecided".

    Converged: see `converged`. Stuck: the flow had ended, above `loss`, at a critical point that
    was certified when it was run (`[flow] critical_gradient_norm`, `critical_curvature`): the
    gradient norm at most one bound, no Hessian eigenvalue below minus the other; both are stored
    with the run. Undecided is all else: the horizon, a budget or a failure ended it, or `time`
    came, while the loss still fell. A saddle is undecided: the flow leaves it.

    The bounds are those of rounding and patience, no proof that the limit is that point: a
    critical point with a flat direction may be left, or its loss fall further, at a rate below the
    first bound squared.

    Args:
        results: as given by `load`. Where a store is older than certificates, none is stuck.
        loss: eps > 0.
        time: by which flow time; None: by the end of each flow.

    Returns:
        Words over `size` and `seed`, empty where no run has been done.
    """
    met = converged(results, loss, time)
    above = (results.final_loss > loss) & (results.end_time <= (np.inf if time is None else time))
    otherwise = xarray.where(stuck(results) & above, "stuck", "undecided")
    words = xarray.where(met, "converged", otherwise)
    return xarray.where(there(results), words, "").rename("outcome")


def stuck(results: xarray.Dataset) -> xarray.DataArray:
    """Whether each run ended at a certified critical point, by the bounds stored with it.

    Args:
        results: as given by `load`; those of stores older than certificates hold none.

    Returns:
        Booleans over `size` and `seed`: final gradient norm at most its bound, and no Hessian
        eigenvalue below minus its own: the stored bound of the least one proves it, by the rule
        of `diagnostics.critical_point`; where the bound falls short, a run is not stuck.
    """
    if "least_eigenvalue" not in results:
        return xarray.zeros_like(results.end_time, dtype=bool)
    flat = results.final_gradient_norm <= results.gradient_norm_bound
    return flat & (results.least_eigenvalue >= -results.curvature_bound)


def there(results: xarray.Dataset) -> xarray.DataArray:
    """Whether a run of this size and seed has been done."""
    return np.isfinite(results.end_time)


def time_to_loss(results: xarray.Dataset, loss: float) -> tuple[xarray.DataArray, xarray.DataArray]:
    """When each flow first met a loss, to within one save interval, or where it was censored.

    Args:
        results: as given by `load`.
        loss: eps > 0.

    Returns:
        Times over `size` and `seed`: the first save time with L <= loss (or the flow's own end),
        else the time reached; and whether the loss was met there.

    Raises:
        ValueError: if `loss` is not positive.
    """
    met = converged(results, loss)
    on_grid = results.time.where(results.loss <= loss).min("time")
    end = results.end_time.where(results.final_loss <= loss)
    return xarray.where(met, np.fmin(on_grid, end), results.end_time), met


def _check_positive(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"Argument `{name}` must be positive, but is {value!r}; raise it.")

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

"""What was seen of each flow: one predicate on stored results, at any loss and any time."""

from typing import Any

import numpy as np
import xarray

from ..flow import Outcome
from .divergence import divergence
from .held_out import HELD_OUT, TRAINING, losses_on, side_at

# Times of flows in single precision are rounded: 2^-23 is 1.2e-7, and a horizon is a few sums.
_SAME_TIME = 5e-7
YES, NO, NOT_OBSERVED = "yes", "no", "not observed"
DIVERGING = "diverging"
_RULES = (Outcome.LOSS_BELOW, Outcome.GRADIENT_BELOW, Outcome.STAGNATION, Outcome.RULE)


def verdicts(
    results: xarray.Dataset, loss: float, time: float | None = None, *, on: str = TRAINING
) -> xarray.Dataset:
    """Whether each flow had a loss of at most `loss` by `time`, as far as that was observed.

    Along the exact flow the loss never rises: once below, always below; still above at some time,
    above at all times before. So L(t) <= eps is

    - "yes" if L <= eps at a save time up to t, or at the flow's own end if that came by then;
    - "no" if L > eps at a save time from t on or at the flow's own end if that came later, or if
      the flow had ended at a critical point that is certified, above eps: no to within the bounds
      of the certificate, see `outcomes`;
    - "not observed" else. Then the flow had ended before t, above eps, or it met the loss between
      two save times with t between them. What it would have done after its end nobody has
      computed; a loss that is not finite says nothing.

    Without a time it is asked what happened by the common end of all flows of a variant, the
    greatest time at which one ended at its horizon. Where none did, there is no common end: flows
    that neither met the loss nor are certified are not observed.

    Where the loss itself may rise (momentum, Adam, the central flow: `[flow.dynamics]`), "yes" says
    that it was at most eps at a save time up to t, and "no" that it was at none of them though the
    flow was watched to t: it may have been between them, and may have risen since. Likewise where
    the graph changes (`[flow.rewire]`), which is a save time, with the loss before it changed.

    A loss on held-out data may rise again, so that once below is not always below. Of it the
    question is whether it is at most eps **at** time t, or at the common end: "yes" or "no" if a
    record at that time says so, or the nearest ones before and after it agree; "not observed" if
    they do not, or the flow had ended before, otherwise than at a certified critical point.

    Args:
        results: as given by `load` or `flowlift.gather`.
        loss: eps, a finite number.
        time: t > 0; None: by the common end.
        on: which loss: "training", L itself, or "held out".

    Returns:
        Two words per run: `verdict`, one of the three, and `why`, the reason where it is "not
        observed". Both are empty where no run has been done. And `never`: whether it had ended,
        above `loss`, at a certified critical point, whenever that was.

    Raises:
        ValueError: if `loss` is not finite or `time` not positive, or there is no such loss.
    """
    check_event(loss, time)
    losses_on(results, on)
    until = common_end(results) if time is None else time
    if on == HELD_OUT:
        return _held_out(results, loss, until)
    known = known_times(results, loss)
    # Without a time, what was met at any time was met by the end.
    met = np.isfinite(known.met_from) if time is None else up_to(known.met_from, until)
    no = ~met & from_on(known.above_to, until)
    word = xarray.where(met, YES, xarray.where(no, NO, NOT_OBSERVED))
    later = np.isfinite(known.met_from)
    why = xarray.where(later, "between save times", reasons(results))
    data = xarray.Dataset({"verdict": word, "why": xarray.where(met | no, "", why)})
    data = xarray.where(there(results), data, "").assign(never=np.isposinf(known.above_to))
    return data.transpose(*results.final_loss.dims)


def _held_out(results: xarray.Dataset, loss: float, time) -> xarray.Dataset:
    side, apart = side_at(results, loss, time, stuck(results) & there(results))
    word = xarray.where(side > 0, YES, xarray.where(side < 0, NO, NOT_OBSERVED))
    why = xarray.where(apart, "between save times", reasons(results))
    lacking = np.isfinite(results.final_loss) & ~np.isfinite(results.final_held_out_loss)
    why = xarray.where(side != 0, "", xarray.where(lacking, "no held-out loss", why))
    data = xarray.Dataset({"verdict": word, "why": why})
    never = stuck(results) & there(results) & _above(results.final_held_out_loss, loss)
    data = xarray.where(there(results), data, "").assign(never=never)
    return data.transpose(*results.final_loss.dims)


def known_times(results: xarray.Dataset, loss: float) -> xarray.Dataset:
    """All that was seen of an event L <= eps, as two times per run.

    Args:
        results: as given by `load`.
        loss: eps, a finite number.

    Returns:
        `met_from`: the first save time, or the flow's own end, with L <= eps; from then on it
        holds; infinite if there is none. `above_to`: the last of these times with L > eps: up to
        then it does not hold; infinite for a flow that ended above eps at a certified critical
        point, minus infinity if there is none. Between the two nothing is known.
    """
    above, ended_above = _above(results.loss, loss), _above(results.final_loss, loss)
    met_from = _first_below(results, loss, TRAINING)
    above_on_grid = results.time.where(above, -np.inf).max("time", skipna=False)
    above_to = np.maximum(above_on_grid, results.end_time.where(ended_above, -np.inf))
    at_rest = stuck(results) & there(results) & ended_above & np.isinf(met_from)
    data = xarray.Dataset({"met_from": met_from, "above_to": above_to.where(~at_rest, np.inf)})
    return data.transpose(*results.final_loss.dims)


def _first_below(results: xarray.Dataset, loss: float, on: str) -> Any:
    """The first save time, or the flow's own end, with a loss of at most eps; infinite if none."""
    along, final = losses_on(results, on)
    on_grid = results.time.where(_at_most(along, loss), np.inf).min("time", skipna=False)
    return np.minimum(on_grid, results.end_time.where(_at_most(final, loss), np.inf))


def converged(
    results: xarray.Dataset, loss: float, time: float | None = None, *, on: str = TRAINING
) -> xarray.DataArray:
    """Whether a loss of at most `loss` was seen at some time up to `time`.

    False says neither that the flow fails nor that it was watched so long: see `verdicts`.

    Args:
        results: as given by `load`.
        loss: eps, a finite number.
        time: up to which flow time to look; None: all that was computed.
        on: "training" or "held out"; a held-out loss may have risen again since.

    Returns:
        Booleans over the further axes, `size` and `seed`.

    Raises:
        ValueError: if `loss` is not finite or `time` not positive, or there is no such loss.
    """
    check_event(loss, time)
    when = _first_below(results, loss, on)
    met = np.isfinite(when) if time is None else np.isfinite(when) & up_to(when, time)
    return met.rename("converged")


def outcomes(
    results: xarray.Dataset, loss: float, time: float | None = None, *, on: str = TRAINING
) -> xarray.DataArray:
    """One word for every run: what it did by a time, or what will become of it.

    With a time: "converged" and "not yet" are the yes and the no of `verdicts`, and "not observed"
    is what it says. Without a time the limit t -> infinity is asked for: "converged" if the loss
    was met, else "diverging" if theta looks as if it went off to infinity, a fit of |theta| over
    the last decades and no certificate (see `divergence`), else "undecided", since the loss may
    still fall; a saddle is undecided, the flow leaves
    it.

    In either case "stuck" is a flow that had ended, above `loss`, at a critical point that was
    certified when it was run (`[flow] critical_gradient_norm`, `critical_curvature`): the gradient
    norm at most one bound, no Hessian eigenvalue below minus the other; both are stored with the
    run. The bounds are those of rounding and patience, no proof that the limit is that point: a
    critical point with a flat direction may be left, or its loss fall further, at a rate below the
    first bound squared.

    Args:
        results: as given by `load`. Where a store is older than certificates, none is stuck.
        loss: eps, a finite number.
        time: by which flow time; None: ever.
        on: "training" or "held out". Of a held-out loss "converged" says that it was at most eps at
            that time, or at the common end, and not that it stays there.

    Returns:
        Words over the further axes, `size` and `seed`, empty where no run has been done.

    Raises:
        ValueError: if `loss` is not finite or `time` not positive, or there is no such loss.
    """
    return outcomes_of(results, verdicts(results, loss, time, on=on), time)


def outcomes_of(
    results: xarray.Dataset, seen: xarray.Dataset, time: float | None
) -> xarray.DataArray:
    """As `outcomes`, from verdicts that are known.

    Args:
        results: as given by `load`.
        seen: as given by `verdicts`, of one loss and this time.
        time: by which flow time; None: ever.

    Returns:
        As `outcomes`.
    """
    word, never = seen.verdict, seen.never
    if time is None:
        at_rest, others = never, _open(results, there(results) & ~never & (word != YES))
    else:
        at_rest, others = never & up_to(results.end_time, time), word
        others = xarray.where(word == NO, "not yet", others)
    words = xarray.where(at_rest, "stuck", xarray.where(word == YES, "converged", others))
    return words.transpose(*results.final_loss.dims).rename("outcome")


def _open(results: xarray.Dataset, asked: xarray.DataArray) -> xarray.DataArray:
    """The word of runs whose fate is open, as far as it is: diverging, or undecided."""
    off = divergence(results, asked).diverging
    return xarray.where(off, DIVERGING, xarray.where(there(results), "undecided", ""))


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


def common_end(results: xarray.Dataset) -> xarray.DataArray:
    """The time by which a variant's flows can be compared, where they were not ended by a rule.

    Args:
        results: as given by `load`.

    Returns:
        Over the further axes, the greatest time at which a flow ended at its horizon; infinite
        where none did.
    """
    at_horizon = results.end_time.where(results.result == Outcome.HORIZON.value)
    return at_horizon.max(("size", "seed")).fillna(np.inf)


def last_known(results: xarray.Dataset, time: float | xarray.DataArray) -> xarray.DataArray:
    """Whether the last loss of each flow is its loss at a time: else it is an upper bound of that.

    Args:
        results: as given by `load`.
        time: t.

    Returns:
        True where the flow reached t or ended before at a certified critical point.
    """
    finite = np.isfinite(results.final_loss)
    return finite & (from_on(results.end_time, time) | stuck(results))


def reasons(results: xarray.Dataset) -> xarray.DataArray:
    """Why a flow was not observed any longer, from its result code and its last loss."""
    named = {outcome.value: _reason(outcome) for outcome in Outcome}
    words = np.vectorize(lambda code: named.get(str(code), str(code)), otypes=[object])
    why = results.result.copy(data=words(results.result.values).astype(str))
    # Whatever its code says, nothing was seen of a flow whose last loss is no number.
    broken = ~np.isfinite(results.final_loss) & (results.result == Outcome.HORIZON.value)
    return xarray.where(broken, _reason(Outcome.NON_FINITE), why)


# Neither reached nor failed: said after a number of runs.
_OWN_WORDS = {
    Outcome.BUDGET: "spent the budget",
    Outcome.STEP_LIMIT: "met the step limit",
    Outcome.INTERRUPTED: "interrupted",
}


def _reason(outcome: Outcome) -> str:
    if outcome is Outcome.HORIZON:
        return "ended at the horizon"
    if outcome in _RULES:
        return f"stopped ({outcome.value})"
    return _OWN_WORDS.get(outcome, f"failed ({outcome.value})")


def time_to_loss(
    results: xarray.Dataset, loss: float, *, on: str = TRAINING
) -> tuple[xarray.DataArray, xarray.DataArray]:
    """When each flow first met a loss, to within one save interval, or how long it was watched.

    Args:
        results: as given by `load`.
        loss: eps, a finite number.
        on: "training" or "held out": a held-out loss may have been below between two save times
            before, and may have risen since.

    Returns:
        Times over `size` and `seed`: the first save time with L <= loss (or the flow's own end),
        else the time reached; and whether the loss was met there.

    Raises:
        ValueError: if `loss` is not finite, or there is no such loss.
    """
    when = _first_below(results, loss, on)
    met = np.isfinite(when)
    return when.where(met, results.end_time), met


def check_event(loss: float, time: float | None) -> None:
    """Refuse an event that has no meaning.

    Args:
        loss: eps.
        time: t or None.

    Raises:
        ValueError: if `loss` is not finite or `time` not positive.
    """
    if not np.isfinite(loss):
        raise ValueError(f"Argument `loss` must be a finite number, but is {loss!r}; give eps.")
    if time is not None and not time > 0:
        raise ValueError(f"Argument `time` must be positive, but is {time!r}; raise it.")


def _at_most(values, loss: float):
    return np.isfinite(values) & (values <= loss)


def _above(values, loss: float):
    return np.isfinite(values) & (values > loss)


def up_to(values, time):
    """Whether times are at most a time, to the rounding of times."""
    return values <= time * (1 + _SAME_TIME)


def from_on(values, time):
    """Whether times are at least a time, to the rounding of times."""
    return values >= time * (1 - _SAME_TIME)

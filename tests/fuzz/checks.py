"""What must hold of every flow: one small function for each invariant, which raises `Fault`."""

import functools
from collections import Counter
from collections.abc import Callable

import numpy as np

from flowlift import flow
from flowlift.flow import Outcome

RECORDED = ("loss", "gradient_norm", "arc_length", "energy", "distance")
# Errors of a whole flow in units of the tolerance of a step: so many, and this per step taken.
GLOBAL, PER_STEP = 300.0, 3.0


class Fault(AssertionError):
    """An invariant that does not hold."""


# How often each invariant was checked and held, in this process.
HELD: Counter[str] = Counter()


def invariant(check: Callable) -> Callable:
    """The check, counted when it holds."""

    @functools.wraps(check)
    def counted(*args, **settings):
        check(*args, **settings)
        HELD[check.__name__] += 1

    return counted


def expect(holds, text: str, *values) -> None:
    if not holds:
        raise Fault(f"{text}: {', '.join(repr(v) for v in values)}" if values else text)


def near(times, asked: float, ulps: int = 4) -> bool:
    return bool(len(times)) and bool(np.min(np.abs(times - asked)) <= ulps * np.spacing(asked))


@invariant
def shape_of_the_end(solution) -> None:
    """Times increase from 0 to the time reached; every series is as long; success is finite."""
    times = solution.times
    expect(times[0] == 0 and times[-1] == solution.time, "ends of times", times, solution.time)
    expect(np.all(np.diff(times) > 0), "times increase", times)
    for name in RECORDED:
        series = getattr(solution, name)
        expect(len(series) == len(times), f"length of {name}", len(series), len(times))
        expect(series.dtype == solution.precision, f"precision of {name}", series.dtype)
        # Integrals that are not resolved are NaN, and say by how much.
        known = np.isfinite(series) | (np.asarray(solution.errors.get(name, 0.0)) > 0)
        expect(not solution.success or known.all(), f"{name} finite", series)
    for name, series in solution.observations.items():
        expect(len(series) == len(times), f"length of {name}", len(series), len(times))


@invariant
def every_time_is_there(solution, horizon: float, wanted) -> None:
    """The records are at exactly the times asked for up to the end, and at the end."""
    expect(solution.time <= horizon, "time within the horizon", solution.time, horizon)
    wanted = np.unique(np.concatenate([np.atleast_1d(w) for w in (0.0, *wanted)]))
    wanted = wanted[wanted <= solution.time * (1 + 4e-16)]
    for time in wanted:
        expect(near(solution.times, time), "a save time is missing", time, solution.times)
    for time in solution.times[:-1]:
        expect(near(wanted, time), "a record that nobody asked for", time, wanted)


@invariant
def every_snapshot_is_there(solution, asked) -> None:
    """Exactly those snapshots are kept that were reached."""
    kept, times = list(solution.snapshots), solution.times
    # Times of one rounding are one time, which may be at either side of the end.
    reached = [t for t in asked if t in kept if near(times[-1:], t) or t <= solution.time]
    reached += [t for t in asked if t not in kept if t <= solution.time - 4 * np.spacing(t)]
    expect(kept == reached, "snapshots kept and asked for", kept, reached, solution.time)
    if reached and near(times[-1:], reached[-1], 0):
        last = np.asarray(solution.snapshots[reached[-1]])
        expect(np.array_equal(last, solution.model), "a snapshot at the end is the model", last)


@invariant
def end_follows_from_the_records(solution, horizon: float, stops) -> None:
    """Result code and last record say the same."""
    rules = {type(stop).__name__: stop for stop in stops}
    met = {
        Outcome.LOSS_BELOW: "LossBelow" in rules
        and float(solution.loss[-1]) <= rules["LossBelow"].threshold,
        Outcome.GRADIENT_BELOW: "GradientNormBelow" in rules
        and float(solution.gradient_norm[-1]) <= rules["GradientNormBelow"].threshold,
        Outcome.STAGNATION: "Stagnation" in rules and _stagnated(solution, rules["Stagnation"]),
        Outcome.HORIZON: solution.time == horizon,
    }
    first = next((outcome for outcome, holds in met.items() if holds), None)
    expect(
        solution.result == first or (first is None and not solution.success),
        "the result is the first that the last record meets",
        solution.result.value,
        first and first.value,
    )
    expect(not solution.result.failed, "a benign flow does not fail", solution.message)


def _stagnated(solution, rule) -> bool:
    """Whether the rule holds at the last record or, of legs that run past it, before that."""
    count = len(solution.times)
    return any(_stagnated_at(solution, rule, end) for end in (count, count - 1))


def _stagnated_at(solution, rule, end: int) -> bool:
    t, losses = solution.times[:end], solution.loss[:end]
    if len(t) < 3 or t[-1] / rule.factor < t[1]:
        return False
    k = int(np.searchsorted(t, t[-1] / rule.factor, side="right"))
    k = min(k, len(t) - 1)
    share = np.log(t[-1] / rule.factor / t[k - 1]) / np.log(t[k] / t[k - 1])
    before = (1 - share) * float(losses[k - 1]) + share * float(losses[k])
    fell, all_in_all = before - float(losses[-1]), float(losses[0]) - float(losses[-1])
    rounding = np.finfo(losses.dtype).eps * abs(float(losses[-1]))
    slack = 4 * np.finfo(float).eps * max(abs(before), abs(float(losses[-1])))
    if abs(fell - max(rule.relative * all_in_all, rounding)) <= slack:
        # Too close to tell: what the flow says.
        return solution.result == Outcome.STAGNATION
    return fell <= max(rule.relative * all_in_all, rounding)


@invariant
def curve_is_exact(solution, case) -> None:
    """theta, L, |grad L|, the distance and the energy are those of the formula."""
    loss, start = case.loss, np.asarray(case.start)
    path = np.stack([loss.exact(start, t) for t in solution.times])
    unit = tolerance(case, solution)
    size = np.max(np.abs(path))
    end = np.asarray(solution.model)
    expect(np.max(np.abs(end - path[-1])) <= unit * size, "theta at the end", end, path[-1])
    for time, w in solution.snapshots.items():
        exact = loss.exact(start, time)
        expect(np.max(np.abs(w - exact)) <= unit * size, "theta in a snapshot", time, w, exact)
    values = np.array([float(loss(w)) for w in path])
    slopes = np.array([loss.gradient_norm_at(start, t) for t in solution.times])
    room = unit * (np.abs(values).max() + np.max(slopes) * size)
    expect(np.max(np.abs(solution.loss - values)) <= room, "loss", solution.loss, values)
    fell = values[0] - values
    gap = np.nanmax(np.abs(solution.energy - fell), initial=0)
    expect(gap <= room, "energy", solution.energy, fell)
    away = np.linalg.norm(path - path[0], axis=1)
    expect(np.max(np.abs(solution.distance - away)) <= 2 * unit * size, "distance", away)
    shortest = solution.distance - solution.arc_length
    expect(
        np.nanmax(shortest, initial=0) <= 2 * unit * size,
        "no path is shorter than its chord",
        shortest,
    )
    for name, series in solution.observations.items():
        last = {"squares": end**2, "sum": np.sum(end)}[name]
        expect(np.allclose(series[-1], last, rtol=1e-5), f"observer {name}", series[-1], last)


def tolerance(case, solution) -> float:
    """The relative error that a whole flow may have."""
    eps = float(np.finfo(case.settings["precision"]).eps)
    step = max(case.settings["rtol"] + case.settings["atol"], 2 * eps)
    return (GLOBAL + PER_STEP * solution.stats.steps) * step


@invariant
def stopped_where_the_formula_says(solution, case, horizon: float, stops) -> None:
    """A threshold of L that the formula passes well before T stops the flow; none beyond does."""
    thresholds = [s.threshold for s in stops if isinstance(s, flow.LossBelow)]
    if not thresholds or solution.result in (Outcome.BUDGET, Outcome.STEP_LIMIT):
        return
    first, last = (case.loss.loss_at(case.start, t) for t in (0.0, horizon))
    room = 2 * tolerance(case, solution) * (abs(first) + abs(last) + abs(first - last))
    if last > thresholds[0] + room:
        expect(solution.result != Outcome.LOSS_BELOW, "the loss never was there", last)
    elif last < thresholds[0] - room:
        expect(solution.result != Outcome.HORIZON, "the loss passed the threshold", last)
    if solution.result == Outcome.LOSS_BELOW:
        here = case.loss.loss_at(case.start, solution.time)
        expect(here <= thresholds[0] + room, "stopped before the formula does", here)


@invariant
def same_bits(one, other, *, counts: bool = True) -> None:
    """Two solutions are equal to the last bit, but for wall time."""
    expect(one.result == other.result, "results", one.result.value, other.result.value)
    expect(one.time == other.time, "times reached", one.time, other.time)
    for name in ("times", *RECORDED):
        a, b = getattr(one, name), getattr(other, name)
        expect(a.dtype == b.dtype and np.array_equal(a, b, equal_nan=True), name, a, b)
    for name in one.observations:
        a, b = one.observations[name], other.observations[name]
        expect(np.array_equal(a, b, equal_nan=True), name, a, b)
    expect(np.array_equal(one.model, other.model), "models", one.model, other.model)
    expect(list(one.snapshots) == list(other.snapshots), "snapshots", list(other.snapshots))
    for time, w in one.snapshots.items():
        expect(np.array_equal(w, other.snapshots[time]), "a snapshot", time)
    if counts:
        for name in ("gradients", "hvps", "observation_gradients", "steps", "rejected", "legs"):
            a, b = getattr(one.stats, name), getattr(other.stats, name)
            expect(a == b, f"counts of {name}", a, b)


@invariant
def prefix_of(part, whole) -> None:
    """The records of a part are the first of the whole; the very last may be the part's own."""
    count = len(part.times) - (part.time not in whole.times)
    for name in ("times", *RECORDED):
        a, b = getattr(part, name)[:count], getattr(whole, name)[:count]
        expect(np.array_equal(a, b, equal_nan=True), f"a limit changes {name}", a, b)


@invariant
def limit_of_steps(solution, free, limit: int) -> None:
    """With enough steps nothing changes; with fewer, exactly so many are tried."""
    if limit >= free.stats.steps:
        return same_bits(solution, free)
    expect(solution.result == Outcome.STEP_LIMIT, "result", solution.result.value)
    expect(solution.stats.steps == limit, "steps", solution.stats.steps, limit)
    return prefix_of(solution, free)


@invariant
def budget_of_gradients(solution, free, budget: float, attempt: int) -> None:
    """With enough gradients nothing changes; else the budget is met within one attempted step."""
    if budget >= free.stats.cost:
        return same_bits(solution, free)
    expect(solution.result in (Outcome.BUDGET, free.result), "result", solution.result.value)
    spent = solution.stats.cost
    expect(spent <= budget + attempt, "cost spent", spent, budget, attempt)
    expect(solution.result != Outcome.BUDGET or spent >= budget - attempt, "left", spent, budget)
    return prefix_of(solution, free)


@invariant
def tallies_add_up(solution) -> None:
    """Steps, rejections and counts are consistent, and cost follows from them."""
    stats = solution.stats
    expect(0 <= stats.rejected <= stats.steps, "rejected", stats)
    expect(stats.cost == stats.gradients + 2 * stats.hvps, "cost", stats)
    expect(stats.observation_gradients >= len(solution.times), "records cost gradients", stats)
    expect(stats.gradients >= stats.steps - stats.rejected, "a step needs a gradient", stats)


@invariant
def numbers_agree(text: str, one, other, rtol: float = 1e-11, atol: float = 1e-12) -> None:
    """Two arrays of one shape are equal but for rounding."""
    one, other = np.asarray(one), np.asarray(other)
    expect(one.shape == other.shape, f"{text}: shapes", one.shape, other.shape)
    expect(np.allclose(one, other, rtol=rtol, atol=atol), text, one, other)


@invariant
def derivatives_agree(found) -> None:
    """d/ds L(theta + s u) by jvp, by the gradient and by differences; and the Hessian is symmetric.

    Differences of fourth order, so that rounding is a hundred times below what is asked.

    Args:
        found: as `network_families.derivatives` returns it.
    """
    slope, values = float(found["jvp"]), np.asarray(found["values"])
    numbers_agree("jvp and gradient", slope, found["slope"], 1e-9, 1e-11)
    differences = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * found["step"])
    room = 1e-6 * (abs(differences) + np.max(np.abs(values)))
    expect(abs(differences - slope) <= room, "gradient and differences", slope, differences)
    numbers_agree("u H v = v H u", *found["products"], 1e-9, 1e-10)


@invariant
def same_steps(one, other, rtol: float = 1e-9, iterations: int = 0, secants: bool = False) -> None:
    """Two computations of one flow that differ by rounding take the same steps to the same end.

    Where sums have another order, an implicit solver may find out so many iterations later. Of
    hundreds of attempts rounding decides one now and then, half a percent at most. One that is
    decided otherwise moves the count by two: it is made again, and the next steps do not grow.
    A BDF learns secants, quotients of small differences, which multiply rounding: of 30 orders of
    the samples of `mlps:77101008` the arc lengths were 1e-15 apart after 52 steps, 1e-10 after 101
    and, at 116, a tenth of the tolerance; from there on each order took steps of its own, 147 to
    157 in all. There a twentieth may differ.
    """
    most = max(one.stats.steps, other.stats.steps)
    few = 2 * (most // 200) if not secants or most <= 100 else most // 20 + 1
    expect(abs(one.stats.steps - other.stats.steps) <= few, "steps", one.stats, other.stats)
    apart = abs(one.stats.gradients - other.stats.gradients)
    # No method here evaluates more often in an attempt than dopri8 does, with 14 stages.
    expect(apart <= iterations + 14 * few, "gradients", one.stats, other.stats)
    numbers_agree("losses", one.loss, other.loss, rtol, rtol * np.abs(one.loss).max())


@invariant
def energy_identity(solution, room: float) -> None:
    """L(0) - L(t) = int |grad L|^2, and L falls."""
    fell = solution.loss[0] - solution.loss
    gap = np.nanmax(np.abs(fell - solution.energy), initial=0)
    expect(gap <= room, "energy", fell, solution.energy)
    expect(np.max(np.diff(solution.loss), initial=0) <= room, "the loss falls", solution.loss)


@invariant
def ended_at_the_edge(solution, case, end: float) -> None:
    """A flow that comes to an end before its horizon: ended there, by its name, all before kept.

    Args:
        solution: its solution.
        case: what was asked.
        end: when the formula ends.
    """
    failed = solution.result.failed and not solution.success
    expect(failed, "nothing beyond an edge is reached", solution.message)
    expect(solution.result == Outcome.NON_FINITE, "one word", solution.message)
    room = max(tolerance(case, solution), 1e-3)
    inside = 0.8 * end <= solution.time <= (1 + room) * end
    expect(inside, "the flow ends where the formula does", solution.time, end)
    for name in RECORDED:
        series = getattr(solution, name)[:-1]
        expect(np.isfinite(series).all(), f"{name} before the end", series)
    expect(np.isfinite(solution.model).all(), "theta at the end", solution.model)


@invariant
def counted_by_the_host(stats, before, tally: int) -> None:
    """Evaluations of L on the host are the gradients, those of records and those of products."""
    gradients = stats.gradients - before.gradients
    records = stats.observation_gradients - before.observation_gradients
    products = stats.hvps - before.hvps
    # A product evaluates the gradient along with it, unless that was kept.
    expect(
        gradients + records <= tally <= gradients + records + products,
        "gradients, of records, products, and evaluations by the host",
        gradients,
        records,
        products,
        tally,
    )


@invariant
def one_sentence(text: str, given) -> None:
    """A refusal is one line that ends, names what it is about, and shows no inner workings."""
    expect(text.endswith((".", "?")) and "\n" not in text.strip(), "one sentence", given, text)
    expect("`" in text or "'" in text, "names what is wrong", given, text)
    for inner in ("Traceback", "object at 0x", "NoneType", "<class"):
        expect(inner not in text, "no inner workings", given, text)

"""Families of cases: what is drawn, what is run, and which invariants are checked."""

import tempfile
from pathlib import Path

import numpy as np

from flowlift import flow
from flowlift.flow import Outcome

from . import checks, draws

# More than any attempted step of one to three parameters takes.
_ATTEMPT = 80


def wanted_times(case, horizon, save=None, snapshots=None) -> list:
    save = case.save if save is None else save
    save = save.times(horizon) if isinstance(save, flow.LogTimes) else save
    return [save, case.snapshots if snapshots is None else snapshots, horizon]


def drawn_stops(case, rng, free) -> list:
    """Thresholds at records, a bit beside them, and anywhere between first and last."""
    stops = []
    for kind, rule, name in (
        ("loss", flow.LossBelow, "loss"),
        ("gradient", flow.GradientNormBelow, "gradient_norm"),
    ):
        if kind not in case.kinds:
            continue
        series = getattr(free, name)
        value = series[rng.integers(0, len(series))]
        way = rng.integers(0, 4)
        if way < 2:
            value = np.nextafter(value, value.dtype.type(rng.choice([-np.inf, np.inf])))
        if way == 3:
            value = rng.uniform(float(series.min()), float(series.max()))
        if rule is flow.LossBelow or value > 0:
            stops.append(rule(float(value)))
    if "stagnation" in case.kinds:
        stops.append(flow.Stagnation(10 ** rng.uniform(-4, 0), rng.choice([2.0, 10.0])))
    return stops


def sound(solution, case, horizon, stops, wanted, snapshots) -> None:
    checks.shape_of_the_end(solution)
    checks.every_time_is_there(solution, horizon, wanted)
    checks.every_snapshot_is_there(solution, snapshots)
    checks.end_follows_from_the_records(solution, horizon, stops)
    checks.curve_is_exact(solution, case)
    checks.stopped_where_the_formula_says(solution, case, horizon, stops)
    checks.tallies_add_up(solution)


def ends(number: int, solver: str | None = None) -> None:
    """Closed-form flows with stopping rules, snapshots and limits: how they end."""
    shapes, rng = draws.streams("ends", number)
    ended(draws.draw_flow(shapes, rng, solver), rng)


def ended(case, rng) -> None:
    """One case without rules, with rules, and under a limit beside what it needs."""
    free = case.solve()
    wanted = wanted_times(case, case.horizon)
    sound(free, case, case.horizon, [], wanted, case.snapshots)
    stops = drawn_stops(case, rng, free)
    full = case.solve(stops=stops) if stops else free
    if stops:
        sound(full, case, case.horizon, stops, wanted, case.snapshots)
    steps = max(1, full.stats.steps + int(rng.choice([-1, 0, 1, -rng.integers(0, 20)])))
    limited = case.solve(stops=stops, max_steps=steps)
    checks.shape_of_the_end(limited)
    checks.limit_of_steps(limited, full, steps)
    budget = max(1, full.stats.cost + int(rng.choice([-1, 0, 1, -rng.integers(0, 60)])))
    checks.budget_of_gradients(
        case.solve(stops=stops, max_gradients=budget), full, budget, _ATTEMPT
    )


def resumes(number: int, solver: str | None = None) -> None:
    """A flow in two or three parts, the first ended by horizon, rule or limit."""
    shapes, rng = draws.streams("resumes", number)
    resumed(draws.draw_flow(shapes, rng, solver), rng)


def resumed(case, rng) -> None:
    """One case in parts."""
    cut = float(rng.choice([0.1, 0.5, rng.uniform(0.01, 0.99)])) * case.horizon
    early = [t for t in case.snapshots if t <= cut]
    save = draws.draw_times(rng, cut, 3)
    way = rng.integers(0, 3)
    limits = [{}, {"max_steps": int(rng.integers(1, 12))}, {"max_gradients": 30}][way]
    first = case.solve(horizon=cut, save=save, snapshots=early, **limits)
    checks.shape_of_the_end(first)
    checks.every_time_is_there(first, cut, [save, early, cut])
    checks.every_snapshot_is_there(first, early)
    early = list(first.snapshots)
    later = [t for t in case.snapshots if t >= first.time]
    stops = drawn_stops(case, rng, case.solve())
    whole, parts = first, 0
    while parts == 0 or (whole.result in (Outcome.STEP_LIMIT, Outcome.BUDGET) and parts < 2000):
        parts += 1
        left = [t for t in later if t >= whole.time]
        whole = case.resume(whole, save=case.save, snapshots=left, stops=stops)
        checks.shape_of_the_end(whole)
        checks.prefix_of(first, whole)
    checks.end_follows_from_the_records(whole, case.horizon, stops)
    checks.curve_is_exact(whole, case)
    checks.stopped_where_the_formula_says(whole, case, case.horizon, stops)
    checks.every_snapshot_is_there(whole, sorted({*early, *later}))


class Killed(BaseException):
    """Ends a flow between two legs, as a signal would."""


def killed_after(path: Path, legs: int) -> flow.Checkpoints:
    count = iter(range(legs))

    def on_leg(checkpoint):
        if next(count, None) is None:
            raise Killed

    return flow.Checkpoints(path, every=0, on_leg=on_leg)


def kills(number: int, solver: str | None = None) -> None:
    """A flow killed after some of its legs and begun again has the same bits as without."""
    shapes, rng = draws.streams("kills", number)
    killed(draws.draw_flow(shapes, rng, solver), rng)


def killed(case, rng) -> None:
    """One case killed between legs, and its checkpoint torn."""
    stops = drawn_stops(case, rng, case.solve())
    more = {"stops": stops, "max_steps": int(rng.choice([10**6, rng.integers(1, 30)]))}
    whole = case.solve(**more)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "flow.npz"
        for _ in range(int(rng.integers(1, 4))):
            try:
                again = case.solve(**more, checkpoints=killed_after(path, rng.integers(0, 4)))
            except Killed:
                continue
            checks.same_bits(again, whole)
        checks.same_bits(case.solve(**more, checkpoints=flow.Checkpoints(path, every=0)), whole)
        _refused_when_torn(case, path, more, rng)


def _refused_when_torn(case, path: Path, more, rng) -> None:
    if not path.exists():
        return
    content = path.read_bytes()
    path.write_bytes(content[: rng.integers(0, len(content))])
    try:
        case.solve(**more, checkpoints=flow.Checkpoints(path))
    except flow.ForeignCheckpoint:
        return
    checks.expect(False, "a torn checkpoint is refused")


FAMILIES = {"ends": ends, "resumes": resumes, "kills": kills}

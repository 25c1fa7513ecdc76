"""The steps of an optimiser beside flows, on one axis of time: losses, and distances."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray
from jaxtyping import Array, PyTree

from ..flow import FlowSolution, solve
from ..flow.dynamics import AbstractDynamics, GradientFlow
from ..flow.problem import Problem, make_problem
from ..precision import check_precision
from ..tasks import resolve_objective
from .curves import checked_whole
from .optimisers import Optimiser

# So many records, if nothing else is asked for: each keeps a model of every flow.
_RECORDS = 100


def compare_with_steps(
    model: PyTree,
    task: Any,
    optimiser: Optimiser,
    steps: int,
    *,
    flows: Mapping[str, AbstractDynamics] | None = None,
    every: int | None = None,
    window: int = 1,
    precision: str = "float64",
    trainable: PyTree | Callable = eqx.is_inexact_array,
    rates: Any = None,
    **options: Any,
) -> xarray.Dataset:
    """Run an optimiser's steps, and flows from the same start to the same times.

    Step k is at t = `optimiser.time` x k. Losses that agree say little: distances are those of the
    parameters, |theta_k - theta(t_k)|, and of the functions, the root mean square over training
    inputs of |F(theta_k, x) - F(theta(t_k), x)|. An oscillation of period 2 adds its amplitude to
    them; the `centre_` ones are of (theta_(k-1) + 2 theta_k + theta_(k+1)) / 4, where it is gone.

    Cost: `steps` + 3 gradients a record, and the flows'.

    Args:
        model: as for `flow.solve`.
        task: as for `flow.solve`.
        optimiser: as made by `gradient_descent`, `momentum`, `adam`, `rmsprop`, or of any
            transformation of optax.
        steps: the number of steps.
        flows: dynamics by name; None: the gradient flow.
        every: steps between records; None: about a hundred records. A record keeps the model of
            each flow.
        window: steps over which `mean_loss` averages, centred at the record; fewer at the ends.
        precision: "float64" or "float32".
        trainable: which leaves move, as for `equinox.partition`.
        rates: D, as for `flow.solve`: the optimiser's changes are multiplied by it.
        **options: of `flow.solve`, for the flows: solver, rtol, atol, max_gradients, memory, ...

    Returns:
        Along `step`, with `time`: `step_loss`, `mean_loss`. Along (`flow`, `step`): `loss` of the
        flow; `predicted_loss`, its `mean_loss` where it records one, else its loss; `distance`,
        `centre_distance`; for a task with samples `function_distance`,
        `centre_function_distance`. Along `flow`: `gradients`
        and `result`. NaN where a flow or the steps ended before.

    Raises:
        ValueError: for a bad argument, before any computation.
    """
    steps = checked_whole("steps", steps, 1)
    every = max(1, steps // _RECORDS) if every is None else checked_whole("every", every, 1)
    window = checked_whole("window", window, 1)
    check_precision(precision)
    if not isinstance(optimiser, Optimiser):
        raise ValueError(
            f"Argument `optimiser` must be a flowlift.compare.Optimiser, but is {optimiser!r:.80}; "
            "make one, e.g. by flowlift.compare.gradient_descent(0.1)."
        )
    flows = {"gradient flow": GradientFlow()} if flows is None else dict(flows)
    problem = make_problem(model, resolve_objective(task), precision, trainable, rates=rates)
    at = np.arange(0, steps + 1, every)
    losses, thetas, centres = _stepped(problem, optimiser, steps, at)
    times = at * optimiser.time
    options |= {"precision": precision, "trainable": trainable, "rates": rates}
    solved = {
        name: _flow(model, task, times, dynamics, options) for name, dynamics in flows.items()
    }
    rows = [_compared(problem, s, times, thetas, centres) for s in solved.values()]
    data = xarray.Dataset(
        {
            "step_loss": ("step", losses[at]),
            "mean_loss": ("step", _averaged(losses, at, window)),
            **{key: (("flow", "step"), np.stack([row[key] for row in rows])) for key in rows[0]},
            "gradients": ("flow", [s.stats.gradients for s in solved.values()]),
            "result": ("flow", [s.result.value for s in solved.values()]),
        },
        coords={"step": at, "time": ("step", times), "flow": list(solved)},
        attrs={"optimiser": optimiser.name, "window": window, "time_of_a_step": optimiser.time},
    )
    return _labelled(data)


def _stepped(
    problem: Problem, optimiser: Optimiser, steps: int, at: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """L at all steps (steps + 1,), theta and the centre of its oscillation at some of them."""
    start = problem.coordinates.theta(problem.start)
    # The step before the first is the first: there is no oscillation yet.
    carry = (start, start, optimiser.transformation.init(start))
    losses, thetas, centres = [], [], []
    for k, until in zip(at, [*at[1:], steps + 1], strict=True):
        before, theta, _ = carry
        after = _steps(problem, optimiser.transformation, carry, 1)[1][1]
        thetas.append(np.asarray(theta))
        centres.append(np.asarray(before + 2 * theta + after) / 4)
        part, carry = _steps(problem, optimiser.transformation, carry, int(until - k))
        losses.append(part)
    return np.concatenate(jax.device_get(losses)), np.stack(thetas), np.stack(centres)


@eqx.filter_jit
def _steps(problem: Problem, transformation: Any, carry: Any, count: int) -> tuple[Array, Any]:
    coordinates = problem.coordinates

    def once(carry, _):
        _, theta, state = carry
        loss, gradient = problem.value_and_grad(coordinates.phi(theta))
        change, state = transformation.update(coordinates.phi(gradient), state, theta)
        change = coordinates.theta(coordinates.theta(change))
        return (theta, theta + change, state), loss

    carry, losses = jax.lax.scan(once, carry, None, length=count)
    return losses, carry


def _averaged(losses: np.ndarray, at: np.ndarray, window: int) -> np.ndarray:
    """Over steps k - window // 2 to k + (window - 1) // 2, as far as there are any."""
    total = np.concatenate([[0.0], np.cumsum(losses)])
    low = np.maximum(at - window // 2, 0)
    high = np.minimum(at + (window - 1) // 2 + 1, len(losses))
    return (total[high] - total[low]) / (high - low)


def _flow(model, task, times, dynamics, options) -> FlowSolution:
    return solve(
        model,
        task,
        float(times[-1]),
        dynamics=dynamics,
        save=times[1:].tolist(),
        snapshots=times.tolist(),
        **options,
    )


def _compared(
    problem: Problem, solution: FlowSolution, times, thetas, centres
) -> dict[str, np.ndarray]:
    """What is recorded along the steps for one flow, NaN where it had ended."""
    nothing = np.full(len(times), math.nan)
    found = {name: nothing.copy() for name in ("loss", "predicted_loss")}
    predicted = solution.observations.get("mean_loss", solution.loss)
    places = np.searchsorted(solution.times, times)
    for i, place in enumerate(places):
        if place < len(solution.times) and math.isclose(solution.times[place], times[i]):
            found["loss"][i] = solution.loss[place]
            found["predicted_loss"][i] = predicted[place]
    outputs = hasattr(problem.objective, "outputs")
    names = ("distance", "function_distance") if outputs else ("distance",)
    found |= {f"{of}{name}": nothing.copy() for of in ("", "centre_") for name in names}
    for at, kept in solution.snapshots.items():
        i = int(np.argmin(np.abs(times - at)))
        there = _theta(problem, kept)
        for of, here in (("", thetas[i]), ("centre_", centres[i])):
            found[f"{of}distance"][i] = np.linalg.norm(here - there)
            if outputs:
                found[f"{of}function_distance"][i] = _apart(
                    problem, *map(jnp.asarray, (here, there))
                )
    return found


def _theta(problem: Problem, model: PyTree) -> np.ndarray:
    """The parameters of a model that flow, as one vector."""
    chosen = lambda flows, leaf: None if flows is None else leaf
    leaves = jax.tree.map(chosen, problem.theta0, model, is_leaf=lambda leaf: leaf is None)
    return np.asarray(problem.coordinates.flat_on_host(leaves))


@eqx.filter_jit
def _apart(problem: Problem, first: Array, second: Array) -> Array:
    """The root mean square over samples of the length of the difference of outputs."""
    outputs: Any = getattr(problem.objective, "outputs")  # noqa: B009
    a, b = (outputs(problem.model(problem.coordinates.phi(at))) for at in (first, second))
    return jnp.sqrt(jnp.sum(jnp.abs(a - b) ** 2) / a.shape[0])


def _labelled(data: xarray.Dataset) -> xarray.Dataset:
    labels = {
        "time": ("flow time t", "learning rate x steps"),
        "step_loss": ("loss L at the step", "loss"),
        "mean_loss": ("loss L averaged over steps", "loss"),
        "loss": ("loss L of the flow", "loss"),
        "predicted_loss": ("mean loss that the flow predicts", "loss"),
        "distance": ("distance of the parameters", "1"),
        "centre_distance": ("distance of the oscillation's centre", "1"),
        "centre_function_distance": ("distance of the outputs from the centre's", "1"),
        "function_distance": ("root mean square distance of the outputs", "1"),
    }
    for name, (meaning, unit) in labels.items():
        if name in data:
            data[name].attrs.update(long_name=meaning, units=unit)
    return data

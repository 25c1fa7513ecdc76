"""What the BDF's answers cost as the tolerance falls, and where its products go.

    python benchmarks/loose_answers.py --docs            # all flows: some minutes
    python benchmarks/loose_answers.py --flow B C --rtol 1e-2 3e-3 1e-3

A_tanh, A_soft, B and C are the reference flows of tests/reference. The five others were drawn, with
the seeds below, after the method had been fixed, and nothing was tuned on them; SciPy's Radau IIA
with the whole Hessian judges them. Cost = gradients + 2 Hessian-vector products; the error is the
largest relative error of L over half-decades of t. Printed are geometric means over `spread`
tolerances up to a tenth to either side, since rounding decides at single ones; counts are means.
"""

import contextlib
import dataclasses
import math
import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ["JAX_ENABLE_X64"] = "1"
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import problems
import scipy.integrate
import tyro

from flowlift import modules
from flowlift.lift import FixedInDegree, Gaussian, sample
from flowlift.solvers.host.bdf import HostBDF
from flowlift.solvers.host.krylov import Krylov
from flowlift.solvers.host.stepping import HostField

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
BEGIN, END = "<!-- loose answers: begin -->", "<!-- loose answers: end -->"
HEADER = ["flow", "to t", "rtol", "steps", "rejected", "gradients", "of bases (bases)"]
HEADER += ["of conjugate gradients", "cost", "of that at 1e-4", "error"]


@dataclasses.dataclass(frozen=True)
class Options:
    """Which runs.

    Attributes:
        flow: flows by name.
        rtol: relative tolerances; atol is a thousandth of them.
        spread: runs at a tolerance: at it, and in turns below and above.
        docs: write the table into docs/benchmarks.md.
    """

    flow: tuple[str, ...] = ()
    rtol: tuple[float, ...] = (1e-2, 1e-3, 1e-4, 1e-6)
    spread: int = 5
    docs: bool = False


@dataclasses.dataclass(frozen=True)
class Flow:
    """A loss on vectors, where its flow begins and ends, and its true losses if they are known."""

    loss: Callable
    start: np.ndarray
    horizon: float
    times: np.ndarray
    losses: np.ndarray | None = None


def reference(name: str, horizon: float) -> Flow:
    """One of the reference flows."""
    known = problems.reference(name)
    shown = (known.times > 0) & (known.times <= horizon * (1 + 1e-9))
    start = np.asarray(known.theta0)
    return Flow(known.loss, start, horizon, known.times[shown], known.losses[shown])


def drawn(model, loss: Callable, horizon: float) -> Flow:
    """The flow of a model's real arrays."""
    arrays, static = eqx.partition(model, eqx.is_inexact_array)
    start, tree = jax.flatten_util.ravel_pytree(arrays)
    times = 10.0 ** np.arange(-1, math.log10(horizon) + 1e-9, 0.5)
    of = lambda theta: loss(eqx.combine(tree(theta), static))
    return Flow(of, np.asarray(start), horizon, times)


def sparse_lift() -> Flow:
    """Two sparse tanh layers of 16 copies on a noisy wave."""
    rng, module = np.random.default_rng(2601), modules.mlp(3, depth=2)
    weights = dict.fromkeys(module.edge_by_name, Gaussian())
    lift = sample(module, copies=16, edges=FixedInDegree(4), weights=weights, seed=2601)
    x = jnp.asarray(rng.standard_normal((80, 3)))
    y = jnp.sin(2 * x[:, 0] + x[:, 1]) + 0.1 * jnp.asarray(rng.standard_normal(80))
    return drawn(lift, lambda m: jnp.mean((m.batch(x).reshape(80) - y) ** 2), 1e4)


def equinox_mlp() -> Flow:
    """eqx.nn.MLP, two layers of 12 gelu units, on a noisy product."""
    rng = np.random.default_rng(2602)
    mlp = eqx.nn.MLP(2, 1, 12, 2, jax.nn.gelu, key=jax.random.key(2602))
    x = jnp.asarray(rng.standard_normal((60, 2)))
    y = x[:, 0] * x[:, 1] + 0.2 * jnp.asarray(rng.standard_normal(60))
    cast = lambda a: a.astype(jnp.float64) if eqx.is_inexact_array(a) else a
    return drawn(jax.tree.map(cast, mlp), lambda m: jnp.mean((jax.vmap(m)(x)[:, 0] - y) ** 2), 1e4)


def logistic() -> Flow:
    """Logistic regression on 40 features whose scales span three decades, labels with noise."""
    rng = np.random.default_rng(2603)
    x = jnp.asarray(rng.standard_normal((200, 40)) * np.geomspace(3, 3e-3, 40))
    truth = rng.standard_normal(40) * 2
    sign = jnp.sign(x @ truth + jnp.asarray(rng.logistic(size=200)))
    start = jnp.zeros(40)
    return drawn(start, lambda w: jnp.mean(jax.nn.softplus(-sign * (x @ w))), 1e5)


def factorisation() -> Flow:
    """A noisy 24 x 16 matrix of rank 4 as a product of rank 6, from a small start."""
    rng = np.random.default_rng(2604)
    target = rng.standard_normal((24, 4)) @ rng.standard_normal((4, 16)) / 2
    target = jnp.asarray(target + 0.05 * rng.standard_normal((24, 16)))
    start = tuple(jnp.asarray(0.1 * rng.standard_normal(shape)) for shape in ((24, 6), (6, 16)))
    return drawn(start, lambda uv: jnp.mean((uv[0] @ uv[1] - target) ** 2), 1e4)


def classifier() -> Flow:
    """A softmax of one softplus layer of 16 units on four classes, with weight decay."""
    rng = np.random.default_rng(2605)
    x, labels = jnp.asarray(rng.standard_normal((90, 4))), jnp.asarray(rng.integers(0, 4, 90))
    shapes = ((16, 4), (16,), (4, 16))
    start = tuple(jnp.asarray(0.7 * rng.standard_normal(shape)) for shape in shapes)

    def loss(parameters):
        w, b, a = parameters
        scores = jax.nn.softplus(x @ w.T + b) @ a.T
        chosen = scores[jnp.arange(90), labels]
        decay = sum(jnp.sum(p**2) for p in parameters)
        return jnp.mean(jax.nn.logsumexp(scores, axis=1) - chosen) + 1e-5 * decay

    return drawn(start, loss, 1e5)


FLOWS: dict[str, Callable[[], Flow]] = {
    "A_tanh": lambda: reference("A_tanh", 1e6),
    "A_soft": lambda: reference("A_soft", 1e6),
    "B": lambda: reference("B", 1e3),
    "C": lambda: reference("C", 1e4),
    "sparse lift": sparse_lift,
    "equinox MLP": equinox_mlp,
    "logistic": logistic,
    "factorisation": factorisation,
    "classifier": classifier,
}


class Bench:
    """A flow's two programs, its true losses, and a place to count in."""

    def __init__(self, flow: Flow) -> None:
        gradient = jax.grad(flow.loss)
        self.flow, self.counts, self.inside = flow, Counter(), "other"
        self._value_and_grad = jax.jit(jax.value_and_grad(flow.loss))
        self._product = jax.jit(lambda theta, v: jax.jvp(gradient, (theta,), (v,))[1])
        self.losses = self._judged() if flow.losses is None else flow.losses

    def loss(self, theta: np.ndarray) -> float:
        """L, uncounted."""
        return float(self._value_and_grad(theta)[0])

    def field(self) -> HostField:
        """The flow as a method on the host calls it."""

        def value_and_grad(theta):
            self.counts["gradients"] += 1
            value, gradient = self._value_and_grad(theta)
            return float(value), np.asarray(gradient)

        def product(theta, v):
            self.counts[self.inside] += 1
            return np.asarray(self._product(theta, v))

        return HostField(value_and_grad, product, self.flow.start.size, lambda *_: (), [], 1)

    @contextlib.contextmanager
    def counting_bases(self):
        """Products of the Lanczos process are counted by themselves."""
        grown = Krylov.grown

        def counted(space, *args):
            self.inside = "basis"
            self.counts["bases"] += space.size == 0
            try:
                return grown(space, *args)
            finally:
                self.inside = "other"

        Krylov.grown = counted
        try:
            yield
        finally:
            Krylov.grown = grown

    def _judged(self) -> np.ndarray:
        flow = self.flow
        hessian = jax.jit(jax.hessian(flow.loss))
        solution = scipy.integrate.solve_ivp(
            lambda _, y: -np.asarray(self._value_and_grad(y)[1]),
            (0.0, flow.horizon),
            flow.start,
            "Radau",
            t_eval=np.minimum(flow.times, flow.horizon),
            jac=lambda _, y: -np.asarray(hessian(y)),
            rtol=1e-9,
            atol=1e-12,
        )
        return np.array([self.loss(theta) for theta in solution.y.T])


def run(bench: Bench, rtol: float) -> dict[str, float]:
    """One flow at one tolerance: its counts and its error."""
    flow, field = bench.flow, bench.field()
    bench.counts.clear()
    method, y = HostBDF(rtol, 1e-3 * rtol), np.concatenate([flow.start, [0.0, 0.0]])
    start = method.start(field, y)
    memory, h, t, errors = start.memory, start.step, 0.0, []
    while len(errors) < len(flow.times):
        attempt = method.attempt(field, y, memory, h)
        bench.counts["steps" if attempt.keep else "rejected"] += 1
        if attempt.keep:
            passed = flow.times[len(errors) :]
            passed = passed[passed <= (t + h) * (1 + 1e-9)]
            for state in attempt.dense(np.minimum((passed - t) / h, 1.0)) if passed.size else ():
                true = bench.losses[len(errors)]
                errors.append(abs(bench.loss(state[:-2]) - true) / true)
            t, y, memory = t + h, attempt.y, attempt.memory
        h = attempt.step
    counts = dict(bench.counts)
    products = counts.get("basis", 0) + counts.get("other", 0)
    return counts | {"cost": counts["gradients"] + 2 * products, "error": max(errors)}


def around(bench: Bench, rtol: float, spread: int) -> dict[str, float]:
    """Means over tolerances near one: geometric of cost and error, arithmetic of counts."""
    turns = [((i + 1) // 2) * (-1) ** i / max(spread - 1, 1) for i in range(spread)]
    with bench.counting_bases():
        runs = [run(bench, rtol * 10 ** (0.1 * turn)) for turn in turns]
    names = {name for of in runs for name in of}
    means = {name: float(np.mean([of.get(name, 0) for of in runs])) for name in names}
    for name in ("cost", "error"):
        means[name] = math.exp(np.mean([math.log(of[name]) for of in runs]))
    return means


def rows(name: str, options: Options) -> list[list[str]]:
    """A flow's rows of the table."""
    bench = Bench(FLOWS[name]())
    found = {rtol: around(bench, rtol, options.spread) for rtol in options.rtol}
    lines = []
    for rtol, of in found.items():
        number = lambda key, of=of: f"{of.get(key, 0):,.0f}"
        share = f"{of['cost'] / found[1e-4]['cost']:.2f}" if 1e-4 in found else ""
        bases = f"{number('basis')} ({number('bases')})"
        counts = [number("steps"), number("rejected"), number("gradients"), bases]
        rest = [number("other"), number("cost"), share, f"{of['error']:.1e}"]
        lines.append([name, f"{bench.flow.horizon:.0e}", f"{rtol:.0e}", *counts, *rest])
    return lines


def main() -> None:
    options = tyro.cli(Options)
    lines = []
    for name in options.flow or FLOWS:
        lines += rows(name, options)
        for cells in lines[-len(options.rtol) :]:
            print(f"| {' | '.join(cells)} |", flush=True)
    if options.docs:
        table = [HEADER, ["---"] * len(HEADER), *lines]
        text = "\n".join(f"| {' | '.join(cells)} |" for cells in table)
        before, rest = PAGE.read_text().split(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()

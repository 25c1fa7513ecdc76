"""theta as a vector: padding counts nowhere, complex numbers flow by both of their parts."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowlift import BernoulliInDegree, flow, modules, sample, tasks, trajectory
from flowlift.compare import peers
from flowlift.flow.problem import make_problem
from flowlift.lift import Gaussian, from_edges
from flowlift.protocols import AbstractPadded, AbstractSamplewise


def twins(copies=6, seed=0, precision="float64"):
    """A padded lift and the same network without padding."""
    module = modules.mlp(8, depth=1, vector_input=False)
    weights = dict.fromkeys(module.edge_by_name, Gaussian())
    padded = sample(
        module,
        copies=copies,
        edges=BernoulliInDegree(2.0),
        weights=weights,
        seed=seed,
        precision=precision,
    )
    edges = {name: padded.edges(name) for name in module.edge_by_name}
    bare = from_edges(module, copies=copies, edges=edges, precision=precision)
    sizes = [sum(w.size for w in lift.weights.values()) for lift in (padded, bare)]
    assert sizes[1] == padded.n_parameters < 0.8 * sizes[0]
    return padded, bare


def data(precision="float64"):
    return tasks.student_teacher(
        modules.mlp(8, depth=1), samples=12, seed=1, copies=2, precision=precision
    )


COUNTED = ("steps", "rejected", "gradients", "hvps")


def assert_same_flow(padded, bare, rtol, counted=COUNTED):
    """The same steps, and the same records to the rounding of sums in another order."""
    for name in counted:
        assert getattr(padded.stats, name) == getattr(bare.stats, name), name
    assert padded.result == bare.result
    assert padded.solvers == bare.solvers
    np.testing.assert_array_equal(padded.times, bare.times)
    np.testing.assert_allclose(padded.loss, bare.loss, rtol=rtol)
    np.testing.assert_allclose(padded.distance, bare.distance, rtol=rtol, atol=1e-14)


LIVE, SIZE = 87, 249


class Unpadded(eqx.Module):
    """A vector of weights."""

    w: jax.Array

    @property
    def weights(self):
        return self.w


class Padded(eqx.Module, AbstractPadded):
    """The same weights, scattered among dead ones."""

    w: jax.Array
    where: jax.Array

    @property
    def weights(self):
        return self.w[self.where]

    def live(self):
        return eqx.tree_at(lambda m: m.w, self, np.isin(np.arange(self.w.size), self.where))


def scattered(precision="float64"):
    """87 weights alone, and among 249 numbers; L = |tanh(B w) - c|^2 of either."""
    rng = np.random.default_rng(0)
    where = np.sort(rng.choice(SIZE, LIVE, replace=False))
    w = rng.standard_normal(LIVE)
    padded = np.full(SIZE, 5.0)
    padded[where] = w
    scales = np.geomspace(0.3, 10, 30)[:, None]
    matrix = jnp.asarray(scales * rng.standard_normal((30, LIVE)) / LIVE**0.5, precision)
    loss = lambda model: jnp.sum((jnp.tanh(matrix @ model.weights) - 0.5) ** 2)
    models = Padded(jnp.asarray(padded), jnp.asarray(where)), Unpadded(jnp.asarray(w))
    return *models, loss


SLOWLY = pytest.mark.slow
STOCK = ("dopri8", "kvaerno5")
SLOW = ("rkc2", "exprb", "dense-bdf", *STOCK)


@pytest.mark.parametrize(
    "solver",
    ["tsit5", *(pytest.param(s, marks=pytest.mark.slow) for s in ("bdf", *SLOW))],
)
def test_87_live_of_249_take_the_steps_of_87(solver):
    padded, bare, loss = scattered()
    settings = {"solver": solver, "rtol": 1e-5, "atol": 1e-8}
    padded, bare = (flow.solve(model, loss, 3.0, **settings) for model in (padded, bare))
    assert bare.stats.steps > 20
    # The columns of dense Jacobians are those of the arrays as they are, but for the BDF's.
    learning = solver in ("bdf", "dense-bdf")
    exact = solver in STOCK or learning
    assert_same_flow(padded, bare, 1e-6, COUNTED[:2] if exact else (*COUNTED[:2], "hvps"))
    # Whether rounding is all that is left to correct is decided by rounding: 568 against 571.
    spread = 5 if learning else 0
    assert abs(padded.stats.gradients - bare.stats.gradients) <= spread
    if learning:
        assert abs(padded.stats.hvps - bare.stats.hvps) <= 2


# Sums of other lengths round differently, and a step in a hundred is accepted or not; the BDF's
# choice of order depends on it, too: the same 87 weights in four orders took 141 to 152 steps.
@pytest.mark.slow
@pytest.mark.parametrize(("solver", "spread"), [("tsit5", 0.03), ("bdf", 0.08)])
def test_twins_in_single_precision(solver, spread):
    padded, bare, loss = scattered("float32")
    settings = {"solver": solver, "rtol": 1e-4, "atol": 1e-6, "precision": "float32"}
    padded, bare = (flow.solve(model, loss, 3.0, **settings) for model in (padded, bare))
    assert padded.stats.steps == pytest.approx(bare.stats.steps, rel=spread)
    # Other steps are other errors: either flow is within 3e-3 of the exact one.
    np.testing.assert_allclose(padded.loss, bare.loss, rtol=5e-3)


@pytest.mark.slow
@pytest.mark.parametrize("solver", [diffrax.Kvaerno3(), diffrax.Bosh3()])
def test_twins_by_stock_solvers(solver):
    padded, bare, loss = scattered()
    padded, bare = (flow.solve(m, loss, 3.0, solver=solver, rtol=1e-5) for m in (padded, bare))
    assert_same_flow(padded, bare, 1e-6, ("steps", "rejected", "gradients"))


@pytest.mark.slow  # compiles two whole solves a row
@pytest.mark.parametrize(
    "solver",
    [
        "tsit5",
        *(pytest.param(s, marks=SLOWLY) for s in ("dopri8", "kvaerno5", diffrax.Bosh3())),
    ],
)
def test_the_pure_flow_of_87_live_of_249_is_that_of_87(solver):
    """Steps show in L, whose error depends on them; without an absolute tolerance too."""
    padded, bare, loss = scattered()
    settings = {"solver": solver, "rtol": 1e-3, "atol": 0.0, "max_steps": 512}
    padded, bare = (trajectory(model, loss, [0.1, 3.0], **settings) for model in (padded, bare))
    assert bare.success
    np.testing.assert_allclose(padded.losses, bare.losses, rtol=1e-9)


@pytest.mark.slow  # compiles each peer twice
@pytest.mark.parametrize(
    ("solver", "counted"),
    [
        ("scipy:RK45", True),
        pytest.param("scipy:LSODA", False, marks=pytest.mark.slow),
        pytest.param("scipy:BDF", True, marks=pytest.mark.slow),
        pytest.param("gd:0.01", True, marks=pytest.mark.slow),
    ],
)
def test_peers_average_over_what_counts(solver, counted):
    padded, bare, loss = scattered()
    times = np.array([0.0, 0.1, 3.0])
    ran = []
    for model in (padded, bare):
        problem = make_problem(model, tasks.resolve_objective(loss), "float64")
        case = peers.Case(model, loss, problem, times, "float64", 1e5)
        ran.append(peers.run(case, solver, 1e-3, 1e-6))
    one, other = ran
    assert one.result == other.result == "horizon"
    if counted:
        assert one.gradients == other.gradients
    # Sums of other lengths round differently.
    np.testing.assert_allclose(one.loss, other.loss, rtol=1e-9 if counted else 1e-3)


@pytest.mark.parametrize(
    "solver",
    ["tsit5", *(pytest.param(s, marks=pytest.mark.slow) for s in ("bdf", "rkc2", "auto"))],
)
def test_lifts_that_are_twins_take_the_same_steps(solver):
    settings = {"solver": solver, "rtol": 1e-5, "atol": 1e-8}
    padded, bare = (flow.solve(m, data(), 10.0, **settings) for m in twins())
    assert_same_flow(padded, bare, 1e-6)


def test_padding_needs_no_absolute_tolerance():
    """All live weights differ from zero, so that a relative tolerance is enough."""
    padded, bare, loss = scattered()
    settings = {"solver": "tsit5", "atol": 0.0}
    padded, bare = (flow.solve(model, loss, 0.5, **settings) for model in (padded, bare))
    assert padded.success
    assert_same_flow(padded, bare, 1e-7)


def test_seeds_of_one_size_share_a_compilation():
    first, second = (make_problem(twins(seed=s)[0], data().objective, "float64") for s in (1, 2))
    assert first.dimension != second.dimension
    traces = []

    @eqx.filter_jit
    def gradient(problem, theta):
        traces.append(1)
        return problem.value_and_grad(theta)

    for problem in (first, second):
        gradient(problem, problem.start)
    assert len(traces) == 1


class Masked(eqx.Module, AbstractPadded, AbstractSamplewise):
    """y = sum of the live weights times x, with complex ones and a nested structure."""

    w: jax.Array
    mask: tuple[bool, ...] = eqx.field(static=True)

    def live(self):
        return eqx.tree_at(lambda m: m.w, self, np.array(self.mask))

    def batch(self, xs):
        return xs @ jnp.where(jnp.array(self.mask), self.w, 0)


def test_any_model_may_declare_padding():
    """What stands on padding is ignored, and comes back as zero."""
    model = {"a": Masked(jnp.array([9.0, 1.0, 7.0, 2.0]), (False, True, False, True))}
    x = np.eye(4)
    task = tasks.supervised(x, np.ones(4), apply=lambda m, x: m["a"].batch(x))
    problem = make_problem(model, task.objective, "float64")
    np.testing.assert_array_equal(problem.start, [1, 2, 0, 0])
    assert problem.dimension == 2
    np.testing.assert_array_equal(problem.model(problem.start)["a"].w, [0, 1, 0, 2])
    _, gradient = problem.value_and_grad(problem.start)
    np.testing.assert_allclose(gradient, [0, 0.5, 0, 0])


A = np.array([0.5 - 2.0j, -1.0 + 0.25j, 3.0j])


@pytest.mark.parametrize(
    ("solver", "precision"),
    [
        ("tsit5", "float64"),
        pytest.param("bdf", "float32", marks=pytest.mark.slow),
        pytest.param("tsit5", "float32", marks=pytest.mark.slow),
        pytest.param("bdf", "float64", marks=pytest.mark.slow),
    ],
)
def test_complex_leaves_flow_to_their_targets(solver, precision):
    """L = |z - a|^2: z - a decays like e^(-2t), its imaginary part too."""
    start = jnp.array([1.0 + 1.0j, 2.0 - 1.0j, 0.0])
    tight = {"rtol": 1e-8, "atol": 1e-11} if precision == "float64" else {"rtol": 1e-5}
    target = jnp.asarray(A, {"float64": "complex128", "float32": "complex64"}[precision])
    solution = flow.solve(
        {"z": start},
        lambda m: jnp.sum(jnp.abs(m["z"] - target) ** 2),
        1.5,
        solver=solver,
        precision=precision,
        snapshots=[0.5],
        observers={"z": lambda m: m["z"]},
        **tight,
    )
    accuracy = 1e-6 if precision == "float64" else 1e-3
    for t, z in ((0.5, solution.snapshots[0.5]["z"]), (1.5, solution.model["z"])):
        assert z.dtype == target.dtype
        np.testing.assert_allclose(z - A, (start - A) * np.exp(-2 * t), atol=accuracy)
    gap = np.sum(np.abs(np.asarray(start) - A) ** 2)
    np.testing.assert_allclose(
        solution.loss, gap * np.exp(-4 * solution.times), rtol=100 * accuracy, atol=accuracy
    )
    wanted = A + (np.asarray(start) - A) * np.exp(-2 * solution.times)[:, None]
    np.testing.assert_allclose(solution.observations["z"], wanted, atol=accuracy)
    # |grad L| of the real and imaginary parts: 2 |z - a|.
    np.testing.assert_allclose(solution.gradient_norm[0], 2 * np.sqrt(gap), rtol=1e-5)


def test_complex_targets_inputs_and_buffers_keep_their_imaginary_parts():
    """y = w x + b with a frozen complex b: least squares over C, by its normal equations."""
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    x, y, b = draw(8, 2), draw(8), draw()
    model = {"w": jnp.zeros(2, complex), "b": jnp.asarray(b)}
    task = tasks.supervised(x, y, apply=lambda m, x: x @ m["w"] + m["b"], samplewise=True)
    settings = {"trainable": {"w": True, "b": False}, "solver": "tsit5", "rtol": 1e-9}
    whole = flow.solve(model, task, 40.0, **settings)
    optimum = np.linalg.lstsq(x, y - b, rcond=None)[0]
    np.testing.assert_allclose(whole.model["w"], optimum, atol=1e-6)
    assert whole.model["b"] == b
    assert whole.loss[0] == pytest.approx(np.mean(np.abs(y - b) ** 2), rel=1e-12)
    parts = flow.solve(model, task, 1.0, memory=2000, **settings)
    assert parts.loss[0] == pytest.approx(whole.loss[0], rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_the_pure_flow_of_complex_leaves(precision):
    """z - a decays like e^(-2t) from z0: sum of |z(t) - a|^2 by |z0 - a|^2, e^(-4t)."""
    start = {"z": jnp.array([1.0 + 1.0j, 2.0 - 1.0j, 0.0])}
    accuracy = 1e-7 if precision == "float64" else 1e-4

    def end(model, t):
        loss = lambda m: jnp.sum(jnp.abs(m["z"] - jnp.asarray(A, m["z"].dtype)) ** 2)
        return trajectory(model, loss, t[None], rtol=accuracy / 10, precision=precision)

    there = jax.jit(end)(start, jnp.array(0.5))
    wanted = A + (np.asarray(start["z"]) - A) * np.exp(-1.0)
    assert there.models["z"].dtype == {"float64": complex, "float32": np.complex64}[precision]
    np.testing.assert_allclose(there.models["z"][0], wanted, rtol=accuracy)
    final = lambda model, t: end(model, t).losses[-1]
    slope = jax.grad(final)(start, jnp.array(0.5))["z"]
    # JAX's gradient by z is the conjugate of d/dx + i d/dy.
    exact = 2 * np.conj(np.asarray(start["z"]) - A) * np.exp(-2.0)
    np.testing.assert_allclose(slope, exact, rtol=10 * accuracy)


@SLOWLY
def test_the_pure_flow_of_padded_lifts_is_compiled_batched_and_differentiated():
    padded, bare = twins()
    task = data()
    run = lambda model: trajectory(model, task, [2.0], rtol=1e-6).losses[-1]
    value, slope = eqx.filter_jit(eqx.filter_value_and_grad(run))(padded)
    other, along = eqx.filter_jit(eqx.filter_value_and_grad(run))(bare)
    assert float(value) == pytest.approx(float(other), rel=1e-9)
    masks = padded.live()
    for name, w in slope.weights.items():
        there = np.asarray(w)[np.asarray(masks.weights[name])]
        np.testing.assert_allclose(there, np.ravel(along.weights[name]), rtol=1e-6, atol=1e-12)
        assert not np.asarray(w)[~np.asarray(masks.weights[name])].any()
    batched = eqx.filter_vmap(run)(jax.tree.map(lambda x: jnp.stack([x, x]), padded))
    np.testing.assert_allclose(batched, [value, value], rtol=1e-9)


@pytest.mark.slow
def test_a_complex_flow_goes_on_from_its_checkpoint(tmp_path):
    from flowlift.flow import Checkpoints

    loss = lambda m: jnp.sum(jnp.abs(m["z"] ** 2 - jnp.asarray(A)) ** 2)
    start = {"z": jnp.array([1.0 + 1.0j, 2.0 - 1.0j, 0.5])}
    run = lambda **more: flow.solve(start, loss, 2.0, solver="tsit5", snapshots=[1.0], **more)
    direct = run()
    killed = flow.solve(start, loss, 1.0, solver="tsit5")
    resumed = flow.resume(killed, 2.0)
    np.testing.assert_allclose(resumed.model["z"], direct.model["z"], rtol=1e-5)
    kept = run(checkpoints=Checkpoints(tmp_path / "c.npz", every=0.0))
    np.testing.assert_array_equal(kept.model["z"], direct.model["z"])
    again = run(checkpoints=Checkpoints(tmp_path / "c.npz", every=0.0))
    np.testing.assert_array_equal(again.model["z"], direct.model["z"])
    np.testing.assert_array_equal(again.snapshots[1.0]["z"], direct.snapshots[1.0]["z"])

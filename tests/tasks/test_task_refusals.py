"""What tasks, models and losses may not be: one sentence; what they may be: the right numbers."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowlift import FixedInDegree, flow, modules, sample, tasks
from flowlift.flow.choice import declared_smooth
from flowlift.flow.problem import make_problem
from flowlift.lift import Gaussian, from_edges
from flowlift.protocols import AbstractSamplewise, AbstractSmoothness
from flowlift.tasks.chunks import Chunked

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((40, 3)), RNG.standard_normal(40)


def problem(model, task, **settings):
    return make_problem(model, tasks.resolve_objective(task), "float64", **settings)


def loss_at_start(model, task, **settings):
    made = problem(model, task, **settings)
    return float(made.loss(made.start))


@pytest.fixture(scope="module")
def lift():
    module = modules.mlp(3)
    weights = dict.fromkeys(module.edge_by_name, Gaussian())
    return sample(module, copies=2048, edges=FixedInDegree(2), weights=weights, seed=0)


@pytest.fixture(scope="module")
def many():
    """More samples than a lift of 2048 copies takes at a time."""
    return np.random.default_rng(1).standard_normal((300, 3))


def centred(model, x):
    outputs = model.batch(x)
    return outputs - outputs.mean(0)


def test_coupled_samples_are_taken_whole(lift, many):
    """Outputs centred over samples: L of the whole batch, where chunks would centre each."""
    targets = np.sin(many[:, 0])
    task = tasks.supervised(many, targets, apply=centred)
    outputs = np.asarray(lift.batch(many))
    expected = np.mean((outputs - outputs.mean() - targets) ** 2)
    assert lift.samples_per_pass < 300
    assert loss_at_start(lift, task) == pytest.approx(expected, rel=1e-12)
    alone = tasks.supervised(many, targets, apply=lambda m, x: m.batch(x), samplewise=True)
    assert isinstance(problem(lift, alone).objective, Chunked)
    assert loss_at_start(lift, alone) == pytest.approx(float(alone.objective(lift)), rel=1e-12)


def test_chunks_and_devices_of_coupled_samples_are_refused(lift, many):
    task = tasks.supervised(many, np.zeros(300), apply=centred)
    with pytest.raises(ValueError, match=r"`memory` must be None .* may couple samples, but is 40"):
        problem(lift, task, memory=4000)
    with pytest.raises(ValueError, match=r"`task` must act on each sample by itself"):
        tasks.shard(task)


def test_batch_normalisation_keeps_its_loss():
    """Normalised over a named axis of vmap, as equinox does: coupled, though it is a vmap."""

    class Normalised(eqx.Module):
        w: jax.Array

        def __call__(self, x):
            z = self.w @ x
            centre = jax.lax.pmean(z, "batch")
            return (z - centre) / jnp.sqrt(jax.lax.pmean((z - centre) ** 2, "batch") + 1e-5)

    model = Normalised(jnp.array([1.0, -2.0, 0.5]))
    task = tasks.supervised(X, Y, apply=lambda m, x: jax.vmap(m, axis_name="batch")(x))
    z = X @ np.array([1.0, -2.0, 0.5])
    expected = np.mean(((z - z.mean()) / np.sqrt(z.var() + 1e-5) - Y) ** 2)
    assert loss_at_start(model, task) == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ValueError, match="may couple samples"):
        problem(model, task, memory=4000)
    # Without a name there is no axis over which vmap could couple.
    with pytest.raises(ValueError, match=r"unbound axis name|raises NameError") as error:
        problem(model, tasks.supervised(X, Y))
    assert "\n" not in str(error.value)


def test_an_elementwise_function_cannot_couple_samples():
    """Centring is not elementwise: every entry is its own mean."""
    module = modules.mlp(3, activation=lambda z: z - z.mean())
    lift = sample(module, copies=4, edges=FixedInDegree(2), seed=0)
    np.testing.assert_array_equal(lift.activations(X)["h1"], 0)


class Named(eqx.Module):
    """A model whose fields are called as flowlift's protocols are, and mean something else."""

    w: jax.Array
    batch: int = 32
    samples_per_pass: str = "all"
    smooth: float = 0.5
    live: bool = True

    def __call__(self, x):
        return self.w @ x


def test_protocols_are_declared_not_guessed():
    model = Named(jnp.array([1.0, -2.0, 0.5]))
    expected = np.mean((X @ np.array([1.0, -2.0, 0.5]) - Y) ** 2)
    assert loss_at_start(model, tasks.supervised(X, Y)) == pytest.approx(expected, rel=1e-12)
    assert declared_smooth(model) is None


def test_foreign_models_may_be_registered():
    class Theirs(eqx.Module):
        w: jax.Array

        def batch(self, xs):
            return xs @ self.w

        @property
        def samples_per_pass(self):
            return 7

        smooth = True

    AbstractSamplewise.register(Theirs)
    AbstractSmoothness.register(Theirs)
    made = problem(Theirs(jnp.ones(3)), tasks.supervised(X, Y))
    assert isinstance(made.objective, Chunked)
    assert made.objective.parts.weights.shape[1] <= 7
    assert float(made.loss(made.start)) == pytest.approx(np.mean((X.sum(1) - Y) ** 2))


@pytest.mark.parametrize("dtype", [np.int32, np.uint8])
def test_losses_of_ones_own_take_integer_labels(dtype):
    labels = np.arange(40).astype(dtype) % 4
    w = RNG.standard_normal((3, 4))
    own = tasks.supervised(X, labels, lambda o, t: -jax.nn.log_softmax(o)[t])
    named = tasks.supervised(X, labels, "cross-entropy")
    model = eqx.nn.Linear(3, 4, use_bias=False, key=jax.random.key(0))
    model = eqx.tree_at(lambda m: m.weight, model, jnp.asarray(w.T))
    z = X @ w
    log_p = z - np.log(np.exp(z).sum(1, keepdims=True))
    expected = -np.mean(log_p[np.arange(40), labels])
    for task in (own, named):
        assert loss_at_start(model, task) == pytest.approx(expected, rel=1e-12)
        assert loss_at_start(model, task, memory=3000) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0, 1, 4, 7] * 10), "from 0 to 3 .* but sample 2 has the label 4"),
        (np.array([0, -1, 2, 3] * 10), "but sample 1 has the label -1"),
        (np.array([0.0, 1, 2, 3] * 10), "must hold integer labels .* but holds float64"),
        (np.array([True, False] * 20), "must hold integer labels .* but holds bool"),
    ],
)
def test_labels_that_are_no_classes_are_refused(labels, message):
    model = eqx.nn.Linear(3, 4, key=jax.random.key(0))
    with pytest.raises(ValueError, match=message) as error:
        problem(model, tasks.supervised(X, labels, "cross-entropy"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([0.5, 0.5, 0.5, 0.0], "sample 3 has a sum of 1.5 and a least value of 0"),
        ([1.5, -0.5, 0.0, 0.0], "sample 3 has a sum of 1 and a least value of -0.5"),
        ([0.25, 0.25, 0.25, 0.2501], None),
        ([0, 0, 1, 0], None),
    ],
)
def test_targets_that_are_no_probabilities_are_refused(row, message):
    model = eqx.nn.Linear(3, 4, key=jax.random.key(0))
    targets = np.eye(4)[np.arange(40) % 4]
    targets[3] = row
    task = tasks.supervised(X, targets, "cross-entropy")
    if message is None:
        problem(model, task)
        return
    with pytest.raises(ValueError, match=f"must hold probabilities, .* but {message}"):
        problem(model, task)


class Weighted(eqx.Module):
    """A loss of one sample with an array."""

    scale: jax.Array

    def __call__(self, output, target):
        return self.scale * (output - target) ** 2


class Feature(eqx.Module):
    """An `apply` with an array."""

    shift: jax.Array

    def __call__(self, model, x):
        return (x + self.shift) @ model["w"]


def test_losses_and_apply_with_arrays_are_data():
    """Another instance has other values, and no compilation of its own."""
    model, traces = {"w": jnp.array([1.0, 2.0, 3.0])}, []

    @eqx.filter_jit
    def run(problem, theta):
        traces.append(1)
        return problem.value_and_grad(theta)

    for scale, shift in ((1.0, 0.0), (3.0, 0.5), (0.5, -1.0)):
        apply, loss = Feature(jnp.asarray(shift)), Weighted(jnp.asarray(scale))
        residual = (X + shift) @ np.array([1.0, 2.0, 3.0]) - Y
        for settings in ({}, {"memory": 1500}):
            samplewise = bool(settings)
            task = tasks.supervised(X, Y, loss, apply=apply, samplewise=samplewise)
            made = problem(model, task, **settings)
            assert isinstance(made.objective, Chunked) == samplewise
            value, gradient = run(made, made.start)
            assert value == pytest.approx(scale * np.mean(residual**2), rel=1e-12)
            np.testing.assert_allclose(gradient, 2 * scale * (X + shift).T @ residual / 40)
            assert value == pytest.approx(float(task.objective(model)), rel=1e-12)
    assert len(traces) == 2


def test_a_second_instance_solves():
    model = {"w": jnp.ones(3)}
    ends = []
    for scale in (1.0, 2.0):
        loss = Weighted(jnp.asarray(scale))
        task = tasks.supervised(X, Y, loss, apply=Feature(jnp.asarray(0.0)))
        ends.append(flow.solve(model, task, 0.5 / scale, solver="tsit5", rtol=1e-9).model["w"])
    # c L for t / c is L for t.
    np.testing.assert_allclose(ends[0], ends[1], rtol=1e-6)


W = {"w": jnp.ones(3)}


def linear(m, x):
    return x @ m["w"]


class Pair(eqx.Module):
    w: jax.Array

    def __call__(self, x):
        return self.w @ x, {"norm": jnp.sum(x**2)}


class Cursed(eqx.Module):
    w: jax.Array

    def __call__(self, x):
        raise RuntimeError("no such layer\nand a second line")


def wide():
    return eqx.nn.MLP(5, "scalar", 4, 1, key=jax.random.key(0))


def lifted(**settings):
    module = modules.mlp(4)
    return sample(module, copies=4, edges=FixedInDegree(2), seed=0, **settings)


SUPERVISED = tasks.supervised(X, Y)
APPLIED = tasks.supervised(X, Y, apply=linear)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: problem(wide(), SUPERVISED), r"accept samples of shape \(3,\), but raises"),
        (lambda: problem(lifted(), SUPERVISED), r"must have samples of shape \(4,\) for vertex"),
        (
            lambda: problem(Cursed(jnp.ones(3)), SUPERVISED),
            r"RuntimeError in test_.*: no",
        ),
        (
            lambda: problem(Pair(jnp.ones(3)), SUPERVISED),
            "must return one array, but returns a tu",
        ),
        (lambda: problem(W, SUPERVISED), "must be callable on one sample, .* but is dict"),
        (
            lambda: problem(W, tasks.supervised(X, Y, apply=lambda m, x: (x @ m["w"])[:7])),
            r"one output for each of 40 samples, but returns \(7,\)",
        ),
        (
            lambda: problem(W, tasks.supervised(X, Y, apply=lambda m, x: jnp.argmax(x, 1))),
            "must return floating-point numbers, but returns int",
        ),
        (lambda: problem(W, lambda m: jnp.argmax(m["w"])), "one real .* number, but returns int"),
        (lambda: problem(W, lambda m: jnp.sum(m["w"] + 1j)), "real .* number, but returns complex"),
        (lambda: problem(W, lambda m: m["w"]), r"but returns float64 of shape \(3,\)"),
        (lambda: problem(W, lambda m: m["v"]), "must take the model, but raises KeyError in test_"),
        (
            lambda: problem(W, tasks.supervised(X, Y, lambda o, t: o + 1j, apply=linear)),
            "one real number per sample, but returns complex128",
        ),
        (
            lambda: problem(W, tasks.supervised(X, Y, lambda o, t: o[0], apply=linear)),
            "must take the outputs of the model and the targets, but raises",
        ),
        (
            lambda: problem({**W, "n": jnp.arange(3)}, APPLIED, trainable=True),
            r"must choose floating-point arrays, but chooses the leaf \['n'\], an array of int",
        ),
        (
            lambda: problem({**W, "f": jnp.tanh}, APPLIED, trainable=True),
            r"but chooses the leaf \['f'\], of type",
        ),
        (
            lambda: problem({**W, "n": jnp.arange(3)}, APPLIED, trainable={"w": False, "n": True}),
            r"chooses the leaf \['n'\]",
        ),
        (lambda: problem(W, APPLIED, trainable={"v": True}), "`trainable` must be a function of a"),
        (lambda: problem(W, APPLIED, trainable=False), "must have trainable floating-point arrays"),
        (lambda: problem({"w": [1.0, 2.0]}, APPLIED), "must have trainable floating-point arrays"),
        (
            lambda: tasks.supervised(X.tolist(), Y),
            r"`inputs\[0\]\[0\]` must be an array .* in a",
        ),
        (lambda: tasks.supervised(X, Y.tolist()), r"`targets` must be an array \(samples, ...\)"),
        (
            lambda: tasks.supervised(X, np.array(["a"] * 40)),
            "`targets` must hold numbers, but",
        ),
        (
            lambda: from_edges(modules.mlp(3), copies=1, edges=complex_edges()),
            r"`edges\['x->h1'\]` must be real, but is complex",
        ),
        (
            lambda: problem(lifted(), tasks.supervised(X[:, :1] * 1j + np.ones(4), Y)),
            "must be real",
        ),
        (lambda: tasks.periodic({1: 1.0j}), r"`harmonics\[1\]` must be real"),
        (lambda: tasks.periodic({1: [1.0]}), r"must be a number a_k or a pair"),
    ],
)
def test_bad_models_and_losses_are_refused_in_one_sentence(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)
    # Nothing of the traceback through JAX is shown.
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__ or error.value.__context__ is None


def complex_edges():
    module = modules.mlp(3)
    lift = sample(module, copies=1, edges=FixedInDegree(1), seed=0)
    edges = {name: lift.edges(name) for name in module.edge_by_name}
    sources, targets, weights = edges["x->h1"]
    return {**edges, "x->h1": (sources, targets, weights * 1j)}


def test_all_true_is_right_where_all_leaves_are_floating_point():
    assert problem(W, APPLIED, trainable=True).start.size == 3


def test_messages_name_all_samples_not_a_chunk(lift, many):
    task = tasks.supervised(many, np.zeros((300, 2)))
    with pytest.raises(ValueError, match=r"targets' shape \(300, 2\), but has \(300,\)"):
        problem(lift, task)
    chunked = problem(lift, tasks.supervised(many, np.zeros(300))).objective
    with pytest.raises(ValueError, match=r"samples of shape \(4,\) for vertex"):
        chunked.check(lifted())


def test_scalars_of_numpy_and_jax_are_numbers():
    one = tasks.periodic({1: jnp.asarray(1.5), 2: np.float64(0.5)})
    two = tasks.periodic({1: 1.5, 2: 0.5})
    np.testing.assert_array_equal(one.objective.targets, two.objective.targets)
    assert tasks.digits(np.int64(5)).objective.targets.shape[0] == 5


def test_integer_inputs_and_targets_are_exact():
    module = modules.mlp(3)
    lift = sample(module, copies=4, edges=FixedInDegree(2), seed=0)
    x = RNG.integers(-3, 4, (40, 3))
    ints, floats = (tasks.supervised(a, a[:, 0]) for a in (x, x.astype(float)))
    assert loss_at_start(lift, ints) == loss_at_start(lift, floats)


@pytest.mark.slow  # solves without the cache, under JAX settings of its own
@pytest.mark.parametrize(
    "method",
    ["auto", *(pytest.param(m, marks=pytest.mark.slow) for m in ("csr", "naive", "dense"))],
)
def test_strict_promotion_of_types_and_ranks(method):
    """Nothing relies on JAX's guesses: the same numbers under both settings."""
    module = modules.mlp(3, 4, depth=2)
    edges = FixedInDegree(2) if method == "auto" else flow_edges()
    lift = sample(module, copies=6, edges=edges, seed=0, method=method)
    made = [
        lambda: tasks.supervised(X, np.arange(40) % 4, "cross-entropy"),
        lambda: tasks.supervised(X, np.eye(4, dtype=int)[np.arange(40) % 4], "cross-entropy"),
        lambda: tasks.supervised(X, np.arange(160).reshape(40, 4)),
        lambda: tasks.student_teacher(module, samples=20, seed=0, noise=0.1),
    ]
    for make in made:
        usual = problem(lift, make(), memory=20000)
        want = usual.value_and_grad(usual.start)
        with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
            strict = problem(lift, make(), memory=20000)
            got = strict.value_and_grad(strict.start)
            theta = strict.start
            jax.jvp(lambda t, made=strict: made.value_and_grad(t)[1], (theta,), (theta,))
        np.testing.assert_array_equal(got[0], want[0])
        np.testing.assert_array_equal(got[1], want[1])


def flow_edges():
    from flowlift import BernoulliInDegree

    return BernoulliInDegree(2.0)

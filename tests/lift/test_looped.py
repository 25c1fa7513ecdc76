"""Equal blocks go through one loop: the plan, the numbers, and that programs stop growing."""

import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowlift import BernoulliInDegree, FixedInDegree, modules, sample, tasks
from flowlift.flow.problem import make_problem
from flowlift.lift import Gaussian, looped, repeats
from flowlift.modules import Bias, Constant, Edge, Hidden, Input, Output, PerceptronModule, Scalar
from flowlift.modules.edge_maps import InnerProduct


@pytest.fixture(autouse=True)
def _x64():
    with jax.enable_x64(True):
        yield


def ladder(rungs):
    """Two strands, one of which never sees the input, and rungs that are read twice."""
    vertices = [Input("x", (2,)), Constant("1"), Hidden("c0"), Hidden("a0")]
    edges = [Edge("1", "c0", Bias()), Edge("x", "a0", InnerProduct())]
    for i in range(1, rungs + 1):
        c, a, b = f"c{i}", f"a{i}", f"b{i}"
        vertices += [Hidden(c), Hidden(a), Hidden(b)]
        edges += [Edge(f"c{i - 1}", c, Scalar()), Edge(f"a{i - 1}", a, Scalar())]
        edges += [Edge(c, a, Scalar()), Edge(a, b, Scalar())]
        edges += [Edge(b, f"a{i + 1}" if i < rungs else "y", Scalar(), f"out of {b}")]
    edges += [Edge(f"a{rungs}", "y", Scalar()), Edge(f"c{rungs}", "y", Scalar())]
    return PerceptronModule([*vertices, Output("y")], edges)


MODULES = {
    "mlp": modules.mlp(2, depth=8),
    "transformer": modules.transformer(3, 2, blocks=4, width=2, head_channels=2, normalise=True),
    "resnet": modules.resnet((4, 4), blocks=4),
    "ladder": ladder(5),
    "skips": modules.mlp_with_skips(2, depth=6),
    "steps": modules.unrolled_rnn(6, 2),
}
LOOPED = {"mlp": [7], "transformer": [4], "resnet": [4], "ladder": [4], "skips": [], "steps": []}


RAGGED = BernoulliInDegree(2)


def draw(module, law=RAGGED, copies=4, precision="float64"):
    weights = dict.fromkeys(module.edge_by_name, Gaussian(0.7))
    return sample(module, copies=copies, edges=law, weights=weights, seed=0, precision=precision)


def planned(lift, samples=3):
    alike = looped.kinds(lift.module, lift.copies, lift.weights, lift.fibres, samples)
    return repeats.plan(lift.module, alike)


def inputs(module, samples=3):
    (x,) = module.inputs
    shape = (() if x.copies is None else (x.copies,)) + x.shape
    return jnp.asarray(np.random.default_rng(0).standard_normal((samples, *shape)))


@pytest.mark.parametrize("name", MODULES)
def test_every_vertex_is_planned_once_and_blocks_where_they_pay(name):
    steps = planned(draw(MODULES[name]))
    vertices = [
        vertex
        for step in steps
        for block in ([[step]] if isinstance(step, str) else step.blocks)
        for vertex in block
    ]
    assert sorted(vertices) == sorted(v.name for v in MODULES[name].vertices)
    assert [len(s.blocks) for s in steps if not isinstance(s, str)] == LOOPED[name]


def symbols(module, steps, known):
    """Each vertex as the number of the expression that a plan computes, among those known."""
    y = {}
    value = lambda edges, sources: known.setdefault((tuple(edges), tuple(sources)), len(known))
    for step in steps:
        if isinstance(step, str):
            entering = module.entering(step)
            y[step] = value([e.name for e in entering], [y[e.source] for e in entering])
            continue
        previous = {at: y[name] for at, name in step.before}
        for names in step.edges:
            own = {}
            read = {"own": own, "previous": previous, "outside": y}
            for at, sources in enumerate(step.sources):
                own[at] = value(names[at], [read[where][key] for where, key in sources])
            previous = own
        y |= {step.blocks[-1][at]: previous[at] for at in step.kept}
    return y


def random_module(rng):
    """A chain with a few more edges, most of them the same ones from vertex to vertex."""
    n, stride = int(rng.integers(10, 22)), int(rng.integers(1, 4))
    edges = [(i, i + 1) for i in range(n)] + [(i, i + stride) for i in range(n - stride + 1)]
    edges += [tuple(sorted(rng.choice(n + 1, 2, replace=False))) for _ in range(rng.integers(0, 3))]
    names = ["x", *(f"h{i}" for i in range(1, n)), "y"]
    vertices = [Input("x"), *map(Hidden, names[1:-1]), Output("y")]
    return PerceptronModule(vertices, [Edge(names[i], names[j], Scalar()) for i, j in edges])


def test_a_plan_computes_every_vertex_from_its_own_edges_and_sources():
    rng, found = np.random.default_rng(0), 0
    for _ in range(100):
        module, period = random_module(rng), int(rng.integers(1, 4))
        alike = {
            v.name: (i % period, len(module.entering(v.name)))
            for i, v in enumerate(module.vertices)
            if isinstance(v, Hidden)
        }
        steps = repeats.plan(module, alike)
        found += any(not isinstance(step, str) for step in steps)
        known = {}
        want, got = symbols(module, module.order, known), symbols(module, steps, known)
        assert got == {name: want[name] for name in got}
        assert "y" in got
    assert 20 <= found <= 95


# One chain and one of several strands in each run; each other compiles for a second or more.
QUICK = [("mlp", RAGGED), ("ladder", RAGGED)]
CASES = [(name, law) for name in LOOPED for law in (RAGGED, FixedInDegree(2))]
CASES = [c if c in QUICK else pytest.param(*c, marks=pytest.mark.slow) for c in CASES]


@pytest.mark.parametrize(("name", "law"), CASES)
def test_looped_outputs_equal_the_vertices_one_by_one(name, law):
    lift = draw(MODULES[name], law)
    xs = inputs(MODULES[name])
    want = jax.jit(lambda lift: lift.activations(xs)["y"][0])(lift)
    got = jax.jit(lambda lift: lift.batch(xs))(lift)
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-13)
    assert np.ptp(want) > 1e-3


DERIVED = [("ladder", "float64"), ("mlp", "float32"), ("transformer", "float64")]


@pytest.mark.slow  # compiles four programs a row
@pytest.mark.parametrize(
    ("name", "precision"),
    [c if c[0] == "ladder" else pytest.param(*c, marks=pytest.mark.slow) for c in DERIVED],
)
def test_derivatives_of_both_orders_equal_those_of_the_vertices_one_by_one(name, precision):
    lift = draw(MODULES[name], precision=precision)
    xs = inputs(MODULES[name]).astype(precision)
    theta, rest = eqx.partition(lift, eqx.is_inexact_array)
    v = jax.tree.map(jnp.cos, theta)

    def both(outputs):
        f = lambda theta: jnp.sum(jnp.sin(outputs(eqx.combine(theta, rest))))
        return jax.jit(lambda theta: jax.jvp(jax.grad(f), (theta,), (v,)))(theta)

    got = both(lambda lift: lift.batch(xs))
    want = both(lambda lift: lift.activations(xs)["y"][0])
    tolerance = 1e-11 if precision == "float64" else 2e-4
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert a.dtype == b.dtype == precision
        # Entries are sums in another order, and round as the largest terms do.
        largest = np.max(np.abs(b), initial=0.0)
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * largest)


def test_a_first_block_of_another_precision_is_taken_in_turn():
    lift = draw(MODULES["mlp"], precision="float32")
    wide = lift.weights | {"x->h1": lift.weights["x->h1"].astype("float64")}
    lift = eqx.tree_at(lambda lift: lift.weights, lift, wide)
    # The others follow the first in float64, as without a loop.
    xs = inputs(MODULES["mlp"])
    ways = eqx.filter_jit(lambda lift: (lift.batch(xs), lift.activations(xs)["y"][0]))
    np.testing.assert_allclose(*ways(lift), rtol=1e-12)


def test_many_activations_are_not_looped():
    lift = draw(MODULES["mlp"])
    numbers = looped._MOST_NUMBERS // 4
    assert len(planned(lift, numbers)) < len(planned(lift, numbers + 1)) == 11


# Of a lowered program: what only cuts, joins or names arrays has no program of its own, or one for
# many.
NAMING = "slice|reshape|concatenate|broadcast_in_dim|constant|convert|return|composite|case"


def operations(module, law, copies=16, samples=16):
    """How many operations of StableHLO a gradient, and a Hessian-vector product, take."""
    lift = draw(module, law, copies)
    xs = np.asarray(inputs(module, samples))
    task = tasks.supervised(xs, np.sin(xs.reshape(samples, -1)[:, 0]))
    problem = make_problem(lift, task.objective, "float64")
    arrays, static = eqx.partition(problem, eqx.is_array)
    gradient = lambda arrays, x: eqx.combine(arrays, static).value_and_grad(x)[1]
    product = lambda arrays, x: jax.jvp(lambda x: gradient(arrays, x), (x,), (x,))[1]
    texts = [jax.jit(f).lower(arrays, problem.start).as_text() for f in (gradient, product)]
    return [len(re.findall(rf"stablehlo\.(?!(?:{NAMING})\b)", text)) for text in texts]


@pytest.mark.slow  # lowers deep lifts
@pytest.mark.parametrize(
    "law", [BernoulliInDegree(4), pytest.param(FixedInDegree(4), marks=pytest.mark.slow)]
)
def test_programs_do_not_grow_with_depth(law):
    shallow, middle, deep = (operations(modules.mlp(2, depth=d), law) for d in (4, 12, 18))
    assert deep == middle
    # One by one, 16 layers took 790 and 1998.
    assert all(4 <= many <= 1.2 * few for many, few in zip(deep, shallow, strict=True))


# Measured: 477 and 883, 160 and 295. Gathered rows took 2870 and 6286, 1346 and 1686.
FEW = {"transformer": (600, 1100), "cnn2d": (200, 370)}


@pytest.mark.slow  # lowers deep lifts
@pytest.mark.parametrize("name", FEW)
def test_small_products_of_arrays_are_few_operations(name):
    module = {"transformer": modules.transformer(8, 4), "cnn2d": modules.cnn2d(8, 8)}[name]
    gradient, product = operations(module, BernoulliInDegree(4))
    assert 0.5 * FEW[name][0] <= gradient <= FEW[name][0]
    assert 0.5 * FEW[name][1] <= product <= FEW[name][1]

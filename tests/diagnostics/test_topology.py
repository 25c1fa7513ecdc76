"""Degrees, in-cones, unfoldings and coverage against loops, brute force and the laws."""

import itertools
from collections import Counter

import numpy as np
import pytest

from flowlift import diagnostics, modules
from flowlift.diagnostics.coverage import perfect_matching
from flowlift.lift import (
    BernoulliInDegree,
    BernoulliOutDegree,
    Complete,
    FixedInDegree,
    Gaussian,
    GaussianFanIn,
    GaussianWidth,
    OneToOne,
    Uniform,
    Zero,
    from_edges,
    sample,
)
from flowlift.modules import (
    Edge,
    Hidden,
    InnerProduct,
    Input,
    Output,
    PerceptronModule,
    Pointwise,
    Scalar,
    TupleMap,
    edge_name,
)

PATH = modules.mlp(3, depth=3, bias=False)
GATED = PerceptronModule(
    [
        Input("x", (2,)),
        Input("c", copies=3),
        Hidden("h", Pointwise("tanh")),
        Hidden("g", TupleMap(lambda a, b: a * b)),
        Hidden("k", Pointwise("tanh")),
        Output("y"),
    ],
    [
        Edge("x", "h", InnerProduct()),
        Edge("c", "h", Scalar()),
        Edge("h", "g", Scalar(), "left"),
        Edge("h", "g", Scalar(), "right"),
        Edge("g", "k", Scalar()),
        Edge("h", "k", Scalar()),
        Edge("k", "y", Scalar()),
    ],
)


def draw(module, copies, law, seed=0, weights=None):
    return sample(module, copies=copies, edges=law, seed=seed, weights=weights)


@pytest.mark.parametrize(
    ("law", "sizes"),
    [
        (BernoulliInDegree(3.0), (300, 500)),
        (BernoulliOutDegree(2.0), (500, 300)),
        (FixedInDegree(4), (400, 500)),
        (Complete(), (20, 30)),
        (OneToOne(), (50, 50)),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, tuple) else "",
)
def test_degrees_follow_their_laws(law, sizes):
    module = modules.mlp(3, depth=2, bias=False)
    copies = dict(zip(("h1", "h2"), sizes, strict=True))
    lifts = [draw(module, copies, law, seed) for seed in range(12)]
    seen = diagnostics.degrees(lifts[0])["h1->h2"]
    sources, targets, _ = lifts[0].edges("h1->h2")
    assert seen.inward.tolist() == [np.sum(targets == v) for v in range(sizes[1])]
    assert seen.outward.tolist() == [np.sum(sources == u) for u in range(sizes[0])]
    tests = [diagnostics.degree_test(lift, "h1->h2", law) for lift in lifts]
    least = min(p for test in tests for p in (test.inward, test.outward))
    assert least > 1e-4
    wrong = diagnostics.degree_test(lifts[0], "h1->h2", BernoulliInDegree(6.0))
    assert wrong.inward < 1e-6


def test_degree_laws_refuse_what_they_do_not_know():
    with pytest.raises(ValueError, match="known degrees"):
        diagnostics.degree_laws("sparse", 3, 3)  # pyright: ignore[reportArgumentType]
    lift = draw(PATH, 4, FixedInDegree(2))
    with pytest.raises(ValueError, match="must name a base edge"):
        diagnostics.degree_test(lift, "h1->h9", Complete())


def path_counts(lift, vertex, copy):
    """How many paths lead from each hidden ancestor, by walking all of them."""
    counts = {}
    stack = [(vertex, copy)]
    while stack:
        v, i = stack.pop()
        if isinstance(lift.module.by_name[v], Hidden):
            counts[v, i] = counts.get((v, i), 0) + 1
        for edge in lift.module.entering(v):
            sources, targets, _ = lift.edges(edge_name(edge))
            stack += [(edge.source, int(s)) for s in sources[targets == i]]
    return counts


@pytest.mark.parametrize("module", [PATH, GATED], ids=["path", "gated"])
@pytest.mark.parametrize("law", [BernoulliInDegree(1.5), FixedInDegree(2)], ids=repr)
def test_tree_copies_are_those_with_one_path_from_each_ancestor(module, law):
    lift = draw(module, 12, law, seed=3)
    found = diagnostics.tree_copies(lift)
    trees = 0
    for vertex in module.hidden:
        for copy in range(12):
            counts = path_counts(lift, vertex.name, copy)
            assert found[vertex.name][copy] == (max(counts.values()) == 1)
            cone = diagnostics.in_cone(lift, vertex.name, copy)
            assert cone.is_tree == found[vertex.name][copy]
            reached = {(v, int(i)) for v in found for i in cone.copies[v]}
            assert reached == set(counts)
            trees += cone.is_tree
    assert 12 < trees < 36


def test_blocks_do_not_change_the_answer(monkeypatch):
    lift = draw(GATED, 40, BernoulliInDegree(1.5), seed=1)
    whole = diagnostics.tree_copies(lift)
    monkeypatch.setattr("flowlift.diagnostics.in_cones._BLOCK", 7)
    for name, mask in diagnostics.tree_copies(lift).items():
        np.testing.assert_array_equal(mask, whole[name])


def test_edges_of_an_in_cone_join_its_vertices():
    lift = draw(GATED, 12, FixedInDegree(2))
    cone = diagnostics.in_cone(lift, "k", 5)
    for name, edge in GATED.edge_by_name.items():
        sources, targets, _ = lift.edges(name)
        inside = np.isin(targets, cone.copies[edge.target])
        np.testing.assert_array_equal(cone.edges[name], np.flatnonzero(inside))
        assert np.isin(sources[inside], cone.copies[edge.source]).all()
    with pytest.raises(ValueError, match="must name a lifted vertex"):
        diagnostics.in_cone(lift, "k", 12)


def test_sparse_cones_become_trees_and_complete_ones_do_not():
    """A depth-3 cone of in-degree 2 has two pairs below: P(tree) = 1 - 4/n + O(n^-2)."""
    fractions = []
    for n in (50, 5000):
        deep = [diagnostics.tree_fractions(draw(PATH, n, FixedInDegree(2), s)) for s in range(5)]
        assert all(f["h1"] == f["h2"] == 1 for f in deep)
        fractions.append(1 - np.mean([f["h3"] for f in deep]))
    assert fractions[0] == pytest.approx(4 / 50, rel=0.5)
    assert fractions[1] == pytest.approx(4 / 5000, rel=0.5)
    dense = diagnostics.tree_fractions(draw(PATH, 10, Complete()))
    assert list(dense.values()) == [1, 1, 0]


def test_fibrations_are_recognised_with_their_defects():
    copies = {"h1": 5, "h2": 7, "h3": 6}
    lift = draw(PATH, copies, {"*": FixedInDegree(1), "h3->y": FixedInDegree(1)})
    assert diagnostics.is_fibration(lift)
    assert not diagnostics.is_fibration(draw(PATH, 6, FixedInDegree(2)))
    edges = {name: lift.edges(name) for name in lift.fibres}
    s, t, w = edges["h1->h2"]
    edges["h1->h2"] = (s[1:], t[1:], w[1:])
    broken = from_edges(PATH, copies=copies, edges=edges)
    defects = diagnostics.fibration_defects(broken)
    assert defects["h1->h2"].tolist() == [t[0]]
    assert sum(d.size for d in defects.values()) == 1


def test_unfolding_of_a_base_module_lists_all_paths():
    tree = diagnostics.unfold(GATED, "k")
    # k <- g <- (left h, right h), k <- h; each h has an edge from x and one from c.
    assert tree.n_edges == 1 + 2 + 1 + 3 * 2
    fibration = draw(PATH, 4, {"*": FixedInDegree(1), "h3->y": FixedInDegree(1)})
    base = diagnostics.unfold(PATH, "y")
    assert diagnostics.unfold(fibration, "h3", 2).shape == diagnostics.unfold(PATH, "h3").shape
    assert base.n_edges == 4
    skips = modules.mlp_with_skips(1, depth=12, bias=False)
    assert diagnostics.unfold(skips, "y").n_edges == 2**13 - 1
    with pytest.raises(ValueError, match="edges of the unfolding"):
        diagnostics.unfold(skips, "y", limit=100)
    with pytest.raises(ValueError, match="must be a vertex"):
        diagnostics.unfold(PATH, "z")


def is_good(ours, theirs, hidden, eta):
    """Naive: try every bijection of the children, subtree by subtree."""
    if ours.vertex != theirs.vertex or len(ours.children) != len(theirs.children):
        return False
    if ours.vertex not in hidden:
        return ours.copy == theirs.copy
    return any(
        all(
            a[0] == b[0]
            and np.max(np.abs(a[1] - b[1]), initial=0) <= eta
            and is_good(a[2], b[2], hidden, eta)
            for a, b in zip(order, theirs.children, strict=True)
        )
        for order in itertools.permutations(ours.children)
    )


@pytest.mark.parametrize("eta", [np.inf, 1.0, 0.4])
@pytest.mark.parametrize(
    ("module", "vertex", "law"),
    [(PATH, "h2", FixedInDegree(2)), (GATED, "k", BernoulliInDegree(1.2))],
    ids=["path", "gated"],
)
def test_good_copies_are_those_of_the_naive_search(module, vertex, law, eta):
    lift = draw(module, 60, law, seed=2, weights=Gaussian(0.5))
    cones = [diagnostics.in_cone(lift, vertex, i) for i in range(60)]
    trees = [diagnostics.unfold(lift, vertex, i) for i in range(60)]
    hidden = {v.name for v in module.hidden}
    # Shapes that occur, so that there is something to find.
    shapes = Counter(t.shape for t, c in zip(trees, cones, strict=True) if c.is_tree)
    common = max(shapes, key=lambda shape: (shapes[shape] > 1) * len(repr(shape)))
    at = next(i for i in range(60) if cones[i].is_tree and trees[i].shape == common)
    naive = [cones[i].is_tree and is_good(trees[i], trees[at], hidden, eta) for i in range(60)]
    found = diagnostics.good_copies(lift, lift, vertex, at, eta=eta)
    assert found.tolist() == naive
    assert found[at]
    if np.isinf(eta):
        np.testing.assert_array_equal(diagnostics.covered(lift, lift, vertex, at), found)
        assert found.sum() > 1


def test_a_planted_witness_is_good_at_precision_zero():
    lift, witness = draw(GATED, 30, FixedInDegree(3)), draw(GATED, 8, FixedInDegree(1), 7)
    at = np.flatnonzero(diagnostics.tree_copies(witness)["k"])[0]
    before = diagnostics.good_copies(lift, witness, "k", at, eta=0.0)
    planted = diagnostics.plant_in_tree(lift, witness, "k", at, at=4, seed=1)
    assert not before.any()
    assert np.flatnonzero(diagnostics.good_copies(planted, witness, "k", at, eta=0.0)).tolist() == [
        4
    ]
    tree = diagnostics.unfold(witness, "k", at)
    assert diagnostics.unfold(planted, "k", 4).shape == tree.shape
    # k, g and three h give up 3 edges over each base edge for 1.
    assert lift.n_edges - planted.n_edges == 2 * (2 + 2 + 3)
    # The planted unit computes what the witness's unit computes.
    xs = {"x": np.ones((3, 2)), "c": np.arange(9.0).reshape(3, 3)}
    np.testing.assert_allclose(
        planted.activations(xs)["k"][4], witness.activations(xs)["k"][at], rtol=1e-12
    )
    with pytest.raises(ValueError, match="enlarge it"):
        diagnostics.plant_in_tree(draw(GATED, 1, FixedInDegree(1)), witness, "k", at)


def test_wrong_witnesses_are_refused():
    lift = draw(GATED, 5, FixedInDegree(2))
    with pytest.raises(ValueError, match="same module"):
        diagnostics.good_copies(lift, draw(PATH, 3, FixedInDegree(1)), "h1")
    with pytest.raises(ValueError, match="must be hidden"):
        diagnostics.good_copies(lift, lift, "y")
    with pytest.raises(ValueError, match="at least 0, but is -1"):
        diagnostics.good_copies(lift, lift, "k", eta=-1)


@pytest.mark.parametrize("k", [1, 3, 13])
def test_perfect_matchings(k):
    rng = np.random.default_rng(k)
    graphs = rng.random((40, k, k)) < 0.5
    graphs[0] = np.eye(k, dtype=bool)
    if k <= 3:
        naive = [
            any(all(g[i, p[i]] for i in range(k)) for p in itertools.permutations(range(k)))
            for g in graphs
        ]
        assert perfect_matching(graphs).tolist() == naive
    assert perfect_matching(graphs)[0]
    graphs[1, 0] = False
    assert not perfect_matching(graphs)[1]


RATES = [
    pytest.param(FixedInDegree(2), Gaussian(1.0), np.inf, id="fixed-coverage"),
    pytest.param(BernoulliInDegree(2.0), Gaussian(1.0), np.inf, id="bernoulli-coverage"),
    pytest.param(FixedInDegree(2), Gaussian(1.0), 0.8, id="fixed-good"),
    pytest.param(BernoulliOutDegree(1.5), Uniform(1.0), 0.9, id="out-good"),
    pytest.param(FixedInDegree(2), GaussianWidth(30.0), 0.9, id="width-good"),
]


@pytest.mark.parametrize(("law", "weight", "eta"), RATES)
def test_the_rate_of_good_copies_is_predicted_from_the_laws(law, weight, eta):
    """Nothing fitted: the mean over seeds of the count lies within 4 standard errors of p n."""
    module = modules.mlp(2, depth=2, bias=True)
    weights = dict.fromkeys(module.edge_by_name, Gaussian())
    weights |= {"h1->h2": weight, "x->h1": GaussianFanIn(1.0)}
    edges = {"h1->h2": law, "x->h1": Complete(), "1->h1": Complete(), "1->h2": Complete()}
    witness_edges = {
        "x->h1": ([0, 0], [0, 1], [[0.1, 0.2], [0.5, 0.0]]),
        "1->h1": ([0, 0], [0, 1], [0.0, 0.3]),
        "h1->h2": ([0, 1], [0, 0], [0.2, 0.6]),
        "1->h2": ([0], [0], [0.1]),
        "h2->y": ([0], [0], [1.0]),
        "1->y": ([0], [0], [0.0]),
    }
    arrays = {n: tuple(map(np.asarray, e)) for n, e in witness_edges.items()}
    witness = from_edges(module, copies={"h1": 2, "h2": 1}, edges=arrays)
    n = 600
    p = diagnostics.coverage_rate(witness, "h2", copies=n, edges=edges, weights=weights, eta=eta)
    counts = [
        diagnostics.good_copies(
            sample(module, copies=n, edges=law, weights=weights, seed=s), witness, "h2", eta=eta
        ).sum()
        for s in range(20)
    ]
    spread = np.sqrt(n * p * (1 - p) / 20)
    assert 5 < p * n <= n
    assert abs(np.mean(counts) - p * n) <= 4 * spread + 1e-9


def test_rates_with_scalar_inputs_shared_children_and_skips():
    """Fixed input fibres, an unwanted degree, and two witness units that share patterns."""
    edges = {
        "x->h": Complete(),
        "c->h": FixedInDegree(1),
        "left": FixedInDegree(1),
        "right": FixedInDegree(1),
        "g->k": FixedInDegree(1),
        "h->k": BernoulliInDegree(1.0),
    }
    lifts = [sample(GATED, copies=400, edges=edges, seed=s) for s in range(15)]
    at = np.flatnonzero(diagnostics.tree_copies(lifts[0])["k"])
    degree = diagnostics.degrees(lifts[0])["h->k"].inward
    one = next(i for i in at if degree[i] == 2)
    p = diagnostics.coverage_rate(lifts[0], "k", one, copies=400, edges=edges, weights={})
    counts = [diagnostics.covered(lift, lifts[0], "k", one).sum() for lift in lifts]
    assert abs(np.mean(counts) - 400 * p) <= 4 * np.sqrt(400 * p / 15)
    with pytest.raises(ValueError, match="lacks 'x->h'"):
        diagnostics.coverage_rate(lifts[0], "k", one, copies=400, edges={}, weights={})
    odd = edges | {"c->h": OneToOne()}
    with pytest.raises(ValueError, match="OneToOne"):
        diagnostics.coverage_rate(lifts[0], "k", one, copies=3, edges=odd, weights={})


def test_a_zero_law_is_close_to_zero_only():
    module = modules.mlp(1, depth=1, bias=False)
    for value, expected in ((0.05, 1.0), (0.5, 0.0)):
        arrays = {
            "x->h1": (np.array([0]), np.array([0]), np.array([[value]])),
            "h1->y": (np.array([0]), np.array([0]), np.array([1.0])),
        }
        witness = from_edges(module, copies=1, edges=arrays)
        p = diagnostics.coverage_rate(
            witness, "h1", copies=9, edges={"x->h1": Complete()}, weights={"x->h1": Zero()}, eta=0.1
        )
        assert p == expected


@pytest.mark.slow
def test_a_lift_of_a_million_edges():
    module = modules.mlp(3, depth=3, bias=False)
    n = 166_000
    lift = draw(module, n, FixedInDegree(2))
    assert lift.n_edges > 900_000
    witness = lift
    at = int(np.flatnonzero(diagnostics.tree_copies(lift)["h3"])[0])
    eta = 1.5
    edges = {"x->h1": Complete(), "h1->h2": FixedInDegree(2), "h2->h3": FixedInDegree(2)}
    small = diagnostics.plant_in_tree(draw(module, 7, FixedInDegree(2)), lift, "h3", at, at=0)
    p = diagnostics.coverage_rate(
        small, "h3", copies=n, edges=edges, weights=dict.fromkeys(edges, Gaussian()), eta=eta
    )
    good = diagnostics.good_copies(lift, witness, "h3", at, eta=eta).sum()
    assert abs(good - n * p) <= 5 * np.sqrt(n * p) + 1

"""Edge laws against their distributions, streams, and refusals."""

import numpy as np
import pytest
import scipy.stats as stats

from flowlift import modules
from flowlift.lift import (
    BernoulliInDegree,
    BernoulliOutDegree,
    Complete,
    FixedInDegree,
    Gaussian,
    GaussianFanIn,
    GaussianWidth,
    LecunNormal,
    OneToOne,
    Uniform,
    Zero,
    expected_counts,
    from_edges,
    sample,
)

N_U, N_V = 60, 40


def degrees(law, draws=200, n_u=N_U, n_v=N_V):
    rng = np.random.default_rng(0)
    ins, outs = [], []
    for _ in range(draws):
        sources, targets = law.draw(n_u, n_v, rng)
        pairs = targets * n_u + sources
        assert np.all(np.diff(pairs) > 0)
        ins.append(np.bincount(targets, minlength=n_v))
        outs.append(np.bincount(sources, minlength=n_u))
    return np.concatenate(ins), np.concatenate(outs)


def chi_square(observed, law):
    """P-value of observed degrees under a frozen discrete law, rare degrees pooled."""
    top = int(observed.max()) + 1
    expected = law.pmf(np.arange(top)) * observed.size
    counts = np.bincount(observed, minlength=top)
    common = expected >= 5
    tail = observed.size - expected[common].sum()
    e = np.append(expected[common], tail)
    o = np.append(counts[common], observed.size - counts[common].sum())
    return stats.chisquare(o[e > 0], e[e > 0]).pvalue


@pytest.mark.parametrize(
    ("law", "p"), [(BernoulliInDegree(3.0), 3 / N_U), (BernoulliOutDegree(2.5), 2.5 / N_V)]
)
def test_bernoulli_degrees_are_binomial(law, p):
    ins, outs = degrees(law)
    assert chi_square(ins, stats.binom(N_U, p)) > 1e-3
    assert chi_square(outs, stats.binom(N_V, p)) > 1e-3


def test_chi_square_helper_rejects_a_wrong_law():
    ins, _ = degrees(BernoulliInDegree(3.0))
    assert chi_square(ins, stats.binom(N_U, 3.3 / N_U)) < 1e-6


@pytest.mark.parametrize("k", [1, 5, 30, N_U])
def test_fixed_in_degree_is_fixed_and_uniform(k):
    ins, outs = degrees(FixedInDegree(k))
    assert np.all(ins == k)
    assert outs.mean() == k * N_V / N_U
    if k < N_U:
        assert chi_square(outs, stats.binom(N_V, k / N_U)) > 1e-3


def test_fixed_in_degree_draws_pairs_of_sources_uniformly():
    rng = np.random.default_rng(1)
    sources, _ = FixedInDegree(2).draw(5, 20_000, rng)
    pairs = sources.reshape(-1, 2)
    counts = np.bincount(pairs[:, 0] * 5 + pairs[:, 1], minlength=25).reshape(5, 5)
    upper = counts[np.triu_indices(5, 1)]
    assert upper.sum() == 20_000
    assert stats.chisquare(upper).pvalue > 1e-3


def test_mean_above_the_copies_means_all_pairs():
    ins, _ = degrees(BernoulliInDegree(100.0), draws=1)
    assert np.all(ins == N_U)
    ins, outs = degrees(Complete(), draws=1)
    assert np.all(ins == N_U)
    assert np.all(outs == N_V)


def test_capacity_fits_practically_every_draw():
    rng = np.random.default_rng(2)
    law = BernoulliInDegree(4.0)
    sizes = [law.draw(200, 200, rng)[0].size for _ in range(300)]
    assert max(sizes) <= law.capacity(200, 200)
    assert law.capacity(200, 200) < 1.3 * np.mean(sizes)


def test_a_draw_beyond_the_capacity_is_kept_whole(monkeypatch):
    monkeypatch.setattr(BernoulliInDegree, "capacity", lambda self, n_u, n_v: 8)
    lift = sample(modules.mlp(2), copies=30, edges=BernoulliInDegree(5), seed=0)
    sources, _, weights = lift.edges("h1->h2")
    assert 100 < sources.size == weights.size <= lift.weights["h1->h2"].size


def test_million_edges_are_drawn_in_linear_memory():
    sources, _ = BernoulliInDegree(8).draw(200_000, 200_000, np.random.default_rng(0))
    assert abs(sources.size - 1_600_000) < 6 * 1265


@pytest.mark.parametrize(
    ("law", "deviation"),
    [
        (Gaussian(2.0), 2.0),
        (GaussianFanIn(2.0), 2.0 / np.sqrt(16)),
        (GaussianWidth(2.0), 2.0 / np.sqrt(25)),
        (LecunNormal(2.0), 2.0 / np.sqrt(25 * 16)),
        (Uniform(3.0), 3.0 / np.sqrt(3)),
        (Zero(), 0.0),
    ],
)
def test_weight_laws_have_their_scale(law, deviation):
    values = law.draw(2000, (16,), 16, 25, np.random.default_rng(0))
    assert values.shape == (2000, 16)
    assert values.std() == pytest.approx(deviation, rel=0.02)
    assert abs(values.mean()) < 0.05


@pytest.mark.slow  # thousands of draws
def test_expected_counts_are_the_means_of_drawn_lifts():
    module = modules.transformer(3, 2, 4, blocks=1, width=2)
    for law in (FixedInDegree(2), Complete()):
        drawn = sample(module, copies=5, edges=law, seed=0)
        counts = expected_counts(module, copies=5, edges=law)
        assert counts == {"edges": drawn.n_edges, "parameters": drawn.n_parameters}
    law = {"*": BernoulliInDegree(2), "m1->r1": BernoulliOutDegree(1.5)}
    drawn = [sample(module, copies=5, edges=law, seed=seed) for seed in range(40)]
    edges, parameters = expected_counts(module, copies=5, edges=law).values()
    # The standard deviation of the number of edges is below sqrt(edges).
    assert np.mean([x.n_edges for x in drawn]) == pytest.approx(edges, abs=4 * np.sqrt(edges / 40))
    assert np.mean([x.n_parameters for x in drawn]) == pytest.approx(parameters, rel=0.05)


def test_same_seed_same_lift_other_seed_other_graph():
    module = modules.mlp(3)
    make = lambda seed: sample(module, copies=16, edges=FixedInDegree(3), seed=seed)
    first, again, other = make(0), make(0), make(1)
    assert first.graph_hash == again.graph_hash != other.graph_hash
    for name in first.weights:
        np.testing.assert_array_equal(first.weights[name], again.weights[name])


def test_the_stream_is_pinned():
    """The same seed must give the same lift for ever: this hash is part of the file format."""
    lift = sample(modules.mlp(3), copies=16, edges=FixedInDegree(3), seed=0)
    assert lift.graph_hash.startswith(PINNED)
    np.testing.assert_allclose(lift.weights["h1->h2"][:2], PINNED_WEIGHTS, rtol=0, atol=1e-15)


PINNED = "49b9e3dc57392425"
PINNED_WEIGHTS = [0.4049280004777163, -1.3727476328100754]


def test_hash_is_that_of_the_graph_not_of_the_law():
    module = modules.mlp(3)
    law = sample(module, copies=4, edges=Complete(), seed=0)
    fixed = sample(module, copies=4, edges=FixedInDegree(4), seed=0)
    by_hand = from_edges(
        module, copies=4, edges={name: law.edges(name) for name in module.edge_by_name}
    )
    assert law.graph_hash == fixed.graph_hash == by_hand.graph_hash


def test_weights_do_not_depend_on_the_graph_law():
    module = modules.mlp(3)
    a = sample(module, copies=8, edges=FixedInDegree(2), seed=0)
    b = sample(module, copies=8, edges=OneToOne(), seed=0)
    np.testing.assert_array_equal(a.weights["x->h1"], b.weights["x->h1"])


def test_defaults_are_the_stated_choices():
    module = modules.mlp(3, 2, vector_input=False)
    lift = sample(module, copies=8, edges=FixedInDegree(2), seed=0)
    assert np.all(np.asarray(lift.weights["h2->y"]) == 0)
    assert np.all(np.asarray(lift.weights["1->y"]) == 0)
    assert lift.fibres["h2->y"].is_complete
    assert lift.fibres["x->h1"].regular == 2


def test_round_trip_through_plain_edges():
    module = modules.mlp(3)
    lift = sample(module, copies=8, edges=BernoulliInDegree(2), seed=0)
    shuffled = {}
    for name in module.edge_by_name:
        sources, targets, weights = lift.edges(name)
        order = np.random.default_rng(0).permutation(sources.size)
        shuffled[name] = sources[order], targets[order], weights[order]
    again = from_edges(module, copies=8, edges=shuffled)
    assert again.graph_hash == lift.graph_hash
    x = np.random.default_rng(0).standard_normal((4, 3))
    np.testing.assert_allclose(again.batch(x), lift.batch(x), atol=1e-14)


MODULE = modules.mlp(3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"copies": 0}, r"`copies\['h1'\]` must be an integer of at least 1, but is 0"),
        ({"copies": {"h1": 4}}, r"must cover every hidden vertex, but lacks \['h2'\]"),
        ({"copies": {"h1": 4, "h2": 4, "y": 2}}, "fibres over inputs and outputs are fixed"),
        ({"edges": FixedInDegree(9)}, "in-degree of at most the number of source copies, 4"),
        ({"edges": {"h1->h3": Complete()}}, "must name base edges, but names 'h1->h3'"),
        ({"edges": {"h2->y": Complete()}}, "`edges.'h1->h2'.` must be an edge law, but is None"),
        ({"edges": "complete"}, "must be an edge law, but is 'complete'"),
        ({"weights": {"*": 1.0}}, "must be a weight law, but is 1.0"),
        ({"seed": -1}, "`seed` must be an integer from 0"),
        ({"seed": 0.5}, "`seed` must be an integer from 0"),
        ({"precision": "float16"}, "`precision` must be one of float64, float32"),
        ({"edges": {"*": OneToOne()}, "copies": {"h1": 3, "h2": 4}}, "OneToOne needs equal"),
    ],
)
def test_bad_arguments_are_refused_in_one_sentence(arguments, message):
    good = {"copies": 4, "edges": FixedInDegree(2), "seed": 0}
    with pytest.raises(ValueError, match=message) as error:
        sample(MODULE, **(good | arguments))
    assert str(error.value).count("\n") == 0


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        (([0], [7], [1.0]), "must map onto the base edge 'h1' -> 'h2'.*targets.*0..3"),
        (([0, 0], [1, 1], [1.0, 2.0]), "edge 0 -> 1 occurs twice"),
        (([0], [1], [[1.0]]), r"must have weights of shape \(1,\)"),
        (([0], [1], [np.nan]), "must have finite weights"),
    ],
)
def test_a_graph_that_is_no_lift_is_refused(edges, message):
    good = sample(MODULE, copies=4, edges=FixedInDegree(2), seed=0)
    given = {name: good.edges(name) for name in MODULE.edge_by_name}
    with pytest.raises(ValueError, match=message):
        from_edges(MODULE, copies=4, edges=given | {"h1->h2": edges})
    with pytest.raises(ValueError, match="must name every base edge, but lacks"):
        from_edges(MODULE, copies=4, edges={"h1->h2": given["h1->h2"]})


@pytest.mark.parametrize(
    "make",
    [
        lambda: BernoulliInDegree(0),
        lambda: BernoulliOutDegree(float("nan")),
        lambda: FixedInDegree(0),
        lambda: FixedInDegree(2.5),
        lambda: Gaussian(-1.0),
        lambda: Uniform(float("inf")),
    ],
)
def test_meaningless_laws_are_refused(make):
    with pytest.raises(ValueError, match="must be"):
        make()


def test_laws_take_numbers_of_numpy_and_jax_and_keep_them_as_python_s():
    import jax.numpy as jnp

    from flowlift.lift import BernoulliInDegree, FixedInDegree, Gaussian

    for number in (np.int64(3), jnp.asarray(3), np.asarray(3)):
        assert repr(FixedInDegree(number)) == "FixedInDegree(degree=3)"
        # An integer stays one: identities of runs hold the number as it was written.
        assert repr(BernoulliInDegree(number)) == "BernoulliInDegree(mean=3)"
    assert repr(Gaussian(jnp.float32(0.5))) == "Gaussian(scale=0.5)"
    for bad in (True, np.bool_(True), jnp.asarray(True), 1j, "2", jnp.ones(1)):
        with pytest.raises(ValueError, match="must be"):
            FixedInDegree(bad)
        with pytest.raises(ValueError, match="must be"):
            Gaussian(bad)

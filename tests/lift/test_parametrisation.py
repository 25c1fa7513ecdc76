"""Parametrisations: laws and rates are those of the abc table, and features move as it promises."""

import equinox as eqx
import jax
import numpy as np
import pytest

from flowlift import BernoulliInDegree, Complete, lift, modules, sample, solve, tasks
from flowlift.flow import LossBelow, rates_at
from flowlift.flow.rates import rates_of
from flowlift.leaves import leaf_names
from flowlift.lift import Gaussian, check_plan, parametrised_rates, read_equinox, resolve_copies
from flowlift.lift.parametrisation import parametrised_laws
from flowlift.lift.sampling import resolve_edge_laws

# (a, b, c) of input, hidden and output weights: Yang & Hu, arXiv 2011.14522, Table 1.
ABC = {
    "standard": {"x->h1": (0, 0, 0), "h1->h2": (0, 1 / 2, 0), "h2->y": (0, 1 / 2, 0)},
    "ntk": {"x->h1": (0, 0, 0), "h1->h2": (1 / 2, 0, 0), "h2->y": (1 / 2, 0, 0)},
    "mup": {"x->h1": (-1 / 2, 1 / 2, 0), "h1->h2": (0, 1 / 2, 0), "h2->y": (1 / 2, 1 / 2, 0)},
}
# With one hidden layer.
SHALLOW = {
    "mean field": {"x->h1": (0, 0, -1), "h1->y": (1, 0, -1)},
    "mup": {"x->h1": (-1 / 2, 1 / 2, 0), "h1->y": (1 / 2, 1 / 2, 0)},
    "ntk": {"x->h1": (0, 0, 0), "h1->y": (1 / 2, 0, 0)},
}
CASES = [(name, 2, ABC[name]) for name in ABC] + [(name, 1, SHALLOW[name]) for name in SHALLOW]


def drawn(name, n, depth, seed=0, edges=None):
    module = modules.mlp(5, depth=depth)
    laws = edges or Complete()
    return sample(module, copies=n, edges=laws, seed=seed, parametrisation=name)


@pytest.mark.parametrize(("name", "depth", "table"), CASES)
def test_laws_and_rates_are_those_of_the_table(name, depth, table):
    module, spread, rates = modules.mlp(5, depth=depth), {}, {}
    for n in (8, 32):
        sizes = resolve_copies(module, n)
        laws = resolve_edge_laws(module, Complete(), sizes)
        spread[n] = parametrised_laws(module, sizes, laws, name)
        rates[n] = parametrised_rates(drawn(name, n, depth), name)
    exponent = lambda large, small: np.log(large / small) / np.log(4)
    for edge, (a, b, c) in table.items():
        # Absorbed into the rate, the multiplier n^-a leaves n^-(a + b) and n^-(2a + c).
        scales = spread[32][edge].scale, spread[8][edge].scale
        np.testing.assert_allclose(exponent(*scales), -(a + b), atol=1e-12)
        found = exponent(rates[32][edge], rates[8][edge])
        np.testing.assert_allclose(found, -(2 * a + c), atol=1e-12)
    # What is drawn has that spread, the inputs' five terms included.
    wide = drawn(name, 32, depth).weights["x->h1"]
    assert np.std(wide) == pytest.approx(spread[32]["x->h1"].scale, rel=0.2)
    assert spread[32]["x->h1"].scale == pytest.approx(5**-0.5)


def test_the_multiplier_is_absorbed_exactly():
    """W = n^-a w moving at the rate n^-c is W moving at the rate n^-(2a + c)."""
    n = 4.0
    task = tasks.periodic({1: 1.0}, samples=6)
    narrow = sample(modules.mlp(2, depth=1), copies=4, edges=Complete(), seed=0)
    a = {"x->h1": -0.5, "h1->y": 0.5}
    blown = {k: w * n ** a.get(k, 0.0) for k, w in narrow.weights.items()}
    blown = eqx.tree_at(lambda m: m.weights, narrow, blown)

    def scaled(model):
        weights = {k: w * n ** -a.get(k, 0.0) for k, w in model.weights.items()}
        return task.objective(eqx.tree_at(lambda m: m.weights, model, weights))

    by_hand = solve(blown, scaled, 0.5, rtol=1e-9)
    rates = {k: n ** (-2 * v) for k, v in a.items()}
    found = solve(narrow, task, 0.5, rates=rates, rtol=1e-9)
    np.testing.assert_allclose(found.loss, by_hand.loss, rtol=1e-6)


def test_sparse_edges_are_as_edges_of_inputs():
    one = drawn("mup", 64, 2, edges=BernoulliInDegree(4))
    rates = parametrised_rates(one, "mup")
    assert rates["h1->h2"] == rates["x->h1"] == 64.0
    assert rates["h2->y"] == 1 / 64
    # Four terms, so that their sum is of order 1.
    assert np.std(one.edges("h1->h2")[2]) == pytest.approx(0.5, rel=0.15)
    assert not np.any(one.weights["1->h1"])


def test_solve_takes_the_name_for_rates_and_a_frozen_edge_stays_out():
    one = drawn("mup", 8, 2)
    table = parametrised_rates(one, "mup")
    found = dict(zip(leaf_names(one), rates_of(one, "mup"), strict=True))
    assert {f"weights.{edge}": rate for edge, rate in table.items()} == found
    held = eqx.tree_at(lambda m: m.weights["h1->h2"], one, None)
    assert len(rates_of(held, "mup")) == len(found) - 1
    assert rates_at(table, None) == table


def test_an_equinox_network_is_read_with_a_parametrisation():
    network = eqx.nn.MLP(3, "scalar", 16, 2, key=jax.random.key(0))
    read = read_equinox(network, parametrisation="mup", seed=3)
    assert read.module == read_equinox(network).module
    spread = np.std(read.weights["h2->y"])
    assert spread == pytest.approx(1 / 16, rel=0.5)
    same = sample(read.module, copies=16, edges={"*": Complete()}, parametrisation="mup", seed=3)
    np.testing.assert_array_equal(read.weights["h1->h2"], same.weights["h1->h2"])
    assert parametrised_rates(read, "mup")["x->h1"] == 16.0


def test_what_is_no_parametrisation_is_refused():
    module, laws = modules.mlp(2, depth=2), {"copies": 4, "edges": Complete()}
    with pytest.raises(ValueError, match="one of standard, ntk, mean field, mup"):
        sample(module, seed=0, parametrisation="abc", **laws)
    with pytest.raises(ValueError, match="'h1' feeds 'h2'; take 'mup'"):
        check_plan(module, parametrisation="mean field", **laws)
    with pytest.raises(ValueError, match="must name single edges"):
        sample(module, seed=0, parametrisation="mup", weights=Gaussian(), **laws)
    own = {"x->h1": Gaussian(3.0)}
    one = sample(module, seed=0, parametrisation="mup", weights=own, **laws)
    assert np.std(one.weights["x->h1"]) > 1.5
    with pytest.raises(ValueError, match="no lift"):
        solve({"w": np.ones(2)}, lambda m: (m["w"] ** 2).sum(), 1.0, rates="mup")
    assert lift.PARAMETRISATIONS == ("standard", "ntk", "mean field", "mup")


def features(model, x):
    """tanh units of the last hidden layer, by matrices; biases are of the constant."""
    weights = {name: np.asarray(w) for name, w in model.weights.items()}
    n = len(weights["1->h1"])
    first = np.tanh(x @ weights["x->h1"].reshape(n, -1).T + weights["1->h1"])
    if "h1->h2" not in weights:
        return first
    return np.tanh(first @ weights["h1->h2"].reshape(n, n).T + weights["1->h2"])


# Flows of networks up to width 256, six seeds each.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "depth", "slope"),
    [
        ("mup", 2, 0.0),
        ("mean field", 1, 0.0),
        ("ntk", 2, -0.5),
        ("standard", 2, -0.5),
        ("ntk", 1, -0.5),
    ],
)
def test_features_move_as_promised(name, depth, slope):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((8, 5)) / np.sqrt(5)
    sizes, moved = [16, 32, 64, 128, 256], []
    for n in sizes:
        each = []
        for seed in range(6):
            model = drawn(name, n, depth, seed)
            # Centred: the residual at the start is the same for all, whatever the draw.
            task = tasks.supervised(x, np.sign(x[:, 0]) * 0.5 + np.asarray(model.batch(x)))
            # Time is of order 1 but in the standard parametrisation, where it is of order 1 / n.
            found = solve(model, task, 1e4, rates=name, rtol=1e-4, stops=[LossBelow(0.02)])
            assert found.loss[-1] <= 0.02
            change = features(found.model, x) - features(model, x)
            each.append(np.sqrt(np.mean(change**2)))
        moved.append(np.mean(each))
    fitted = np.polyfit(np.log(sizes), np.log(moved), 1)[0]
    print(f"{name} {depth}: slope {fitted:.3f}")
    assert abs(fitted - slope) < 0.12

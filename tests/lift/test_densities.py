"""Erdos-Renyi densities: published proportions, wanted densities met, complete where they must."""

import math

import numpy as np
import pytest

import flowlift
from flowlift import lift, modules


def test_edges_are_in_proportion_to_units():
    """Mocanu et al. 2018: epsilon (n_u + n_v) edges are expected."""
    law = lift.ErdosRenyi(4.0)
    for n_u, n_v in ((100, 100), (30, 500), (784, 300)):
        assert n_u * n_v * law.probability(n_u, n_v) == pytest.approx(4 * (n_u + n_v))
        drawn = [len(law.draw(n_u, n_v, np.random.default_rng(seed))[0]) for seed in range(200)]
        # The mean of 200 binomial numbers, 5 standard errors.
        error = math.sqrt(4 * (n_u + n_v) / 200)
        assert np.mean(drawn) == pytest.approx(4 * (n_u + n_v), abs=5 * error)
    assert law.probability(3, 4) == 1


def test_kernels_count_as_in_rigl():
    """Evci et al. 2020: density in proportion to (n_u + n_v + w + h) / (n_u n_v w h)."""
    law = lift.ErdosRenyi(2.0, kernel=(3, 3))
    assert law.probability(64, 128) == pytest.approx(2 * (64 + 128 + 6) / (64 * 128 * 9))


@pytest.mark.parametrize("density", [0.02, 0.2, 0.6, 1.0])
def test_laws_of_one_scale_meet_the_density(density):
    module = modules.mlp(10, depth=4)
    copies = {"h1": 200, "h2": 50, "h3": 10, "h4": 4}
    laws = lift.erdos_renyi(module, copies, density)
    names = ["h1->h2", "h2->h3", "h3->h4"]
    assert sorted(laws) == names
    assert len({law.scale for law in laws.values()}) == 1
    pairs = {"h1->h2": (200, 50), "h2->h3": (50, 10), "h3->h4": (10, 4)}
    expected = sum(a * b * laws[name].probability(a, b) for name, (a, b) in pairs.items())
    assert expected == pytest.approx(density * sum(a * b for a, b in pairs.values()), rel=1e-12)
    shares = [laws[name].probability(*pairs[name]) for name in names]
    assert shares == sorted(shares)
    model = flowlift.sample(module, copies=copies, edges=laws, seed=0)
    assert model.fibres["h3->h4"].capacity <= 40


def test_kernels_of_a_module_are_found():
    module = modules.cnn2d(8, 8, channels=3, kernel=3, depth=2)
    copies = {v.name: 16 for v in module.hidden}
    laws = lift.erdos_renyi(module, copies, 0.3)
    sides = {name: law.kernel for name, law in laws.items()}
    assert (3, 3) in sides.values()
    numbers, expected = 0.0, 0.0
    for name, law in laws.items():
        edge = module.edge_by_name[name]
        ends = [copies.get(v, 3) for v in (edge.source, edge.target)]
        size = math.prod(ends) * math.prod(module.weight_shape(edge))
        numbers += size
        expected += size * law.probability(*ends)
    assert expected == pytest.approx(0.3 * numbers, rel=1e-12)
    assert {law.kernel for law in lift.erdos_renyi(module, copies, 0.3, kernel=False).values()} == {
        ()
    }


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: lift.ErdosRenyi(0.0), "`scale` of ErdosRenyi must be a positive"),
        (lambda: lift.ErdosRenyi(1.0, kernel=(0,)), "`kernel` of ErdosRenyi must hold integers"),
        (lambda: lift.ErdosRenyi(1.0, kernel=3), "`kernel` of ErdosRenyi must hold integers"),
        (lambda: lift.erdos_renyi(modules.mlp(3), 4, 0.0), "`density` must be a number above 0"),
        (lambda: lift.erdos_renyi(modules.mlp(3, depth=1), 4, 0.5), "that are not complete"),
    ],
)
def test_densities_without_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()

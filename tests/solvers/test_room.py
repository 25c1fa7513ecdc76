"""Solvers keep as many vectors as their memory holds, counted in bytes."""

import jax
import numpy as np
import problems
import pytest

from flowlift import flow, tasks
from flowlift.flow.choice import choose
from flowlift.flow.sharpness import Ends
from flowlift.solvers import BDF, ExpRosenbrock
from flowlift.solvers.host.bdf import HostBDF
from flowlift.solvers.room import KEPT, bdf_worth_while, of_bdf, of_exprb

SIZE = 300


def kept(memory) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(memory) if isinstance(leaf, np.ndarray))


@pytest.mark.parametrize("vectors", [62, 80, 150, 243, 244])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_both_copies_of_the_bases_of_a_bdf_fit_with_all_else(vectors, dtype):
    y = np.zeros(SIZE + 2, dtype)
    one = SIZE * y.itemsize
    solver = BDF(memory=vectors * one)
    memory = HostBDF.of(solver, 1e-3, 1e-6).blank(y)
    capacity, secants = of_bdf(solver, y[:-2])
    assert memory.curvature.krylov.capacity == capacity
    assert memory.curvature.secants.shape == (secants, SIZE)
    # 34 vectors beside them, of which 8 differences and a point are held for long.
    assert 2 * (capacity + 1 + secants) + 34 <= vectors
    assert (capacity, secants) == (64, 40) or 2 * (capacity + 2 + secants) + 34 >= vectors - 2
    # Small matrices come on top, of no size at large P.
    small = (3 + capacity + 3 * secants) * (capacity + secants) * y.itemsize
    assert kept(memory) <= (capacity + 1 + secants + 9.1) * one + small


def test_the_usual_memory_leaves_two_million_parameters_their_bases():
    usual, point = BDF(), np.lib.stride_tricks.as_strided(np.zeros(1), (2_000_000,), (0,))
    assert of_bdf(usual, point) == (64, 40)
    assert of_exprb(256, KEPT, point) == 226
    assert bdf_worth_while(5_000_000, 8)
    assert not bdf_worth_while(10_000_000, 8)
    assert bdf_worth_while(10_000_000, 4)


def test_too_little_is_refused_by_the_solver_and_left_by_the_choice():
    with pytest.raises(ValueError, match=r"must hold 62 vectors of 2400 bytes, but is 100000; .*"):
        of_bdf(BDF(memory=100_000), np.zeros(SIZE))
    wide = choose(7_000_000, 1e4, 1e-4, Ends(0.0, 10.0), True)
    narrow = choose(7_000_000, 1e4, 1e-4, Ends(0.0, 10.0), True, itemsize=4)
    assert (wide.names, narrow.names) == (("rkc2",), ("bdf",))


# The graph compiles two solvers for half a minute.
@pytest.mark.parametrize("engine", ["host", pytest.param("graph", marks=pytest.mark.slow)])
def test_a_small_basis_costs_products_and_no_accuracy(engine):
    problem = problems.Quadratic.draw(SIZE, 1e3)
    model, task = problems.Vector(np.asarray(problem.start)), tasks.population(problem)
    solve = lambda solver: flow.solve(model, task, 10.0, rtol=1e-5, solver=solver, engine=engine)
    small, usual = solve(BDF(memory=62 * 8 * SIZE)), solve(BDF())
    np.testing.assert_allclose(small.loss, usual.loss, rtol=1e-3)
    assert small.stats.hvps >= usual.stats.hvps


def test_the_basis_of_the_exponential_method_is_bounded_too():
    assert of_exprb(256, 50 * 8 * SIZE, np.zeros(SIZE)) == 26
    problem = problems.Quadratic.draw(40, 1e2)
    model, task = problems.Vector(np.asarray(problem.start)), tasks.population(problem)
    solver = ExpRosenbrock(memory=40 * 8 * 40)
    found = flow.solve(model, task, 1.0, rtol=1e-5, solver=solver)
    exact = flow.solve(model, task, 1.0, rtol=1e-9, solver="tsit5")
    np.testing.assert_allclose(found.loss, exact.loss, rtol=1e-3)

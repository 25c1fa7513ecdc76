"""How many seeds a cell has where a study leaves it open."""

import dataclasses

import pytest

from flowlift import studies


@pytest.mark.parametrize("count", [1, 4, 256, 257, 1000])
def test_a_size_has_at_most_64_cells_of_at_least_4_seeds(count):
    study = studies.structure_study(
        {
            "name": "s",
            "module": {"kind": "mlp", "inputs": 2, "depth": 2},
            "lift": {"sizes": [3], "edges": {"kind": "fixed_in_degree", "degree": 2}},
            "task": {"kind": "periodic", "harmonics": {"1": 1.0}, "samples": 4},
            "flow": {"horizon": 1.0},
            "seeds": count,
        }
    )
    sizes = [len(cell.seeds) for cell in studies.cells(study)]
    assert sum(sizes) == count
    assert len(sizes) <= 64
    assert all(size >= min(4, count) for size in sizes[:-1])
    given = dataclasses.replace(study, chunk=3)
    assert max(len(cell.seeds) for cell in studies.cells(given)) == min(3, count)

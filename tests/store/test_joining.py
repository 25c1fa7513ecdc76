"""Runs that do not hold the same are joined, and what one lacks is NaN there."""

import numpy as np
import pytest
import xarray

from flowlift.store.joining import along_seeds


def _run(seed: int, **variables) -> xarray.Dataset:
    return xarray.Dataset({"loss": ("time", [1.0, seed])} | variables).assign_coords(
        time=[0.0, 1.0], seed=[seed]
    )


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_a_run_that_failed_before_it_was_observed_is_joined_with_one_that_was(order):
    norms = ("observation_time", [3.0, 2.0, 1.0])
    observed = _run(0, norm=norms).assign_coords(observation_time=[0.1, 1.0, 10.0])
    runs = [observed.squeeze("seed"), _run(1).squeeze("seed")]
    joined = along_seeds([runs[i] for i in order]).sortby("seed")
    np.testing.assert_array_equal(joined.observation_time, [0.1, 1.0, 10.0])
    np.testing.assert_array_equal(joined.norm, [[3.0, 2.0, 1.0], [np.nan] * 3])
    np.testing.assert_array_equal(joined.loss, [[1.0, 0.0], [1.0, 1.0]])

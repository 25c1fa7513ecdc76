"""What `compare` refuses before it computes, and numbers of NumPy that it takes."""

import jax.numpy as jnp
import numpy as np
import pytest

from flowlift import solve
from flowlift.compare.curves import checked_whole, compare


def loss(w):
    return jnp.sum(w**2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repeats": -1}, "`repeats` must be an integer of at least 0, but is -1"),
        ({"repeats": 1.5}, "`repeats` must be an integer"),
        ({"rtols": [float("nan")]}, "`rtols` must hold numbers between 0 and 1"),
        ({"rtols": [np.float64(2.0)]}, "`rtols` must hold numbers between 0 and 1"),
        ({"rtols": []}, "`rtols` must hold at least one"),
        ({"solvers": []}, "`solvers` must hold at least one"),
        ({"solvers": "tsit5"}, "`solvers` must hold at least one"),
        ({"max_gradients": 0}, "`max_gradients` must be a number of at least 1"),
        ({"max_gradients": float("nan")}, "`max_gradients` must be a number of at least 1"),
    ],
)
def test_refusals(options, message):
    given = {"solvers": ["tsit5"], "rtols": [np.float32(1e-3)]} | options
    with pytest.raises(ValueError, match=message):
        compare(jnp.ones(2), loss, 1.0, **given)


def test_integers_of_numpy_are_integers():
    assert checked_whole("size", np.int32(3), 1) == 3


def test_names_of_compare_are_explained_where_they_are_not_known():
    with pytest.raises(ValueError, match="names with a colon are those of `compare`"):
        solve(jnp.ones(2), loss, 1.0, solver="gd:0.1")

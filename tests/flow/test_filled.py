"""Empty rows are not written, and arrays come back to the last bit."""

import jax.numpy as jnp
import numpy as np
import problems
import pytest

from flowlift.flow import Checkpoints, solve
from flowlift.flow.filled import with_empty_rows, without_empty_rows


def rows(count, filled, dtype=float):
    array = np.zeros((count, 20_000), dtype)
    array[:filled] = np.arange(1, filled + 1)[:, None]
    return array


def negative_zero():
    array = rows(4, 1)
    array[2, 7] = -0.0
    return array


ARRAYS = {
    "half full": (rows(6, 3), 3),
    "empty": (rows(6, 0), 0),
    "full": (rows(4, 4), 4),
    "a gap": (np.concatenate([rows(3, 1), rows(2, 1)]), 4),
    "a negative zero": (negative_zero(), 3),
    "float32": (rows(4, 2, np.float32), 2),
    "by columns": (np.asfortranarray(rows(4, 2)), 2),
    "a vector": (np.zeros(100_000), 100_000),
    "small": (np.zeros((3, 2)), 3),
    "no rows": (np.zeros((0, 3)), 0),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_rows_that_are_written_and_bits_that_come_back(name):
    array, count = ARRAYS[name]
    kept = without_empty_rows({"header": np.asarray("{}"), "a": array})
    assert len(kept["a"]) == count
    back = with_empty_rows(dict(kept))
    assert list(back) == ["header", "a"]
    assert (back["a"].dtype, back["a"].shape) == (array.dtype, array.shape)
    assert np.ascontiguousarray(back["a"]).tobytes() == np.ascontiguousarray(array).tobytes()


def test_a_file_written_whole_is_read_as_it_is():
    whole = {"header": np.asarray("{}"), "position/0": rows(5, 2)}
    assert with_empty_rows(dict(whole)) == whole


class Killed(BaseException):
    """Nothing in the flow may catch it."""


def kill(checkpoint):
    raise Killed


# Two flows by a BDF of 400 parameters: two seconds.
@pytest.mark.slow
def test_a_flow_goes_on_from_a_file_of_the_vectors_it_has(tmp_path):
    problem = problems.Quadratic.draw(400, 50.0)
    model = problems.Vector(jnp.asarray(problem.start))
    flow = lambda **given: solve(model, problem, 20.0, solver="bdf", rtol=1e-8, **given)
    path = tmp_path / "flow.npz"
    with pytest.raises(Killed):
        flow(checkpoints=Checkpoints(path, 0.0, on_leg=kill))
    # The basis alone has room for 65 vectors, and secants for 40 beside.
    assert path.stat().st_size < 65 * problem.start.nbytes
    with np.load(path) as archive:
        assert "rows" in archive
    again, whole = flow(checkpoints=Checkpoints(path)), flow()
    np.testing.assert_array_equal(again.loss, whole.loss)
    np.testing.assert_array_equal(again.model.theta, whole.model.theta)

"""What is timed where there is no table: a choice, kept for a device, never on a CPU."""

import jax
import numpy as np
import pytest

from flowlift.kernels import measured as times
from flowlift.kernels.choice import choose
from flowlift.kernels.fibre import Fibre
from flowlift.kernels.measured import Measured

FOUND = Measured("naive", 3.0, 64)


def another_device(monkeypatch, found=FOUND):
    monkeypatch.setattr("flowlift.kernels.choice.measured", lambda platform: found)


def sparse(pairs_an_edge):
    """A fibre with so many pairs for each edge; only its sizes matter."""
    names = np.arange(8)
    return Fibre.build(names, np.zeros(8, int), 8, pairs_an_edge, 8)[0]


def test_a_cpu_has_a_table_and_is_never_timed(monkeypatch):
    monkeypatch.setattr(times, "timed", lambda: pytest.fail("it was timed"))
    assert times.measured() is None
    assert times.measured("cpu") is None
    # Another device than there is cannot be timed either.
    assert times.measured("gpu") is None


def test_what_was_timed_decides(monkeypatch):
    another_device(monkeypatch)
    assert choose(sparse(2), 64, "float32", "gpu") == "dense"
    assert choose(sparse(4), 64, "float32", "gpu") == "naive"
    another_device(monkeypatch, Measured("padded", 10.0, 16))
    assert choose(sparse(4), 64, "float32", "gpu") == "dense"


def test_it_is_kept_for_the_next_process(tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWLIFT_CACHE", str(tmp_path))
    path = times.path_of("A device/of some kind")
    assert path is not None
    assert path.is_relative_to(tmp_path)
    assert times.read(path) is None
    times.write(path, FOUND)
    assert times.read(path) == FOUND
    for text in ("", "[]", '{"sparse": "csr", "dense_gain": 1, "batch": 4}'):
        path.write_text(text)
        assert times.read(path) is None
    monkeypatch.setenv("FLOWLIFT_CACHE", "off")
    assert times.path_of("A device") is None


@pytest.mark.slow  # Seven programs.
def test_times_of_a_small_fibre_make_a_choice():
    """On whatever device there is, also while something is traced."""
    found = []

    @jax.jit
    def traced(x):
        import threading

        thread = threading.Thread(target=lambda: found.append(times.timed(64, 4, (2, 4))))
        thread.start()
        thread.join()
        return x

    traced(1.0)
    assert found[0].sparse in ("padded", "naive")
    assert found[0].dense_gain > 0
    assert found[0].batch in (2, 4)

"""The automatic choice, from sizes alone, and that it can be overridden."""

import numpy as np
import pytest

from flowlift import FixedInDegree, modules, sample
from flowlift.kernels import METHODS, Fibre, choose, samples_per_pass
from flowlift.kernels.choice import choose_array


def regular(n, k):
    s = (np.arange(n)[:, None] + np.arange(k)) % n
    return Fibre.build(s.ravel(), np.repeat(np.arange(n), k), n, n, regular=k)[0]


@pytest.mark.parametrize(
    ("n", "k", "samples", "platform", "method"),
    [
        (16, 8, 256, "cpu", "dense"),
        (128, 32, 64, "cpu", "dense"),
        (128, 8, 256, "cpu", "padded"),
        (128, 8, 4, "cpu", "csr"),
        (128, 8, 64, "cpu", "csr"),
        (512, 8, 64, "cpu", "padded"),
        (128, 8, 4, "gpu", "padded"),
        (512, 8, 256, "cpu", "padded"),
        (512, 100, 256, "cpu", "dense"),
        (1024, 100, 256, "cpu", "padded"),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_measured_choice(n, k, samples, platform, method, dtype):
    assert choose(regular(n, k), samples, dtype, platform) == method


@pytest.mark.parametrize(("samples", "method"), [(64, "csr"), (4096, "padded")])
def test_ragged_rows_are_sliced_only_where_it_pays_for_compiling(samples, method):
    rng = np.random.default_rng(0)
    targets, sources = np.nonzero(rng.random((256, 256)) < 4 / 256)
    fibre, _ = Fibre.build(sources, targets, 256, 256)
    assert choose(fibre, samples, "float64", "cpu") == method


@pytest.mark.parametrize(
    ("n", "k", "numbers", "columns", "sliding", "method"),
    [
        (16, 4, 16, 1 << 14, False, "dense"),
        (16, 4, 9, 1 << 14, True, "padded"),
        (16, 4, 9, 256, True, "dense"),
        (64, 8, 16, 1 << 12, False, "padded"),
        (64, 8, 16, 16, False, "dense"),
        (64, 8, 16, 17, False, "padded"),
        (512, 8, 16, 1, False, "padded"),
    ],
)
def test_the_measured_choice_for_arrays(n, k, numbers, columns, sliding, method):
    assert choose_array(regular(n, k), numbers, columns, sliding=sliding) == method


@pytest.mark.parametrize(("sliding", "gain"), [(False, 8), (True, 4)])
def test_ragged_rows_of_arrays_are_dense_up_to_twice_as_many_pairs(sliding, gain):
    for pairs_per_slot, method in ((gain, "dense"), (2 * gain, "padded")):
        fibre, _ = Fibre.build([0], [0], 32, 32, 32 * 32 // pairs_per_slot)
        assert choose_array(fibre, 9, 1 << 14, sliding=sliding) == method


def test_complete_fibres_are_matrices():
    assert choose(Fibre.complete(3, 4), 5, "float64") == "complete"


@pytest.mark.parametrize("method", [m for m in METHODS if m != "complete"])
def test_a_lift_takes_the_method_it_is_given(method):
    module = modules.mlp(3, depth=2)
    x = np.random.default_rng(0).standard_normal((5, 3))
    outputs = [
        sample(module, copies=9, edges=FixedInDegree(3), seed=0, method=m).activations(x)["h2"]
        for m in (method, "naive")
    ]
    np.testing.assert_allclose(*outputs, rtol=1e-12, atol=1e-13)


def test_passes_keep_a_fibre_in_the_cache_and_rows_long():
    assert samples_per_pass(512 * 4, platform="cpu") == 512
    assert samples_per_pass(2048 * 8, platform="cpu") == 128
    assert samples_per_pass(65536 * 8, platform="cpu") == 128
    assert samples_per_pass(1, platform="cpu") >= 1 << 20
    assert samples_per_pass(65536 * 8, platform="gpu") is None
    assert samples_per_pass(512 * 64 * 4, 64, "cpu") == 8
    assert samples_per_pass(1 << 20, 64, "cpu") == 2

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowlift.kernels import Fibre, fibre_sum

N_U, N_V, K, B = 7, 5, 3, 4
CASES = [("csr", "ragged"), ("dense", "ragged"), ("naive", "ragged"), ("csr", "regular")]
CASES += [("padded", "regular"), ("padded", "ragged"), ("complete", "complete"), ("auto", "ragged")]
DTYPES = ["float32", "float64"]
# Unrolled rows compile slowly: one of them in each run, the others by `make test-slow`.
UNROLLED = [("padded", "ragged", "float32"), *(("padded", "regular", dtype) for dtype in DTYPES)]
NESTED = [(*case, dtype) for case in CASES for dtype in DTYPES]
# In single precision the programs are the same, compiled again: one of them in each run.
UNROLLED += [c for c in NESTED if c[2] == "float32" and c[:2] != ("csr", "ragged")]
NESTED = [pytest.param(*c, marks=pytest.mark.slow) if c in UNROLLED else c for c in NESTED]


@pytest.fixture(autouse=True)
def _x64():
    with jax.enable_x64(True):
        yield


def make(kind, dtype, seed=0):
    rng = np.random.default_rng(seed)
    if kind == "complete":
        fibre = Fibre.complete(N_U, N_V)
    elif kind == "regular":
        s = np.concatenate([rng.choice(N_U, K, replace=False) for _ in range(N_V)])
        fibre, _ = Fibre.build(s, np.repeat(np.arange(N_V), K), N_U, N_V, regular=K)
    else:
        t, s = np.nonzero(rng.random((N_V, N_U)) < 0.4)
        keep = t != 2
        fibre, _ = Fibre.build(s[keep], t[keep], N_U, N_V, capacity=20)
    w = jnp.asarray(rng.normal(size=fibre.capacity), dtype)
    return fibre, w, jnp.asarray(rng.normal(size=(N_U, B)), dtype)


def loop(fibre, w, y):
    z = np.zeros((fibre.n_targets, y.shape[1]), y.dtype)
    for e, (s, t) in enumerate(zip(*fibre.edges(), strict=True)):
        z[t] += np.asarray(w)[e] * np.asarray(y)[s]
    return z


def reference(fibre, w, y):
    """The same sum through a dense matrix, differentiated by JAX alone."""
    s, t = fibre.edges()
    return jnp.zeros((fibre.n_targets, fibre.n_sources), w.dtype).at[t, s].set(w[: s.size]) @ y


def assert_close(a, b, dtype):
    tol = 2e-5 if dtype == "float32" else 1e-12
    for x, z in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == z.dtype == dtype
        np.testing.assert_allclose(x, z, rtol=tol, atol=tol * max(1.0, float(np.abs(z).max())))


def test_the_comparison_sees_a_difference_a_dtype_and_a_shape():
    one = jnp.ones(3)
    assert_close([one], [one], "float64")
    for other in (one.at[1].add(1e-10), one.astype("float32"), jnp.ones(2)):
        with pytest.raises(AssertionError):
            assert_close([other], [one], "float64")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("method", "kind"), CASES)
def test_value_equals_the_naive_loop(method, kind, dtype):
    fibre, w, y = make(kind, dtype)
    got = jax.jit(lambda w, y: fibre_sum(fibre, w, y, method=method))(w, y)
    assert_close(got, jnp.asarray(loop(fibre, w, y)), dtype)


def nestings(f):
    """Every mixture of forward and reverse mode to second order, as functions of (x, v)."""
    grad = jax.grad(f)
    return {
        "grad": lambda x, v: grad(x),
        "jvp": lambda x, v: jax.jvp(f, (x,), (v,))[1],
        "jvp of grad": lambda x, v: jax.jvp(grad, (x,), (v,))[1],
        "linearize of grad": lambda x, v: jax.linearize(grad, x)[1](v),
        "vjp of jvp": lambda x, v: jax.vjp(lambda x: jax.jvp(f, (x,), (v,))[1], x)[1](
            jnp.ones((), v["w"].dtype)
        ),
        "grad of grad": lambda x, v: jax.grad(
            lambda x: sum(jax.tree.leaves(jax.tree.map(jnp.vdot, grad(x), v)))
        )(x),
        "grad of jvp of grad": lambda x, v: jax.grad(
            lambda x: jnp.sum(jax.jvp(grad, (x,), (v,))[1]["w"] ** 2)
        )(x),
    }


def nested(sum_, fibre, x, v):
    f = lambda x: jnp.sum(jnp.tanh(sum_(fibre, x["w"], jnp.sin(x["y"]))) ** 2)
    return jax.jit(lambda x, v: {n: g(x, v) for n, g in nestings(f).items()})(x, v)


@functools.cache
def nested_reference(kind, dtype):
    """Of all methods: compiled once."""
    fibre, w, y = make(kind, dtype)
    _, dw, dy = make(kind, dtype, 1)
    return nested(reference, fibre, {"w": w, "y": y}, {"w": dw, "y": dy})


@pytest.mark.parametrize(("method", "kind", "dtype"), NESTED)
def test_derivatives_in_every_nesting(method, kind, dtype):
    fibre, w, y = make(kind, dtype)
    x, (_, dw, dy) = {"w": w, "y": y}, make(kind, dtype, 1)
    v = {"w": dw, "y": dy}

    got = nested(lambda *a: fibre_sum(*a, method=method), fibre, x, v)
    want = nested_reference(kind, dtype)
    for name in want:
        assert_close(got[name], want[name], dtype)
    count = int(fibre.count)
    for tree in (got["grad"], got["jvp of grad"], got["grad of grad"]):
        assert not np.any(tree["w"][count:])


@pytest.mark.parametrize(("method", "kind"), CASES)
def test_padding_is_ignored_whatever_it_holds(method, kind):
    fibre, w, y = make(kind, "float64")
    dirty = np.where(np.arange(w.size) < int(fibre.count), w, np.nan)

    @jax.jit
    def both(w, y):
        z, back = jax.vjp(lambda w, y: fibre_sum(fibre, w, y, method=method), w, y)
        return z, back(jnp.ones_like(z))

    z, gradients = both(dirty, y)
    assert_close(z, jnp.asarray(loop(fibre, w, y)), "float64")
    assert all(np.all(np.isfinite(g)) for g in gradients)


@pytest.mark.slow  # compiles each pair of axes
@pytest.mark.parametrize(("method", "kind"), CASES)
@pytest.mark.parametrize(
    "axes",
    [*(pytest.param(axes, marks=pytest.mark.slow) for axes in ((None, 0), (0, None))), (0, 1)],
)
def test_vmap_over_weights_and_activations(method, kind, axes):
    fibre, w, y = make(kind, "float64")
    w, y = np.asarray(w), np.asarray(y)
    ws = w if axes[0] is None else np.stack([w, 2 * w, -w])
    ys = y if axes[1] is None else np.stack([y, y + 1, y * 3], axes[1])
    f = lambda w, y: fibre_sum(fibre, w, y, method=method)
    g = lambda w, y: jax.grad(lambda w, y: jnp.sum(f(w, y) ** 3), argnums=(0, 1))(w, y)
    both = lambda w, y: (f(w, y), g(w, y))
    got, single = jax.jit(jax.vmap(both, axes))(ws, ys), jax.jit(both)
    one = [
        single(
            ws if axes[0] is None else ws[i],
            ys if axes[1] is None else np.take(ys, i, axes[1]),
        )
        for i in range(3)
    ]
    assert_close(got, jax.tree.map(lambda *x: np.stack(x), *one), "float64")


@pytest.mark.parametrize("method", ["csr", "padded", "naive", "dense"])
def test_vmap_over_the_structure(method):
    a, b = make("regular", "float64", 1), make("regular", "float64", 2)
    stack = jax.tree.map(lambda *x: jnp.stack(x), a, b)
    got = jax.jit(jax.vmap(lambda f, w, y: fibre_sum(f, w, y, method=method)))(*stack)
    want = jnp.stack([jnp.asarray(loop(*a)), jnp.asarray(loop(*b))])
    assert_close(got, want, "float64")


@pytest.mark.parametrize(("method", "kind"), CASES)
def test_one_trace_for_all_seeds_of_a_shape(method, kind):
    traces = []

    @jax.jit
    def gradient(fibre, w, y):
        traces.append(1)
        return jax.grad(lambda w: jnp.sum(fibre_sum(fibre, w, y, method=method) ** 2))(w)

    for seed in range(3):
        gradient(*make(kind, "float32", seed))
    assert len(traces) == 1


@pytest.mark.parametrize("method", ["csr", "dense", "naive"])
def test_a_fibre_without_edges_sums_to_zero(method):
    fibre, _ = Fibre.build([], [], 3, 2)
    z = fibre_sum(fibre, jnp.ones(fibre.capacity), jnp.ones((3, 4)), method=method)
    assert z.shape == (2, 4)
    assert not z.any()


@pytest.mark.parametrize(
    ("kind", "method", "words"),
    [
        ("ragged", "fast", "must be 'auto' or one of"),
        ("ragged", "complete", "only for a fibre made by"),
        ("complete", "csr", "on a complete fibre"),
    ],
)
def test_a_method_that_does_not_apply_is_refused(kind, method, words):
    with pytest.raises(ValueError, match=words):
        fibre_sum(*make(kind, "float32"), method=method)


def test_wrong_shapes_are_refused():
    fibre, w, y = make("ragged", "float32")
    with pytest.raises(ValueError, match="`w` must have shape"):
        fibre_sum(fibre, w[:-1], y)
    with pytest.raises(ValueError, match="`y` must have shape"):
        fibre_sum(fibre, w, y[:-1])

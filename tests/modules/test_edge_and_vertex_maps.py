"""Edge maps and vertex maps against loops and SciPy, their shapes, and their refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
import scipy.special
import scipy.stats

from flowlift import modules
from flowlift.modules import (
    At,
    Bias,
    Convolution,
    Diagonal,
    Gated,
    Identity,
    InnerProduct,
    LowRank,
    Matrix,
    Normalise,
    Pointwise,
    Pool,
    Residual,
    Scalar,
    Sine,
    SoftmaxAttention,
    TupleMap,
)


def draw(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


EDGE_MAPS = [
    (Scalar(), (4,)),
    (InnerProduct(), (5, 3)),
    (InnerProduct(2), (5, 3)),
    (Matrix(2), (5, 3)),
    (Diagonal(), (5, 3)),
    (LowRank(4, 2), (5, 3)),
    (Identity(), (5, 3)),
    (Bias((5, 3), (3,)), ()),
    (Bias((5, 3), ()), ()),
    (At(2, Matrix(2)), (4, 3)),
    (Convolution(3), (7,)),
    (Convolution((2, 3), (2, 1), "valid"), (5, 6)),
]


@pytest.mark.parametrize(("edge", "source"), EDGE_MAPS, ids=lambda v: str(v))
def test_declared_shapes_are_those_of_the_result_and_maps_hash(edge, source):
    w, y = jnp.asarray(draw(edge.weight_shape(source))), jnp.asarray(draw(source, 1))
    assert edge(w, y).shape == edge.output_shape(source)
    assert edge.fan_in(source) >= 1
    assert hash(edge) == hash(type(edge)(**vars(edge)))
    assert str(edge)


@pytest.mark.parametrize("stride", [1, 2, (1, 3)])
@pytest.mark.parametrize("padding", ["valid", 0, 2, ((0, 1), (2, 0))])
def test_convolution_is_scipys_correlation(stride, padding):
    edge = Convolution((3, 2), stride, padding)
    w, y = draw((3, 2)), draw((6, 5), 1)
    pads = {"valid": 0}.get(padding, padding) if isinstance(padding, str) else padding
    expected = scipy.signal.correlate2d(np.pad(y, pads), w, mode="valid")
    s, t = (stride, stride) if isinstance(stride, int) else stride
    np.testing.assert_allclose(edge(w, jnp.asarray(y)), expected[::s, ::t], atol=1e-13)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_same_padding_centres_the_kernel_and_divides_the_length(stride):
    edge = Convolution(3, stride)
    assert edge.output_shape((7,)) == (-(-7 // stride),)
    if stride == 1:
        y = draw((7,))
        np.testing.assert_array_equal(edge(np.array([0.0, 1.0, 0.0]), jnp.asarray(y)), y)


def test_low_rank_is_a_product_of_two_matrices():
    u, v, y = draw((2, 4)), draw((2, 3), 1), draw((5, 3), 2)
    got = LowRank(4, 2)(jnp.asarray(np.concatenate([u, v], 1)), jnp.asarray(y))
    np.testing.assert_allclose(got, y @ (u.T @ v).T, atol=1e-13)


def test_fan_in_of_low_rank_gives_unit_variance():
    edge, source = LowRank(1, 4), (25,)
    assert edge.fan_in(source) == 10
    rng = np.random.default_rng(0)
    w = rng.standard_normal((20000, 4, 26)) / np.sqrt(10)
    z = np.einsum("nr,nrd,nd->n", w[:, :, 0], w[:, :, 1:], rng.standard_normal((20000, 25)))
    assert abs(z.var() - 1) < 0.06


def batched(vertex_map, *zs):
    return np.asarray(vertex_map.batched(tuple(map(jnp.asarray, zs))))


def logistic(z):
    return 1 / (1 + np.exp(-z))


def test_residual_and_gated_split_the_tuple():
    a, b = draw((2, 3, 4)), draw((2, 3, 4), 1)
    c = draw((2, 1, 4), 2)
    np.testing.assert_allclose(batched(Residual("tanh"), a, b, c), a + np.tanh(b + c), atol=1e-14)
    np.testing.assert_allclose(batched(Gated(2), a, c, b), logistic(a + c) * b, atol=1e-14)
    expected = logistic(a) * np.sin(2 * (b + c))
    np.testing.assert_allclose(batched(Gated(1, Sine(2.0)), a, b, c), expected, atol=1e-14)


@pytest.mark.parametrize("reduce", ["mean", "max"])
def test_pool_reduces_windows_of_phi_of_the_sum(reduce):
    a, b = draw((2, 3, 4, 6)), draw((2, 1, 4, 6), 1)
    y, op = np.tanh(a + b), getattr(np, reduce)
    got = batched(Pool((2, 3), "tanh", reduce), a, b)
    expected = [[op(y[:, :, i : i + 2, j : j + 3], (2, 3)) for j in (0, 3)] for i in (0, 2)]
    np.testing.assert_allclose(got, np.moveaxis(expected, (0, 1), (2, 3)), atol=1e-14)
    np.testing.assert_allclose(batched(Pool(None, "tanh", reduce), a, b), op(y, (2, 3)), atol=1e-14)
    assert Pool(2, reduce=reduce).smooth == (reduce == "mean")
    assert Pool((2, 3)).output_shape(((4, 6),)) == (2, 2)


def test_normalise_scales_an_activations_own_axes():
    a = draw((2, 3, 4, 6))
    got = batched(Normalise(1, epsilon=1e-12), a)
    np.testing.assert_allclose(got.mean(-1), 0, atol=1e-14)
    np.testing.assert_allclose(got.var(-1), 1, atol=1e-9)
    np.testing.assert_allclose(
        batched(Normalise(1), 3 * a + 7), batched(Normalise(1), a), atol=1e-4
    )
    whole = batched(Normalise(), a)
    expected = (a - a.mean((2, 3), keepdims=True)) / np.sqrt(a.var((2, 3), keepdims=True) + 1e-5)
    np.testing.assert_allclose(whole, expected, atol=1e-13)


def test_attention_is_the_weighted_mean_of_values():
    q, k, s = draw((2, 3, 4, 2)), draw((2, 3, 5, 2), 1), draw((2, 3, 5, 6), 2)
    p = np.exp(np.einsum("...tr,...ur->...tu", q, k) / np.sqrt(2))
    expected = (p / p.sum(-1, keepdims=True)) @ s
    np.testing.assert_allclose(batched(SoftmaxAttention(), q, k, s), expected, atol=1e-13)
    one = modules.softmax_attention(*map(jnp.asarray, (q[0, 0], k[0, 0], s[0, 0])))
    np.testing.assert_allclose(one, expected[0, 0], atol=1e-13)
    assert SoftmaxAttention().output_shape(((4, 2), (5, 2), (5, 6))) == (4, 6)


def test_smoothness_follows_the_function():
    for make in (Residual, lambda f: Gated(1, f), lambda f: Pool(2, f), lambda f: Normalise(1, f)):
        assert make("tanh").smooth
        assert not make("relu").smooth
    assert SoftmaxAttention().smooth


def test_new_functions_are_their_formulas():
    z = draw((2, 3, 4))
    for name, expected in {
        "erf_root2": scipy.special.erf(z / np.sqrt(2)),
        "gelu": z * scipy.stats.norm.cdf(z),
    }.items():
        np.testing.assert_allclose(batched(Pointwise(name), z), expected, atol=1e-13)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Convolution(0), "`kernel` of Convolution must be integers of at least 1"),
        (lambda: Convolution((3, 3), (1,)), "`stride` of Convolution .* one per axis"),
        (lambda: Convolution(3, 0), "`stride` of Convolution"),
        (lambda: Convolution(3, padding="full"), "`padding` of Convolution must be 'same'"),
        (lambda: Convolution((3, 3), padding=((1, 1),)), "`padding` of Convolution"),
        (lambda: Convolution(3, padding=-1), "`padding` of Convolution"),
        (lambda: LowRank(2, 0), "`rank` of LowRank must be a positive integer"),
        (lambda: InnerProduct(0), "`axes` of InnerProduct must be a positive integer"),
        (lambda: Bias((4,), (3,)), r"`weights` of Bias must broadcast to the shape \(4,\)"),
        (lambda: Pool(0), "`window` of Pool must be None or integers of at least 1"),
        (lambda: Pool(2, reduce="sum"), "`reduce` of Pool must be one of mean, max"),
        (lambda: Gated(0), "`gates` of Gated must be an integer of at least 1"),
        (lambda: Normalise(epsilon=0.0), "`epsilon` of Normalise must be positive"),
        (lambda: Residual("tanhh"), "`function` of Residual must be callable or one of"),
        (
            lambda: Pool(3).output_shape(((4,),)),
            r"windows \(3,\) do not tile a map of shape \(4,\)",
        ),
        (lambda: Normalise(1).output_shape(((4, 1),)), "needs at least two entries"),
        (lambda: Gated(2).output_shape(((), ())), "needs at least one more for the content"),
        (lambda: Residual().output_shape(((),)), "needs a skip and another edge"),
        (lambda: At(3, Scalar()).output_shape((3,)), "entry 3 of the first axis"),
        (lambda: InnerProduct(3).output_shape((3, 2)), "needs as many in the source"),
    ],
)
def test_maps_refuse_in_one_sentence(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


def net(vertex_map, edges, shape=(3, 2)):
    return modules.PerceptronModule(
        [
            modules.Input("x", shape),
            modules.Hidden("a", vertex_map),
            modules.Output("y", Pool(None)),
        ],
        [*(modules.Edge("x", "a", e) for e in edges), modules.Edge("a", "y", Scalar())],
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: net(SoftmaxAttention(), [Matrix(2), Matrix(2)]),
            "vertex 'a' must accept the pre-activations of x->a, x->a#2, but attention needs three",
        ),
        (
            lambda: net(SoftmaxAttention(), [Matrix(2), Matrix(3), Matrix(2)]),
            "vertex 'a' .* equal channels of q and k",
        ),
        (
            lambda: net(TupleMap(modules.softmax_attention), [Matrix(2), Matrix(2)]),
            "vertex 'a' .* does not accept 2 pre-activations .* missing 1 required",
        ),
        (
            lambda: net(Pointwise("tanh"), [Matrix(2), Matrix(3)]),
            r"vertex 'a' .* equal shapes, but gets \(\(3, 2\), \(3, 3\)\)",
        ),
        (
            lambda: net(Pointwise("tanh"), [Convolution((4, 1), padding="valid")]),
            r"edge 'x->a' must fit its source 'x' .* larger than the padded map \(3, 2\)",
        ),
        (
            lambda: net(Pointwise("tanh"), [Convolution(2)]),
            "edge 'x->a' .* needs a feature map with 1 axes",
        ),
        (
            lambda: modules.cnn2d(8, 8, depth=3, kernel=5, padding="valid"),
            "edge 'h1->h2' must fit its source 'h1' of shape .* larger than the padded map",
        ),
        (
            lambda: modules.cnn1d(6, depth=2, pool=4),
            r"vertex 'h1' must accept .* windows \(4,\) do not tile",
        ),
        (lambda: modules.cnn1d(6, head="max"), "`head` must be one of mean, flatten"),
        (lambda: modules.cnn1d(0), "`length` must be an integer of at least 1"),
        (lambda: modules.transformer(4, 3, width=1, normalise=True), "vertex 'n1' .* at least two"),
        (lambda: modules.transformer(4, 3, blocks=0), "`blocks` must be an integer of at least 1"),
        (lambda: modules.unrolled_rnn(0, 3), "`steps` must be an integer of at least 1"),
        (lambda: modules.resnet((8, 8), blocks=0), "`blocks` must be an integer of at least 1"),
    ],
)
def test_bad_architectures_name_the_vertex_or_the_edge(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


def test_edge_maps_batch_over_edges_and_samples():
    edge = Convolution((2, 2), 1, "same")
    w, y = draw((3, 2, 2)), draw((3, 4, 5, 5), 1)
    over = jax.vmap(jax.vmap(edge, in_axes=(None, 0)))(jnp.asarray(w), jnp.asarray(y))
    np.testing.assert_array_equal(over[1, 2], edge(w[1], jnp.asarray(y[1, 2])))

"""The zoo: dense lifts against independent equinox networks, sparse lifts trained by the flow."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowlift
from flowlift import lift as lifts
from flowlift import modules, tasks

KEYS = iter(jax.random.split(jax.random.key(0), 100))


def linear(n_in, n_out, bias=True):
    return eqx.nn.Linear(n_in, n_out, use_bias=bias, key=next(KEYS))


def conv(n_in, n_out, dimension, **options):
    return eqx.nn.Conv(dimension, n_in, n_out, 3, key=next(KEYS), **options)


def blocks(weight, rows, columns):
    """A dense matrix (n_v m, n_u d) as the weights (n_v n_u, m, d) of a complete lift."""
    n_v, n_u = weight.shape[0] // rows, weight.shape[1] // columns
    split = weight.reshape(n_v, rows, n_u, columns)
    return jnp.swapaxes(split, 1, 2).reshape(n_v * n_u, rows, columns)


def kernels(weight):
    return weight.reshape(-1, *weight.shape[2:])


def mlp_case(module, **options):
    depth = len(module.hidden)
    net = eqx.nn.MLP(4, 3, 5, depth, key=next(KEYS), **options)

    def fill(net):
        names = ["x", *(f"h{i + 1}" for i in range(depth)), "y"]
        weights = {}
        for u, v, layer in zip(names, names[1:], net.layers, strict=False):
            weights[f"{u}->{v}"] = layer.weight if u == "x" else layer.weight.reshape(-1)
            weights |= {f"1->{v}": layer.bias} if layer.use_bias else {}
        return weights

    return module, 5, net, fill, (4,)


def committee_case():
    class Committee(eqx.Module):
        hidden: eqx.nn.Linear

        def __call__(self, x):
            return jnp.sum(jax.scipy.special.erf(self.hidden(x) / np.sqrt(2)))

    fill = lambda net: {"x->h1": net.hidden.weight, "h1->y": jnp.zeros((5, 0))}
    return modules.committee(4), 5, Committee(linear(4, 5, False)), fill, (4,)


def cnn1d_case():
    net = eqx.nn.Sequential(
        [
            conv(2, 4, 1, stride=2, padding=1),
            eqx.nn.Lambda(jnp.tanh),
            eqx.nn.AvgPool1d(2, 2),
            conv(4, 4, 1, stride=2, padding=1),
            eqx.nn.Lambda(lambda y: jnp.tanh(y).mean(axis=1)),
            linear(4, 3),
        ]
    )

    def fill(net):
        first, second, last = (net.layers[i] for i in (0, 3, 5))
        return {
            "x->h1": kernels(first.weight),
            "1->h1": first.bias[:, 0],
            "h1->h2": kernels(second.weight),
            "1->h2": second.bias[:, 0],
            "h2->y": last.weight.reshape(-1),
            "1->y": last.bias,
        }

    module = modules.cnn1d(12, 2, 3, stride=2, padding=1, pool=2)
    return module, 4, net, fill, (2, 12)


def cnn2d_case():
    net = eqx.nn.Sequential(
        [
            conv(1, 4, 2, padding=1),
            eqx.nn.Lambda(jax.nn.softplus),
            eqx.nn.MaxPool2d(2, 2),
            conv(4, 4, 2, padding=1),
            eqx.nn.Lambda(lambda y: jax.nn.softplus(y).reshape(-1)),
            linear(16, 3),
        ]
    )

    def fill(net):
        first, second, last = (net.layers[i] for i in (0, 3, 5))
        return {
            "x->h1": kernels(first.weight),
            "1->h1": first.bias[:, 0, 0],
            "h1->h2": kernels(second.weight),
            "1->h2": second.bias[:, 0, 0],
            "h2->y": last.weight.reshape(-1, 2, 2),
            "1->y": last.bias,
        }

    module = modules.cnn2d(4, 4, 1, 3, pool=2, reduce="max", head="flatten", activation="softplus")
    return module, 4, net, fill, (1, 4, 4)


def resnet_case():
    class ResNet(eqx.Module):
        stem: eqx.nn.Conv
        pairs: list
        head: eqx.nn.Linear

        def __call__(self, x):
            r = jnp.tanh(self.stem(x))
            for first, second in self.pairs:
                r = r + second(jnp.tanh(first(r)))
            return self.head(r.mean(axis=1))

    def fill(net):
        layers = {("x", "r0"): net.stem}
        for i, (first, second) in enumerate(net.pairs):
            layers |= {(f"r{i}", f"m{i + 1}"): first, (f"m{i + 1}", f"r{i + 1}"): second}
        weights = {f"{u}->{v}": kernels(layer.weight) for (u, v), layer in layers.items()}
        weights |= {f"1->{v}": layer.bias[:, 0] for (_, v), layer in layers.items()}
        skips = {f"r{i}->r{i + 1}": jnp.zeros((4, 0)) for i in range(len(net.pairs))}
        head = {"h": net.head.weight.reshape(-1), "b": net.head.bias}
        return (
            weights
            | skips
            | {
                "r2->p": jnp.zeros((4, 0)),
                "p->y": head["h"],
                "1->y": head["b"],
            }
        )

    same = {"padding": 1}
    pairs = [(conv(4, 4, 1, **same), conv(4, 4, 1, **same)) for _ in range(2)]
    net = ResNet(conv(2, 4, 1, **same), pairs, linear(4, 3))
    return modules.resnet((5,), 2, 3), 4, net, fill, (2, 5)


def transformer_case(normalise, depth):
    tokens, channels, copies, width, r = 2, 4, 3, 2, 5
    size = copies * width

    class Block(eqx.Module):
        attention: eqx.nn.MultiheadAttention
        up: eqx.nn.Linear
        down: eqx.nn.Linear

        def __call__(self, y):
            seen = self.norm(y)
            y = y + self.attention(seen, seen, seen)
            hidden = jax.nn.gelu(jax.vmap(self.up)(self.norm(y)), approximate=False)
            return y + jax.vmap(self.down)(hidden)

        def norm(self, y):
            if not normalise:
                return y
            layer = eqx.nn.LayerNorm(width, use_weight=False, use_bias=False)
            return jax.vmap(jax.vmap(layer))(y.reshape(tokens, copies, width)).reshape(tokens, size)

    class Transformer(eqx.Module):
        embed: eqx.nn.Linear
        position: jax.Array
        blocks: list
        head: eqx.nn.Linear

        def __call__(self, x):
            y = jax.vmap(self.embed)(x) + self.position
            for block in self.blocks:
                y = block(y)
            return self.head(y.mean(axis=0))

    def fill(net):
        position = jnp.moveaxis(net.position.reshape(tokens, copies, width), 1, 0)
        weights = {"x->r0": net.embed.weight.reshape(copies, width, channels)}
        weights |= {"1->r0": position, "1->y": net.head.bias}
        weights |= {f"r{depth}->y": net.head.weight.reshape(3 * copies, width)}
        for i, block in enumerate(net.blocks, start=1):
            a = block.attention
            heads = (a.query_proj, a.key_proj, a.value_proj)
            for letter, layer in zip("qks", heads, strict=True):
                weights[f"{letter}{i}"] = blocks(layer.weight, r, width)
            weights[f"a{i}->u{i}"] = blocks(a.output_proj.weight, width, r)
            weights[f"{'l' if normalise else 'u'}{i}->m{i}"] = blocks(block.up.weight, width, width)
            weights[f"m{i}->r{i}"] = blocks(block.down.weight, width, width)
            weights |= {f"1->m{i}": block.up.bias.reshape(copies, width)}
            weights |= {f"1->r{i}": block.down.bias.reshape(copies, width)}
            skips = [f"r{i - 1}->u{i}", f"u{i}->r{i}"]
            skips += [f"r{i - 1}->n{i}", f"u{i}->l{i}"] if normalise else []
            weights |= dict.fromkeys(skips, jnp.zeros((copies, 0)))
        return weights

    def block():
        attention = eqx.nn.MultiheadAttention(
            copies, size, qk_size=r, vo_size=r, output_size=size, key=next(KEYS)
        )
        return Block(attention, linear(size, size), linear(size, size))

    position = jax.random.normal(next(KEYS), (tokens, size))
    layers = [block() for _ in range(depth)]
    net = Transformer(linear(channels, size, False), position, layers, linear(size, 3))
    module = modules.transformer(
        tokens, channels, 3, blocks=depth, width=width, head_channels=r, normalise=normalise
    )
    return module, copies, net, fill, (tokens, channels)


def rnn_case(gated):
    steps = 3

    class Network(eqx.Module):
        steps: list
        head: eqx.nn.Linear

        def __call__(self, x):
            h = jnp.zeros((0,))
            for layers, entry in zip(self.steps, x, strict=True):
                z = [layer(jnp.concatenate([entry, h])) for layer in layers]
                h = jnp.tanh(z[0]) * (jax.nn.sigmoid(z[1]) if gated else 1)
            return self.head(h)

    def fill(net):
        weights = {f"h{steps}->y": net.head.weight.reshape(-1), "1->y": net.head.bias}
        for t, layers in enumerate(net.steps, start=1):
            for prefix, layer in zip(("", "gate "), layers, strict=False):
                weights[f"{prefix}x->h{t}"] = layer.weight[:, :2]
                weights[f"{prefix}1->h{t}"] = layer.bias
                if t > 1:
                    weights[f"{prefix}h{t - 1}->h{t}"] = layer.weight[:, 2:].reshape(-1)
        return weights

    widths = [2] + [2 + 5] * (steps - 1)
    layers = [[linear(n, 5) for _ in range(1 + gated)] for n in widths]
    module = modules.unrolled_rnn(steps, 2, 3, gated=gated)
    return module, 5, Network(layers, linear(5, 3)), fill, (steps, 2)


CASES = {
    "siren": lambda: mlp_case(
        modules.siren(4, 3, frequency=5.0), activation=lambda z: jnp.sin(5.0 * z)
    ),
    "deep_linear": lambda: mlp_case(
        modules.deep_linear(4, 3), activation=lambda z: z, use_bias=False, use_final_bias=False
    ),
    "two_layer": lambda: mlp_case(
        modules.two_layer(4, 3, activation="relu"), activation=jax.nn.relu
    ),
    "committee": committee_case,
    "cnn1d": cnn1d_case,
    "cnn2d": cnn2d_case,
    "resnet": resnet_case,
    "transformer": lambda: transformer_case(False, 1),
    "transformer of two normalised blocks": lambda: transformer_case(True, 2),
    "unrolled_rnn": lambda: rnn_case(False),
    "gated unrolled_rnn": lambda: rnn_case(True),
}


# The same builders as their neighbours, and dear to compile.
SLOW = {"transformer of two normalised blocks", "unrolled_rnn", "cnn2d"}


def marked(names, slow):
    return [pytest.param(n, marks=pytest.mark.slow if n in slow else ()) for n in names]


@pytest.mark.parametrize("name", marked(CASES, SLOW))
def test_dense_lift_is_the_independent_network(name):
    module, copies, net, fill, shape = CASES[name]()
    lift = lifts.sample(module, copies=copies, edges=lifts.Complete(), seed=0)
    weights = fill(net)
    assert {k: v.shape for k, v in weights.items()} == {k: v.shape for k, v in lift.weights.items()}
    lift = eqx.tree_at(lambda m: m.weights, lift, {k: weights[k] for k in lift.weights})
    x = jnp.asarray(np.random.default_rng(0).standard_normal((5, *shape)))
    direction = jnp.asarray(np.random.default_rng(1).standard_normal(5))

    def loss(model, predict):
        outputs = predict(model)
        return jnp.sum(jnp.tensordot(direction, outputs, 1) ** 2), outputs

    @eqx.filter_jit
    def both(lift, net):
        gradient = eqx.filter_value_and_grad(loss, has_aux=True)
        return gradient(lift, lambda m: m.batch(x)), gradient(net, lambda m: jax.vmap(m)(x))

    ((_, ours), ours_gradient), ((_, theirs), theirs_gradient) = both(lift, net)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-13)
    for edge, expected in fill(theirs_gradient).items():
        scale = np.abs(expected).max(initial=1.0)
        got = ours_gradient.weights[edge]
        np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-13 * scale, err_msg=edge)


# Each module with the shape of one digit, and an in-degree for all its edges.
TRAINED = {
    "mlp": (modules.mlp(64, 10), (64,)),
    "siren": (modules.siren(64, 10, frequency=2.0), (64,)),
    "cnn1d": (modules.cnn1d(64, 1, 10, pool=4, stride=2), (1, 64)),
    "cnn2d": (modules.cnn2d(8, 8, 1, 10, pool=2), (1, 8, 8)),
    "resnet": (modules.resnet((8, 8), 1, 10, blocks=1, stride=2), (1, 8, 8)),
    "transformer": (modules.transformer(8, 8, 10, blocks=2, normalise=True), (8, 8)),
    "unrolled_rnn": (modules.unrolled_rnn(8, 8, 10, gated=True), (8, 8)),
    "deep_linear": (modules.deep_linear(64, 10), (64,)),
    "two_layer": (modules.two_layer(64, 10), (64,)),
    "committee": (modules.committee(64), (64,)),
}
QUICK = {"two_layer"}


@pytest.mark.parametrize("name", marked(TRAINED, TRAINED.keys() - QUICK))
@pytest.mark.slow
def test_sparse_lift_learns_digits_and_keeps_the_energy_identity(name):
    module, shape = TRAINED[name]
    lift = flowlift.sample(
        module,
        copies=6,
        edges={"*": flowlift.FixedInDegree(2)},
        weights=lifts.GaussianFanIn(),
        seed=1,
    )
    task = tasks.digits(16, shape=shape)
    if name == "committee":
        objective = task.objective
        parity = np.sign(np.asarray(objective.targets).argmax(axis=1) % 2 - 0.5)
        task = tasks.supervised(objective.inputs, parity)
    solution = flowlift.solve(lift, task, horizon=2.0, save=[1.0, 2.0], rtol=1e-5)
    assert solution.result == flowlift.Outcome.HORIZON
    assert solution.loss[-1] < 0.95 * solution.loss[0]
    assert np.all(np.diff(solution.loss) < 0)
    gained = solution.loss[0] - solution.loss[-1]
    np.testing.assert_allclose(solution.energy[-1], gained, rtol=1e-3)
    moved = [np.any(np.asarray(solution.model.weights[n]) != w) for n, w in lift.weights.items()]
    assert all(m or w.size == 0 for m, w in zip(moved, lift.weights.values(), strict=True))


@pytest.mark.parametrize("name", TRAINED)
def test_float32_stays_float32_in_value_and_gradient(name):
    module, shape = TRAINED[name]
    lift = flowlift.sample(
        module, copies=4, edges=flowlift.FixedInDegree(2), seed=0, precision="float32"
    )
    x = jnp.zeros((2, *shape), jnp.float32)

    def value_and_gradient(weights):
        model = eqx.tree_at(lambda m: m.weights, lift, weights)
        return model.batch(x), jax.grad(loss)(weights)

    def loss(weights):
        return jnp.sum(eqx.tree_at(lambda m: m.weights, lift, weights).batch(x) ** 2)

    leaves = jax.tree.leaves(jax.eval_shape(value_and_gradient, lift.weights))
    assert {leaf.dtype for leaf in leaves} == {np.dtype("float32")}


@pytest.mark.parametrize("kind", [np.int64, jnp.asarray])
def test_numbers_of_numpy_and_jax_are_numbers(kind):
    """They build the same modules, whose identity is that of Python's numbers."""
    two, three = kind(2), kind(3)
    for name, given, plain in (
        ("mlp", {"inputs": two, "depth": three, "outputs": two}, (2, 3, 2)),
        ("attention", {"tokens": three, "channels": two}, (3, 2)),
        ("cnn1d", {"length": three, "kernel": two, "depth": two}, (3, 2, 2)),
        ("committee", {"inputs": two}, (2,)),
        ("unrolled_rnn", {"steps": three, "inputs": two}, (3, 2)),
    ):
        build = getattr(modules, name)
        expected = build(**dict(zip(given, plain, strict=True)))
        assert str(build(**given)) == str(expected)
        assert build(**given) == expected
    with pytest.raises(ValueError, match="`depth` must be an integer"):
        modules.mlp(2, depth=np.float64(2.0))
    with pytest.raises(ValueError, match="`depth` must be an integer"):
        modules.mlp(2, depth=np.True_)

r"""The trilinear form ⟨z, A(w) y⟩ of a fibre and its three partial products, as JAX primitives.

For edges e = (s_e → t_e) with weights w, sources' values y (n_u, B) and targets' values z (n_v, B),

    push:  z[v] = Σ_{t_e = v} w_e y[s_e]          pull:  y[u] = Σ_{s_e = u} w_e z[t_e]
    edge:  w[e] = ⟨z[t_e], y[s_e]⟩

each is linear in both of its arguments, and the transposes of each are the other two. So forward
and reverse mode, to any order and in any nesting, stay within the three, and each is computed by
one fast routine. (custom_vjp cannot be pushed forward; linear_call fails when nested.)
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

from flowlift.kernels.fibre import Fibre
from flowlift.kernels.members import rows_side_by_side, side_by_side, weights_side_by_side
from flowlift.kernels.products import PRODUCTS
from flowlift.kernels.taps import TAPPED, Offsets, span

_PRIMITIVES = {name: Primitive(f"fibre_{name}") for name in ("push", "pull", "edge")}
# Which product each transpose is: with respect to argument 0 and to argument 1; and in which order
# it takes the cotangent (None) and the other argument.
_TRANSPOSES = {
    "push": (("edge", "ct first"), ("pull", "ct last")),
    "pull": (("edge", "ct last"), ("push", "ct last")),
    "edge": (("push", "ct first"), ("pull", "ct first")),
}


def push(
    fibre: Fibre, w: Float[Array, " edges"], y: Float[Array, "n_u b"], method: str
) -> Float[Array, "n_v b"]:
    """z = A(w) y: the sum over the fibre.

    Args:
        fibre: the edges.
        w: weight per edge; what stands on padding is ignored.
        y: values at the sources.
        method: a key of `products.PRODUCTS`.

    Returns:
        Values at the targets.
    """
    return _bind("push", method, (w, y), fibre)


def pull(
    fibre: Fibre, w: Float[Array, " edges"], z: Float[Array, "n_v b"], method: str
) -> Float[Array, "n_u b"]:
    """y = A(w)ᵀ z: the transposed sum.

    Args:
        fibre: the edges.
        w: weight per edge; what stands on padding is ignored.
        z: values at the targets.
        method: a key of `products.PRODUCTS`.

    Returns:
        Values at the sources.
    """
    return _bind("pull", method, (w, z), fibre)


def edge(
    fibre: Fibre, z: Float[Array, "n_v b"], y: Float[Array, "n_u b"], method: str
) -> Float[Array, " edges"]:
    """w[e] = ⟨z[t_e], y[s_e]⟩: the product along each edge.

    Args:
        fibre: the edges.
        z: values at the targets.
        y: values at the sources.
        method: a key of `products.PRODUCTS`.

    Returns:
        One number per edge, exactly 0 on padding.
    """
    return _bind("edge", method, (z, y), fibre)


def tapped_push(
    fibre: Fibre,
    w: Float[Array, "e m d o"],
    y: Float[Array, "u d b"],
    offsets: Offsets,
    method: str,
) -> Float[Array, "v m c"]:
    """The sum over the fibre where edges carry arrays: see `taps`.

    Args:
        fibre: the edges; for 'padded', `taps.applies` to it.
        w: (m, d, taps) numbers per edge; what stands on padding is ignored.
        y: values at the sources.
        offsets: where each tap's columns start.
        method: a key of `taps.TAPPED`.

    Returns:
        Values at the targets.
    """
    leaves, tree = jax.tree.flatten(fibre)
    return _bind_flat("push", (w, y), leaves, tree=tree, method=method, offsets=offsets)


def _bind(name: str, method: str, pair: Sequence[Any], fibre: Fibre) -> Any:
    leaves, tree = jax.tree.flatten(fibre)
    return _bind_flat(name, pair, leaves, tree=tree, method=method, offsets=None)


def _bind_flat(name: str, pair: Sequence[Any], leaves: Sequence[Any], **static: Any):
    """Bind with the fibre's tree, the method, and the taps' offsets (None for scalar edges)."""
    operands = same_variance((*pair, *leaves))
    return _PRIMITIVES[name].bind(*operands, **static)


def same_variance(operands: Sequence[Any]) -> list[Any]:
    """Inside shard_map, mark every operand as varying over the axes over which any varies.

    Args:
        operands: arrays.

    Returns:
        The same arrays; outside of shard_map nothing is done.
    """
    axes = [getattr(jax.typeof(x), "vma", frozenset()) for x in operands]
    union = frozenset().union(*axes)
    missing = [tuple(sorted(union - have)) for have in axes]
    return [
        jax.lax.pcast(x, lack, to="varying") if lack else x
        for x, lack in zip(operands, missing, strict=True)
    ]


def _abstract(name: str) -> Callable[..., Any]:
    def rule(a, b, *leaves, tree, method, offsets):
        del method
        fibre = jax.tree.unflatten(tree, leaves)
        if name == "edge":
            carried = () if offsets is None else (a.shape[1], b.shape[1], len(offsets))
            return b.update(shape=(fibre.capacity, *carried))
        copies = fibre.n_targets if name == "push" else fibre.n_sources
        if offsets is None:
            return b.update(shape=(copies, b.shape[-1]))
        rows, reach = (
            (a.shape[1], -span(offsets)) if name == "push" else (a.shape[2], span(offsets))
        )
        return b.update(shape=(copies, rows, b.shape[-1] + reach))

    return rule


def _implementation(name: str) -> Callable[..., Any]:
    def run(a, b, *leaves, tree, method, offsets):
        fibre = jax.tree.unflatten(tree, leaves)
        if offsets is None:
            product = functools.partial(PRODUCTS[method][name], fibre)
        else:
            product = functools.partial(TAPPED[method][name], fibre, offsets)
        if method != "padded":
            return product(a, b)
        # A branch is compiled by itself and its result stays in memory. Otherwise XLA fuses the
        # sum into its consumers and its operands' layouts into the sum, and runs up to 4 x slower.
        out = jax.eval_shape(product, a, b)
        empty = lambda a, b: jnp.zeros(out.shape, out.dtype)
        return jax.lax.cond(fibre.count > 0, product, empty, a, b)

    return run


def _jvp(name: str) -> Callable[..., Any]:
    def rule(primals, tangents, **static):
        a, b, *leaves = primals
        da, db = tangents[:2]
        bind = lambda *pair: _bind_flat(name, pair, leaves, **static)
        out = bind(a, b)
        parts = [] if isinstance(da, ad.Zero) else [bind(da, b)]
        parts += [] if isinstance(db, ad.Zero) else [bind(a, db)]
        zero = ad.Zero(jax.typeof(out))
        return out, sum(parts[1:], parts[0]) if parts else zero

    return rule


def _transpose(name: str) -> Callable[..., Any]:
    def rule(ct, a, b, *leaves, **static):
        first = ad.is_undefined_primal(a)
        other, order = _TRANSPOSES[name][0 if first else 1]
        undefined, defined = (a, b) if first else (b, a)
        blank = [None] * len(leaves)
        if isinstance(ct, ad.Zero):
            out = ad.Zero(undefined.aval)
        else:
            pair = (ct, defined) if order == "ct first" else (defined, ct)
            out = _bind_flat(other, pair, leaves, **static)
        return [out, None, *blank] if first else [None, out, *blank]

    return rule


# Methods whose products are dense: batched ones are JAX's own.
_BATCHED_AS_THEY_ARE = ("dense", "complete")


def _batch(name: str) -> Callable[..., Any]:
    def rule(args, dims, **static):
        structure_free = all(d is None for d in dims[2:])
        one_window = static["offsets"] in (None, (0,))
        if name != "edge" and dims[0] is None and structure_free and one_window:
            return _fold_columns(name, args, dims, static)
        if static["method"] in _BATCHED_AS_THEY_ARE:
            one = lambda *operands: _implementation(name)(*operands, **static)
            return jax.vmap(one, in_axes=tuple(dims))(*args), 0
        return _fold_members(name, args, dims, static), 0

    return rule


def _fold_columns(name, args, dims, static):
    """A batch of right-hand sides is one right-hand side with more columns."""
    w, y, *leaves = args
    y = jnp.moveaxis(y, dims[1], -2)
    *rows, size, columns = y.shape
    out = _bind_flat(name, (w, y.reshape(*rows, size * columns)), leaves, **static)
    return out.reshape(*out.shape[:-1], size, columns), out.ndim - 1


def _fold_members(name, args, dims, static):
    """A batch of fibres is one fibre with more copies."""
    size = next(x.shape[d] for x, d in zip(args, dims, strict=True) if d is not None)

    def in_front(x, d):
        return jnp.broadcast_to(x, (size, *x.shape)) if d is None else jnp.moveaxis(x, d, 0)

    a, b, *leaves = map(in_front, args, dims)
    fibres = jax.tree.unflatten(static["tree"], leaves)
    first = rows_side_by_side(a) if name == "edge" else weights_side_by_side(fibres, a)
    leaves, tree = jax.tree.flatten(side_by_side(fibres))
    given = static | {"tree": tree}
    out = _bind_flat(name, (first, rows_side_by_side(b)), leaves, **given)
    out = out.reshape(size, -1, *out.shape[1:])
    return jax.vmap(Fibre.live)(fibres, out) if name == "edge" else out


def _register(name: str) -> None:
    primitive = _PRIMITIVES[name]
    run = _implementation(name)
    primitive.def_impl(jax.jit(run, static_argnames=("tree", "method", "offsets")))
    primitive.def_abstract_eval(_abstract(name))
    mlir.register_lowering(primitive, mlir.lower_fun(run, multiple_results=False))
    ad.primitive_jvps[primitive] = _jvp(name)
    ad.primitive_transposes[primitive] = _transpose(name)
    batching.primitive_batchers[primitive] = _batch(name)


for _name in _PRIMITIVES:
    _register(_name)

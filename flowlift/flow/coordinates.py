"""theta as one real vector: which numbers of the model's leaves stand where in it."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PyTree

from ..attributes import read_plainly
from ..protocols import AbstractPadded
from ..solvers import live_part

Flat = Float[Array, " P"]


@read_plainly
class Coordinates(eqx.Module):
    """How trainable leaves and one vector correspond.

    A complex leaf z = x + i y gives the coordinates x and y, so that the flow of the vector is
    dx/dt = -dL/dx, dy/dt = -dL/dy. Where a model declares padding, the coordinates that count come
    first, in the order of the leaves, and the padding follows as zeros: models of one shape share
    one compilation, however many of their coordinates count.

    With rates d_i, d theta/dt = -D grad L, the vector is phi = D^(-1/2) theta, whose flow is plain,
    d phi/dt = -grad_phi L(D^(1/2) phi), with a symmetric Jacobian.

    Attributes:
        order: which number of the leaves each coordinate is; None where nothing is padded.
        place: which coordinate each number of the leaves is, the inverse.
        live: how many coordinates count, n <= P; None for all.
        roots: D^(1/2), 1 for padding; None where all rates are 1.
    """

    order: Int[Array, " P"] | None = None
    place: Int[Array, " P"] | None = None
    live: Int[Array, ""] | None = None
    roots: Float[Array, " P"] | None = None

    @staticmethod
    def of(model: PyTree, theta0: PyTree, rates: Sequence[float] | None = None) -> "Coordinates":
        """The coordinates of the trainable leaves of a model; on the host.

        Args:
            model: the model.
            theta0: its trainable leaves, None elsewhere.
            rates: d of each leaf, in their order; None for 1.

        Returns:
            The coordinates.
        """
        plain = Coordinates._plain(model, theta0)
        if rates is None:
            return plain
        leaves, structure = jax.tree.flatten(theta0)
        pairs = zip(leaves, rates, strict=True)
        roots = plain.flat_on_host(structure.unflatten([_root(leaf, d) for leaf, d in pairs]))
        if plain.live is not None:
            roots[int(plain.live) :] = 1
        return dataclasses.replace(plain, roots=jnp.asarray(roots))

    @staticmethod
    def _plain(model: PyTree, theta0: PyTree) -> "Coordinates":
        masks = live_parts(model, theta0)
        if masks is None:
            return Coordinates()
        counts = np.concatenate([np.ravel(mask) for mask in jax.tree.leaves(masks)])
        if counts.all():
            return Coordinates()
        order = np.argsort(~counts, kind="stable").astype(np.int32)
        place = np.empty_like(order)
        place[order] = np.arange(order.size, dtype=np.int32)
        live = jax.device_put(np.int32(np.count_nonzero(counts)))
        return Coordinates(jax.device_put(order), jax.device_put(place), live)

    def theta(self, vector: Any) -> Any:
        """D^(1/2) times a vector or rows of them: theta from phi, grad_phi L from grad L.

        Args:
            vector: (..., P), of NumPy or JAX.

        Returns:
            The same kind of array; the same one where all rates are 1.
        """
        if self.roots is None:
            return vector
        roots = np.asarray(self.roots) if isinstance(vector, np.ndarray) else self.roots
        return roots * vector

    def phi(self, vector: Any) -> Any:
        """D^(-1/2) times a vector, the inverse of `theta`."""
        if self.roots is None:
            return vector
        roots = np.asarray(self.roots) if isinstance(vector, np.ndarray) else self.roots
        return vector / roots

    def flat(self, tree: PyTree) -> Flat:
        """Some trainable leaves as one vector, theta's."""
        vector = ravel_pytree(real_parts(tree))[0]
        if self.order is None or self.live is None:
            return vector
        vector = vector.at[self.order].get(mode="promise_in_bounds", unique_indices=True)
        return live_part(vector, self.live)

    def tree(self, vector: Flat, like: PyTree) -> PyTree:
        """The real parts of the leaves, see `real_parts`, from the vector.

        Args:
            vector: theta.
            like: trainable leaves.

        Returns:
            The tree.
        """
        if self.place is not None:
            vector = vector.at[self.place].get(mode="promise_in_bounds", unique_indices=True)
        return ravel_pytree(real_parts(like))[1](vector)

    def flat_on_host(self, tree: PyTree) -> np.ndarray:
        """As `flat`, in NumPy: nothing is compiled."""
        leaves = (np.asarray(leaf) for leaf in jax.tree.leaves(tree))
        vector = np.concatenate([_real_numbers(leaf) for leaf in leaves])
        if self.order is None or self.live is None:
            return vector
        vector = vector[np.asarray(self.order)]
        vector[int(self.live) :] = 0
        return vector

    def leaves_on_host(self, vector: np.ndarray, like: PyTree) -> PyTree:
        """The leaves from the vector, in NumPy: nothing is compiled.

        Args:
            vector: theta.
            like: trainable leaves.

        Returns:
            The tree, of JAX arrays.
        """
        if self.place is not None:
            vector = vector[np.asarray(self.place)]
        leaves, structure = jax.tree.flatten(like)
        made, first = [], 0
        for leaf in leaves:
            complex_ = jnp.iscomplexobj(leaf)
            last = first + leaf.size * (2 if complex_ else 1)
            made.append(_leaf_of(vector[first:last], leaf, complex_))
            first = last
        return jax.tree.unflatten(structure, made)


def _root(leaf: Array | np.ndarray, rate: float) -> np.ndarray:
    """The root of a rate for each number of a leaf."""
    root = np.full(np.shape(leaf), math.sqrt(rate), leaf.dtype)
    return root * (1 + 1j) if np.iscomplexobj(root) else root


def _real_numbers(leaf: Any) -> np.ndarray:
    """The numbers of a leaf as they stand in the vector: all real parts, then all others."""
    if not np.iscomplexobj(leaf):
        return leaf.ravel()
    return np.concatenate([leaf.real.ravel(), leaf.imag.ravel()])


def _leaf_of(numbers: np.ndarray, leaf: Array, complex_: bool) -> Array:
    if complex_:
        real, imaginary = np.split(numbers, 2)
        whole = np.empty(real.shape, leaf.dtype)
        whole.real, whole.imag = real, imaginary
        numbers = whole
    # A copy: what the flow goes on with is not to be shared.
    return jax.device_put(numbers.reshape(leaf.shape).astype(leaf.dtype, copy=True))


def real_parts(tree: PyTree) -> PyTree:
    """The tree with a pair (x, y) for each complex leaf x + i y."""
    return jax.tree.map(lambda z: (z.real, z.imag) if jnp.iscomplexobj(z) else z, tree)


def joined(parts: PyTree, like: PyTree) -> PyTree:
    """The leaves from their real parts.

    Args:
        parts: as `real_parts` gives them.
        like: leaves of the types that are wanted.

    Returns:
        The tree.
    """

    def leaf(z, part):
        return jax.lax.complex(*part) if jnp.iscomplexobj(z) else part

    return jax.tree.map(leaf, like, parts)


def live_parts(model: PyTree, theta0: PyTree) -> PyTree | None:
    """For each real part of the trainable leaves, which of its numbers count.

    Args:
        model: the model; it may be traced.
        theta0: its trainable leaves, None elsewhere.

    Returns:
        Boolean arrays in the structure of `real_parts(theta0)`; None if no padding is declared.
    """
    if not _declares_padding(model):
        return None
    declare = lambda part: part.live() if isinstance(part, AbstractPadded) else part
    declared = jax.tree.map(declare, model, is_leaf=_is_padded)
    return jax.tree.map(_mask, theta0, declared, is_leaf=lambda z: z is None)


def _mask(z: Array | None, declared) -> PyTree:
    """Which numbers of the real parts of a trainable leaf count: all where nothing is declared."""
    if z is None:
        return None
    mask = declared if declared.dtype == bool else np.ones((), bool)
    # On the host, where nothing needs compiling for each shape, unless it is traced.
    mask = (jnp if isinstance(mask, Tracer) else np).broadcast_to(mask, z.shape)
    return (mask, mask) if jnp.iscomplexobj(z) else mask


def _is_padded(part: object) -> bool:
    return isinstance(part, AbstractPadded)


def _declares_padding(model: PyTree) -> bool:
    return any(_is_padded(part) for part in jax.tree.leaves(model, is_leaf=_is_padded))

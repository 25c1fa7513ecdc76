"""Trees whose small arrays stand together come back as they were, and programs know them apart."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flowlift.leaves import parted
from flowlift.packing import packed


def tree():
    return {
        "a": np.arange(6, dtype=np.int32).reshape(2, 3),
        "b": jnp.array(2.5, jnp.float32),
        "c": jnp.zeros((0, 3)),
        "d": (np.arange(4.0), "a word", 3, True),
        "large": jnp.arange(5000.0),
        "weak": jnp.asarray(1.0),
    }


def same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert np.shape(a) == np.shape(b) and np.array_equal(a, b) if np.shape(a) else a == b
        if hasattr(a, "dtype"):
            assert a.dtype == b.dtype


def test_a_tree_comes_back_as_it_was():
    whole = tree()
    arrays, static = packed(whole)
    same(static.joined(arrays), whole)
    # What is large or weakly typed stays by itself: it is handed on, not copied.
    assert any(array is whole["large"] for array in arrays)
    assert any(array is whole["weak"] for array in arrays)
    # Nor has a key of random streams numbers.
    key = jax.random.key(3)
    assert packed({"key": key})[0][0] is key
    small = [whole["a"], whole["b"], whole["c"], whole["d"][0]]
    assert len(arrays) == 2 + len({np.asarray(leaf).dtype for leaf in small})


def test_programs_are_shared_by_shapes_and_by_what_is_no_array():
    (one, first), (other, second) = (
        packed(tree()),
        packed(tree() | {"a": np.ones((2, 3), np.int32)}),
    )
    assert first == second
    assert hash(first) == hash(second)
    assert not all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    for changed in ({"a": np.ones((3, 2), np.int32)}, {"d": (np.arange(4.0), "another", 3, True)}):
        assert packed(tree() | changed)[1] != first


def test_what_stands_beside_has_vectors_of_its_own():
    whole, beside = {"mine": np.arange(3.0), "shared": np.arange(2.0)}, {"at": None}
    beside["at"] = whole["shared"]
    arrays, static = packed(whole, beside)
    assert sorted(array.size for array in arrays) == [2, 3]
    same(static.joined(arrays), whole)


def test_a_tree_is_parted_as_equinox_parts_it():
    model = {"a": jnp.arange(2.0), "b": (jnp.ones(3), "word", None)}
    for chosen in (
        eqx.is_inexact_array,
        jax.tree.map(eqx.is_array, model),
        {"a": True, "b": False},
    ):
        ours, others = parted(model, chosen), eqx.partition(model, chosen)
        assert eqx.tree_equal(ours, others)

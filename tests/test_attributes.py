"""Modules that are read plainly differ from others in nothing but that."""

import types

import equinox as eqx
import jax

from flowlift.attributes import read_plainly


class Usual(eqx.Module):
    x: float

    def double(self):
        return 2 * self.x


@read_plainly
class Plain(eqx.Module):
    x: float

    def double(self):
        return 2 * self.x


def test_methods_are_pythons_own_and_all_else_is_as_ever():
    assert not isinstance(Usual(1.5).double, types.MethodType)
    assert isinstance(Plain(1.5).double, types.MethodType)
    assert Plain(1.5).double() == Usual(1.5).double() == 3
    assert jax.tree.leaves(Plain(1.5)) == [1.5]
    assert jax.jit(lambda plain: plain.double())(Plain(1.5)) == 3
    assert eqx.tree_at(lambda plain: plain.x, Plain(1.5), 2.0) == Plain(2.0)

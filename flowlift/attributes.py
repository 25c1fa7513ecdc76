"""Attributes of equinox modules, read as those of any other class."""

from typing import TypeVar

_Class = TypeVar("_Class", bound=type)


def read_plainly(cls: _Class) -> _Class:
    """Let attributes of an equinox module be read without a look at each.

    Equinox makes every method that is read a pytree, so that `jax.jit(module.method)` works: a
    module more for each call, whose making goes through all arrays of the first. On the host that
    was a fifth of what a flow of a hundred parameters waits for. Modules whose methods are called
    and not handed to JAX do without; a method that is handed to it all the same has the arrays of
    its module as constants. Not for classes that users derive from.

    Args:
        cls: the class.

    Returns:
        The class itself.
    """
    # By its name: type checkers take the class for an object here.
    type.__setattr__(cls, "__getattribute__", object.__getattribute__)
    return cls

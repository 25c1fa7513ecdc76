"""A call of diffrax without its run-time checks, so that the program can be kept on disk.

diffrax checks while a program runs that the first step and the save times lie the right way. Each
check is a call back into Python, and JAX keeps no compiled program that calls back. The host has
ordered both before a leg begins; checks inside of the loop, such as a model's own, stay.
"""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
from jax.extend.core import ClosedJaxpr, Var, jaxpr_as_fun

# Programs within a program, and where their text is: what lies in them is at the same level.
_WRAPPERS = {"jit": "jaxpr", "pjit": "jaxpr", "custom_jvp_call": "call_jaxpr"}


def unchecked(function: Callable) -> Callable:
    """The function, without checks that it makes at its top level.

    A check is a choice between handing values on and returning what calls back give: the first
    stands in for both.

    Args:
        function: of arrays and other things, traced whenever it is called.

    Returns:
        A function of the same arguments.
    """

    @functools.wraps(function)
    def run(*args: Any, **settings: Any) -> Any:
        dynamic, static = eqx.partition((args, settings), eqx.is_array)
        leaves, tree = jax.tree.flatten(dynamic)

        def of_leaves(*leaves):
            given, named = eqx.combine(jax.tree.unflatten(tree, leaves), static)
            return function(*given, **named)

        program, shapes, rest = eqx.filter_make_jaxpr(of_leaves)(*leaves)
        found = jaxpr_as_fun(_silent(program))(*leaves)
        return eqx.combine(jax.tree.unflatten(jax.tree.structure(shapes), found), rest)

    return run


def _silent(program: ClosedJaxpr) -> ClosedJaxpr:
    """The program without the checks at its top level."""
    equations = [
        e.replace(params=e.params | _changed(e)) if _calls_back(e) else e for e in program.eqns
    ]
    return program.replace(jaxpr=program.jaxpr.replace(eqns=equations))


def _changed(equation: Any) -> dict[str, Any]:
    """The parameters in which an equation that calls back differs from a silent one."""
    name = equation.primitive.name
    if name in _WRAPPERS:
        inside = _WRAPPERS[name]
        return {inside: _silent(equation.params[inside])}
    branches = equation.params.get("branches", ())
    handed_on = [branch for branch in branches if not branch.eqns]
    is_check = len(handed_on) == 1 and all(not b.eqns or _called(b) for b in branches)
    return {"branches": (handed_on[0],) * len(branches)} if is_check else {}


def _called(branch: ClosedJaxpr) -> bool:
    """Whether all that a branch returns comes from calls back."""
    from_calls = {v for e in branch.eqns if "callback" in e.primitive.name for v in e.outvars}
    return all(isinstance(v, Var) and v in from_calls for v in branch.jaxpr.outvars)


def _any(program: ClosedJaxpr) -> bool:
    return any(map(_calls_back, program.eqns))


def _calls_back(equation: Any) -> bool:
    """Whether an equation, or one of the programs in it, calls back into Python."""
    if "callback" in equation.primitive.name:
        return True
    programs = [
        leaf
        for value in equation.params.values()
        for leaf in (value if isinstance(value, tuple | list) else [value])
        if hasattr(leaf, "eqns")
    ]
    return any(map(_any, programs))

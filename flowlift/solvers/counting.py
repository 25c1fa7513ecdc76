"""True counts of any solver's work, however it is written: evaluations are marked, and counted.

A solver may evaluate its field in loops and branches whose course is not known beforehand, such as
the iterations of a root finder, and returns no count. So the field is marked (`evaluation`), and a
function that uses it is traced and run again with a counter beside every loop and branch in which
marks occur (`counted`). Differentiating a marked field marks the products with its Jacobian;
mapping it over a batch multiplies the mark. Nothing is kept outside: counts are arrays like others.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, cast

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax.extend import core
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, PyTree

from ..showing import shows_itself
from .work import Halt, StepReport, Work

Count = Array | int
Counts = tuple[Count, Count]


class Uncountable(ValueError):
    """Raised for a function whose evaluations of the field cannot be counted."""


def evaluation(value: Array) -> Array:
    """The value itself, marked as one evaluation of the field.

    Args:
        value: what the field returned, or one part of it.

    Returns:
        The value. Outside of `counted` the mark has no effect and no cost.
    """
    return cast(Array, _mark.bind(value, gradients=1, products=0))


def counted(function: Callable[..., PyTree]) -> Callable[..., tuple[PyTree, Work]]:
    """A function with the work that it does.

    Args:
        function: any function of pytrees that JAX can trace.

    Returns:
        A function of the same arguments that returns (the same result, its work): the evaluations
        that were marked, and the Jacobian-vector products that differentiating them gave. It has
        no derivative of its own where `function` has a custom one.

    Raises:
        Uncountable: when called, if marks occur where no count can be kept.
    """

    @functools.wraps(function)
    def with_work(*args):
        closed, shapes, static = eqx.filter_make_jaxpr(function)(*args)
        inputs = jax.tree.leaves(eqx.filter(args, eqx.is_array))
        outputs, (gradients, products) = _run(closed.jaxpr, closed.consts, inputs)
        # A result that is known while tracing may come back as a number of NumPy's.
        outputs = [
            out if isinstance(out, jax.Array) else jnp.asarray(out, of.dtype)
            for out, of in zip(outputs, closed.out_avals, strict=True)
        ]
        dynamic = jax.tree.unflatten(jax.tree.structure(shapes), outputs)
        return eqx.combine(dynamic, static), Work.of(gradients, products)

    return with_work


@shows_itself
class Counting(diffrax.AbstractAdaptiveSolver):
    """Any solver, with a `StepReport` of its true work in place of its error estimate.

    Its field must be marked by `evaluation`, and its controller be a `WorkController`. Steps and
    numbers are those of the solver alone.

    Attributes:
        solver: the solver. Where its root finder takes tolerances from a controller, they must
            have been filled in.
    """

    solver: diffrax.AbstractSolver

    @property
    def term_structure(self):  # pyright: ignore[reportIncompatibleVariableOverride]
        """That of the solver."""
        return self.solver.term_structure

    @property
    def interpolation_cls(self):  # pyright: ignore[reportIncompatibleMethodOverride]
        """That of the solver."""
        return self.solver.interpolation_cls

    @property
    def term_compatible_contr_kwargs(self):  # pyright: ignore[reportIncompatibleVariableOverride]
        """That of the solver."""
        return self.solver.term_compatible_contr_kwargs

    def order(self, terms):
        """That of the solver."""
        return self.solver.order(terms)

    def strong_order(self, terms):
        """That of the solver."""
        return self.solver.strong_order(terms)

    def error_order(self, terms):
        """That of the solver."""
        return self.solver.error_order(terms)

    def init(self, terms, t0, t1, y0, args):
        """The solver's memory."""
        return self.solver.init(terms, t0, t1, y0, args)

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        """One step of the solver, counted."""
        step = counted(lambda solver, *given: solver.step(*given))
        done, work = step(self.solver, terms, t0, t1, y0, args, solver_state, made_jump)
        y1, error, dense, state, result = done
        # Some solvers say so in their error estimate, some do not: a shorter step may be solved.
        solved = diffrax.is_okay(result)
        fault = jnp.where(solved, int(Halt.NONE), int(Halt.UNSOLVED))
        return y1, StepReport(error, work, fault), dense, state, diffrax.RESULTS.successful

    def func(self, terms, t0, y0, args):
        """The field."""
        return self.solver.func(terms, t0, y0, args)


_mark = core.Primitive("field_evaluation")
_mark.def_impl(lambda value, **_: value)
_mark.def_abstract_eval(lambda value, **_: value)
mlir.register_lowering(_mark, lambda ctx, value, **_: [value])


def _differentiate(primals, tangents, *, gradients: int, products: int):
    (value,), (tangent,) = primals, tangents
    out = _mark.bind(value, gradients=gradients, products=products)
    if type(tangent) is ad.Zero:
        return out, tangent
    # A derivative of a product is another product.
    return out, _mark.bind(tangent, gradients=0, products=gradients + products)


def _transpose(cotangent, value, *, gradients: int, products: int):
    if type(cotangent) is ad.Zero:
        return (cotangent,)
    return (_mark.bind(cotangent, gradients=gradients, products=products),)


def _batch(values, dims, *, gradients: int, products: int):
    (value,), (dim,) = values, dims
    size = value.shape[dim]
    return _mark.bind(value, gradients=size * gradients, products=size * products), dim


ad.primitive_jvps[_mark] = _differentiate
ad.primitive_transposes[_mark] = _transpose
batching.primitive_batchers[_mark] = _batch


def _run(jaxpr: core.Jaxpr, consts: Sequence[Any], args: Sequence[Any]) -> tuple[list[Any], Counts]:
    """A traced function run again, with what its marks add up to."""
    values: dict[Any, Any] = {}

    def read(atom):
        return atom.val if isinstance(atom, core.Literal) else values[atom]

    values.update(zip(jaxpr.constvars, consts, strict=True))
    values.update(zip(jaxpr.invars, args, strict=True))
    total: Counts = (0, 0)
    for equation in jaxpr.eqns:
        inputs = [read(atom) for atom in equation.invars]
        with equation.ctx.manager:
            outputs, counts = _apply(equation, inputs)
        total = _sum(total, counts)
        values.update(zip(equation.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars], total


def _apply(equation: core.JaxprEqn, inputs: list[Any]) -> tuple[Sequence[Any], Counts]:
    primitive, params = equation.primitive, equation.params
    if primitive is _mark:
        return inputs, (params["gradients"], params["products"])
    if primitive.name == "linear_solve":
        # Of lineax. Its parameters hold the Jacobian, which only an iterative one multiplies by.
        inner = jax.make_jaxpr(lambda *given: primitive.impl(*given, **params))(*inputs)
        parts = [inner.jaxpr]
    else:
        inner, parts = None, core.jaxprs_in_params(params)
    if not any(_marked(part) for part in parts):
        outputs = primitive.bind(*inputs, **primitive.get_bind_params(params))
        return outputs if primitive.multiple_results else [outputs], (0, 0)
    if primitive.name in _CONTROL:
        return _CONTROL[primitive.name](inputs, equation)
    called = inner or params.get("jaxpr", params.get("call_jaxpr"))
    if isinstance(called, core.ClosedJaxpr):
        return _run(called.jaxpr, called.consts, inputs)
    if isinstance(called, core.Jaxpr):
        return _run(called, (), inputs)
    raise Uncountable(
        f"Argument `solver` must evaluate the field where it can be counted, but does so inside "
        f"{primitive.name!r}; take another solver or root finder."
    )


def _while(inputs, equation: core.JaxprEqn) -> tuple[Sequence[Any], Counts]:
    params = equation.params
    condition, body = params["cond_jaxpr"], params["body_jaxpr"]
    split = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
    fixed, given, start = inputs[: split[0]], inputs[split[0] : split[1]], inputs[split[1] :]

    def holds(carry):
        return _run(condition.jaxpr, condition.consts, [*fixed, *carry[0]])[0][0]

    def once(carry):
        values, counts = carry
        new, more = _run(body.jaxpr, body.consts, [*given, *values])
        return new, _arrays(_sum(counts, more))

    if _marked(condition.jaxpr):
        raise Uncountable(
            "Argument `solver` must not evaluate the field in the condition of a loop; "
            "take another solver or root finder."
        )
    return jax.lax.while_loop(holds, once, (list(start), _arrays((0, 0))))


def _scan(inputs, equation: core.JaxprEqn) -> tuple[Sequence[Any], Counts]:
    params, body = equation.params, equation.params["jaxpr"]
    # How versions of JAX say what is held and what is carried differs: what is scanned has an axis
    # more outside of the body than inside, and nothing else has.
    more = lambda outside, inside: [
        o.aval.ndim > i.aval.ndim for o, i in zip(outside, inside, strict=True)
    ]
    carried = len(equation.outvars) - sum(more(equation.outvars, body.jaxpr.outvars))
    held = len(inputs) - sum(more(equation.invars, body.jaxpr.invars)) - carried
    given, start, along = inputs[:held], inputs[held : held + carried], inputs[held + carried :]

    def once(carry, each):
        values, counts = carry
        new, more = _run(body.jaxpr, body.consts, [*given, *values, *each])
        return (new[:carried], _arrays(_sum(counts, more))), new[carried:]

    (last, counts), stacked = jax.lax.scan(
        once,
        (list(start), _arrays((0, 0))),
        list(along),
        length=params["length"],
        reverse=params["reverse"],
        unroll=params["unroll"],
    )
    return [*last, *stacked], counts


def _cond(inputs, equation: core.JaxprEqn) -> tuple[Sequence[Any], Counts]:
    which, *given = inputs

    def counting(branch: core.ClosedJaxpr):
        def run(*values):
            outputs, counts = _run(branch.jaxpr, branch.consts, values)
            return outputs, _arrays(counts)

        return run

    return jax.lax.switch(
        which, [counting(branch) for branch in equation.params["branches"]], *given
    )


_CONTROL = {"while": _while, "scan": _scan, "cond": _cond}


def _marked(jaxpr: core.Jaxpr) -> bool:
    """Whether marks occur in a traced function, at any depth."""
    return any(
        equation.primitive is _mark
        or any(_marked(inner) for inner in core.jaxprs_in_params(equation.params))
        for equation in jaxpr.eqns
    )


def _sum(one: Counts, other: Counts) -> Counts:
    return one[0] + other[0], one[1] + other[1]


def _arrays(counts: Counts) -> tuple[Array, Array]:
    return jnp.asarray(counts[0], int), jnp.asarray(counts[1], int)

"""Legs of several flows in one program, each a lane with its own step, order, bounds and end.

Unlike a leg under `jax.vmap`, whose members would all wait for the last one, the loop ends soon
after the first of its legs: the host gives that lane another leg, and the others go on from where
they are. So no lane's numbers depend on when others end. A lane without a leg is at rest: it
attempts steps of length 0, in which all inner loops end at once.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..packing import Packed
from ..precision import exact_products
from .legs import Carry, Memory, begun_leg, found_by, goes_on

# Attempts of all lanes before the host is asked for a new leg where one has ended: a call takes as
# long as some attempts of a small flow, and a lane waits for half as many.
LEAST = 8


@lru_cache(maxsize=64)
def abreast(static: Packed, asked: tuple[bool, bool], shared: tuple[bool, ...]) -> Callable:
    """The program of K lanes.

    Args:
        static: of (problem, method).
        asked: as for `advancing`.
        shared: for each array of both, whether it is one for all lanes.

    Returns:
        (arrays, carry, fresh (K,), live (K,), y (K, N), memory, numbers (K, k), saves (K, m)) ->
        (carry, which go on (K,), attempts of the program, what `advancing` gives, of each lane).
        Lanes that are fresh begin a leg with what is given for them; the others go on. A lane that
        is not live is at rest.
    """
    of_arrays = [None if one else 0 for one in shared]

    def begin(arrays: list[Any], y, memory: Memory, numbers, saves) -> Carry:
        return begun_leg(static, asked, arrays, y, memory, numbers, saves)[0]

    def step(arrays: list[Any], y, memory: Memory, numbers, saves, now: Carry, on) -> Carry:
        _, once = begun_leg(static, asked, arrays, y, memory, numbers, saves)
        after = once(now._replace(h=jnp.where(on, now.h, 0)))
        return chosen(on, after, now)

    def advance(arrays, carry: Carry, fresh, live, y, memory: Memory, numbers, saves):
        given = (arrays, y, memory, numbers, saves)
        axes = (of_arrays, 0, 0, 0, 0)
        begun = jax.vmap(begin, axes)(*given)
        now = jax.vmap(chosen)(fresh, begun, carry)
        going = lambda now: jax.vmap(goes_on)(now, numbers) & live

        def ahead(loop: tuple[Carry, Bool[Array, " k"], Any]):
            _, on, count = loop
            return on.any() & ((count < LEAST) | (on | ~live).all())

        def body(loop: tuple[Carry, Bool[Array, " k"], Any]):
            now, on, count = loop
            after = jax.vmap(step, (*axes, 0, 0))(*given, now, on)
            return after, going(after), count + 1

        last, on, count = jax.lax.while_loop(ahead, body, (now, going(now), jnp.zeros((), int)))
        found = jax.vmap(found_by)(last, memory.parts[1].accepted)
        return last, on, count, found

    return jax.jit(exact_products(advance), compiler_options=_options())


def _options() -> dict[str, Any]:
    """Of the compiler: on CPUs a program of lanes computes in one thread.

    XLA's pool of threads can wait for itself for ever in batched programs with factorisations in
    loops: four of seven studies of a BDF in lanes on two cores. Others met it in theirs
    (PyAutoFit 1528). Decompositions of many matrices hand their parts to the pool all the same,
    which `solvers.lanczos` therefore never asks for.

    Returns:
        Options of `jax.jit`.
    """
    return {"xla_cpu_multi_thread_eigen": False} if jax.default_backend() == "cpu" else {}


def blank(
    static: Packed,
    asked: tuple[bool, bool],
    arrays: list[Any],
    y: Float[Array, " n"],
    memory: Memory,
    numbers: Float[Array, " k"],
    saves: Float[Array, " m"],
    width: int,
) -> Carry:
    """Lanes that have not begun: only shapes are needed, nothing is computed.

    Args:
        static: of (problem, method).
        asked: as for `advancing`.
        arrays: those of one member.
        y: its state.
        memory: its memory.
        numbers: its bounds.
        saves: its save times.
        width: K.

    Returns:
        Zeros.
    """
    begin = lambda *given: begun_leg(static, asked, *given)[0]
    shapes = jax.eval_shape(begin, arrays, y, memory, numbers, saves)
    return jax.tree.map(lambda leaf: jnp.zeros((width, *leaf.shape), leaf.dtype), shapes)


def chosen(new_if: Bool[Array, ""], new: Carry, old: Carry) -> Carry:
    """One carry or the other.

    Args:
        new_if: which.
        new: the one.
        old: the other.

    Returns:
        The carry.
    """
    return jax.tree.map(lambda a, b: jnp.where(new_if, a, b), new, old)

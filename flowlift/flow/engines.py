"""Which engine drives a flow: the host on a CPU, where compiling costs more than computing."""

import jax

from .host_methods import serves
from .methods import Method
from .problem import Problem

ENGINES = ("host", "graph")


def resolve_engine(engine: str | None, method: Method, problem: Problem) -> str:
    """The engine that is to drive a flow.

    Args:
        engine: "host", "graph", or None: the host where data are on one CPU and it has the solver.
        method: the solver.
        problem: the problem.

    Returns:
        Its name.

    Raises:
        ValueError: for another name, or the host where it does not have the solver.
    """
    if engine is not None and engine not in ENGINES:
        raise ValueError(
            f"Argument `engine` must be one of {', '.join(ENGINES)}, but is {engine!r}; leave it "
            "out for the one that suits the device."
        )
    if problem.streams and (engine == "graph" or not (serves(method) and on_one_cpu(problem))):
        raise ValueError(
            "Argument `engine` must be 'host', on one CPU and with a solver that it has, for "
            f"samples that are streamed from files, but is {engine!r} with {method.name}; take "
            "'auto', or `tasks.supervised`."
        )
    if engine == "host" and not serves(method):
        raise ValueError(
            f"Argument `engine` must be 'graph' for the solver {method.name}, which the host does "
            f"not have, but is {engine!r}; leave it out."
        )
    if engine is not None:
        return engine
    return "host" if serves(method) and on_one_cpu(problem) else "graph"


def on_one_cpu(problem: Problem) -> bool:
    """Whether all of a problem's arrays are on one device, a CPU.

    Args:
        problem: the problem.

    Returns:
        The verdict.
    """
    arrays = [leaf for leaf in jax.tree.leaves(problem) if isinstance(leaf, jax.Array)]
    devices = set().union(*(array.devices() for array in arrays))
    return len(devices) == 1 and next(iter(devices)).platform == "cpu"

"""Recurrent networks, unrolled in time."""

from collections.abc import Callable

from ...numbers import plain_numbers
from ...registry import register
from ..edge_maps import At, Bias, InnerProduct, Scalar
from ..perceptron import Constant, Edge, Hidden, Input, Output, PerceptronModule
from ..tuple_maps import Gated
from ..vertex_maps import Pointwise
from .sizes import check_depth, check_sizes


@register("module")
@plain_numbers
def unrolled_rnn(
    steps: int,
    inputs: int,
    outputs: int | None = None,
    *,
    activation: str | Callable = "tanh",
    gated: bool = False,
) -> PerceptronModule:
    """h_t = phi(W_t h_{t-1} + U_t x_t + b_t) for t = 1, ..., T, and y = a h_T + c: a DAG in time.

    **Weights are not shared between time steps.** A lift gives every edge a weight of its own
    (theory, section 2 [paper]), so that the steps have their own weights, and over each step its
    own sparse graph: this is a recurrent network unrolled, not tied.

    Args:
        steps: T, the length of a sequence.
        inputs: dimension d of x_t; a sample is (T, d).
        outputs: None for one scalar output, c for a vector of c outputs.
        activation: phi, see `Pointwise`.
        gated: whether h_t is multiplied by a gate s(W'_t h_{t-1} + U'_t x_t + b'_t), on edges
            named "gate x->h1", "gate h1->h2", ...

    Returns:
        The module, with vertices "x", "1", "h1", ..., "y".

    Raises:
        ValueError: if a size is below 1.
    """
    check_sizes(steps=steps, inputs=inputs)
    check_depth("steps", steps)
    vertices = [Input("x", (steps, inputs)), Constant("1")]
    edges = []
    for t in range(1, steps + 1):
        target = f"h{t}"
        maps = {"x": At(t - 1, InnerProduct()), "1": Bias()}
        maps |= {f"h{t - 1}": Scalar()} if t > 1 else {}
        # The gate's edges come first in the tuple.
        gate = [Edge(u, target, m, f"gate {u}->{target}") for u, m in maps.items()]
        entering = [Edge(u, target, m, f"{u}->{target}") for u, m in maps.items()]
        vertex_map = Gated(len(gate), activation) if gated else Pointwise(activation)
        vertices += [Hidden(target, vertex_map)]
        edges += [*(gate if gated else []), *entering]
    edges += [Edge(f"h{steps}", "y", Scalar()), Edge("1", "y", Bias())]
    return PerceptronModule([*vertices, Output("y", copies=outputs)], edges)

"""Base graphs: edge maps M_e, vertex maps sigma_v, perceptron modules and a zoo of them."""

from .edge_maps import AbstractEdgeMap, Bias, Identity, InnerProduct, Matrix, Scalar, Shape
from .perceptron import (
    Constant,
    Edge,
    Hidden,
    Input,
    Output,
    PerceptronModule,
    Vertex,
    edge_name,
)
from .vertex_maps import POINTWISE, AbstractVertexMap, Pointwise, TupleMap
from .zoo import attention, mean_over_tokens, mlp, mlp_with_skips, softmax_attention

__all__ = [
    "POINTWISE",
    "AbstractEdgeMap",
    "AbstractVertexMap",
    "Bias",
    "Constant",
    "Edge",
    "Hidden",
    "Identity",
    "InnerProduct",
    "Input",
    "Matrix",
    "Output",
    "PerceptronModule",
    "Pointwise",
    "Scalar",
    "Shape",
    "TupleMap",
    "Vertex",
    "attention",
    "edge_name",
    "mean_over_tokens",
    "mlp",
    "mlp_with_skips",
    "softmax_attention",
]

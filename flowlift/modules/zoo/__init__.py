"""Ready-made perceptron modules: base graphs of a few lines, to copy for the next one."""

from .attentive import attention, mean_over_tokens, softmax_attention, transformer
from .convolutional import cnn1d, cnn2d, resnet
from .perceptrons import (
    committee,
    deep_linear,
    mlp,
    mlp_with_skips,
    polynomial_committee,
    siren,
    two_layer,
)
from .recurrent import unrolled_rnn

__all__ = [
    "attention",
    "cnn1d",
    "cnn2d",
    "committee",
    "deep_linear",
    "mean_over_tokens",
    "mlp",
    "mlp_with_skips",
    "polynomial_committee",
    "resnet",
    "siren",
    "softmax_attention",
    "transformer",
    "two_layer",
    "unrolled_rnn",
]

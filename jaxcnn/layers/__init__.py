"""Layers with PyTorch's conventions on NHWC images; nothing outside this package knows them.

Parameters follow PyTorch's layout but for the transposed kernels that XLA wants: a convolution's
`kernel` is (kh, kw, in / groups, out), a Linear's (in, out). Every module is named after its twin
in `torch.nn`, so that a network's parameter paths are PyTorch's `state_dict` keys.
"""

from jaxcnn.layers.activation import ReLU
from jaxcnn.layers.conv import Conv2d, conv2d
from jaxcnn.layers.linear import Linear, flatten
from jaxcnn.layers.norm import BatchNorm2d
from jaxcnn.layers.pool import (
    AdaptiveAvgPool2d,
    AvgPool2d,
    MaxPool2d,
    adaptive_avg_pool2d,
    avg_pool2d,
    max_pool2d,
)
from jaxcnn.layers.regularize import Dropout

__all__ = [
    "AdaptiveAvgPool2d",
    "AvgPool2d",
    "BatchNorm2d",
    "Conv2d",
    "Dropout",
    "Linear",
    "MaxPool2d",
    "ReLU",
    "adaptive_avg_pool2d",
    "avg_pool2d",
    "conv2d",
    "flatten",
    "max_pool2d",
]

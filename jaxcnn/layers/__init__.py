"""Layers with PyTorch's conventions on NHWC images; nothing outside this package knows them.

Parameters follow PyTorch's layout but for the transposed kernels that XLA wants: a convolution's
`kernel` is (kh, kw, in / groups, out), a Linear's (in, out). Every module is named after its twin
in `torch.nn`, so that a network's parameter paths are PyTorch's `state_dict` keys.
"""

from jaxcnn.layers.activation import ELU, GELU, LeakyReLU, ReLU, Sigmoid, Softmax, Tanh
from jaxcnn.layers.attention import (
    CBAM,
    ChannelAttention,
    ScaleAttention,
    SequenceAttention,
    SpatialAttention,
    SqueezeExcitation,
)
from jaxcnn.layers.avg_pool import (
    AdaptiveAvgPool2d,
    AvgPool2d,
    adaptive_avg_pool2d,
    avg_pool2d,
    global_avg_pool2d,
)
from jaxcnn.layers.conv import Conv2d, conv2d
from jaxcnn.layers.conv_transpose import ConvTranspose2d, conv_transpose2d
from jaxcnn.layers.deform import DeformConv2d, deform_conv2d
from jaxcnn.layers.dot_product import attention_weights, scaled_dot_product_attention
from jaxcnn.layers.initializers import dirac
from jaxcnn.layers.interception import frozen_norms
from jaxcnn.layers.joined import join, join_so_far
from jaxcnn.layers.linear import Linear, flatten
from jaxcnn.layers.max_pool import (
    AdaptiveMaxPool2d,
    MaxPool2d,
    adaptive_max_pool2d,
    max_pool2d,
)
from jaxcnn.layers.max_unpool import MaxUnpool2d, max_unpool2d
from jaxcnn.layers.norm import BatchNorm2d
from jaxcnn.layers.regularize import Dropout, Dropout2d
from jaxcnn.layers.resize import Upsample, interpolate
from jaxcnn.layers.separable import DepthwiseSeparableConv2d
from jaxcnn.layers.shuffle import ChannelShuffle, channel_shuffle

__all__ = [
    "AdaptiveAvgPool2d",
    "AdaptiveMaxPool2d",
    "AvgPool2d",
    "BatchNorm2d",
    "CBAM",
    "ChannelAttention",
    "ChannelShuffle",
    "Conv2d",
    "ConvTranspose2d",
    "DeformConv2d",
    "DepthwiseSeparableConv2d",
    "Dropout",
    "Dropout2d",
    "ELU",
    "GELU",
    "LeakyReLU",
    "Linear",
    "MaxPool2d",
    "MaxUnpool2d",
    "ReLU",
    "ScaleAttention",
    "SequenceAttention",
    "Sigmoid",
    "Softmax",
    "SpatialAttention",
    "SqueezeExcitation",
    "Tanh",
    "Upsample",
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "attention_weights",
    "avg_pool2d",
    "channel_shuffle",
    "conv2d",
    "conv_transpose2d",
    "deform_conv2d",
    "dirac",
    "flatten",
    "frozen_norms",
    "global_avg_pool2d",
    "interpolate",
    "join",
    "join_so_far",
    "max_pool2d",
    "max_unpool2d",
    "scaled_dot_product_attention",
]

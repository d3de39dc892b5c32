"""Layers with the conventions of Keras 3 on NHWC images, where they differ from PyTorch's.

`padding="same"` is TensorFlow's: ceil(size / stride) outputs at any stride, so the padding depends
on the image's size, and of an odd number of pixels the extra one goes to the end. Kernels start
glorot-uniform (Glorot and Bengio, 2010) and biases at zero. Batch normalisation has eps 1e-3,
momentum 0.99 as the weight of the *old* value, and keeps the biased variance.

The parameters are those of `jaxcnn.layers`, whose kernels have Keras' layout already.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxcnn.layers import half
from jaxcnn.layers.conv import conv2d
from jaxcnn.layers.initializers import parameter
from jaxcnn.layers.linear import Linear
from jaxcnn.layers.max_pool import max_pool2d
from jaxcnn.layers.norm import BatchNorm2d
from jaxcnn.layers.window import Pair, check_images, pair

_Sides = tuple[int, int]


def same_padding(size: _Sides, kernel: _Sides, stride: _Sides) -> tuple[_Sides, _Sides]:
    """Return the ((top, bottom), (left, right)) of `padding="same"` in TensorFlow and Keras.

    Args:
        size: (h, w) of the image.
        kernel: (h, w) of the window.
        stride: step of the window, (h, w).
    """
    return _sides(size[0], kernel[0], stride[0]), _sides(size[1], kernel[1], stride[1])


def _sides(size: int, kernel: int, stride: int) -> _Sides:
    outputs = -(-size // stride)
    total = max((outputs - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class Conv2D(nn.Module):
    """`keras.layers.Conv2D(padding="same")` on (B, H, W, C) images.

    Parameters `kernel` (kh, kw, C, filters), glorot-uniform, and `bias` (filters,), zeros, of the
    images' dtype.
    """

    filters: int
    kernel_size: Pair
    strides: Pair = 1

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Map (B, H, W, C) to (B, ceil(H / strides), ceil(W / strides), filters).

        Raises:
            ValueError: wrong rank, or a bad kernel_size or strides.
        """
        layer = f"Conv2D {self.name!r}"
        check_images(layer, images.shape)
        _, height, width, channels = images.shape
        kernel_size = pair(f"{layer}: kernel_size", self.kernel_size, least=1)
        strides = pair(f"{layer}: strides", self.strides, least=1)
        shape = (*kernel_size, channels, self.filters)
        kept = half.kept(images.dtype)
        kernel = parameter(self, "kernel", nn.initializers.glorot_uniform(), shape, kept)
        bias = parameter(self, "bias", nn.initializers.zeros, (self.filters,), kept)
        kernel, bias = (half.rounded(value, images.dtype) for value in (kernel, bias))
        padding = same_padding((height, width), kernel_size, strides)
        return conv2d(images, kernel, bias, stride=strides, padding=padding)


class MaxPooling2D(nn.Module):
    """`keras.layers.MaxPooling2D(padding="same")` on (B, H, W, C) images."""

    pool_size: Pair
    strides: Pair | None = None

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Map (B, H, W, C) to (B, ceil(H / strides), ceil(W / strides), C).

        Raises:
            ValueError: wrong rank, or a bad pool_size or strides.
        """
        layer = f"MaxPooling2D {self.name!r}"
        check_images(layer, images.shape)
        _, height, width, _ = images.shape
        pool_size = pair(f"{layer}: pool_size", self.pool_size, least=1)
        strides = pool_size
        if self.strides is not None:
            strides = pair(f"{layer}: strides", self.strides, least=1)
        padding = same_padding((height, width), pool_size, strides)
        padded = jnp.pad(images, ((0, 0), *padding, (0, 0)), constant_values=-jnp.inf)
        return max_pool2d(padded, pool_size, strides)


# 0.01 is the weight of the new value.
BatchNormalization = partial(BatchNorm2d, eps=1e-3, momentum=0.01, unbiased=False)

Dense = partial(
    Linear, kernel_init=nn.initializers.glorot_uniform(), bias_init=nn.initializers.zeros
)

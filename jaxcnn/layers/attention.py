"""Attention: over channels, space, scales and a sequence of feature maps; soft and hard.

Soft attention weighs by a softmax (or a sigmoid), hard attention picks one (Xu et al., 2015,
arXiv:1502.03044). The modules of channels and space keep their input's shape, so that they fit
behind any layer of a network; each gate is a call of its module `scale_activation`.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxcnn.layers.activation import ReLU, Sigmoid
from jaxcnn.layers.avg_pool import AdaptiveAvgPool2d
from jaxcnn.layers.conv import Conv2d
from jaxcnn.layers.dot_product import attention_weights, scaled_dot_product_attention
from jaxcnn.layers.linear import Linear
from jaxcnn.layers.resize import interpolate
from jaxcnn.layers.window import check_images


class SqueezeExcitation(nn.Module):
    """Scale every channel by a gate in (0, 1), computed from all channels' means.

    Hu, Shen, Albanie, Sun and Wu, 2018, arXiv:1709.01507; `torchvision.ops.SqueezeExcitation`:
    average pool, 1x1 convolution `fc1` to C // reduction channels, activation, 1x1 convolution
    `fc2` back to C, scale_activation.

    Attributes:
        reduction: what the channels are divided by in between, rounded down.
        activation: a module class or a function that makes one.
        scale_activation: as `activation`.
    """

    reduction: int = 16
    activation: Callable[..., nn.Module] = ReLU
    scale_activation: Callable[..., nn.Module] = Sigmoid

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Map (B, H, W, C) to (B, H, W, C).

        Raises:
            ValueError: wrong rank, or a reduction that leaves no channel.
        """
        layer = f"SqueezeExcitation {self.name!r}"
        check_images(layer, images.shape)
        channels = images.shape[3]
        x = AdaptiveAvgPool2d(1, name="avgpool")(images)  # (B, 1, 1, C)
        x = Conv2d(_squeezed(layer, channels, self.reduction), 1, name="fc1")(x)
        x = self.activation(name="activation")(x)
        x = Conv2d(channels, 1, name="fc2")(x)
        return images * self.scale_activation(name="scale_activation")(x)


class ChannelAttention(nn.Module):
    """Scale every channel by a gate in (0, 1), computed from all channels' means and maxima.

    Woo, Park, Lee and Kweon, 2018, arXiv:1807.06521, section 3: one perceptron without biases,
    `fc1`, ReLU, `fc2`, sees the means and the maxima; the sigmoid of both results' sum is the gate.

    Attributes:
        reduction: what the channels are divided by in between, rounded down.
    """

    reduction: int = 16

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Map (B, H, W, C) to (B, H, W, C).

        Raises:
            ValueError: wrong rank, or a reduction that leaves no channel.
        """
        layer = f"ChannelAttention {self.name!r}"
        check_images(layer, images.shape)
        channels = images.shape[3]
        squeezed = _squeezed(layer, channels, self.reduction)
        fc1 = Conv2d(squeezed, 1, bias=False, name="fc1")
        activation = ReLU(name="activation")
        fc2 = Conv2d(channels, 1, bias=False, name="fc2")
        pixels = images.reshape(images.shape[0], -1, 1, channels)
        pooled = jnp.mean(pixels, axis=1, keepdims=True), _maximum(pixels, 1)
        means, maxima = (fc2(activation(fc1(x))) for x in pooled)  # (B, 1, 1, C)
        return images * Sigmoid(name="scale_activation")(means + maxima)


class SpatialAttention(nn.Module):
    """Scale every pixel by a gate in (0, 1), computed from the channels' mean and maximum around.

    Woo et al., 2018, arXiv:1807.06521, section 3: the sigmoid of a convolution `conv` without bias
    over the two maps (mean, maximum).

    Attributes:
        kernel_size: of the convolution, odd; the paper's is 7.
    """

    kernel_size: int = 7

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Map (B, H, W, C) to (B, H, W, C).

        Raises:
            ValueError: wrong rank, or a kernel_size that is even or below 1.
        """
        layer = f"SpatialAttention {self.name!r}"
        check_images(layer, images.shape)
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise ValueError(
                f"{layer}: kernel_size must be odd, at least 1, got {self.kernel_size}"
            )
        pooled = jnp.mean(images, axis=3, keepdims=True), _maximum(images, 3)
        x = jnp.concatenate(pooled, axis=3)  # (B, H, W, 2)
        padding = self.kernel_size // 2
        x = Conv2d(1, self.kernel_size, padding=padding, bias=False, name="conv")(x)
        return images * Sigmoid(name="scale_activation")(x)


class CBAM(nn.Module):
    """The convolutional block attention module: `channel_attention`, then `spatial_attention`.

    Woo et al., 2018, arXiv:1807.06521, whose experiments found this order the better one.

    Attributes:
        reduction: see `ChannelAttention`.
        kernel_size: see `SpatialAttention`.
    """

    reduction: int = 16
    kernel_size: int = 7

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Map (B, H, W, C) to (B, H, W, C).

        Raises:
            ValueError: as the two modules.
        """
        x = ChannelAttention(self.reduction, name="channel_attention")(images)
        return SpatialAttention(self.kernel_size, name="spatial_attention")(x)


class ScaleAttention(nn.Module):
    """Merge feature maps of several resolutions by weights of every scale at every pixel.

    Chen, Yang, Wang, Xu and Yuille, 2016, arXiv:1511.03339, section 3.2: all maps are resized to
    the first one's size; a 3x3 convolution `conv1`, ReLU and a 1x1 convolution `conv2` score them
    from their concatenation; the sum is weighted by the softmax over the scales.

    Attributes:
        features: channels of the 3x3 convolution; the paper's are 512.
        hard: take the best scale alone at every pixel, see `attention_weights`.
    """

    features: int = 512
    hard: bool = False

    @nn.compact
    def __call__(self, maps: Sequence[jax.Array]) -> jax.Array:
        """Map S maps (B, H_s, W_s, C) to one (B, H_1, W_1, C).

        Resizing is `interpolate`'s, bilinear.

        Raises:
            ValueError: no map, wrong rank, or maps that differ in batch or channels.
        """
        layer = f"ScaleAttention {self.name!r}"
        if not maps:
            raise ValueError(f"{layer}: maps must hold at least one feature map, got none")
        for images in maps:
            check_images(layer, images.shape)
        shape = maps[0].shape
        if any((x.shape[0], x.shape[3]) != (shape[0], shape[3]) for x in maps):
            raise ValueError(
                f"{layer}: maps must have one batch size and one number of channels, got shapes "
                f"{', '.join(str(x.shape) for x in maps)}"
            )
        resized = [interpolate(x, shape[1:3], mode="bilinear") for x in maps]
        x = Conv2d(self.features, 3, padding=1, name="conv1")(jnp.concatenate(resized, axis=3))
        x = Conv2d(len(maps), 1, name="conv2")(ReLU(name="relu")(x))  # (B, H, W, S)
        weights = attention_weights(x, hard=self.hard)
        return jnp.einsum("bhwcs,bhws->bhwc", jnp.stack(resized, axis=-1), weights)


class SequenceAttention(nn.Module):
    """Let every feature map of a sequence attend to all of them, a pixel at a time.

    At every pixel the T feature vectors are queries, keys and values of
    `scaled_dot_product_attention`, by Linears `query`, `key` and `value`.

    Attributes:
        features: channels of queries, keys and values; None takes the input's.
        is_causal: map t attends to the maps up to t alone.
        hard: attend to the best map alone, see `attention_weights`.
    """

    features: int | None = None
    is_causal: bool = False
    hard: bool = False

    @nn.compact
    def __call__(self, maps: jax.Array) -> jax.Array:
        """Map (B, T, H, W, C) to (B, T, H, W, features).

        Raises:
            ValueError: wrong rank.
        """
        if maps.ndim != 5:
            raise ValueError(
                f"SequenceAttention {self.name!r}: maps must be (B, T, H, W, C), got shape "
                f"{maps.shape}"
            )
        features = self.features or maps.shape[-1]
        x = jnp.moveaxis(maps, 1, -2)  # (B, H, W, T, C)
        query, key, value = (Linear(features, name=n)(x) for n in ("query", "key", "value"))
        x = scaled_dot_product_attention(
            query, key, value, is_causal=self.is_causal, hard=self.hard
        )
        return jnp.moveaxis(x, -2, 1)


def _maximum(x: jax.Array, axis: int) -> jax.Array:
    """Return the maxima along an axis, kept; the first of equal ones gets the gradient.

    The gradient of `jnp.max` divides by the number of values that equal the maximum, which is 0
    where XLA computes the values again and rounds them differently.
    """
    place = jnp.argmax(x, axis=axis, keepdims=True)
    return jnp.take_along_axis(x, place, axis=axis)


def _squeezed(layer: str, channels: int, reduction: int) -> int:
    if not 1 <= reduction <= channels:
        raise ValueError(
            f"{layer}: reduction must be at least 1 and at most the {channels} channels, got "
            f"{reduction}"
        )
    return channels // reduction

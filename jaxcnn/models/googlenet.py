"""GoogLeNet: for 96x96 images as documented for CIFAR-10, and torchvision's for ImageNet.

After Szegedy et al., 2014, arXiv:1409.4842, with batch norm (eps 1e-3) behind every convolution.
(B, H, W, 3) -> (B, num_classes).

`googlenet_cifar`, 96x96, 5,955,452 parameters: one of its 3x3 reductions has 182 channels where the
paper has 192; that is what is documented, and it is kept.
`googlenet`, 224x224, 13,004,888 parameters with auxiliary heads, 6,624,904 without: torchvision's
architecture, keys and initialisation. Its 5x5 branches have 3x3 kernels, a slip of torchvision's
that its checkpoints depend on.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxcnn.layers import (
    AdaptiveAvgPool2d,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Linear,
    MaxPool2d,
    ReLU,
    flatten,
    join,
)

_EPS = 1e-3


class ConvReLU(nn.Module):
    """`conv_relu`: convolution with bias, batch norm (eps 1e-3), ReLU."""

    features: int
    kernel_size: int
    stride: int = 1
    padding: int = 0

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Map (B, H, W, C) to (B, H', W', features)."""
        x = Conv2d(self.features, self.kernel_size, self.stride, self.padding, name="0")(x)
        return ReLU(name="2")(BatchNorm2d(_EPS, name="1")(x, train=train))


class Inception(nn.Module):
    """`inception`: four branches, concatenated over channels in the order of the arguments.

    Attributes:
        out1: channels of the 1x1 branch.
        reduce3: channels of the 3x3 branch's 1x1 convolution.
        out3: channels of the 3x3 branch.
        reduce5: channels of the 5x5 branch's 1x1 convolution.
        out5: channels of the 5x5 branch.
        out_pool: channels of the max-pool branch.
    """

    out1: int
    reduce3: int
    out3: int
    reduce5: int
    out5: int
    out_pool: int

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Map (B, H, W, C) to (B, H, W, out1 + out3 + out5 + out_pool)."""
        x1 = ConvReLU(self.out1, 1, name="branch1x1")(x, train=train)
        x3 = ConvReLU(self.reduce3, 1, name="branch3x3.0")(x, train=train)
        x3 = ConvReLU(self.out3, 3, padding=1, name="branch3x3.1")(x3, train=train)
        x5 = ConvReLU(self.reduce5, 1, name="branch5x5.0")(x, train=train)
        x5 = ConvReLU(self.out5, 5, padding=2, name="branch5x5.1")(x5, train=train)
        xp = MaxPool2d(3, 1, 1, name="branch_pool.0")(x)
        xp = ConvReLU(self.out_pool, 1, name="branch_pool.1")(xp, train=train)
        return join([x1, x3, x5, xp])


class GoogLeNetCifar(nn.Module):
    """Five blocks of convolutions and inceptions, and one Linear."""

    num_classes: int = 10

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Map images (B, H, W, C) to logits (B, num_classes)."""
        x = ConvReLU(64, 7, stride=2, padding=3, name="block1.0")(images, train=train)
        x = MaxPool2d(3, 2, name="block1.1")(x)  # (B, 23, 23, 64)
        x = ConvReLU(64, 1, name="block2.0")(x, train=train)
        x = ConvReLU(192, 3, padding=1, name="block2.1")(x, train=train)
        x = MaxPool2d(3, 2, name="block2.2")(x)  # (B, 11, 11, 192)
        x = Inception(64, 96, 128, 16, 32, 32, name="block3.0")(x, train=train)
        x = Inception(128, 128, 192, 32, 96, 64, name="block3.1")(x, train=train)
        x = MaxPool2d(3, 2, name="block3.2")(x)  # (B, 5, 5, 480)
        x = Inception(192, 96, 208, 16, 48, 64, name="block4.0")(x, train=train)
        x = Inception(160, 112, 224, 24, 64, 64, name="block4.1")(x, train=train)
        x = Inception(128, 128, 256, 24, 64, 64, name="block4.2")(x, train=train)
        x = Inception(112, 144, 288, 32, 64, 64, name="block4.3")(x, train=train)
        x = Inception(256, 160, 320, 32, 128, 128, name="block4.4")(x, train=train)
        x = MaxPool2d(3, 2, name="block4.5")(x)  # (B, 2, 2, 832)
        x = Inception(256, 160, 320, 32, 128, 128, name="block5.0")(x, train=train)
        x = Inception(384, 182, 384, 48, 128, 128, name="block5.1")(x, train=train)
        x = AvgPool2d(2, name="block5.2")(x)  # (B, 1, 1, 1024)
        return Linear(self.num_classes, name="classifier")(flatten(x))


class GoogLeNetOutputs(NamedTuple):
    """What `GoogLeNet` returns in training: three heads' logits (B, num_classes), as torchvision.

    `aux_logits2` is the head behind `inception4d`, `aux_logits1` the one behind `inception4a`.
    """

    logits: jax.Array
    aux_logits2: jax.Array
    aux_logits1: jax.Array


# torchvision truncates at +-2, 200 deviations away.
_normal = nn.initializers.normal(0.01)


class BasicConv2d(nn.Module):
    """torchvision's convolution without bias, batch norm (eps 1e-3), ReLU."""

    features: int
    kernel_size: int
    stride: int = 1
    padding: int = 0

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Map (B, H, W, C) to (B, H', W', features)."""
        x = Conv2d(
            self.features,
            self.kernel_size,
            self.stride,
            self.padding,
            bias=False,
            kernel_init=_normal,
            name="conv",
        )(x)
        return ReLU(name="relu")(BatchNorm2d(_EPS, name="bn")(x, train=train))


class InceptionModule(nn.Module):
    """torchvision's `Inception`: attributes as `Inception`'s, the third branch with 3x3 kernels."""

    out1: int
    reduce3: int
    out3: int
    reduce5: int
    out5: int
    out_pool: int

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Map (B, H, W, C) to (B, H, W, out1 + out3 + out5 + out_pool)."""
        x1 = BasicConv2d(self.out1, 1, name="branch1")(x, train=train)
        x2 = BasicConv2d(self.reduce3, 1, name="branch2.0")(x, train=train)
        x2 = BasicConv2d(self.out3, 3, padding=1, name="branch2.1")(x2, train=train)
        x3 = BasicConv2d(self.reduce5, 1, name="branch3.0")(x, train=train)
        x3 = BasicConv2d(self.out5, 3, padding=1, name="branch3.1")(x3, train=train)
        x4 = MaxPool2d(3, 1, 1, ceil_mode=True, name="branch4.0")(x)
        x4 = BasicConv2d(self.out_pool, 1, name="branch4.1")(x4, train=train)
        return join([x1, x2, x3, x4])


class InceptionAux(nn.Module):
    """An auxiliary classifier: (B, H, W, C) -> logits (B, num_classes)."""

    num_classes: int
    dropout: float = 0.7

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Map features (B, H, W, C) to logits (B, num_classes)."""
        x = AdaptiveAvgPool2d(4, name="avgpool")(x)
        x = flatten(BasicConv2d(128, 1, name="conv")(x, train=train))  # (B, 2048)
        x = ReLU(name="relu")(Linear(1024, kernel_init=_normal, name="fc1")(x))
        x = Dropout(self.dropout, name="dropout")(x, train=train)
        return Linear(self.num_classes, kernel_init=_normal, name="fc2")(x)


class GoogLeNet(nn.Module):
    """torchvision's `googlenet`: in training three heads, in evaluation one.

    Attributes:
        num_classes: outputs of every head.
        aux_logits: whether there are auxiliary heads, behind `inception4a` and `inception4d`; they
            have parameters, and are computed in training only.
        transform_input: turn images that are normalised by ImageNet's mean and deviation into
            images in [-1, 1], which torchvision's checkpoint was trained on.
        dropout: share dropped before the last Linear.
        dropout_aux: the same in the auxiliary heads.
    """

    num_classes: int = 1000
    aux_logits: bool = True
    transform_input: bool = False
    dropout: float = 0.2
    dropout_aux: float = 0.7

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array | GoogLeNetOutputs:
        """Map images (B, H, W, C) to logits (B, num_classes), or in training to three heads'."""
        x = _to_symmetric(images) if self.transform_input else images
        x = BasicConv2d(64, 7, stride=2, padding=3, name="conv1")(x, train=train)
        x = MaxPool2d(3, 2, ceil_mode=True, name="maxpool1")(x)  # (B, 56, 56, 64)
        x = BasicConv2d(64, 1, name="conv2")(x, train=train)
        x = BasicConv2d(192, 3, padding=1, name="conv3")(x, train=train)
        x = MaxPool2d(3, 2, ceil_mode=True, name="maxpool2")(x)  # (B, 28, 28, 192)
        x = InceptionModule(64, 96, 128, 16, 32, 32, name="inception3a")(x, train=train)
        x = InceptionModule(128, 128, 192, 32, 96, 64, name="inception3b")(x, train=train)
        x = MaxPool2d(3, 2, ceil_mode=True, name="maxpool3")(x)  # (B, 14, 14, 480)
        x = x4a = InceptionModule(192, 96, 208, 16, 48, 64, name="inception4a")(x, train=train)
        x = InceptionModule(160, 112, 224, 24, 64, 64, name="inception4b")(x, train=train)
        x = InceptionModule(128, 128, 256, 24, 64, 64, name="inception4c")(x, train=train)
        x = x4d = InceptionModule(112, 144, 288, 32, 64, 64, name="inception4d")(x, train=train)
        x = InceptionModule(256, 160, 320, 32, 128, 128, name="inception4e")(x, train=train)
        x = MaxPool2d(2, 2, ceil_mode=True, name="maxpool4")(x)  # (B, 7, 7, 832)
        x = InceptionModule(256, 160, 320, 32, 128, 128, name="inception5a")(x, train=train)
        x = InceptionModule(384, 192, 384, 48, 128, 128, name="inception5b")(x, train=train)
        x = flatten(AdaptiveAvgPool2d(1, name="avgpool")(x))  # (B, 1024)
        x = Dropout(self.dropout, name="dropout")(x, train=train)
        logits = Linear(self.num_classes, kernel_init=_normal, name="fc")(x)
        if not self.aux_logits or not (train or self.is_initializing()):
            return logits
        aux = [
            InceptionAux(self.num_classes, self.dropout_aux, name=name)(features, train=train)
            for name, features in (("aux2", x4d), ("aux1", x4a))
        ]
        return GoogLeNetOutputs(logits, *aux) if train else logits


def _to_symmetric(images: jax.Array) -> jax.Array:
    mean = jnp.asarray([0.485, 0.456, 0.406], images.dtype)
    deviation = jnp.asarray([0.229, 0.224, 0.225], images.dtype)
    return images * (deviation / 0.5) + (mean - 0.5) / 0.5


# The documented names.
conv_relu, inception = ConvReLU, Inception

VARIANTS = {
    "googlenet_cifar": (GoogLeNetCifar, (96, 96, 3)),
    "googlenet": (GoogLeNet, (224, 224, 3)),
}

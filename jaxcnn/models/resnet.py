"""Residual networks: the one documented for 96x96 images, and torchvision's for ImageNet.

After He, Zhang, Ren and Sun, 2015, arXiv:1512.03385.

`resnet_cifar`, documented for CIFAR-10 at 96x96 (80 % after 20 epochs of SGD, learning rate 0.01):
(B, 96, 96, 3) -> (B, num_classes); 11,180,682 parameters. It departs from the paper in its block
(see `ResidualBlock`) and its first convolution, which has neither norm nor ReLU.

`resnet18`, `resnet34`, `resnet50`, `resnet101`, `resnet152` are torchvision's (0.28), with its keys
and its initialisation: (B, 224, 224, 3) -> (B, num_classes), any other size too. A bottleneck's
stride is on its 3x3 convolution, not on the first 1x1 as in the paper. With `attention="se"` or
`"cbam"` every block ends its branch with that module (Hu et al., 2018, arXiv:1709.01507; Woo et
al., 2018, arXiv:1807.06521), which torchvision's have not.
"""

from collections.abc import Sequence
from functools import partial
from typing import Literal

import jax
from flax import linen as nn

from jaxcnn.layers import (
    CBAM,
    AdaptiveAvgPool2d,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Linear,
    MaxPool2d,
    ReLU,
    SqueezeExcitation,
    flatten,
)

Attention = Literal["none", "se", "cbam"]


class ResidualBlock(nn.Module):
    """`residual_block`: two 3x3 convolutions beside the input, ReLU **before** and after the sum.

    The ReLU before the addition is documented; the paper has none there. Where the shape changes,
    the input goes through a 1x1 convolution with bias and without norm.

    Attributes:
        features: channels of the output.
        same_shape: True keeps the size and the channels; False halves the size, rounded up.
    """

    features: int
    same_shape: bool = True

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Map (B, H, W, C) to (B, H', W', features).

        Raises:
            ValueError: if `same_shape`, but the images have other than `features` channels.
        """
        if self.same_shape and images.shape[-1] != self.features:
            raise ValueError(
                f"ResidualBlock {self.name!r}: same_shape=True needs images of {self.features} "
                f"channels, got shape {images.shape}"
            )
        stride = 1 if self.same_shape else 2
        relu = ReLU(name="relu")
        x = Conv2d(self.features, 3, stride, padding=1, bias=False, name="conv1")(images)
        x = relu(BatchNorm2d(name="bn1")(x, train=train))
        x = Conv2d(self.features, 3, padding=1, bias=False, name="conv2")(x)
        x = relu(BatchNorm2d(name="bn2")(x, train=train))
        if not self.same_shape:
            images = Conv2d(self.features, 1, stride, name="conv3")(images)
        return relu(images + x)


class ResNetCifar(nn.Module):
    """Conv 7x7, max pool, four pairs of `residual_block`, average pool, one Linear."""

    num_classes: int = 10

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Map images (B, H, W, C) to logits (B, num_classes)."""
        x = Conv2d(64, 7, stride=2, name="block1")(images)  # (B, 45, 45, 64)
        x = MaxPool2d(3, 2, name="block2.0")(x)  # (B, 22, 22, 64)
        x = ResidualBlock(64, name="block2.1")(x, train=train)
        x = ResidualBlock(64, name="block2.2")(x, train=train)
        for block, features in (("block3", 128), ("block4", 256), ("block5", 512)):
            # (B, 11, 11, 128), (B, 6, 6, 256), (B, 3, 3, 512)
            x = ResidualBlock(features, same_shape=False, name=f"{block}.0")(x, train=train)
            x = ResidualBlock(features, name=f"{block}.1")(x, train=train)
        x = AvgPool2d(3, name="block5.2")(x)  # (B, 1, 1, 512)
        return Linear(self.num_classes, name="classifier")(flatten(x))


# torchvision's convolutions: no bias, `kaiming_normal_(mode="fan_out", nonlinearity="relu")`.
_conv = partial(
    Conv2d, bias=False, kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "normal")
)


def _last_norm(zero_init: bool, name: str) -> BatchNorm2d:
    """Return a branch's last norm, at zero if its block is to start as the shortcut alone."""
    init = nn.initializers.zeros if zero_init else nn.initializers.ones
    return BatchNorm2d(scale_init=init, name=name)


class BasicBlock(nn.Module):
    """torchvision's block of two 3x3 convolutions: (B, H, W, C) -> (B, H', W', features).

    Attributes:
        features: channels of both convolutions.
        stride: of the first convolution; sizes are divided by it and rounded up.
        zero_init_residual: start the last norm's scale at 0 instead of 1.
        attention: what ends the branch, in front of the addition: nothing, `SqueezeExcitation`
            (named `se`) or `CBAM` (`cbam`).
    """

    features: int
    stride: int = 1
    zero_init_residual: bool = False
    attention: Attention = "none"

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Map (B, H, W, C) to (B, H', W', features)."""
        relu = ReLU(name="relu")
        x = _conv(self.features, 3, self.stride, padding=1, name="conv1")(images)
        x = relu(BatchNorm2d(name="bn1")(x, train=train))
        x = _conv(self.features, 3, padding=1, name="conv2")(x)
        x = _last_norm(self.zero_init_residual, "bn2")(x, train=train)
        x = _attend(self.attention, x)
        return relu(x + _shortcut(images, self.features, self.stride, train))


class Bottleneck(nn.Module):
    """torchvision's block of 1x1, 3x3, 1x1 convolutions: (B, H, W, C) -> (B, H', W', 4 features).

    Attributes:
        features: channels of the first two convolutions; the third has four times as many.
        stride: of the 3x3 convolution; sizes are divided by it and rounded up.
        zero_init_residual: start the last norm's scale at 0 instead of 1.
        attention: what ends the branch, in front of the addition: nothing, `SqueezeExcitation`
            (named `se`) or `CBAM` (`cbam`).
    """

    features: int
    stride: int = 1
    zero_init_residual: bool = False
    attention: Attention = "none"

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Map (B, H, W, C) to (B, H', W', 4 features)."""
        relu = ReLU(name="relu")
        x = _conv(self.features, 1, name="conv1")(images)
        x = relu(BatchNorm2d(name="bn1")(x, train=train))
        x = _conv(self.features, 3, self.stride, padding=1, name="conv2")(x)
        x = relu(BatchNorm2d(name="bn2")(x, train=train))
        x = _conv(4 * self.features, 1, name="conv3")(x)
        x = _last_norm(self.zero_init_residual, "bn3")(x, train=train)
        x = _attend(self.attention, x)
        return relu(x + _shortcut(images, 4 * self.features, self.stride, train))


def _attend(attention: Attention, images: jax.Array) -> jax.Array:
    """Return a branch's output under its block's attention."""
    if attention == "none":
        return images
    if attention == "se":
        return SqueezeExcitation(name="se")(images)
    if attention == "cbam":
        return CBAM(name="cbam")(images)
    raise ValueError(f"attention must be 'none', 'se' or 'cbam', got {attention!r}")


def _shortcut(images: jax.Array, features: int, stride: int, train: bool) -> jax.Array:
    """Return the block's input, through a 1x1 convolution and a norm where the shape changes."""
    if stride == 1 and images.shape[-1] == features:
        return images
    x = _conv(features, 1, stride, name="downsample.0")(images)
    return BatchNorm2d(name="downsample.1")(x, train=train)


class ResNet(nn.Module):
    """torchvision's ResNet: conv 7x7, max pool, four stages of blocks, global pool, one Linear.

    Attributes:
        block: `BasicBlock` or `Bottleneck`.
        num_blocks: blocks of each of the four stages, of 64, 128, 256 and 512 features.
        num_classes: outputs of the last layer.
        zero_init_residual: start the scale of every block's last norm at 0 instead of 1.
        remat: recompute what is inside a block for the gradient instead of keeping it: less memory,
            more time, the same variables. On a CPU it has no effect: XLA merges what is computed
            twice.
        attention: of every block: "none", "se" or "cbam".
    """

    block: type[BasicBlock] | type[Bottleneck]
    num_blocks: Sequence[int]
    num_classes: int = 1000
    zero_init_residual: bool = False
    remat: bool = False
    attention: Attention = "none"

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Map images (B, H, W, C) to logits (B, num_classes)."""

        def run(block, x):
            return block(x, train=train)

        # A function of the block, and not the block's class, leaves `train` a Python value.
        run = nn.remat(run) if self.remat else run
        x = _conv(64, 7, stride=2, padding=3, name="conv1")(images)  # (B, 112, 112, 64)
        x = ReLU(name="relu")(BatchNorm2d(name="bn1")(x, train=train))
        x = MaxPool2d(3, 2, padding=1, name="maxpool")(x)  # (B, 56, 56, 64)
        stages = zip((64, 128, 256, 512), self.num_blocks, strict=True)
        for i, (features, num_blocks) in enumerate(stages, 1):
            for j in range(num_blocks):
                stride = 2 if i > 1 and j == 0 else 1
                options = {"zero_init_residual": self.zero_init_residual, "name": f"layer{i}.{j}"}
                x = run(self.block(features, stride, attention=self.attention, **options), x)
        x = AdaptiveAvgPool2d(1, name="avgpool")(x)  # (B, 1, 1, 512 or 2048)
        return Linear(self.num_classes, name="fc")(flatten(x))


# The documented names.
residual_block = ResidualBlock
basic_block = BasicBlock
bottleneck = Bottleneck

VARIANTS = {
    "resnet_cifar": (ResNetCifar, (96, 96, 3)),
    "resnet18": (partial(ResNet, BasicBlock, (2, 2, 2, 2)), (224, 224, 3)),
    "resnet34": (partial(ResNet, BasicBlock, (3, 4, 6, 3)), (224, 224, 3)),
    "resnet50": (partial(ResNet, Bottleneck, (3, 4, 6, 3)), (224, 224, 3)),
    "resnet101": (partial(ResNet, Bottleneck, (3, 4, 23, 3)), (224, 224, 3)),
    "resnet152": (partial(ResNet, Bottleneck, (3, 8, 36, 3)), (224, 224, 3)),
}

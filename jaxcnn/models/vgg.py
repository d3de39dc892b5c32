"""VGG for 32x32 images: five blocks of 3x3 convolutions and two Linears.

After Simonyan and Zisserman, 2014, arXiv:1409.1556; documented for CIFAR-10 (77 % after 20 epochs
of SGD, learning rate 0.1). (B, 32, 32, 3) -> (B, num_classes); 9,272,790 parameters.
"""

from collections.abc import Sequence

import jax
from flax import linen as nn

from jaxcnn.layers import Conv2d, Linear, MaxPool2d, ReLU, flatten


class VGGBlock(nn.Module):
    """`vgg_block`: num_convs times conv 3x3 padding 1 and ReLU, then max pool 2.

    (B, H, W, C) -> (B, H/2, W/2, features).
    """

    num_convs: int
    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map (B, H, W, C) to (B, H/2, W/2, features)."""
        for i in range(self.num_convs):
            x = Conv2d(self.features, 3, padding=1, name=f"{2 * i}")(x)
            x = ReLU(name=f"{2 * i + 1}")(x)
        return MaxPool2d(2, name=f"{2 * self.num_convs}")(x)


class VGGStack(nn.Module):
    """`vgg_stack`: the blocks in a row; (1, 256, 256, 3) -> (1, 8, 8, 512) by default."""

    num_convs: Sequence[int] = (1, 1, 2, 2, 2)
    features: Sequence[int] = (64, 128, 256, 512, 512)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map (B, H, W, C) to (B, H/32, W/32, 512) by default."""
        for i, (num_convs, features) in enumerate(zip(self.num_convs, self.features, strict=True)):
            x = VGGBlock(num_convs, features, name=f"{i}")(x)
        return x


class VGGCifar(nn.Module):
    """`vgg_stack`, then Linears of 100 and num_classes."""

    num_classes: int = 10

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Map images (B, H, W, C) to logits (B, num_classes); training changes nothing."""
        del train
        x = flatten(VGGStack(name="feature")(images))  # (B, 512)
        x = ReLU(name="fc.1")(Linear(100, name="fc.0")(x))
        return Linear(self.num_classes, name="fc.2")(x)


VARIANTS = {"vgg_cifar": (VGGCifar, (32, 32, 3))}

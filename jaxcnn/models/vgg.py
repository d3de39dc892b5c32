"""VGG, for 32x32 images and as torchvision has it.

After Simonyan and Zisserman, 2014, arXiv:1409.1556.

`vgg_cifar`: five blocks of 3x3 convolutions and two Linears, documented for CIFAR-10 (77 % after
20 epochs of SGD, learning rate 0.1). (B, 32, 32, 3) -> (B, num_classes); 9,272,790 parameters. Not
documented there are `dropout`, of the hidden Linear as in the paper (section 3.1), and `dropout2d`;
at 0, the default, there are no such layers.

`vgg11` (configuration A), `vgg13` (B), `vgg16` (D), `vgg19` (E) and their `_bn` forms:
torchvision's architecture, keys and initialisation (`torchvision.models.vgg`). (B, 224, 224, 3) ->
(B, num_classes); 132,863,336 to 143,678,248 parameters at 1,000 classes; images from 32x32 on.
"""

from collections.abc import Sequence
from functools import partial
from itertools import count

import jax
from flax import linen as nn

from jaxcnn.layers import (
    AdaptiveAvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Dropout2d,
    Linear,
    MaxPool2d,
    ReLU,
    flatten,
)


class VGGBlock(nn.Module):
    """`vgg_block`: num_convs times conv 3x3 padding 1 and ReLU, then max pool 2.

    (B, H, W, C) -> (B, H/2, W/2, features).

    Attributes:
        num_convs: convolutions.
        features: channels of each.
        dropout2d: probability that a channel is dropped behind the max pool; 0 for none.
    """

    num_convs: int
    features: int
    dropout2d: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Map (B, H, W, C) to (B, H/2, W/2, features); train matters to the dropout only."""
        for i in range(self.num_convs):
            x = Conv2d(self.features, 3, padding=1, name=f"{2 * i}")(x)
            x = ReLU(name=f"{2 * i + 1}")(x)
        x = MaxPool2d(2, name=f"{2 * self.num_convs}")(x)
        if self.dropout2d:
            x = Dropout2d(self.dropout2d, name=f"{2 * self.num_convs + 1}")(x, train=train)
        return x


class VGGStack(nn.Module):
    """`vgg_stack`: the blocks in a row; (1, 256, 256, 3) -> (1, 8, 8, 512) by default.

    Attributes:
        num_convs: convolutions of each block.
        features: channels of each block.
        dropout2d: probability that a channel is dropped behind each block; 0 for none.
    """

    num_convs: Sequence[int] = (1, 1, 2, 2, 2)
    features: Sequence[int] = (64, 128, 256, 512, 512)
    dropout2d: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Map (B, H, W, C) to (B, H/32, W/32, 512) by default; train matters to dropouts only."""
        for i, (num_convs, features) in enumerate(zip(self.num_convs, self.features, strict=True)):
            x = VGGBlock(num_convs, features, self.dropout2d, name=f"{i}")(x, train=train)
        return x


class VGGCifar(nn.Module):
    """`vgg_stack`, then Linears of 100 and num_classes.

    Attributes:
        num_classes: outputs.
        dropout: probability of a dropout in front of the last Linear, in [0, 1]; 0 for none.
        dropout2d: probability that a channel is dropped behind each max pool; 0 for none.
    """

    num_classes: int = 10
    dropout: float = 0.0
    dropout2d: float = 0.0

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Map images (B, H, W, C) to logits (B, num_classes); training changes dropouts only."""
        x = VGGStack(dropout2d=self.dropout2d, name="feature")(images, train=train)
        x = ReLU(name="fc.1")(Linear(100, name="fc.0")(flatten(x)))  # of (B, 512)
        if self.dropout:
            x = Dropout(self.dropout, name="fc.dropout")(x, train=train)
        return Linear(self.num_classes, name="fc.2")(x)


class VGG(nn.Module):
    """Five stages of 3x3 convolutions, each with a max pool, then three Linears and two dropouts.

    Attributes:
        num_convs: convolutions of each stage.
        batch_norm: whether a batch norm follows every convolution.
        num_classes: outputs.
        dropout: probability of both dropouts.
    """

    num_convs: Sequence[int]
    batch_norm: bool = False
    num_classes: int = 1000
    dropout: float = 0.5

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Map images (B, H, W, C) to logits (B, num_classes)."""
        place = count()

        def name() -> str:
            return f"features.{next(place)}"

        # kaiming_normal_ with mode "fan_out".
        kernel_init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
        zeros = nn.initializers.zeros
        x = images
        for n, features in zip(self.num_convs, (64, 128, 256, 512, 512), strict=True):
            for _ in range(n):
                inits = {"kernel_init": kernel_init, "bias_init": zeros}
                x = Conv2d(features, 3, padding=1, name=name(), **inits)(x)
                if self.batch_norm:
                    x = BatchNorm2d(name=name())(x, train=train)
                x = ReLU(name=name())(x)
            x = MaxPool2d(2, name=name())(x)  # 112x112, 56x56, 28x28, 14x14, 7x7
        x = flatten(AdaptiveAvgPool2d(7, name="avgpool")(x))  # (B, 25088), channels first

        inits = {"kernel_init": nn.initializers.normal(0.01), "bias_init": zeros}
        x = ReLU(name="classifier.1")(Linear(4096, name="classifier.0", **inits)(x))
        x = Dropout(self.dropout, name="classifier.2")(x, train=train)
        x = ReLU(name="classifier.4")(Linear(4096, name="classifier.3", **inits)(x))
        x = Dropout(self.dropout, name="classifier.5")(x, train=train)
        return Linear(self.num_classes, name="classifier.6", **inits)(x)


def _variants(name: str, num_convs: tuple[int, ...]) -> dict:
    shape = 224, 224, 3
    return {
        name: (partial(VGG, num_convs), shape),
        f"{name}_bn": (partial(VGG, num_convs, batch_norm=True), shape),
    }


VARIANTS = {
    "vgg_cifar": (VGGCifar, (32, 32, 3)),
    **_variants("vgg11", (1, 1, 2, 2, 2)),
    **_variants("vgg13", (2, 2, 2, 2, 2)),
    **_variants("vgg16", (2, 2, 3, 3, 3)),
    **_variants("vgg19", (2, 2, 4, 4, 4)),
}

# The documented names.
vgg_block = VGGBlock
vgg_stack = VGGStack

"""The network of CIFAR-10's speed records: a whitening convolution and three groups of two.

Keller Jordan, 2024, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", arXiv:2404.00498
(airbench94), after Thomas Germer's, tysam-code's and David Page's ResNets, whose residual branches
are gone: convolutions that begin as the identity take their place. (B, 32, 32, 3) ->
(B, num_classes); 1,972,792 parameters at 10 classes, of which that training freezes the first
kernel and the norms' scales; images of 25 to 41 pixels a side.

The first kernel is PyTorch's default until `jaxcnn.whitening` sets it from training images.
"""

import jax
from flax import linen as nn

from jaxcnn.layers import GELU, BatchNorm2d, Conv2d, Linear, MaxPool2d, dirac, flatten
from jaxcnn.layers.initializers import uniform_fan_in

_ZEROS = nn.initializers.zeros


class ConvGroup(nn.Module):
    """Two 3x3 convolutions with batch norms and GELUs, a max pool behind the first convolution.

    (B, H, W, C) -> (B, H // 2, W // 2, features). The first C filters of a convolution begin as the
    identity.
    """

    features: int

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Map (B, H, W, C) to (B, H // 2, W // 2, features)."""
        for i in (1, 2):
            identity = dirac(uniform_fan_in(9 * x.shape[-1]))
            options = {"padding": 1, "bias": False, "kernel_init": identity}
            x = Conv2d(self.features, 3, **options, name=f"conv{i}")(x)
            if i == 1:
                x = MaxPool2d(2, name="pool")(x)
            x = BatchNorm2d(1e-12, 0.4, name=f"norm{i}")(x, train=train)
            x = GELU(name=f"activation{i}")(x)
        return x


class Airbench(nn.Module):
    """A 2x2 convolution, ConvGroups of 64, 256 and 256 channels, a max pool, a scaled Linear.

    Attributes:
        num_classes: outputs.
    """

    num_classes: int = 10

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Map images (B, H, W, C) to logits (B, num_classes)."""
        # As many filters as a patch has values, and their negatives.
        filters = 2 * 2 * 2 * images.shape[-1]
        x = Conv2d(filters, 2, bias_init=_ZEROS, name="whiten")(images)
        x = GELU(name="activation")(x)  # (B, 31, 31, 24)
        for i, features in enumerate((64, 256, 256), 1):
            x = ConvGroup(features, name=f"group{i}")(x, train=train)  # 15x15, 7x7, 3x3
        x = flatten(MaxPool2d(3, name="pool")(x))  # (B, 256)
        return Linear(self.num_classes, bias=False, name="head")(x) * (1 / 9)


VARIANTS = {"airbench94": (Airbench, (32, 32, 3))}

"""The 18-layer residual network that is documented as a Keras model, for MNIST at 224x224.

After He, Zhang, Ren and Sun, 2015, arXiv:1512.03385. (B, 224, 224, 1) -> (B, num_classes);
11,178,378 parameters. Neither `resnet_cifar` nor torchvision's `resnet18`: Keras' conventions
(`jaxcnn.layers.keras`), a bias in every convolution, no norm in the shortcut.

The documented model ends with softmax. This one returns logits, as every network here does:
softmax belongs to prediction, and the loss takes it together with the logarithm.
"""

from collections.abc import Sequence

import jax
from flax import linen as nn

from jaxcnn.layers import AdaptiveAvgPool2d, ReLU, flatten
from jaxcnn.layers.keras import BatchNormalization, Conv2D, Dense, MaxPooling2D


class Residual(nn.Module):
    """Two 3x3 convolutions with norms beside the input: (B, H, W, C) -> (B, H', W', channels).

    Attributes:
        channels: of the output.
        use_1x1conv: lead the input through a 1x1 convolution with the same strides.
        strides: of the first convolution; sizes are divided by it and rounded up.
    """

    channels: int
    use_1x1conv: bool = False
    strides: int = 1

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Map (B, H, W, C) to (B, H', W', channels).

        Raises:
            ValueError: if the shape changes without `use_1x1conv`.
        """
        relu = ReLU(name="relu")
        x = Conv2D(self.channels, 3, self.strides, name="conv1")(images)
        x = relu(BatchNormalization(name="bn1")(x, train=train))
        x = Conv2D(self.channels, 3, name="conv2")(x)
        x = BatchNormalization(name="bn2")(x, train=train)
        if self.use_1x1conv:
            images = Conv2D(self.channels, 1, self.strides, name="conv3")(images)
        if images.shape != x.shape:
            raise ValueError(
                f"Residual {self.name!r}: use_1x1conv=False keeps the shape, but images of shape "
                f"{images.shape} become {x.shape}"
            )
        return relu(x + images)


class Stage(nn.Module):
    """`n` times `Residual`, the first one with strides 2 and 1x1 convolution unless `first`.

    Attributes:
        channels: of the output.
        n: number of `Residual`s.
        first: True in the first stage, whose input has its shape already.
    """

    channels: int
    n: int
    first: bool = False

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Map (B, H, W, C) to (B, H', W', channels)."""
        x = images
        for i in range(self.n):
            changes = i == 0 and not self.first
            block = Residual(self.channels, changes, 2 if changes else 1, name=f"{i}")
            x = block(x, train=train)
        return x


class ResNetKeras(nn.Module):
    """Conv 7x7, norm, ReLU, max pool, four `Stage`s, global average pool, one Dense.

    Attributes:
        num_classes: outputs of the last layer.
        num_blocks: `Residual`s of each stage, of 64, 128, 256 and 512 channels.
    """

    num_classes: int = 10
    num_blocks: Sequence[int] = (2, 2, 2, 2)

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Map images (B, H, W, C) to logits (B, num_classes)."""
        x = Conv2D(64, 7, 2, name="conv")(images)  # (B, 112, 112, 64)
        x = ReLU(name="relu")(BatchNormalization(name="bn")(x, train=train))
        x = MaxPooling2D(3, 2, name="max_pool")(x)  # (B, 56, 56, 64)
        stages = zip((64, 128, 256, 512), self.num_blocks, strict=True)
        for i, (channels, n) in enumerate(stages, 1):
            x = Stage(channels, n, first=i == 1, name=f"stage{i}")(x, train=train)
        x = AdaptiveAvgPool2d(1, name="global_pool")(x)  # (B, 1, 1, 512)
        return Dense(self.num_classes, name="dense")(flatten(x))


VARIANTS = {"resnet18_keras": (ResNetKeras, (224, 224, 1))}

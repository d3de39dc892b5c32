"""DenseNet, for 96x96 images as documented and as torchvision has it.

After Huang et al., 2017, arXiv:1608.06993.

`densenet_cifar`: dense blocks of one 3x3 convolution a layer, documented for CIFAR-10 (83 % after
20 epochs of SGD, learning rate 0.01). (B, 96, 96, 3) -> (B, num_classes); 9,855,306 parameters.
Deviations from the paper, all documented: new features stand in front of the old ones, the
transitions' convolutions have a bias, and the layers have no 1x1 bottleneck.

`densenet121`, `densenet161`, `densenet169`, `densenet201`: the paper's DenseNet-BC with
torchvision's architecture, keys and initialisation (`torchvision.models.densenet`).
(B, 224, 224, 3) -> (B, num_classes); 7,978,856, 28,681,000, 14,149,480 and 20,013,928 parameters
at 1,000 classes; images from 29x29 on.
"""

from collections.abc import Sequence
from functools import partial

import jax
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
    join_so_far,
)

# kaiming_normal_, torchvision's for every convolution.
_KERNEL = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


class ConvBlock(nn.Module):
    """`conv_block`: batch norm, ReLU, conv 3x3 without bias.

    (B, H, W, C) -> (B, H, W, features).
    """

    features: int

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Map (B, H, W, C) to (B, H, W, features)."""
        x = ReLU(name="1")(BatchNorm2d(name="0")(x, train=train))
        return Conv2d(self.features, 3, padding=1, bias=False, name="2")(x)


class DenseBlock(nn.Module):
    """`dense_block`: conv blocks of which each adds growth_rate channels in front of its input's.

    (B, H, W, C) -> (B, H, W, num_layers * growth_rate + C), the newest features first.
    """

    growth_rate: int
    num_layers: int

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Map (B, H, W, C) to (B, H, W, num_layers * growth_rate + C)."""
        for i in range(self.num_layers):
            new = ConvBlock(self.growth_rate, name=f"net.{i}")(x, train=train)
            x = join((new, x))
        return x


class Transition(nn.Module):
    """`transition`: batch norm, ReLU, conv 1x1 with bias, average pool 2.

    (B, H, W, C) -> (B, H/2, W/2, features).
    """

    features: int

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Map (B, H, W, C) to (B, H/2, W/2, features)."""
        x = ReLU(name="1")(BatchNorm2d(name="0")(x, train=train))
        return AvgPool2d(2, name="3")(Conv2d(self.features, 1, name="2")(x))


class DenseNetCifar(nn.Module):
    """A stem, four dense blocks with transitions that halve the channels between them, a Linear.

    Attributes:
        num_classes: outputs.
        growth_rate: channels that a layer adds.
        block_layers: layers of each dense block.
    """

    num_classes: int = 10
    growth_rate: int = 32
    block_layers: Sequence[int] = (6, 12, 24, 16)

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Map images (B, H, W, C) to logits (B, num_classes)."""
        x = Conv2d(64, 7, 2, 3, name="block1.0")(images)  # (B, 48, 48, 64)
        x = ReLU(name="block1.2")(BatchNorm2d(name="block1.1")(x, train=train))
        x = MaxPool2d(3, 2, 1, name="block1.3")(x)  # (B, 24, 24, 64)
        for i, num_layers in enumerate(self.block_layers):
            if i:  # (B, 12, 12, 128), (B, 6, 6, 256), (B, 3, 3, 512)
                x = Transition(x.shape[3] // 2, name=f"block2.{2 * i - 1}")(x, train=train)
            x = DenseBlock(self.growth_rate, num_layers, name=f"block2.{2 * i}")(x, train=train)
        x = ReLU(name="block2.relu")(BatchNorm2d(name="block2.bn")(x, train=train))
        x = AvgPool2d(3, name="block2.avg_pool")(x)  # (B, 1, 1, 1024)
        return Linear(self.num_classes, name="classifier")(flatten(x))


class DenseLayer(nn.Module):
    """torchvision's dense layer: batch norm, ReLU, conv 1x1; batch norm, ReLU, conv 3x3.

    (B, H, W, C) -> (B, H, W, growth_rate); the 1x1 convolution has 4 * growth_rate channels.
    """

    growth_rate: int
    drop_rate: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Map (B, H, W, C) to (B, H, W, growth_rate)."""
        k = self.growth_rate
        x = ReLU(name="relu1")(BatchNorm2d(name="norm1")(x, train=train))
        x = Conv2d(4 * k, 1, bias=False, kernel_init=_KERNEL, name="conv1")(x)
        x = ReLU(name="relu2")(BatchNorm2d(name="norm2")(x, train=train))
        x = Conv2d(k, 3, padding=1, bias=False, kernel_init=_KERNEL, name="conv2")(x)
        return Dropout(self.drop_rate, name="dropout")(x, train=train) if self.drop_rate else x


class DenseLayers(nn.Module):
    """torchvision's dense block: layers of which each adds growth_rate channels behind the others.

    (B, H, W, C) -> (B, H, W, C + num_layers * growth_rate), the newest features last.
    """

    growth_rate: int
    num_layers: int
    drop_rate: float = 0.0
    remat: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Map (B, H, W, C) to (B, H, W, C + num_layers * growth_rate)."""

        # Joined in here, the growing inputs of the layers are recomputed too: what is kept for
        # the gradient grows with the number of layers, not with its square.
        def call(layer: DenseLayer, *features: jax.Array) -> jax.Array:
            return layer(join(features), train=train)

        if self.remat:
            call = nn.remat(call)
        features = [x]
        for i in range(self.num_layers):
            layer = DenseLayer(self.growth_rate, self.drop_rate, name=f"denselayer{i + 1}")
            features.append(call(layer, *features))
            if not self.remat:
                features = join_so_far(features)
        return join(features)


class DenseNet(nn.Module):
    """torchvision's DenseNet: stem, four dense blocks with transitions between them, a Linear.

    Attributes:
        growth_rate: channels that a layer adds.
        block_layers: layers of each dense block.
        stem_channels: channels of the first convolution.
        num_classes: outputs.
        drop_rate: probability of a dropout behind every dense layer; 0 for none.
        remat: recompute the dense layers for the gradient instead of keeping their activations
            (torchvision's `memory_efficient`): less memory, more time, the same parameters. On a
            CPU it has no effect: XLA merges what is computed twice again.
    """

    growth_rate: int
    block_layers: Sequence[int]
    stem_channels: int
    num_classes: int = 1000
    drop_rate: float = 0.0
    remat: bool = False

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Map images (B, H, W, C) to logits (B, num_classes)."""
        conv = partial(Conv2d, bias=False, kernel_init=_KERNEL)
        x = conv(self.stem_channels, 7, 2, 3, name="features.conv0")(images)  # 112x112
        x = ReLU(name="features.relu0")(BatchNorm2d(name="features.norm0")(x, train=train))
        x = MaxPool2d(3, 2, 1, name="features.pool0")(x)  # 56x56
        for i, num_layers in enumerate(self.block_layers, 1):
            block = DenseLayers(
                self.growth_rate,
                num_layers,
                self.drop_rate,
                self.remat,
                name=f"features.denseblock{i}",
            )
            x = block(x, train=train)
            if i < len(self.block_layers):
                transition = f"features.transition{i}"
                x = BatchNorm2d(name=f"{transition}.norm")(x, train=train)
                x = ReLU(name=f"{transition}.relu")(x)
                x = conv(x.shape[3] // 2, 1, name=f"{transition}.conv")(x)
                x = AvgPool2d(2, name=f"{transition}.pool")(x)  # 28x28, 14x14, 7x7
        x = ReLU(name="relu")(BatchNorm2d(name="features.norm5")(x, train=train))
        x = flatten(AdaptiveAvgPool2d(1, name="avgpool")(x))
        return Linear(self.num_classes, bias_init=nn.initializers.zeros, name="classifier")(x)


VARIANTS = {
    "densenet_cifar": (DenseNetCifar, (96, 96, 3)),
    "densenet121": (partial(DenseNet, 32, (6, 12, 24, 16), 64), (224, 224, 3)),
    "densenet161": (partial(DenseNet, 48, (6, 12, 36, 24), 96), (224, 224, 3)),
    "densenet169": (partial(DenseNet, 32, (6, 12, 32, 32), 64), (224, 224, 3)),
    "densenet201": (partial(DenseNet, 32, (6, 12, 48, 32), 64), (224, 224, 3)),
}

# The documented names.
conv_block = ConvBlock
dense_block = DenseBlock
transition = Transition

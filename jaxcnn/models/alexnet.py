"""AlexNet, for 32x32 images and as torchvision has it.

After Krizhevsky, Sutskever and Hinton, 2012.

`alexnet_cifar`: two 5x5 convolutions and three Linears, documented for CIFAR-10 (71 % after 20
epochs of SGD, learning rate 0.1). (B, 32, 32, 3) -> (B, num_classes); 576,778 parameters. Not
documented there are `dropout`, where the paper has it (section 4.2), and `dropout2d`; at 0, the
default, there are no such layers.

`alexnet`: Krizhevsky, 2014, arXiv:1404.5997, with torchvision's architecture, keys and
initialisation, PyTorch's default (`torchvision.models.alexnet`). (B, 224, 224, 3) ->
(B, num_classes); 61,100,840 parameters at 1,000 classes; images from 63x63 on.
"""

import jax
from flax import linen as nn

from jaxcnn.layers import (
    AdaptiveAvgPool2d,
    Conv2d,
    Dropout,
    Dropout2d,
    Linear,
    MaxPool2d,
    ReLU,
    flatten,
)


class AlexNetCifar(nn.Module):
    """Conv 5x5 and max pool 3 stride 2, twice, then Linears of 384, 192 and num_classes.

    Attributes:
        num_classes: outputs.
        dropout: probability of a dropout behind each of the first two Linears, in [0, 1]; 0 for
            none.
        dropout2d: probability that a channel is dropped behind each max pool; 0 for none.
    """

    num_classes: int = 10
    dropout: float = 0.0
    dropout2d: float = 0.0

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Map images (B, H, W, C) to logits (B, num_classes); training changes dropouts only."""
        x = ReLU(name="conv1.1")(Conv2d(64, 5, name="conv1.0")(images))  # (B, 28, 28, 64)
        x = MaxPool2d(3, 2, name="max_pool1")(x)  # (B, 13, 13, 64)
        if self.dropout2d:
            x = Dropout2d(self.dropout2d, name="dropout2d1")(x, train=train)
        x = ReLU(name="conv2.1")(Conv2d(64, 5, name="conv2.0")(x))  # (B, 9, 9, 64)
        x = MaxPool2d(3, 2, name="max_pool2")(x)  # (B, 4, 4, 64)
        if self.dropout2d:
            x = Dropout2d(self.dropout2d, name="dropout2d2")(x, train=train)
        x = flatten(x)  # (B, 1024), channels first
        for layer, features in (("fc1", 384), ("fc2", 192)):
            x = ReLU(name=f"{layer}.1")(Linear(features, name=f"{layer}.0")(x))
            if self.dropout:
                x = Dropout(self.dropout, name=f"{layer}.2")(x, train=train)
        return Linear(self.num_classes, name="fc3")(x)


class AlexNet(nn.Module):
    """Five convolutions with three max pools, then three Linears behind two dropouts.

    Attributes:
        num_classes: outputs.
        dropout: probability of both dropouts.
    """

    num_classes: int = 1000
    dropout: float = 0.5

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Map images (B, H, W, C) to logits (B, num_classes)."""
        x = Conv2d(64, 11, 4, 2, name="features.0")(images)
        x = ReLU(name="features.1")(x)  # (B, 55, 55, 64)
        x = MaxPool2d(3, 2, name="features.2")(x)
        x = ReLU(name="features.4")(Conv2d(192, 5, padding=2, name="features.3")(x))
        x = MaxPool2d(3, 2, name="features.5")(x)  # (B, 13, 13, 192)
        x = ReLU(name="features.7")(Conv2d(384, 3, padding=1, name="features.6")(x))
        x = ReLU(name="features.9")(Conv2d(256, 3, padding=1, name="features.8")(x))
        x = ReLU(name="features.11")(Conv2d(256, 3, padding=1, name="features.10")(x))
        x = MaxPool2d(3, 2, name="features.12")(x)  # (B, 6, 6, 256)
        x = flatten(AdaptiveAvgPool2d(6, name="avgpool")(x))  # (B, 9216), channels first
        x = Dropout(self.dropout, name="classifier.0")(x, train=train)
        x = ReLU(name="classifier.2")(Linear(4096, name="classifier.1")(x))
        x = Dropout(self.dropout, name="classifier.3")(x, train=train)
        x = ReLU(name="classifier.5")(Linear(4096, name="classifier.4")(x))
        return Linear(self.num_classes, name="classifier.6")(x)


VARIANTS = {
    "alexnet_cifar": (AlexNetCifar, (32, 32, 3)),
    "alexnet": (AlexNet, (224, 224, 3)),
}

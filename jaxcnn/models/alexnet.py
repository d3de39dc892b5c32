"""AlexNet for 32x32 images: two 5x5 convolutions and three Linears.

After Krizhevsky, Sutskever and Hinton, 2012; documented for CIFAR-10 (71 % after 20 epochs of SGD,
learning rate 0.1). (B, 32, 32, 3) -> (B, num_classes); 576,778 parameters.
"""

import jax
from flax import linen as nn

from jaxcnn.layers import Conv2d, Linear, MaxPool2d, ReLU, flatten


class AlexNetCifar(nn.Module):
    """Conv 5x5 and max pool 3 stride 2, twice, then Linears of 384, 192 and num_classes."""

    num_classes: int = 10

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Map images (B, H, W, C) to logits (B, num_classes); training changes nothing."""
        del train
        x = ReLU(name="conv1.1")(Conv2d(64, 5, name="conv1.0")(images))  # (B, 28, 28, 64)
        x = MaxPool2d(3, 2, name="max_pool1")(x)  # (B, 13, 13, 64)
        x = ReLU(name="conv2.1")(Conv2d(64, 5, name="conv2.0")(x))  # (B, 9, 9, 64)
        x = MaxPool2d(3, 2, name="max_pool2")(x)  # (B, 4, 4, 64)
        x = flatten(x)  # (B, 1024), channels first
        x = ReLU(name="fc1.1")(Linear(384, name="fc1.0")(x))
        x = ReLU(name="fc2.1")(Linear(192, name="fc2.0")(x))
        return Linear(self.num_classes, name="fc3")(x)


VARIANTS = {"alexnet_cifar": (AlexNetCifar, (32, 32, 3))}

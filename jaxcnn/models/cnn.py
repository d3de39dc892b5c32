"""Two convolutions with batch normalisation and one Linear, documented for MNIST (98 %, 5 epochs).

(B, 28, 28, 1) -> (B, num_classes); 29,034 parameters.

Not documented are `dropout` and `dropout2d`; at 0, the default, there are no such layers.
"""

import jax
from flax import linen as nn

from jaxcnn.layers import BatchNorm2d, Conv2d, Dropout, Dropout2d, Linear, MaxPool2d, ReLU, flatten


class CNN(nn.Module):
    """Twice conv 5x5 padding 2, batch norm, ReLU, max pool 2; then a Linear.

    Attributes:
        num_classes: outputs.
        dropout: probability of a dropout in front of the Linear, in [0, 1]; 0 for none.
        dropout2d: probability that a channel is dropped behind each max pool; 0 for none.
    """

    num_classes: int = 10
    dropout: float = 0.0
    dropout2d: float = 0.0

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Map images (B, H, W, C) to logits (B, num_classes)."""
        x = images
        for layer, features in (("layer1", 16), ("layer2", 32)):
            x = Conv2d(features, 5, padding=2, name=f"{layer}.0")(x)
            x = BatchNorm2d(name=f"{layer}.1")(x, train=train)
            x = ReLU(name=f"{layer}.2")(x)
            x = MaxPool2d(2, name=f"{layer}.3")(x)  # (B, 14, 14, 16), (B, 7, 7, 32)
            if self.dropout2d:
                x = Dropout2d(self.dropout2d, name=f"{layer}.4")(x, train=train)
        x = flatten(x)  # (B, 1568), channels first
        if self.dropout:
            x = Dropout(self.dropout, name="dropout")(x, train=train)
        return Linear(self.num_classes, name="fc")(x)


VARIANTS = {"cnn_mnist": (CNN, (28, 28, 1))}

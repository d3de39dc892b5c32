"""A multi-layer perceptron with one hidden layer, documented for MNIST.

(B, 28, 28, 1) -> (B, num_classes); 397,510 parameters.

Not documented is `dropout`, of the hidden units as in Hinton et al., 2012, arXiv:1207.0580; at 0,
the default, there is no such layer.
"""

import jax
from flax import linen as nn

from jaxcnn.layers import Dropout, Linear, ReLU, flatten


class MLP(nn.Module):
    """Linear 500, ReLU, Linear; any image size whose pixels `fc1` was initialised for.

    Attributes:
        num_classes: outputs.
        dropout: probability of a dropout in front of the last Linear, in [0, 1]; 0 for none.
    """

    num_classes: int = 10
    dropout: float = 0.0

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Map images (B, H, W, C) to logits (B, num_classes); training changes dropouts only."""
        x = ReLU(name="relu")(Linear(500, name="fc1")(flatten(images)))
        if self.dropout:
            x = Dropout(self.dropout, name="dropout")(x, train=train)
        return Linear(self.num_classes, name="fc2")(x)


VARIANTS = {"mlp_mnist": (MLP, (28, 28, 1))}

"""A multi-layer perceptron with one hidden layer, documented for MNIST.

(B, 28, 28, 1) -> (B, num_classes); 397,510 parameters.
"""

import jax
from flax import linen as nn

from jaxcnn.layers import Linear, ReLU, flatten


class MLP(nn.Module):
    """Linear 500, ReLU, Linear; any image size whose pixels `fc1` was initialised for."""

    num_classes: int = 10

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Map images (B, H, W, C) to logits (B, num_classes); training changes nothing."""
        del train
        x = Linear(500, name="fc1")(flatten(images))
        return Linear(self.num_classes, name="fc2")(ReLU(name="relu")(x))


VARIANTS = {"mlp_mnist": (MLP, (28, 28, 1))}

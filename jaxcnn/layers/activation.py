"""Activations as modules, so that each has its twin's name among a network's activations."""

import jax
from flax import linen as nn


class ReLU(nn.Module):
    """`torch.nn.ReLU`: max(x, 0) of any shape; the gradient at 0 is 0, as PyTorch's is."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return max(x, 0), of x's shape and dtype."""
        return jax.nn.relu(x)

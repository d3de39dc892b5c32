"""Dropout with the conventions of `torch.nn.Dropout` (PyTorch 2.13).

Srivastava et al., 2014, JMLR 15: values are dropped in training and the kept ones scaled by
1 / (1 - p), so that nothing changes in evaluation.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn


class Dropout(nn.Module):
    """`torch.nn.Dropout` on any shape; draws from the rng stream `dropout`.

    The mask is sown into the collection `dropout_masks` where the caller makes that mutable: two
    frameworks agree on a dropped-out network only if they share the masks.

    Attributes:
        p: probability that a value is dropped, in [0, 1].
    """

    p: float = 0.5

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Return x, in training with a share p dropped and the rest scaled by 1 / (1 - p).

        Raises:
            ValueError: if p is outside [0, 1].
        """
        if not 0 <= self.p <= 1:
            raise ValueError(f"Dropout {self.name!r}: p must be in [0, 1], got {self.p}")
        if not train or self.p == 0:
            return x
        if self.p == 1:
            return jnp.zeros_like(x)
        # A float32 probability: a Python float would draw another mask in x64 mode.
        keep = jnp.float32(1 - self.p)
        mask = jax.random.bernoulli(self.make_rng("dropout"), keep, x.shape)
        self.sow("dropout_masks", "mask", mask)
        return jnp.where(mask, x / (1 - self.p), jnp.zeros((), x.dtype))

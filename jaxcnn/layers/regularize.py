"""Dropout with the conventions of `torch.nn.Dropout` and `Dropout2d` (PyTorch 2.13).

Srivastava et al., 2014, JMLR 15: values are dropped in training and the kept ones scaled by
1 / (1 - p), so that nothing changes in evaluation.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxcnn.layers.window import check_images


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
        return _drop(self, x, x.shape, train)


class Dropout2d(nn.Module):
    """`torch.nn.Dropout2d` on (B, H, W, C) images: drops whole channels of single images.

    Tompson et al., 2014, arXiv:1411.4280: neighbouring pixels are so alike that dropping single
    ones hides nothing. Draws and sows (a mask (B, 1, 1, C)) as `Dropout` does.

    Attributes:
        p: probability that a channel is dropped, in [0, 1].
    """

    p: float = 0.5

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Return the images, in training with channels dropped, the others times 1 / (1 - p).

        Raises:
            ValueError: wrong rank, or p outside [0, 1].
        """
        check_images(f"Dropout2d {self.name!r}", images.shape)
        batch, _, _, channels = images.shape
        return _drop(self, images, (batch, 1, 1, channels), train)


def _drop(
    module: Dropout | Dropout2d, x: jax.Array, mask_shape: tuple[int, ...], train: bool
) -> jax.Array:
    """Return x dropped by a mask of a shape that broadcasts to x's."""
    p = module.p
    if not 0 <= p <= 1:
        raise ValueError(f"{type(module).__name__} {module.name!r}: p must be in [0, 1], got {p}")
    if not train or p == 0:
        return x
    if p == 1:
        return jnp.zeros_like(x)
    # A float32 probability: a Python float would draw another mask in x64 mode.
    keep = jnp.float32(1 - p)
    mask = jax.random.bernoulli(module.make_rng("dropout"), keep, mask_shape)
    module.sow("dropout_masks", "mask", mask)
    return jnp.where(mask, x / (1 - p), jnp.zeros((), x.dtype))

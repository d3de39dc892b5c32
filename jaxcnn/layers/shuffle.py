"""Channel shuffle: Zhang et al., 2017, arXiv:1707.01083, as `torch.nn.ChannelShuffle` does it.

Behind a grouped convolution every group of the next one then sees channels of all groups.
"""

import jax
from flax import linen as nn

from jaxcnn.layers.window import check_images


def channel_shuffle(images: jax.Array, groups: int) -> jax.Array:
    """Interleave the channels of consecutive groups, the first of each group first.

    Args:
        images: (B, H, W, C), any dtype.
        groups: divides C.

    Returns:
        (B, H, W, C): channel i * groups + g of the result is channel g * C / groups + i.

    Raises:
        ValueError: wrong rank, or groups that do not divide the channels.
    """
    check_images("channel_shuffle", images.shape)
    channels = images.shape[3]
    if groups < 1 or channels % groups:
        raise ValueError(f"channel_shuffle: groups={groups} must divide the {channels} channels")
    grouped = images.reshape(*images.shape[:3], groups, channels // groups)
    return grouped.swapaxes(3, 4).reshape(images.shape)


class ChannelShuffle(nn.Module):
    """`torch.nn.ChannelShuffle` on (B, H, W, C) images; see `channel_shuffle`."""

    groups: int

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Return images with their channels shuffled."""
        return channel_shuffle(images, self.groups)

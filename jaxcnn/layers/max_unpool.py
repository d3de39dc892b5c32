"""The partial inverse of max pooling, with the conventions of `torch.nn` (PyTorch 2.13) on NHWC.

Zeiler and Fergus, 2014, arXiv:1311.2901: every maximum returns to the place it was taken from.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxcnn.layers.window import Pair, check_images, pair


def max_unpool2d(
    images: jax.Array,
    indices: jax.Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    output_size: Sequence[int] | None = None,
) -> jax.Array:
    """Put values where a max pool took them from, as `torch.nn.functional.max_unpool2d` does.

    Where windows overlapped, several values may have the same index: the last one in row order
    stands in the output, and as in PyTorch each of them receives the gradient of that place. An
    index outside the output (an error in PyTorch, but not to be seen in a traced program) drops its
    value, whose gradient is then zero.

    Args:
        images: (B, h, w, C), the maxima.
        indices: (B, h, w, C), integer, as `max_pool2d` returns them.
        kernel_size: the pool's, int or (h, w).
        stride: the pool's, default the kernel size.
        padding: the pool's.
        output_size: (H, W) or the shape (B, H, W, C) of what was pooled: less than a stride away
            from the default (h - 1) stride - 2 padding + kernel_size.

    Returns:
        (B, H, W, C), zero but for the values.

    Raises:
        ValueError: wrong rank, indices of another shape or not integers, a bad size, or an
            `output_size` out of range.
    """
    check_images("max_unpool2d", images.shape)
    if indices.shape != images.shape or not jnp.issubdtype(indices.dtype, jnp.integer):
        raise ValueError(
            f"max_unpool2d: indices must be integers of the images' shape {images.shape}, "
            f"got {indices.dtype} {indices.shape}"
        )
    kernel = pair("max_unpool2d: kernel_size", kernel_size, least=1)
    step = kernel if stride is None else pair("max_unpool2d: stride", stride, least=1)
    pads = pair("max_unpool2d: padding", padding, least=0)
    default = [
        (n - 1) * s - 2 * p + k
        for n, s, p, k in zip(images.shape[1:3], step, pads, kernel, strict=True)
    ]
    given = tuple(default) if output_size is None else tuple(output_size)
    if len(given) == 4:
        given = given[1:3]
    size = pair("max_unpool2d: output_size", given, least=1)
    if any(abs(n - d) >= s for n, d, s in zip(size, default, step, strict=True)):
        raise ValueError(
            f"max_unpool2d: output_size {size} must be less than a stride {step} away from "
            f"{tuple(default)}"
        )
    return _unpool(images, indices.astype(jnp.int32), size)


class MaxUnpool2d(nn.Module):
    """`torch.nn.MaxUnpool2d` on (B, h, w, C) images; see `max_unpool2d`."""

    kernel_size: Pair
    stride: Pair | None = None
    padding: Pair = 0

    @nn.compact
    def __call__(
        self, images: jax.Array, indices: jax.Array, output_size: Sequence[int] | None = None
    ) -> jax.Array:
        """Map two (B, h, w, C) to (B, H, W, C)."""
        return max_unpool2d(
            images, indices, self.kernel_size, self.stride, self.padding, output_size
        )


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _unpool(images, indices, size):
    batch, height, width, channels = images.shape
    values, places = (x.reshape(batch, height * width, channels) for x in (images, indices))
    plane = size[0] * size[1]
    # Of equal places the largest order wins: a plain scatter would leave that to the device. What
    # is out of range, negative too, goes to the end of the plane and is cut off.
    places = jnp.where((places < 0) | (places > plane), plane, places)
    order = jnp.broadcast_to(jnp.arange(height * width, dtype=jnp.int32)[:, None], places.shape)
    winner = jnp.full((batch, plane + 1, channels), -1, jnp.int32)
    examples = jnp.arange(batch, dtype=jnp.int32)[:, None, None]
    planes = jnp.arange(channels, dtype=jnp.int32)
    winner = winner.at[examples, places, planes].max(order)[:, :plane]
    out = jnp.take_along_axis(values, jnp.maximum(winner, 0), axis=1)
    out = jnp.where(winner < 0, jnp.zeros((), out.dtype), out)
    return out.reshape(batch, *size, channels)


def _unpool_forward(images, indices, size):
    return _unpool(images, indices, size), indices


def _unpool_backward(size, indices, gradient):
    batch, height, width, channels = indices.shape
    plane = size[0] * size[1]
    places = indices.reshape(batch, height * width, channels)
    inside = (places >= 0) & (places < plane)
    gradient = gradient.reshape(batch, plane, channels)
    taken = jnp.take_along_axis(gradient, jnp.clip(places, 0, plane - 1), axis=1)
    return jnp.where(inside, taken, jnp.zeros((), taken.dtype)).reshape(indices.shape), None


_unpool.defvjp(_unpool_forward, _unpool_backward)

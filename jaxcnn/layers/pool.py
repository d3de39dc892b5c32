"""Max pooling with the conventions of `torch.nn.MaxPool2d` (PyTorch 2.13) on NHWC images."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from jaxcnn.layers.window import Pair, check_images, output_size, pair


def max_pool2d(
    images: jax.Array, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0
) -> jax.Array:
    """Take the maximum of every window as `torch.nn.functional.max_pool2d` does.

    Of equal maxima the first one (rows first) receives the gradient; a NaN in a window is its
    maximum.

    Args:
        images: (B, H, W, C), floating.
        kernel_size: size of the window, int or (h, w).
        stride: step of the window, default the kernel size.
        padding: minus infinities on each side, at most half the kernel size.

    Returns:
        (B, H', W', C), sizes rounded down.

    Raises:
        ValueError: wrong rank, a bad size, or a window larger than the padded input.
    """
    check_images("max_pool2d", images.shape)
    kernel = pair("max_pool2d: kernel_size", kernel_size, least=1)
    step = kernel if stride is None else pair("max_pool2d: stride", stride, least=1)
    pads = pair("max_pool2d: padding", padding, least=0)
    if any(2 * p > k for p, k in zip(pads, kernel, strict=True)):
        raise ValueError(f"max_pool2d: padding {pads} must be at most half of kernel_size {kernel}")
    if any(pads):
        around = ((0, 0), (pads[0], pads[0]), (pads[1], pads[1]), (0, 0))
        images = jnp.pad(images, around, constant_values=-jnp.inf)
    return _max_pool(images, kernel, step, pads)


class MaxPool2d(nn.Module):
    """`torch.nn.MaxPool2d` on (B, H, W, C) images; see `max_pool2d`."""

    kernel_size: Pair
    stride: Pair | None = None
    padding: Pair = 0

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Map (B, H, W, C) to (B, H', W', C)."""
        return max_pool2d(images, self.kernel_size, self.stride, self.padding)


# XLA's own gradient of a max pool (select_and_scatter) takes 46 ms on a CPU where PyTorch takes 2.6
# ((64, 28, 28, 64), 3x3, stride 2). Keeping each maximum's place in its window and adding k*k
# interior-padded selections takes as long as PyTorch, and fixes who wins a tie.
@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _max_pool(images, kernel, stride, pads):
    return _max_pool_forward(images, kernel, stride, pads)[0]


def _max_pool_forward(images, kernel, stride, pads):
    height, width = output_size("max_pool2d", images.shape[1:3], kernel, stride)
    place_type = jnp.int8 if kernel[0] * kernel[1] <= 128 else jnp.int32
    best = place = None
    for tap in range(kernel[0] * kernel[1]):
        i, j = divmod(tap, kernel[1])
        end = (i + (height - 1) * stride[0] + 1, j + (width - 1) * stride[1] + 1)
        value = images[:, i : end[0] : stride[0], j : end[1] : stride[1]]
        if best is None or place is None:
            # The first tap inside the image: it wins a window of minus infinities, not the padding.
            row = np.maximum(pads[0] - stride[0] * np.arange(height), 0)[:, None, None]
            column = np.maximum(pads[1] - stride[1] * np.arange(width), 0)[:, None]
            first = jnp.asarray(row * kernel[1] + column, place_type)
            best, place = value, jnp.broadcast_to(first, value.shape)
        else:
            better = (value > best) | jnp.isnan(value)
            best = jnp.where(better, value, best)
            place = jnp.where(better, jnp.asarray(tap, place_type), place)
    return best, (place, images.shape)


def _max_pool_backward(kernel, stride, pads, saved, gradient):
    del pads  # the places count from the padded corner
    place, (_, rows, columns, _) = saved
    height, width = gradient.shape[1:3]
    zero = jnp.zeros((), gradient.dtype)
    total = None
    for tap in range(kernel[0] * kernel[1]):
        i, j = divmod(tap, kernel[1])
        chosen = jnp.where(place == tap, gradient, zero)
        spread = (
            (0, 0, 0),
            (i, rows - i - ((height - 1) * stride[0] + 1), stride[0] - 1),
            (j, columns - j - ((width - 1) * stride[1] + 1), stride[1] - 1),
            (0, 0, 0),
        )
        part = lax.pad(chosen, zero, spread)
        total = part if total is None else total + part
    return (total,)


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)

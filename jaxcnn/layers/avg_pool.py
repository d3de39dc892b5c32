"""Average pooling with the conventions of `torch.nn` (PyTorch 2.13) on NHWC images."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from jaxcnn.layers.weighted_sum import Taps, weighted_sum
from jaxcnn.layers.window import Pair, adaptive_size, adaptive_windows, check_images, pool_windows


def avg_pool2d(
    images: jax.Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    *,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> jax.Array:
    """Take the mean of every window as `torch.nn.functional.avg_pool2d` does.

    Args:
        images: (B, H, W, C), floating.
        kernel_size: size of the window, int or (h, w).
        stride: step of the window, default the kernel size.
        padding: zeros on each side, at most half the kernel size.
        ceil_mode: round sizes up; a window that would start behind the image is left out, and what
            of a window lies beyond the padding is not counted.
        count_include_pad: whether the padding's zeros count as values of the mean.
        divisor_override: divides every window's sum in place of its number of values; not 0.

    Returns:
        (B, H', W', C), H' = floor((H + 2 p - k) / s) + 1, or rounded up with `ceil_mode`.

    Raises:
        ValueError: wrong rank, a bad size or divisor, or a window larger than the padded input.
    """
    kernel, step, pads, _, size, around = pool_windows(
        "avg_pool2d", images.shape, kernel_size, stride, padding, 1, ceil_mode
    )
    if divisor_override is not None and (
        not isinstance(divisor_override, int) or divisor_override == 0
    ):
        raise ValueError(
            f"avg_pool2d: divisor_override must be an int other than 0, got {divisor_override!r}"
        )
    total = lax.reduce_window(
        images,
        np.zeros((), images.dtype),
        lax.add,
        (1, *kernel, 1),
        (1, *step, 1),
        ((0, 0), *around, (0, 0)),
    )
    if divisor_override is not None:
        return total / jnp.asarray(divisor_override, images.dtype)
    counts = [
        _counts(*axis, count_include_pad)
        for axis in zip(images.shape[1:3], kernel, step, pads, size, strict=True)
    ]
    return total / jnp.asarray(np.outer(*counts)[:, :, None], images.dtype)


class AvgPool2d(nn.Module):
    """`torch.nn.AvgPool2d` on (B, H, W, C) images; see `avg_pool2d`."""

    kernel_size: Pair
    stride: Pair | None = None
    padding: Pair = 0
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor_override: int | None = None

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Map (B, H, W, C) to (B, H', W', C)."""
        return avg_pool2d(
            images,
            self.kernel_size,
            self.stride,
            self.padding,
            ceil_mode=self.ceil_mode,
            count_include_pad=self.count_include_pad,
            divisor_override=self.divisor_override,
        )


def adaptive_avg_pool2d(images: jax.Array, output_size: int | Sequence[int | None]) -> jax.Array:
    """Average to a given size as `torch.nn.functional.adaptive_avg_pool2d` does.

    Output i of n averages the values floor(i H / n) to ceil((i + 1) H / n) - 1, so windows overlap
    where n does not divide H, and repeat values where n is larger.

    Args:
        images: (B, H, W, C), floating.
        output_size: int or (h, w); None in place of either keeps the image's.

    Returns:
        (B, h, w, C).

    Raises:
        ValueError: wrong rank, or a bad size.
    """
    size = adaptive_size("adaptive_avg_pool2d", images.shape, output_size)
    # A window is a product of intervals, so its mean is the mean over columns of means over rows.
    for axis, count in zip((1, 2), size, strict=True):
        before, length, behind = images.shape[:axis], images.shape[axis], images.shape[axis + 1 :]
        if length % count == 0:
            parts = images.reshape(*before, count, length // count, *behind)
            images = jnp.mean(parts, axis=axis + 1)
        else:
            positions, inside = adaptive_windows(length, count)
            weights = inside / inside.sum(axis=1, keepdims=True)
            images = weighted_sum(images, axis, Taps(positions, weights, inside))
    return images


class AdaptiveAvgPool2d(nn.Module):
    """`torch.nn.AdaptiveAvgPool2d` on (B, H, W, C) images; see `adaptive_avg_pool2d`."""

    output_size: int | Sequence[int | None]

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Map (B, H, W, C) to (B, h, w, C)."""
        return adaptive_avg_pool2d(images, self.output_size)


def global_avg_pool2d(images: jax.Array) -> jax.Array:
    """Average every channel over its whole plane: `images.mean((2, 3))` in PyTorch's layout.

    Lin et al., 2014, arXiv:1312.4400: behind a 1x1 convolution to the classes it is a Linear's
    stand-in that takes images of any size.

    Args:
        images: (B, H, W, C), floating.

    Returns:
        (B, C).

    Raises:
        ValueError: wrong rank.
    """
    check_images("global_avg_pool2d", images.shape)
    return jnp.mean(images, axis=(1, 2))


def _counts(length: int, kernel: int, step: int, pad: int, size: int, padding: bool) -> np.ndarray:
    """Return how many values of one axis each of `size` windows averages."""
    start = np.arange(size) * step - pad
    end = np.minimum(start + kernel, length + pad)
    if padding:
        return end - start
    return np.minimum(end, length) - np.maximum(start, 0)

"""Pooling with the conventions of `torch.nn` (PyTorch 2.13) on NHWC images."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from jaxcnn.layers.window import Pair, check_images, output_size, pair

_Sizes = tuple[int, int]


def max_pool2d(
    images: jax.Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    *,
    ceil_mode: bool = False,
) -> jax.Array:
    """Take the maximum of every window as `torch.nn.functional.max_pool2d` does.

    Of equal maxima the first one (rows first) receives the gradient; a NaN in a window is its
    maximum.

    Args:
        images: (B, H, W, C), floating.
        kernel_size: size of the window, int or (h, w).
        stride: step of the window, default the kernel size.
        padding: minus infinities on each side, at most half the kernel size.
        ceil_mode: round sizes up, so that no value at the end is left out; a window that would
            start behind the image is left out.

    Returns:
        (B, H', W', C), sizes rounded down unless `ceil_mode`.

    Raises:
        ValueError: wrong rank, a bad size, or a window larger than the padded input.
    """
    kernel, step, pads, size = _windows(
        "max_pool2d", images, kernel_size, stride, padding, ceil_mode
    )
    around = [(0, 0), *_around(images.shape[1:3], kernel, step, pads, size), (0, 0)]
    if any(map(any, around)):
        images = jnp.pad(images, around, constant_values=-jnp.inf)
    return _max_pool(images, kernel, step, pads)


class MaxPool2d(nn.Module):
    """`torch.nn.MaxPool2d` on (B, H, W, C) images; see `max_pool2d`."""

    kernel_size: Pair
    stride: Pair | None = None
    padding: Pair = 0
    ceil_mode: bool = False

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Map (B, H, W, C) to (B, H', W', C)."""
        return max_pool2d(
            images, self.kernel_size, self.stride, self.padding, ceil_mode=self.ceil_mode
        )


def avg_pool2d(
    images: jax.Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    *,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
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

    Returns:
        (B, H', W', C), sizes rounded down unless `ceil_mode`.

    Raises:
        ValueError: wrong rank, a bad size, or a window larger than the padded input.
    """
    kernel, step, pads, size = _windows(
        "avg_pool2d", images, kernel_size, stride, padding, ceil_mode
    )
    around = _around(images.shape[1:3], kernel, step, pads, size)
    total = lax.reduce_window(
        images,
        np.zeros((), images.dtype),
        lax.add,
        (1, *kernel, 1),
        (1, *step, 1),
        [(0, 0), *around, (0, 0)],
    )
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
        )


def adaptive_avg_pool2d(images: jax.Array, output_size: Pair) -> jax.Array:
    """Average to a given size as `torch.nn.functional.adaptive_avg_pool2d` does.

    Output i of n averages the values floor(i H / n) to ceil((i + 1) H / n) - 1, so windows overlap
    where n does not divide H, and repeat values where n is larger.

    Args:
        images: (B, H, W, C), floating.
        output_size: int or (h, w).

    Returns:
        (B, h, w, C).

    Raises:
        ValueError: wrong rank, or a bad size.
    """
    check_images("adaptive_avg_pool2d", images.shape)
    size = pair("adaptive_avg_pool2d: output_size", output_size, least=1)
    # A window is a product of intervals, so its mean is the mean over columns of means over rows.
    for axis, count in zip((1, 2), size, strict=True):
        length = images.shape[axis]
        if count == length:
            continue
        bounds = [(i * length // count, -(-(i + 1) * length // count)) for i in range(count)]
        means = [
            jnp.mean(lax.slice_in_dim(images, start, end, axis=axis), axis=axis, keepdims=True)
            for start, end in bounds
        ]
        images = jnp.concatenate(means, axis=axis)
    return images


class AdaptiveAvgPool2d(nn.Module):
    """`torch.nn.AdaptiveAvgPool2d` on (B, H, W, C) images; see `adaptive_avg_pool2d`."""

    output_size: Pair

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Map (B, H, W, C) to (B, h, w, C)."""
        return adaptive_avg_pool2d(images, self.output_size)


def _windows(
    layer: str,
    images: jax.Array,
    kernel_size: Pair,
    stride: Pair | None,
    padding: Pair,
    ceil_mode: bool,
) -> tuple[_Sizes, _Sizes, _Sizes, _Sizes]:
    """Check a pool's arguments; return kernel, stride, padding and output size as (h, w)."""
    check_images(layer, images.shape)
    kernel = pair(f"{layer}: kernel_size", kernel_size, least=1)
    step = kernel if stride is None else pair(f"{layer}: stride", stride, least=1)
    pads = pair(f"{layer}: padding", padding, least=0)
    if any(2 * p > k for p, k in zip(pads, kernel, strict=True)):
        raise ValueError(f"{layer}: padding {pads} must be at most half of kernel_size {kernel}")
    height, width = images.shape[1:3]
    both = [(p, p) for p in pads]
    size = output_size(layer, (height, width), kernel, step, both, ceil_mode=ceil_mode)
    return kernel, step, pads, size


def _around(
    image: tuple[int, ...], kernel: _Sizes, step: _Sizes, pads: _Sizes, size: _Sizes
) -> list[tuple[int, int]]:
    """Return (before, behind) of both axes: the padding, and what ceil_mode's last window lacks."""
    return [
        (p, max(p, (count - 1) * s + k - n - p))
        for n, k, s, p, count in zip(image, kernel, step, pads, size, strict=True)
    ]


def _counts(length: int, kernel: int, step: int, pad: int, size: int, padding: bool) -> np.ndarray:
    """Return how many values of one axis each of `size` windows averages."""
    start = np.arange(size) * step - pad
    end = np.minimum(start + kernel, length + pad)
    if padding:
        return end - start
    return np.minimum(end, length) - np.maximum(start, 0)


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

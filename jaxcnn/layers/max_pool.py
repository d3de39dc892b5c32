"""Maximum pooling with the conventions of `torch.nn` (PyTorch 2.13) on NHWC images.

Of equal maxima the first one in row order wins, in the indices and in the gradient; a NaN in a
window is its maximum (of several the last one). An index is y * W + x in the image's plane,
whatever its channel: PyTorch's numbers, though the images lie in another order.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.interpreters import ad

from jaxcnn.layers.max_pool_gradient import Pool, gather, place_type
from jaxcnn.layers.window import Pair, adaptive_size, adaptive_windows, pool_windows
from jaxcnn.native.primitive import composed, fold_batches


def max_pool2d(
    images: jax.Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    *,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Take the maximum of every window as `torch.nn.functional.max_pool2d` does.

    Args:
        images: (B, H, W, C), floating.
        kernel_size: size of the window, int or (h, w).
        stride: step of the window, default the kernel size.
        padding: minus infinities on each side, at most half the kernel size.
        dilation: distance of the window's taps, int or (h, w).
        ceil_mode: round sizes up, so that no value at the end is left out; a window that would
            start behind the image is left out.
        return_indices: whether the places of the maxima are returned too.

    Returns:
        (B, H', W', C), H' = floor((H + 2 p - d (k - 1) - 1) / s) + 1, or rounded up; with
        `return_indices` also the indices of the maxima, int32 of the same shape. A dilated window
        whose taps step over the whole image is minus infinity, its index none of the image's.

    Raises:
        ValueError: wrong rank, a bad size, or a window larger than the padded input.
    """
    windows = pool_windows(
        "max_pool2d", images.shape, kernel_size, stride, padding, dilation, ceil_mode
    )
    width = images.shape[2]
    if any(map(any, windows.around)):
        around = ((0, 0), *windows.around, (0, 0))
        images = jnp.pad(images, around, constant_values=-jnp.inf)
    kernel, step, pads, taps, size, _ = windows
    pool = Pool((images.shape[1], images.shape[2]), kernel, step, taps, size)
    maxima, place = _max_pool.bind(images, pool=pool, pads=pads)
    if not return_indices:
        return maxima
    place = place.astype(jnp.int32)
    row, column = (
        jnp.asarray(np.arange(n) * s - p, jnp.int32)
        for n, s, p in zip(size, step, pads, strict=True)
    )
    row = row[:, None, None] + place // kernel[1] * taps[0]
    return maxima, row * width + column[:, None] + place % kernel[1] * taps[1]


class MaxPool2d(nn.Module):
    """`torch.nn.MaxPool2d` on (B, H, W, C) images; see `max_pool2d`."""

    kernel_size: Pair
    stride: Pair | None = None
    padding: Pair = 0
    dilation: Pair = 1
    return_indices: bool = False
    ceil_mode: bool = False

    @nn.compact
    def __call__(self, images: jax.Array) -> Any:
        """Map (B, H, W, C) to (B, H', W', C), with `return_indices` to a pair of these."""
        return max_pool2d(
            images,
            self.kernel_size,
            self.stride,
            self.padding,
            dilation=self.dilation,
            ceil_mode=self.ceil_mode,
            return_indices=self.return_indices,
        )


def adaptive_max_pool2d(
    images: jax.Array, output_size: int | Sequence[int | None], *, return_indices: bool = False
) -> Any:
    """Take maxima to a given size as `torch.nn.functional.adaptive_max_pool2d` does.

    Window i of n reaches from floor(i H / n) to ceil((i + 1) H / n) - 1.

    Args:
        images: (B, H, W, C), floating.
        output_size: int or (h, w); None in place of either keeps the image's.
        return_indices: whether the places of the maxima are returned too.

    Returns:
        (B, h, w, C); with `return_indices` also the indices of the maxima, int32 of the same shape.

    Raises:
        ValueError: wrong rank, or a bad size.
    """
    size = adaptive_size("adaptive_max_pool2d", images.shape, output_size)
    batch, height, width, channels = images.shape
    rows, row_inside = adaptive_windows(height, size[0])
    columns, column_inside = adaptive_windows(width, size[1])
    inside = row_inside[:, None, :, None] & column_inside[None, :, None, :]
    flat = rows[:, None, :, None] * width + columns[None, :, None, :]  # (h, w, kh, kw)
    taps = flat.shape[2] * flat.shape[3]

    windows = jnp.take(images, rows, axis=1, mode="clip")
    windows = jnp.take(windows, columns, axis=3, mode="clip")  # (B, h, kh, w, kw, C)
    windows = windows.transpose(0, 1, 3, 2, 4, 5).reshape(batch, *size, taps, channels)
    windows = jnp.where(inside.reshape(*size, taps, 1), windows, -jnp.inf)
    nan = jnp.isnan(windows)
    last_nan = taps - 1 - jnp.argmax(nan[..., ::-1, :], axis=-2)
    place = jnp.where(nan.any(axis=-2), last_nan, jnp.argmax(windows, axis=-2))

    indices = jnp.take_along_axis(
        jnp.asarray(flat.reshape(1, *size, taps, 1), jnp.int32), place[..., None, :], axis=3
    ).reshape(batch, size[0] * size[1], channels)
    maxima = jnp.take_along_axis(images.reshape(batch, height * width, channels), indices, axis=1)
    maxima, indices = (x.reshape(batch, *size, channels) for x in (maxima, indices))
    return (maxima, indices) if return_indices else maxima


class AdaptiveMaxPool2d(nn.Module):
    """`torch.nn.AdaptiveMaxPool2d` on (B, H, W, C) images; see `adaptive_max_pool2d`."""

    output_size: int | Sequence[int | None]
    return_indices: bool = False

    @nn.compact
    def __call__(self, images: jax.Array) -> Any:
        """Map (B, H, W, C) to (B, h, w, C), with `return_indices` to a pair of these."""
        return adaptive_max_pool2d(images, self.output_size, return_indices=self.return_indices)


def _places(images, *, pool, pads):
    """Return the maxima of padded images, and which tap of its window each one was."""
    best: Any = None
    place: Any = None
    number = place_type(pool.kernel)
    for tap, (rows, columns) in enumerate(pool.taps()):
        value = images[:, slice(*rows), slice(*columns)]
        if best is None:
            # The first tap inside the image: it wins a window of minus infinities, not the padding.
            row, column = (
                -(-np.maximum(p - s * np.arange(n), 0) // d)
                for p, s, d, n in zip(pads, pool.stride, pool.dilation, pool.size, strict=True)
            )
            first = jnp.asarray(row[:, None, None] * pool.kernel[1] + column[:, None], number)
            best, place = value, jnp.broadcast_to(first, value.shape)
        else:
            better = (value > best) | jnp.isnan(value)
            best = jnp.where(better, value, best)
            place = jnp.where(better, jnp.asarray(tap, number), place)
    return best, place


def _shapes(images, *, pool, pads):
    del pads
    best = images.update(shape=(images.shape[0], *pool.size, images.shape[3]), weak_type=False)
    return [best, best.update(dtype=np.dtype(place_type(pool.kernel)))]


def _jvp(primals, tangents, *, pool, pads):
    best, place = _max_pool.bind(*primals, pool=pool, pads=pads)
    tangent = gather(place, ad.instantiate_zeros(tangents[0]), pool)
    return (best, place), (tangent, ad.Zero(jax.typeof(place).to_tangent_aval()))


_max_pool = composed("max_pool", _places, _shapes, several=True, static=["pool", "pads"])
ad.primitive_jvps[_max_pool] = _jvp
fold_batches(_max_pool)

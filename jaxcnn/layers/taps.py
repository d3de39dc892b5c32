"""What the taps of sliding windows see, and weighted sums of it: depthwise convolution on a CPU.

Each output is a sum of shifted pixels times one number a channel, which XLA vectorises over the
channels. With padding in the same loop it would ask of every value whether it lies in the image,
so that the windows inside the image are computed apart from those at its border.
"""

from functools import partial, reduce
from itertools import product
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxcnn.layers.window import output_size


def taps(images, kernel, stride, pads, dilation):
    """Return what each of the kernel's taps sees, rows first, as (B, H', W', C) images.

    Args:
        images: (B, H, W, C).
        kernel: (kh, kw).
        stride: (h, w).
        pads: zeros ((top, bottom), (left, right)).
        dilation: (h, w).
    """
    height, width = output_size("conv2d", images.shape[1:3], kernel, stride, pads, dilation)
    images = jnp.pad(images, ((0, 0), *pads, (0, 0)))
    batch, _, _, channels = images.shape
    corners = product(
        range(0, kernel[0] * dilation[0], dilation[0]),
        range(0, kernel[1] * dilation[1], dilation[1]),
    )
    return [
        lax.slice(
            images,
            (0, i, j, 0),
            (batch, i + (height - 1) * stride[0] + 1, j + (width - 1) * stride[1] + 1, channels),
            (1, *stride, 1),
        )
        for i, j in corners
    ]


class Windows(NamedTuple):
    """The windows along one axis: window i has its first tap at pixel i * stride - before.

    Attributes:
        count: of the windows.
        taps: of each.
        stride: pixels from a window to the next.
        dilation: pixels from a tap to the next.
        before: pixels in front of the image, which are zeros; below 0 the first window starts
            inside.
    """

    count: int
    taps: int
    stride: int
    dilation: int
    before: int

    @property
    def reach(self) -> int:
        """Pixels from a window's first tap to its last, both included."""
        return self.dilation * (self.taps - 1) + 1

    def ranges(self, length: int) -> list[tuple[int, int]]:
        """Return (first, last + 1) of the windows inside the image, then of those at its ends."""
        first = min(max(-(-self.before // self.stride), 0), self.count)
        last = min((length + self.before - self.reach) // self.stride + 1, self.count)
        last = max(last, first)
        return [(first, last), (0, first), (last, self.count)]

    def cut(self, length: int, first: int, last: int) -> tuple[int, int, tuple[int, int]]:
        """Return which pixels, [start, stop), some windows see, and how many zeros around them."""
        start = first * self.stride - self.before
        size = (last - first - 1) * self.stride + self.reach
        inside = min(max(start, 0), length), min(max(start + size, 0), length)
        front = min(max(-start, 0), size)
        return *inside, (front, size - front - (inside[1] - inside[0]))

    def transposed(self, length: int, phase: int) -> tuple["Windows", slice]:
        """Return the windows on the outputs that see pixels phase, phase + stride, ..., reversed.

        They have stride 1 and some of the taps, in the order of the slice. Of all phases there are
        equally many, so that the last may lie behind the image.
        """
        pixel = phase + self.before
        chosen = [i for i in range(self.taps) if (pixel - i * self.dilation) % self.stride == 0]
        count = -(-length // self.stride)
        if not chosen:
            return Windows(count, 0, 1, 1, 0), slice(0, 0)
        step = chosen[1] - chosen[0] if len(chosen) > 1 else self.stride
        nearest = (pixel - chosen[-1] * self.dilation) // self.stride
        order = slice(chosen[-1], chosen[0] - 1 if chosen[0] else None, -step)
        return Windows(count, len(chosen), 1, step * self.dilation // self.stride, -nearest), order


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def weighted_taps(
    images: jax.Array, weights: jax.Array, rows: Windows, columns: Windows
) -> jax.Array:
    """Sum the taps of every window, each times a weight a channel.

    Differentiable in reverse mode, any number of times; not in forward mode.

    Args:
        images: (B, H, W, C), floating.
        weights: (kh, kw, C), of the images' dtype.
        rows: H' `Windows` of kh taps.
        columns: W' `Windows` of kw taps.

    Returns:
        (B, H', W', C).
    """
    inside, *ends = rows.ranges(images.shape[1])
    across, *sides = columns.ranges(images.shape[2])
    boxes = [(inside, box) for box in (across, *sides)]
    boxes += [(end, (0, columns.count)) for end in ends]
    boxes = [(r, c) for r, c in boxes if r[0] < r[1] and c[0] < c[1]]
    parts = [_box(images, weights, rows, columns, *box) for box in boxes]
    if len(parts) == 1:
        return parts[0]
    out = jnp.zeros((images.shape[0], rows.count, columns.count, images.shape[3]), images.dtype)
    for part, ((row, _), (column, _)) in zip(parts, boxes, strict=True):
        out = lax.dynamic_update_slice(out, part, (0, row, column, 0))
    return out


def _box(images, weights, rows, columns, row_range, column_range):
    """Return the windows of a range of rows and a range of columns."""
    top, bottom, above_below = rows.cut(images.shape[1], *row_range)
    left, right, beside = columns.cut(images.shape[2], *column_range)
    seen = taps(
        images[:, top:bottom, left:right],
        weights.shape[:2],
        (rows.stride, columns.stride),
        (above_below, beside),
        (rows.dilation, columns.dilation),
    )
    flat = weights.reshape(-1, weights.shape[2])
    return reduce(jnp.add, [tap * w for tap, w in zip(seen, flat, strict=True)])


def _forward(images, weights, rows, columns):
    return weighted_taps(images, weights, rows, columns), (images, weights)


def _backward(rows, columns, saved, gradient):
    images, weights = saved
    to_images = _to_images(gradient, weights, images.shape, rows, columns)
    return to_images, _to_weights(gradient, images, rows, columns)


weighted_taps.defvjp(_forward, _backward)


def _to_images(gradient, weights, shape, rows, columns):
    """Sum what the windows on the outputs see: those of each phase of the stride, interleaved."""
    batch, height, width, channels = shape
    lines = []
    for i in range(rows.stride):
        above, row_taps = rows.transposed(height, i)
        line = []
        for j in range(columns.stride):
            beside, column_taps = columns.transposed(width, j)
            flipped = weights[row_taps, column_taps]
            if flipped.size:
                line.append(weighted_taps(gradient, flipped, above, beside))
            else:
                line.append(jnp.zeros((batch, above.count, beside.count, channels), gradient.dtype))
        lines.append(_interleave(line, 2))
    return _interleave(lines, 1)[:, :height, :width]


def _interleave(images, axis):
    if len(images) == 1:
        return images[0]
    stacked = jnp.stack(images, axis + 1)
    shape = stacked.shape
    return stacked.reshape(*shape[:axis], shape[axis] * shape[axis + 1], *shape[axis + 2 :])


def _to_weights(gradient, images, rows, columns):
    """Sum gradient times tap, row after row of the windows.

    JAX's own gradient sums over batch, rows and columns at once, which XLA does not vectorise: 100
    ms on (16, 56, 56, 64), 3x3, where adding up the rows first takes 8.
    """
    (top, bottom, above_below), (left, right, beside) = (
        windows.cut(length, 0, windows.count)
        for windows, length in zip((rows, columns), images.shape[1:3], strict=True)
    )
    padded = jnp.pad(images[:, top:bottom, left:right], ((0, 0), above_below, beside, (0, 0)))
    kernel, dilation = (rows.taps, columns.taps), (rows.dilation, columns.dilation)

    def add_row(row, sums):
        window = lax.dynamic_slice_in_dim(padded, row * rows.stride, rows.reach, axis=1)
        one = lax.dynamic_slice_in_dim(gradient, row, 1, axis=1)
        seen = taps(window, kernel, (1, columns.stride), ((0, 0), (0, 0)), dilation)
        return [total + tap * one for total, tap in zip(sums, seen, strict=True)]

    sums = [jnp.zeros_like(gradient[:, :1])] * (rows.taps * columns.taps)
    sums = lax.fori_loop(0, rows.count, add_row, sums)
    return jnp.stack([total.sum((0, 1, 2)) for total in sums]).reshape(*kernel, -1)

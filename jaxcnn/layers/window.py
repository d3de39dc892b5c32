"""The arithmetic of windows that slide over an image: pairs, padding, output size."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

Pair = int | Sequence[int]
_Sizes = tuple[int, int]


class Windows(NamedTuple):
    """The checked arguments of a pool, each as (h, w).

    Attributes:
        kernel: size of the window.
        stride: step of the window.
        padding: on each side.
        dilation: distance of the window's taps.
        size: number of windows.
        around: (before, behind) of both axes: the padding, and what ceil_mode's last window lacks.
    """

    kernel: _Sizes
    stride: _Sizes
    padding: _Sizes
    dilation: _Sizes
    size: _Sizes
    around: tuple[_Sizes, _Sizes]


def pair(name: str, value: Pair, *, least: int) -> tuple[int, int]:
    """Return an (h, w) pair from an int or a pair of ints, as every `torch.nn` layer takes it.

    Raises:
        ValueError: if the value is neither, or below `least`; names the argument and the value.
    """
    values = (value, value) if isinstance(value, int) else value
    values = tuple(values) if isinstance(values, Sequence) else ()
    if len(values) != 2 or not all(isinstance(v, int) and v >= least for v in values):
        raise ValueError(f"{name} must be an int or a pair of ints >= {least}, got {value!r}")
    return values


def output_size(
    layer: str,
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: Sequence[tuple[int, int]] = ((0, 0), (0, 0)),
    dilation: tuple[int, int] = (1, 1),
    ceil_mode: bool = False,
) -> tuple[int, int]:
    """Return floor((size + padding - dilation (kernel - 1) - 1) / stride) + 1 for (h, w).

    With `ceil_mode` the quotient is rounded up, but a last window that would start behind the image
    and its leading padding is left out, as PyTorch's pools do.

    Raises:
        ValueError: if the dilated kernel is larger than the padded input; names the layer.
    """
    padded = tuple(n + sum(p) for n, p in zip(size, padding, strict=True))
    reach = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True))
    # Rounding up accepts a window that the image fills but for less than a step.
    spare = (stride[0] - 1, stride[1] - 1) if ceil_mode else (0, 0)
    if padded[0] + spare[0] < reach[0] or padded[1] + spare[1] < reach[1]:
        raise ValueError(
            f"{layer}: kernel {reach} (dilation included) is larger than the padded input {padded}"
        )
    if not ceil_mode:
        return (padded[0] - reach[0]) // stride[0] + 1, (padded[1] - reach[1]) // stride[1] + 1
    rounded = [-(-(n - r) // s) + 1 for n, r, s in zip(padded, reach, stride, strict=True)]
    behind = [
        (count - 1) * step >= n + before
        for count, step, n, (before, _) in zip(rounded, stride, size, padding, strict=True)
    ]
    return rounded[0] - behind[0], rounded[1] - behind[1]


def check_images(layer: str, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless the shape is (B, H, W, C)."""
    if len(shape) != 4:
        raise ValueError(f"{layer}: images must be (B, H, W, C), got shape {shape}")


def pool_windows(
    layer: str,
    shape: tuple[int, ...],
    kernel_size: Pair,
    stride: Pair | None,
    padding: Pair,
    dilation: Pair,
    ceil_mode: bool,
) -> Windows:
    """Check a pool's arguments against images of the given shape, as PyTorch's pools do.

    Raises:
        ValueError: wrong rank, a bad size, padding of more than half the kernel, or a window larger
            than the padded input; names the layer.
    """
    check_images(layer, shape)
    kernel = pair(f"{layer}: kernel_size", kernel_size, least=1)
    step = kernel if stride is None else pair(f"{layer}: stride", stride, least=1)
    pads = pair(f"{layer}: padding", padding, least=0)
    taps = pair(f"{layer}: dilation", dilation, least=1)
    if any(2 * p > k for p, k in zip(pads, kernel, strict=True)):
        raise ValueError(f"{layer}: padding {pads} must be at most half of kernel_size {kernel}")
    image = (shape[1], shape[2])
    both = [(p, p) for p in pads]
    size = output_size(layer, image, kernel, step, both, taps, ceil_mode)
    top, left = (
        (p, max(p, (count - 1) * s + d * (k - 1) + 1 - n - p))
        for n, k, s, p, d, count in zip(image, kernel, step, pads, taps, size, strict=True)
    )
    return Windows(kernel, step, pads, taps, size, (top, left))


def adaptive_size(
    layer: str, shape: tuple[int, ...], output_size: int | Sequence[int | None]
) -> tuple[int, int]:
    """Return an adaptive pool's (h, w) on images of the given shape; None keeps that axis.

    Raises:
        ValueError: wrong rank, or a bad size; names the layer.
    """
    check_images(layer, shape)
    size = output_size
    if isinstance(size, Sequence) and len(size) == 2:
        size = [n if v is None else v for v, n in zip(size, shape[1:3], strict=True)]
    return pair(f"{layer}: output_size", size, least=1)  # pyright: ignore[reportArgumentType]


def adaptive_windows(length: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the windows of an adaptive pool along one axis.

    Window i of `count` reaches from floor(i length / count) to ceil((i + 1) length / count) - 1, so
    windows overlap where count does not divide the length, and repeat values where it is larger.

    Returns:
        positions (count, longest window), int, and a mask of the same shape: what lies behind a
        shorter window is False there, its position that of the window's first value.
    """
    start = np.arange(count) * length // count
    end = -(-(np.arange(count) + 1) * length // count)
    positions = start[:, None] + np.arange(np.max(end - start))
    inside = positions < end[:, None]
    return np.where(inside, positions, start[:, None]), inside


def check_groups(layer: str, channels: int, features: int, groups: int) -> None:
    """Raise ValueError unless the groups divide the channels and the features."""
    if groups < 1 or channels % groups or features % groups:
        raise ValueError(
            f"{layer}: groups={groups} must divide both the {channels} input channels "
            f"and the {features} features"
        )

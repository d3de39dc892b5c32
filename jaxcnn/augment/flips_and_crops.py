"""Flips, padding and crops of whole pixels, with a choice or a place of its own for every image.

Documented by torchvision.transforms.functional (0.28) for one image; here they are equal to the
bit. (B, H, W, C) -> (B, H', W', C).
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxcnn.augment.arguments import Size, is_count, is_number, pair_of_sizes

PADDING_MODES = ("constant", "edge", "reflect", "symmetric")
Padding = int | Sequence[int]


def flip_horizontal(images: jax.Array, chosen: jax.Array) -> jax.Array:
    """Mirror the chosen images left to right, as `hflip`.

    Args:
        images: (B, H, W, C).
        chosen: (B,) bool.

    Returns:
        Images of the same shape and dtype.
    """
    return select("flip_horizontal", chosen, images[:, :, ::-1], images)


def flip_vertical(images: jax.Array, chosen: jax.Array) -> jax.Array:
    """Mirror the chosen images top to bottom, as `vflip`.

    Args:
        images: (B, H, W, C).
        chosen: (B,) bool.

    Returns:
        Images of the same shape and dtype.
    """
    return select("flip_vertical", chosen, images[:, ::-1], images)


def select(function: str, chosen: jax.Array, changed: jax.Array, images: jax.Array) -> jax.Array:
    """Take the chosen images from `changed`, the others as they are.

    Args:
        function: for the error.
        chosen: (B,) bool.
        changed: (B, H, W, C).
        images: (B, H, W, C).

    Raises:
        ValueError: `chosen` is no (B,) bool, or the two have different shapes, so that one batch
            cannot hold both.
    """
    if chosen.shape != images.shape[:1] or chosen.dtype != bool:
        raise ValueError(
            f"{function}: chosen must be ({images.shape[0]},) bool, "
            f"got {chosen.shape} {chosen.dtype}"
        )
    if changed.shape != images.shape:
        raise ValueError(
            f"{function}: makes images of {changed.shape[1:3]} from images of {images.shape[1:3]}, "
            "so that p must be 0 or 1"
        )
    return jnp.where(chosen[:, None, None, None], changed, images)


def pad(images: jax.Array, padding: Padding, mode: str = "constant", fill: float = 0) -> jax.Array:
    """Pad images, as `pad`.

    Args:
        images: (B, H, W, C).
        padding: pixels on every side; or (left and right, top and bottom); or (left, top, right,
            bottom).
        mode: constant; edge (the outermost pixel again); reflect (without the edge again) or
            symmetric (with it).
        fill: what constant pads with.

    Returns:
        (B, top + H + bottom, left + W + right, C).

    Raises:
        ValueError: an unknown mode, negative padding or another number of them, or more than the
            image has to reflect.
    """
    left, top, right, bottom = check_padding("pad", padding, mode, fill)
    height, width = images.shape[1:3]
    for side, length in ((max(top, bottom), height), (max(left, right), width)):
        # The edge itself is not reflected.
        most = {"reflect": length - 1, "symmetric": length}.get(mode, side)
        if side > most:
            raise ValueError(
                f"pad: padding {padding} is more than images of {height}x{width} have to {mode}"
            )
    widths = ((0, 0), (top, bottom), (left, right), (0, 0))
    if mode == "constant":
        return jnp.pad(images, widths, constant_values=jnp.asarray(fill, images.dtype))
    return jnp.pad(images, widths, mode=mode)


def check_padding(function: str, padding: Any, mode: Any, fill: Any) -> tuple[int, int, int, int]:
    """Return the padding of (left, top, right, bottom) of any of torchvision's forms.

    Raises:
        ValueError: a bad padding, mode or fill.
    """
    if mode not in PADDING_MODES:
        raise ValueError(
            f"{function}: padding_mode must be one of {', '.join(PADDING_MODES)}, got {mode!r}"
        )
    if not is_number(fill):
        raise ValueError(f"{function}: fill must be a number, got {fill!r}")
    several = isinstance(padding, Sequence) and not isinstance(padding, str)
    sides: tuple[Any, ...] = tuple(padding) if several else (padding,)
    if len(sides) not in (1, 2, 4) or not all(is_count(side, 0) for side in sides):
        raise ValueError(
            f"{function}: padding must be an int >= 0 or two or four of them, got {padding!r}"
        )
    left, top, right, bottom = sides * (4 // len(sides))
    return left, top, right, bottom


def crop(images: jax.Array, top: jax.Array, left: jax.Array, size: Size) -> jax.Array:
    """Cut a window out of every image, as `crop` within the image.

    Args:
        images: (B, H, W, C).
        top: (B,) integers, first row of each window, in [0, H - h].
        left: (B,) integers, first column of each window, in [0, W - w]; what is outside of its
            range is moved to the range's end.
        size: h, w of all windows.

    Returns:
        (B, h, w, C) of the images' dtype.

    Raises:
        ValueError: a window larger than the images.
    """
    height, width = check_crop("crop", pair_of_sizes("crop", size), images.shape)

    def cut(image: jax.Array, row: jax.Array, column: jax.Array) -> jax.Array:
        start = (row, column, jnp.zeros_like(row))
        return jax.lax.dynamic_slice(image, start, (height, width, image.shape[2]))

    return jax.vmap(cut)(images, top, left)


def check_crop(function: str, size: tuple[int, int], shape: Sequence[int]) -> tuple[int, int]:
    """Return the size, or raise a ValueError if it exceeds images of `shape` (B, H, W, C)."""
    if size[0] > shape[1] or size[1] > shape[2]:
        raise ValueError(
            f"{function}: a crop of {size[0]}x{size[1]} is larger than the image, padding "
            f"included, of {shape[1]}x{shape[2]}"
        )
    return size

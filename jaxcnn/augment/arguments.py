"""The checks that all transforms share: one clear error for a bad argument."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

Size = int | Sequence[int]
Interval = float | Sequence[float]
Fill = float | Sequence[float]


def check_images(function: str, images: jax.Array, *, channels: tuple[int, ...] = ()) -> None:
    """Raise a ValueError unless images are (B, H, W, C), not empty and floating.

    Args:
        function: for the error.
        images: what to check.
        channels: the allowed C; any where empty.
    """
    if images.ndim != 4 or 0 in images.shape:
        raise ValueError(
            f"{function}: images must be (B, H, W, C), not empty, got shape {images.shape}"
        )
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(f"{function}: images must be floating, got {images.dtype}")
    if channels and images.shape[3] not in channels:
        allowed = " or ".join(map(str, channels))
        raise ValueError(f"{function}: images must have {allowed} channels, got {images.shape[3]}")


def per_image(
    function: str, name: str, values: jax.Array, images: jax.Array, count: int | None = None
) -> jax.Array:
    """Return one value an image, (B,), or `count` of them, (B, count).

    Args:
        function: for the error.
        name: of the argument, for the error.
        values: cast to the images' dtype.
        images: (B, H, W, C).
        count: values an image; None for a plain (B,).

    Raises:
        ValueError: another shape.
    """
    values = jnp.asarray(values)
    want = images.shape[:1] if count is None else (images.shape[0], count)
    if values.shape != want:
        raise ValueError(
            f"{function}: {name} must have shape {want}, one row an image, got {values.shape}"
        )
    return values.astype(images.dtype)


def is_number(value: Any) -> bool:
    """Tell whether a value is a finite int or float, and no bool."""
    real = isinstance(value, int | float) and not isinstance(value, bool)
    return real and math.isfinite(value)


def are_numbers(values: Any, count: int | None = None) -> bool:
    """Tell whether a value is a sequence of numbers, not empty, and `count` of them if given."""
    if not isinstance(values, Sequence) or isinstance(values, str) or not values:
        return False
    return all(map(is_number, values)) and count in (None, len(values))


def is_count(value: Any, least: int) -> bool:
    """Tell whether a value is an int, no bool, and at least `least`."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def pair_of_sizes(function: str, value: Any) -> tuple[int, int]:
    """Return (height, width) of an int or a pair of ints, each at least 1.

    Raises:
        ValueError: anything else.
    """
    several = isinstance(value, Sequence) and not isinstance(value, str)
    sizes: tuple[Any, ...] = tuple(value) if several else (value, value)
    if len(sizes) != 2 or not all(is_count(size, 1) for size in sizes):
        raise ValueError(f"{function}: size must be an int >= 1 or a pair of them, got {value!r}")
    return sizes[0], sizes[1]


def interval(
    function: str,
    name: str,
    value: Any,
    *,
    around: float | None = None,
    least: float = -math.inf,
    most: float = math.inf,
) -> tuple[float, float]:
    """Return the (lowest, highest) value of an argument that is drawn uniformly.

    Args:
        function: for the error.
        name: of the argument, for the error.
        value: a pair, lowest first; or, with `around`, a number d >= 0 for [around - d, around + d]
            (the lower end not below `least`).
        around: centre of the interval that a single number gives; None allows pairs only.
        least: the smallest value allowed.
        most: the largest value allowed.

    Raises:
        ValueError: neither of both, or outside of [least, most].
    """
    if around is not None and is_number(value) and value >= 0:
        low, high = max(around - value, least), around + value
    elif are_numbers(value, 2):
        low, high = value
    else:
        number = "a number >= 0 or " if around is not None else ""
        raise ValueError(
            f"{function}: {name} must be {number}a pair (lowest, highest), got {value!r}"
        )
    if not least <= low <= high <= most:
        raise ValueError(
            f"{function}: {name} must be an interval within [{least:g}, {most:g}], got {value!r}"
        )
    return float(low), float(high)


def probability(function: str, p: Any) -> float:
    """Return p, or raise a ValueError unless it is a number in [0, 1]."""
    if not is_number(p) or not 0 <= p <= 1:
        raise ValueError(f"{function}: p must be a probability in [0, 1], got {p!r}")
    return p


def colours(function: str, fill: Any, channels: int | None = None) -> tuple[float, ...]:
    """Return the numbers of a fill: one for all channels, or one a channel.

    Args:
        function: for the error.
        fill: a number or a sequence of numbers.
        channels: of the images, where they are known.

    Raises:
        ValueError: anything else.
    """
    values = (fill,) if is_number(fill) else fill
    if not are_numbers(values) or channels is not None and len(values) not in (1, channels):
        count = "" if channels is None else f" ({channels})"
        raise ValueError(f"{function}: fill must be a number or one a channel{count}, got {fill!r}")
    return tuple(values)

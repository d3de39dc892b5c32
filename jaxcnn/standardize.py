"""Standardisation of images: centre, scale, and back for display. Pure functions, no parameters.

LeCun, Bottou, Orr and Mueller, 1998, "Efficient BackProp", section 4.3: inputs of mean 0 and
deviation 1 train fastest. Channels are the last axis throughout.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

Axes = int | Sequence[int] | None
PerChannel = float | Sequence[float] | np.ndarray | jax.Array

# Images whose float64 copy is made at a time.
_CHUNK = 256


def zero_center(images: jax.Array, axis: Axes = 0) -> jax.Array:
    """Subtract the mean: `x - np.mean(x, axis)`.

    Args:
        images: floating, of any shape.
        axis: what the mean is over: 0 leaves one mean a pixel and channel (the mean image),
            (0, 1, 2) one a channel, None a single one.

    Returns:
        The images' shape and dtype.

    Raises:
        ValueError: images that are not floating.
    """
    _check_floating("zero_center", images)
    return images - jnp.mean(images, axis=_axes(axis), keepdims=True)


def unit_deviation(images: jax.Array, axis: Axes = 0) -> jax.Array:
    """Divide by the standard deviation (of the population): `x / np.std(x, axis)`.

    A deviation of 0 counts as 1, so that what never changes (the corners of MNIST's digits) stays
    as it is, and its gradient is 1 and not NaN.

    Args:
        images: floating, of any shape; centred or not.
        axis: what the deviation is over, as in `zero_center`.

    Returns:
        The images' shape and dtype.

    Raises:
        ValueError: images that are not floating.
    """
    _check_floating("unit_deviation", images)
    # The root is taken of what is above 0 only, because its slope at 0 is infinite.
    variance = jnp.var(images, axis=_axes(axis), keepdims=True)
    return images / jnp.sqrt(jnp.where(variance > 0, variance, jnp.ones((), images.dtype)))


def to_symmetric(images: jax.Array) -> jax.Array:
    """Scale [0, 255] to [-1, 1]: (x / 255 - 0.5) / 0.5.

    Args:
        images: floating, of any shape, in [0, 255]; `images.astype(jnp.float32)` of uint8 ones.

    Returns:
        The images' shape and dtype.

    Raises:
        ValueError: images that are not floating.
    """
    _check_floating("to_symmetric", images)
    return normalize(images / jnp.asarray(255, images.dtype), 0.5, 0.5)


def normalize(images: jax.Array, mean: PerChannel, std: PerChannel) -> jax.Array:
    """Return (x - mean) / std a channel, as `torchvision.transforms.functional.normalize` does.

    Args:
        images: (..., C), floating; torchvision's are (..., C, H, W).
        mean: one for all channels, or (C,); cast to the images' dtype.
        std: as `mean`.

    Returns:
        The images' shape and dtype.

    Raises:
        ValueError: images that are not floating, as many means or deviations as there are not
            channels, or a deviation of 0.
    """
    mean, std = _mean_and_std("normalize", images, mean, std)
    return (images - mean) / std


def denormalize(images: jax.Array, mean: PerChannel, std: PerChannel) -> jax.Array:
    """Return x * std + mean a channel: the inverse of `normalize`, for display.

    Args:
        images: (..., C), floating.
        mean: as `normalize` was given.
        std: as `normalize` was given.

    Returns:
        The images' shape and dtype.

    Raises:
        ValueError: as `normalize`.
    """
    mean, std = _mean_and_std("denormalize", images, mean, std)
    return images * std + mean


def channel_statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the standard deviation (of the population) of every channel.

    On the host, in float64 and in two passes, some hundred images at a time: a sum of float32
    values loses digits, and so does E[x^2] - E[x]^2. The unit is the images'; what `normalize` is
    to have for uint8 images scaled to [0, 1] is both over 255.

    Args:
        images: (N, ..., C), of any dtype.

    Returns:
        mean (C,) and standard deviation (C,), float64.

    Raises:
        ValueError: fewer than two axes, or no image.
    """
    if images.ndim < 2 or images.size == 0:
        raise ValueError(
            f"channel_statistics: images must be (N, ..., C), not empty, got shape {images.shape}"
        )
    chunks = range(0, len(images), _CHUNK)
    axes = tuple(range(images.ndim - 1))
    count = images.size // images.shape[-1]
    mean = sum(images[i : i + _CHUNK].sum(axes, dtype=np.float64) for i in chunks) / count
    squares = (
        np.square(images[i : i + _CHUNK].astype(np.float64) - mean).sum(axes) for i in chunks
    )
    return mean, np.sqrt(sum(squares) / count)


def _axes(axis: Axes) -> int | tuple[int, ...] | None:
    return axis if axis is None or isinstance(axis, int) else tuple(axis)


def _check_floating(function: str, images: jax.Array) -> None:
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(f"{function}: images must be floating, got {images.dtype}")


def _mean_and_std(
    function: str, images: jax.Array, mean: PerChannel, std: PerChannel
) -> tuple[jax.Array, jax.Array]:
    _check_floating(function, images)
    given = {"mean": mean, "std": std}
    arrays = {name: jnp.asarray(value, images.dtype) for name, value in given.items()}
    for name, array in arrays.items():
        if array.ndim and array.shape != images.shape[-1:]:
            raise ValueError(
                f"{function}: {name} must be one number or one a channel, got shape {array.shape} "
                f"for images of shape {images.shape}"
            )
    # What is traced has no value yet.
    if not isinstance(std, Tracer) and not np.all(np.asarray(std)):
        raise ValueError(f"{function}: std must not be 0, got {std}")
    return arrays["mean"], arrays["std"]

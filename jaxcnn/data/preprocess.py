"""From pixels to the network's input: uint8, or floats in [0, 1], to normalised floats.

The networks see (x - mean) / std of pixels x in [0, 1]: the documented ones values in [-1, 1],
torchvision's pretrained ones ImageNet's channels centred and scaled. Stored images are uint8; what
augments them hands on floats in [0, 1]. All of it is made inside the jitted step, so that four
times fewer bytes travel; resizing follows Pillow's BILINEAR (antialiased where it shrinks), so that
a photograph resized on the device looks as one resized by `read_image`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.data.dataset import DataError, check_image_shape
from jaxcnn.data.decode import center_crop_start
from jaxcnn.standardize import PerChannel, denormalize, normalize

# By name: mean and standard deviation of pixels in [0, 1], of all channels or of each (RGB).
NORMALIZATIONS = {
    "symmetric": (0.5, 0.5),
    # torchvision.transforms.Normalize as torchvision's ImageNet weights want it.
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "none": (0.0, 1.0),
}

# A key of NORMALIZATIONS, or mean and deviation of pixels in [0, 1]: a number or one a channel.
Normalization = str | Sequence[PerChannel]


def standardize(
    images: jax.Array, dtype=jnp.float32, *, normalization: Normalization = "symmetric"
) -> jax.Array:
    """Map images to `dtype`: (x - mean) / std of pixels x in [0, 1].

    Args:
        images: (..., C), uint8, which are scaled by 1/255, or floating in [0, 1]; C is 3 for
            "imagenet".
        dtype: of the result.
        normalization: a key of `NORMALIZATIONS`: "symmetric" gives values in [-1, 1], "none" in
            [0, 1]; or (mean, std), numbers or one a channel, as `channel_statistics` gives them.

    Raises:
        DataError: images neither uint8 nor floating; an unknown normalization, a pair that is none
            or not finite, a deviation that is not above 0, or one for another number of channels.
    """
    mean, std = _mean_and_std(normalization, images.shape[-1:])
    return normalize(_unit_range(images, dtype), mean, std)


def unstandardize(images: jax.Array, *, normalization: Normalization = "symmetric") -> jax.Array:
    """Invert `standardize` for display: floats to uint8, rounded, clipped to [0, 255].

    Args:
        images: (..., C), floating.
        normalization: what `standardize` was given.

    Raises:
        DataError: as `standardize`.
    """
    mean, std = _mean_and_std(normalization, images.shape[-1:])
    pixels = denormalize(images, mean, std) * jnp.asarray(255, images.dtype)
    return jnp.clip(jnp.round(pixels), 0, 255).astype(jnp.uint8)


def make_preprocess(
    image_shape: tuple[int, int, int],
    dtype=jnp.float32,
    *,
    normalization: Normalization = "symmetric",
    center_crop: bool = False,
) -> Callable[[jax.Array], jax.Array]:
    """Return a jittable function from stored or augmented images to the network's input.

    The function takes (B, h, w, C), uint8 or floating in [0, 1], and returns (B, H, W, C) `dtype`,
    normalised as `standardize` does. Where h, w differ from H, W it resizes, bilinear, antialiased
    where it shrinks. It raises a DataError, while tracing, on another number of channels or dtype.

    Args:
        image_shape: (H, W, C) of the network.
        dtype: of the result.
        normalization: as `standardize` takes it.
        center_crop: take the centre, in place of resizing, of images with h >= H and w >= W, where
            torchvision's CenterCrop does. Images that `read_image` made at S x S become
            torchvision's Resize(S) and CenterCrop(N) to the bit where S - N is a multiple of 4, as
            256 - 224 is; else the half pixel that both crops round may lie the other way.

    Raises:
        DataError: no image shape; a normalization as in `standardize`.
    """
    height, width, channels = check_image_shape(image_shape)
    _mean_and_std(normalization, (channels,))

    def preprocess(images: jax.Array) -> jax.Array:
        batch, h, w, c = images.shape
        if c != channels:
            raise DataError(f"images have {c} channel(s); the network expects {channels}")
        if center_crop and h >= height and w >= width:
            top, left = center_crop_start(h, height), center_crop_start(w, width)
            images = images[:, top : top + height, left : left + width]
        pixels = standardize(images, dtype, normalization=normalization)
        if pixels.shape[1:3] == (height, width):
            return pixels
        # Standardizing is affine and the resampling weights sum to 1, so the order is free.
        return jax.image.resize(pixels, (batch, height, width, c), "bilinear", antialias=True)

    return preprocess


def _unit_range(images: jax.Array, dtype: Any) -> jax.Array:
    if images.dtype == jnp.uint8:
        return images.astype(dtype) / jnp.asarray(255, dtype)
    if jnp.issubdtype(images.dtype, jnp.floating):
        return images.astype(dtype)
    raise DataError(f"images are {images.dtype}; expected uint8 in [0, 255] or floating in [0, 1]")


def _mean_and_std(
    normalization: Normalization, channels: tuple[int, ...]
) -> tuple[PerChannel, PerChannel]:
    if isinstance(normalization, str) and normalization not in NORMALIZATIONS:
        known = ", ".join(NORMALIZATIONS)
        raise DataError(
            f"unknown normalization {normalization!r}; known: {known}, or a pair (mean, std)"
        )
    pair = NORMALIZATIONS[normalization] if isinstance(normalization, str) else normalization
    try:
        mean, std = (np.asarray(value, np.float64) for value in pair)
    except (TypeError, ValueError):
        mean = std = np.array(np.nan)
    if max(mean.ndim, std.ndim) > 1 or not all(np.isfinite(v).all() for v in (mean, std)):
        raise DataError(
            f"normalization={normalization!r}: expected a name or (mean, std), each a number or "
            "one a channel"
        )
    if not (std > 0).all():
        raise DataError(f"normalization={normalization!r}: expected a standard deviation above 0")
    for value in (mean, std):
        if value.ndim and channels != value.shape:
            found = f"{channels[0]} channel(s)" if channels else "no channels"
            raise DataError(
                f"normalization {normalization!r} is for {value.size} channels; the images have "
                f"{found}"
            )
    return mean, std

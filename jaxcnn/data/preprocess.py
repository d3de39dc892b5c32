"""From pixels to the network's input: files to uint8 on the host, uint8 to floats on the device.

The networks see (x / 255 - mean) / std: the documented ones values in [-1, 1], torchvision's
pretrained ones ImageNet's channels centred and scaled. The floats are made inside the jitted step,
so that four times fewer bytes travel; resizing follows Pillow's BILINEAR (antialiased where it
shrinks), so that a photograph resized on the device looks as one resized by `read_image`.
"""

import io
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from os import PathLike, cpu_count
from typing import IO

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from jaxcnn.data.dataset import DataError, check_image_shape
from jaxcnn.standardize import denormalize, normalize

# By name: mean and standard deviation of pixels in [0, 1], of all channels or of each (RGB).
NORMALIZATIONS = {
    "symmetric": (0.5, 0.5),
    # torchvision.transforms.Normalize as torchvision's ImageNet weights want it.
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


def standardize(
    images: jax.Array, dtype=jnp.float32, *, normalization: str = "symmetric"
) -> jax.Array:
    """Map uint8 images in [0, 255] to `dtype`: (x / 255 - mean) / std.

    Args:
        images: (..., C) uint8; C is 3 for "imagenet".
        dtype: of the result.
        normalization: a key of `NORMALIZATIONS`; "symmetric" gives values in [-1, 1].

    Raises:
        DataError: an unknown normalization, or one for another number of channels.
    """
    mean, std = _mean_and_std(normalization, images.shape[-1:])
    return normalize(images.astype(dtype) / jnp.asarray(255, dtype), mean, std)


def unstandardize(images: jax.Array, *, normalization: str = "symmetric") -> jax.Array:
    """Invert `standardize` for display: floats to uint8, rounded, clipped to [0, 255]."""
    mean, std = _mean_and_std(normalization, images.shape[-1:])
    pixels = denormalize(images, mean, std) * jnp.asarray(255, images.dtype)
    return jnp.clip(jnp.round(pixels), 0, 255).astype(jnp.uint8)


def _mean_and_std(
    normalization: str, channels: tuple[int, ...]
) -> tuple[float | tuple[float, ...], float | tuple[float, ...]]:
    if normalization not in NORMALIZATIONS:
        known = ", ".join(NORMALIZATIONS)
        raise DataError(f"unknown normalization {normalization!r}; known: {known}")
    mean, std = NORMALIZATIONS[normalization]
    if isinstance(mean, tuple) and channels != (len(mean),):
        found = f"{channels[0]} channel(s)" if channels else "no channels"
        raise DataError(
            f"normalization {normalization!r} is for {len(mean)} channels; the images have {found}"
        )
    return mean, std


def make_preprocess(
    image_shape: tuple[int, int, int], dtype=jnp.float32, *, normalization: str = "symmetric"
) -> Callable[[jax.Array], jax.Array]:
    """Return a jittable function from stored images to the network's input.

    The function takes (B, h, w, C) uint8 and returns (B, H, W, C) `dtype`, normalised as
    `standardize` does, where `image_shape` is (H, W, C). Where h, w differ from H, W it resizes,
    bilinear, antialiased where it shrinks. It raises a DataError, while tracing, on another number
    of channels.

    Raises:
        DataError: no image shape, an unknown normalization, or one for another number of channels.
    """
    height, width, channels = check_image_shape(image_shape)
    _mean_and_std(normalization, (channels,))

    def preprocess(images: jax.Array) -> jax.Array:
        batch, h, w, c = images.shape
        if c != channels:
            raise DataError(f"images have {c} channel(s); the network expects {channels}")
        pixels = standardize(images, dtype, normalization=normalization)
        if (h, w) == (height, width):
            return pixels
        # Standardizing is affine and the resampling weights sum to 1, so the order is free.
        return jax.image.resize(pixels, (batch, height, width, c), "bilinear", antialias=True)

    return preprocess


def read_image(
    source: str | PathLike | bytes | IO[bytes],
    image_shape: tuple[int, int, int],
    *,
    name: str | None = None,
    crop: float = 1.0,
) -> np.ndarray:
    """Decode one image file to (H, W, C) uint8, where `image_shape` is (H, W, C).

    `source` is a path, the file's bytes, or an open binary file. The EXIF orientation is applied,
    the shorter side is resized to fit (bilinear) and the centre cropped; one channel is the
    ITU-R 601 luma, three are RGB, transparency is dropped. `name` is what errors call the image.

    `crop` is the share of the shorter side that the centre crop keeps: at (224, 224), 0.875 is
    torchvision's evaluation transform, Resize(256) and CenterCrop(224), but for its rounding to
    whole pixels in between.

    Raises:
        ValueError: `crop` is not in (0, 1].
        FileNotFoundError: there is no such file.
        DataError: the file is not an image that Pillow reads, or is damaged or truncated.
    """
    height, width, channels = check_image_shape(image_shape)
    if not 0 < crop <= 1:
        raise ValueError(f"crop must be above 0 and at most 1, got {crop}")
    if name is None:
        name = str(source) if isinstance(source, (str, PathLike)) else "image"
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            image.load()
            # Most files have no EXIF block, and transposing costs a copy.
            upright = ImageOps.exif_transpose(image) if image.getexif() else image
            pixels = _eight_bits(upright).convert("L" if channels == 1 else "RGB")
            if pixels.size != (width, height) or crop < 1:
                border = (1 - crop) / 2  # share cut from each of the four sides
                size, bilinear = (width, height), Image.Resampling.BILINEAR
                pixels = ImageOps.fit(pixels, size, bilinear, bleed=border)
    except FileNotFoundError:
        raise
    except UnidentifiedImageError as error:
        raise DataError(
            f"{name}: not an image, or of a format that Pillow does not read"
        ) from error
    except Exception as error:  # Pillow's decoders raise many kinds on damaged files
        raise DataError(f"{name}: not a readable image ({error})") from error
    return np.asarray(pixels).reshape(height, width, channels)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit gray to 8 bits, which `convert` would clip to white instead."""
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))


def decode_all(
    encoded: Iterable[tuple[int, str, bytes]], count: int, image_shape: tuple[int, int, int]
) -> np.ndarray:
    """Decode (row, name, file bytes) triples into (count, H, W, C) uint8, image `row` at `row`.

    Some hundred files at a time, so that no more are in memory undecoded. Threads decode them
    (Pillow releases the interpreter lock) unless they are so small that the lock is all they see.

    Raises:
        DataError: an image is damaged (its name is in the message), or `count` rows did not come.
    """
    images = np.empty((count, *image_shape), np.uint8)
    filled = 0

    def decode(item: tuple[int, str, bytes]) -> None:
        row, name, data = item
        images[row] = read_image(data, image_shape, name=name)

    stream = iter(encoded)
    with ThreadPoolExecutor(max_workers=cpu_count()) as pool:
        while chunk := list(islice(stream, 512)):
            small = sum(len(data) for _, _, data in chunk) < 4096 * len(chunk)
            for _ in map(decode, chunk) if small else pool.map(decode, chunk):
                filled += 1
    if filled != count:
        raise DataError(f"{filled} images were read; expected {count}")
    return images

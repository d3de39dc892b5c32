"""From image files to uint8 pixels on the host, one by one or many by threads, damaged ones told.

Images are fitted as torchvision's Resize of the shorter side and CenterCrop do, to the bit: both
with its rounding to whole pixels, in Pillow's bilinear
(https://docs.pytorch.org/vision/stable/transforms.html).
"""

import io
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from os import PathLike, cpu_count
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from jaxcnn.data.dataset import DataError, check_image_shape

_CHUNK = 512  # files in memory at a time
_ELONGATED = 16  # times as long as asked for: what is cut off is not resized first, it may be huge


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

    `crop` is the share of the shorter side that the centre crop keeps: at (224, 224), 1 is
    torchvision's Resize(224) and CenterCrop(224), to the bit (but for images 16 times as long
    as wide, which are not resized whole); 0.875 is its evaluation transform,
    Resize(256) and CenterCrop(224), but for its rounding to whole pixels in between.

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
            scales = pixels.width / width, pixels.height / height
            if crop < 1 or max(scales) > _ELONGATED * min(scales):
                border = (1 - crop) / 2  # share cut from each of the four sides
                size, bilinear = (width, height), Image.Resampling.BILINEAR
                pixels = ImageOps.fit(pixels, size, bilinear, bleed=border)
            elif pixels.size != (width, height):
                pixels = _resized_and_cropped(pixels, height, width)
    except FileNotFoundError:
        raise
    except UnidentifiedImageError as error:
        raise DataError(
            f"{name}: not an image, or of a format that Pillow does not read"
        ) from error
    except Exception as error:  # Pillow's decoders raise many kinds on damaged files
        raise DataError(f"{name}: not a readable image ({error})") from error
    return np.asarray(pixels).reshape(height, width, channels)


def center_crop_start(size: int, wanted: int) -> int:
    """Return the first of the `wanted` middle pixels of `size`, as torchvision's CenterCrop does.

    Half a pixel is rounded to the even number.
    """
    return int(round((size - wanted) / 2.0))


def _resized_and_cropped(pixels: Image.Image, height: int, width: int) -> Image.Image:
    """Resize the side that fits tighter to `height` or `width`; cut the centre from the other."""
    w, h = pixels.size
    # The longer side is rounded down, as torchvision's Resize does.
    size = (width, width * h // w) if w * height <= h * width else (height * w // h, height)
    left, top = center_crop_start(size[0], width), center_crop_start(size[1], height)
    resized = pixels.resize(size, Image.Resampling.BILINEAR)
    return resized.crop((left, top, left + width, top + height))


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit gray to 8 bits, which `convert` would clip to white instead."""
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))


def read_file(path: Path, name: str) -> bytes | DataError:
    """Return a file's bytes, or as `decode_all` takes it the error that reading it met.

    A link to nothing is such a file. `name` is what the error calls it.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        return DataError(f"{name}: cannot be read ({error.strerror or error})")


def decode_all(
    encoded: Iterable[tuple[int, str, bytes | DataError]],
    count: int,
    image_shape: tuple[int, int, int],
) -> tuple[np.ndarray, dict[int, str]]:
    """Decode (row, name, file bytes) triples into (count, H, W, C) uint8, image `row` at `row`.

    Some hundred files at a time, so that no more are in memory undecoded. Threads decode them
    (Pillow releases the interpreter lock) unless they are so small that the lock is all they see.

    Args:
        encoded: the files, in any order; in place of the bytes the error that reading them met.
        count: how many rows there are.
        image_shape: (H, W, C) that `read_image` is given.

    Returns:
        The images, and of damaged files the row and what is wrong, the name in front; their
        images are not set.

    Raises:
        DataError: `count` rows did not come.
    """
    images = np.empty((count, *image_shape), np.uint8)
    damaged: dict[int, str] = {}
    seen = 0

    def decode(item: tuple[int, str, bytes | DataError]) -> None:
        row, name, data = item
        try:
            if isinstance(data, DataError):
                raise data
            images[row] = read_image(data, image_shape, name=name)
        except DataError as error:
            damaged[row] = str(error)

    stream = iter(encoded)
    with ThreadPoolExecutor(max_workers=cpu_count()) as pool:
        while chunk := list(islice(stream, _CHUNK)):
            size = sum(len(data) for _, _, data in chunk if isinstance(data, bytes))
            small = size < 4096 * len(chunk)
            for _ in map(decode, chunk) if small else pool.map(decode, chunk):
                seen += 1
    if seen != count:
        raise DataError(f"{seen} images were read; expected {count}")
    return images, damaged

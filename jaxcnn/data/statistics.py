"""Mean and standard deviation of a data set's channels, computed exactly and kept in the cache.

What `make_preprocess` takes as its normalization for a set of one's own, as ImageNet's is for
ImageNet: LeCun, Bottou, Orr and Mueller, 1998, "Efficient BackProp", section 4.3.
"""

import hashlib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxcnn.data import cache
from jaxcnn.data.dataset import Arrays, DataError, Files
from jaxcnn.data.readers import Workers
from jaxcnn.data.stream import decoded
from jaxcnn.files import cache_root

Statistics = tuple[tuple[float, ...], tuple[float, ...]]


def channel_statistics(
    split: Arrays | Files, *, batch_size: int = 256, workers: Workers = 0
) -> Statistics:
    """Return the mean and the standard deviation of every channel, of pixels in [0, 1].

    Counted in whole numbers, the sums are exact however many pixels there are, and the results
    right to the last digits of float64. The deviation is the population's, over all pixels of all
    images. `Files` are decoded batch by batch. (`jaxcnn.standardize.channel_statistics` is for
    arrays of floats.)

    Args:
        split: the training split; uint8 images (N, H, W, C), in memory or as files.
        batch_size: images looked at together.
        workers: what decodes `Files`: processes (0: threads of this one, None: a process a core),
            or readers of `jaxcnn.data.readers`.

    Returns:
        mean and standard deviation, each (C,) floats: the `normalization` of `make_preprocess`,
        the arguments of torchvision.transforms.Normalize.

    Raises:
        DataError: an empty split, images that are not uint8, a batch size below 1, a damaged file.
    """
    if len(split) == 0:
        raise DataError("channel_statistics: the split has no images")
    if batch_size < 1:
        raise DataError(f"channel_statistics: batch_size={batch_size}: expected 1 or more")
    counts = sum(_histogram(images) for images in _batches(split, batch_size, workers))
    mean, std = [], []
    for channel in np.asarray(counts).tolist():  # Python's integers do not overflow
        number = sum(channel)
        total = sum(value * count for value, count in enumerate(channel))
        squares = sum(value * value * count for value, count in enumerate(channel))
        mean.append(total / (255 * number))
        std.append(math.sqrt(number * squares - total * total) / (255 * number))
    return tuple(mean), tuple(std)


def cached_statistics(
    split: Arrays | Files,
    cache_dir: Path | None = None,
    *,
    batch_size: int = 256,
    workers: Workers = 0,
) -> Statistics:
    """Return `channel_statistics` of a split, computed once and kept in the cache.

    Kept under a digest of the pixels or, of `Files`, of their names, sizes, modification times and
    `image_shape`; computed again where that changes, or where the kept file is damaged.

    Args:
        split: as `channel_statistics` takes it.
        cache_dir: where it is kept; None is $XDG_CACHE_HOME/jaxcnn or ~/.cache/jaxcnn.
        batch_size: as `channel_statistics` takes it.
        workers: as `channel_statistics` takes it.

    Raises:
        DataError: as `channel_statistics`.
        OSError: a file of the split is not there.
    """
    key = fingerprint(split)
    path = cache_root(cache_dir) / f"statistics-{key[:24]}.json"
    if (stored := _checked(cache.read_json(path, key))) is not None:
        return stored
    mean, std = channel_statistics(split, batch_size=batch_size, workers=workers)
    cache.write_json(path, key, {"mean": mean, "std": std})
    return mean, std


def _batches(split: Arrays | Files, batch_size: int, workers: Workers) -> Iterator[np.ndarray]:
    if isinstance(split, Arrays):
        images = np.asarray(split.images)
        if images.dtype != np.uint8:
            raise DataError(f"channel_statistics: images must be uint8, got {images.dtype}")
        yield from (images[i : i + batch_size] for i in range(0, len(images), batch_size))
    else:
        for batch in decoded(split, np.arange(len(split)), batch_size, workers):
            yield batch["images"]


def _histogram(images: np.ndarray) -> np.ndarray:
    """Count the pixels of every value: (C, 256)."""
    channels = range(images.shape[-1])
    return np.stack([np.bincount(images[..., c].ravel(), minlength=256) for c in channels])


def fingerprint(split: Arrays | Files) -> str:
    """Digest a split's pixels or, of `Files`, their names, sizes, times and decoded size."""
    if isinstance(split, Files):
        files = ((os.path.abspath(path), os.stat(path)) for path in split.paths)
        return cache.fingerprint(files, f"{split.image_shape}")
    images = np.ascontiguousarray(split.images)
    digest = hashlib.sha256(f"{images.shape} {images.dtype}\n".encode())
    digest.update(images.data)
    return digest.hexdigest()


def _checked(content: Any) -> Statistics | None:
    """Return what was kept; None unless it is one mean and one deviation a channel."""
    try:
        mean, std = tuple(content["mean"]), tuple(content["std"])
        in_range = all(0 <= value <= 1 for value in mean + std)
    except (TypeError, KeyError):
        return None
    return (mean, std) if in_range and len(mean) == len(std) > 0 else None

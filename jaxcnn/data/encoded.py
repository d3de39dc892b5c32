"""Sources of encoded images (folders, archives, TFDS): decoded once and kept, or streamed.

Sets whose images take no more than `STREAM_LIMIT` decoded become `Arrays`, decoded by threads and
kept in the cache. Larger ones become `Files`; what is not a directory of files yet is unpacked into
the cache for it.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxcnn.data import cache
from jaxcnn.data.dataset import Arrays, DataError, Files, check_classes, hold_out
from jaxcnn.data.preprocess import decode_all
from jaxcnn.files import cache_root

STREAM_LIMIT = 2 * 1024**3  # bytes of decoded images, all splits together
UNDIVIDED = "all"  # the one split of a source that has no test split

Splits = dict[str, Arrays] | dict[str, Files]


class Listing(NamedTuple):
    """The images of a source: per split ("train" and "test", or "all") their names and labels."""

    class_names: tuple[str, ...]
    names: dict[str, list[str]]
    labels: dict[str, np.ndarray]


class Encoded(NamedTuple):
    """Where encoded images come from.

    name: what errors call it; path, key: its place and fingerprint, None where it cannot be kept;
    list: returns the Listing; read: names to (name, file bytes) pairs, in any order;
    directory: where the names are files already, else None.
    `list` is called at most once and before `read`, neither where the cache serves.
    """

    name: str
    path: Path
    key: str | None
    list: Callable[[], Listing]
    read: Callable[[Iterable[str]], Iterator[tuple[str, bytes]]]
    directory: Path | None


def load_encoded(
    source: Encoded,
    image_shape: tuple[int, int, int],
    *,
    seed: int,
    holdout: float,
    cache_dir: Path | None,
    stream: bool | None,
) -> tuple[tuple[str, ...], Any, Any]:
    """Return class names, train split and test split at `image_shape` (H, W, C).

    `stream` True makes `Files`, False `Arrays`, None decides by `STREAM_LIMIT`. `seed` and
    `holdout` divide a source without a test split.

    Raises:
        DataError: what `source` raises, a damaged image, classes that differ between the splits.
    """
    class_names, splits = _load_splits(source, image_shape, cache_root(cache_dir), stream)
    if UNDIVIDED in splits:
        undivided = splits[UNDIVIDED]
        train, test = hold_out(source.name, undivided, class_names, seed=seed, holdout=holdout)
    else:
        train, test = splits["train"], splits["test"]
    return class_names, train, test


def _load_splits(
    source: Encoded, image_shape: tuple[int, int, int], root: Path, stream: bool | None
) -> tuple[tuple[str, ...], Splits]:
    variant = "x".join(map(str, image_shape)) + ".npz"
    arrays_path = cache.cache_path(root, source.path, variant)
    files_path = cache.cache_path(root, source.path, "files")
    if source.key is not None:
        if not stream and (stored := cache.read_arrays(arrays_path, source.key)) is not None:
            return _unflatten(stored)
        if stream and (index := cache.read_directory(files_path, source.key)) is not None:
            return _as_files(Listing(**index), files_path, image_shape)

    listing = source.list()
    _check_listing(source.name, listing)
    count = sum(len(names) for names in listing.names.values())
    if stream is None:
        stream = count * int(np.prod(image_shape)) > STREAM_LIMIT
    if not stream:
        splits = {
            split: Arrays(_decode(source, names, image_shape), listing.labels[split])
            for split, names in listing.names.items()
        }
        if source.key is not None:
            cache.write_arrays(arrays_path, source.key, _flatten(listing.class_names, splits))
        return listing.class_names, splits
    if source.directory is not None:
        return _as_files(listing, source.directory, image_shape)
    return _as_files(_unpack(source, listing, files_path), files_path, image_shape)


def _check_listing(source: str, listing: Listing) -> None:
    """Check labels and classes before anything is decoded."""
    labels = listing.labels
    train, test = (UNDIVIDED, UNDIVIDED) if UNDIVIDED in labels else ("train", "test")
    check_classes(source, listing.class_names, labels[train], labels[test])


def _decode(source: Encoded, names: list[str], image_shape: tuple[int, int, int]) -> np.ndarray:
    rows = {name: row for row, name in enumerate(names)}
    encoded = ((rows[name], f"{source.name}: {name}", data) for name, data in source.read(names))
    return decode_all(encoded, len(names), image_shape)


def _unpack(source: Encoded, listing: Listing, path: Path) -> Listing:
    """Write the encoded images as files of `path`, under names of our own; return their listing.

    Raises:
        DataError: the cache is not writable or full.
    """
    wanted = list(chain.from_iterable(listing.names.values()))
    kept = {name: cache.file_name(position, name) for position, name in enumerate(wanted)}
    names = {split: [kept[n] for n in names] for split, names in listing.names.items()}
    index = {
        "class_names": listing.class_names,
        "names": names,
        "labels": {split: labels.tolist() for split, labels in listing.labels.items()},
    }
    try:
        files = ((kept[name], data) for name, data in source.read(wanted))
        cache.write_directory(path, source.key or "", index, files)
    except OSError as error:
        raise DataError(
            f"{source.name}: streaming needs it unpacked in {path} ({error}); unpack it yourself "
            "or choose another place with cache_dir or XDG_CACHE_HOME"
        ) from error
    return listing._replace(names=names)


def _as_files(
    listing: Listing, directory: Path, image_shape: tuple[int, int, int]
) -> tuple[tuple[str, ...], Splits]:
    splits = {
        split: Files(
            tuple(str(directory / name) for name in names),
            np.asarray(listing.labels[split], np.int32),
            image_shape,
        )
        for split, names in listing.names.items()
    }
    return tuple(listing.class_names), splits


def _flatten(class_names: tuple[str, ...], splits: dict[str, Arrays]) -> dict[str, np.ndarray]:
    """Name every array for the .npz file, as "train_images"."""
    stored = {"class_names": np.array(class_names)}
    for split, arrays in splits.items():
        stored[f"{split}_images"] = np.asarray(arrays.images)
        stored[f"{split}_labels"] = np.asarray(arrays.labels)
    return stored


def _unflatten(stored: dict[str, np.ndarray]) -> tuple[tuple[str, ...], Splits]:
    splits = {
        split: Arrays(stored[f"{split}_images"], stored[f"{split}_labels"])
        for split in ("train", "test", UNDIVIDED)
        if f"{split}_images" in stored
    }
    return tuple(str(name) for name in stored["class_names"]), splits

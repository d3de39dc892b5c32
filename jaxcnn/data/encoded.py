"""Sources of encoded images (folders, archives, TFDS): decoded once and kept, or streamed.

Sets whose images take no more than `STREAM_LIMIT` decoded become `Arrays`, decoded by threads and
kept in the cache. Larger ones become `Files`; what is not a directory of files yet is unpacked into
the cache for it.

Damaged files are one error that lists them or, if asked, left out and listed. Only what Pillow's
decoders notice is damage: a JPEG whose pixels were overwritten is a picture still.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxcnn.data import cache
from jaxcnn.data.dataset import Arrays, DataError, Files, check_classes, hold_out
from jaxcnn.data.decode import decode_all, read_file
from jaxcnn.files import cache_root
from jaxcnn.progress import say

STREAM_LIMIT = 2 * 1024**3  # bytes of decoded images, all splits together
UNDIVIDED = "all"  # the one split of a source that has no test split

_LISTED = 20  # damaged files that a message names

Splits = dict[str, Arrays] | dict[str, Files]


class Listing(NamedTuple):
    """The images of a source: per split ("train" and "test", or "all") their names and labels."""

    class_names: tuple[str, ...]
    names: dict[str, list[str]]
    labels: dict[str, np.ndarray]


class Encoded(NamedTuple):
    """Where encoded images come from.

    name: what errors call it; path, key: its place and fingerprint, None where it cannot be kept;
    list: returns the Listing; read: names to (name, file bytes) pairs, in any order, an error in
    place of the bytes where this file alone cannot be read;
    directory: where the names are files already, else None.
    `list` is called at most once and before `read`, neither where the cache serves.
    """

    name: str
    path: Path
    key: str | None
    list: Callable[[], Listing]
    read: Callable[[Iterable[str]], Iterator[tuple[str, bytes | DataError]]]
    directory: Path | None


def load_encoded(
    source: Encoded,
    image_shape: tuple[int, int, int],
    *,
    seed: int,
    holdout: float,
    cache_dir: Path | None,
    stream: bool | None,
    skip_corrupt: bool = False,
) -> tuple[tuple[str, ...], Any, Any]:
    """Return class names, train split and test split at `image_shape` (H, W, C).

    `stream` True makes `Files`, False `Arrays`, None decides by `STREAM_LIMIT`. `seed` and
    `holdout` divide a source without a test split. `skip_corrupt` leaves damaged files out, before
    that, and says which on standard error; for `Files` each is decoded once to find them.

    Raises:
        DataError: what `source` raises, classes that differ between the splits; damaged images,
            all in one message, unless they are skipped or to become `Files`.
    """
    root = cache_root(cache_dir)
    class_names, splits = _load_splits(source, image_shape, root, stream, skip_corrupt)
    if UNDIVIDED in splits:
        undivided = splits[UNDIVIDED]
        train, test = hold_out(source.name, undivided, class_names, seed=seed, holdout=holdout)
    else:
        train, test = splits["train"], splits["test"]
    return class_names, train, test


def _load_splits(
    source: Encoded,
    image_shape: tuple[int, int, int],
    root: Path,
    stream: bool | None,
    skip_corrupt: bool,
) -> tuple[tuple[str, ...], Splits]:
    # What is left of a damaged source is kept apart from what was found whole.
    variant = "x".join(map(str, image_shape)) + ("-skipped" if skip_corrupt else "") + ".npz"
    arrays_path = cache.cache_path(root, source.path, variant)
    files_path = cache.cache_path(root, source.path, "files")
    if source.key is not None:
        if not stream and (stored := cache.read_arrays(arrays_path, source.key)) is not None:
            _say_skipped(source.name, [str(line) for line in stored.pop("damaged", ())])
            return _unflatten(stored)
        if stream and (index := cache.read_directory(files_path, source.key)) is not None:
            listing = Listing(**index)
            if skip_corrupt:
                listing = _without_damaged(source, listing, files_path, root)
            return _as_files(listing, files_path, image_shape)

    listing = source.list()
    _check_listing(source.name, listing)
    count = sum(len(names) for names in listing.names.values())
    if stream is None:
        stream = count * int(np.prod(image_shape)) > STREAM_LIMIT
    if not stream:
        return _decode_and_keep(source, listing, image_shape, arrays_path, skip_corrupt)
    directory = source.directory
    if directory is None:
        directory, listing = files_path, _unpack(source, listing, files_path, skip_corrupt)
    if skip_corrupt:
        listing = _without_damaged(source, listing, directory, root)
    return _as_files(listing, directory, image_shape)


def _check_listing(source: str, listing: Listing) -> None:
    """Check labels and classes before anything is decoded."""
    labels = listing.labels
    train, test = (UNDIVIDED, UNDIVIDED) if UNDIVIDED in labels else ("train", "test")
    check_classes(source, listing.class_names, labels[train], labels[test])


def _decode_and_keep(
    source: Encoded,
    listing: Listing,
    image_shape: tuple[int, int, int],
    path: Path,
    skip_corrupt: bool,
) -> tuple[tuple[str, ...], Splits]:
    """Decode every split and keep them in `path`."""
    images, damaged = {}, {}
    for split, names in listing.names.items():
        rows = {name: row for row, name in enumerate(names)}
        read = ((rows[name], name, data) for name, data in source.read(names))
        images[split], found = decode_all(read, len(names), image_shape)
        damaged |= {names[row]: found[row] for row in sorted(found)}
    lines = list(damaged.values())
    if damaged and not skip_corrupt:
        raise DataError(
            f"{source.name}: {_listed(lines)}\n  skip_corrupt leaves them out (train.py "
            "--skip-corrupt)"
        )
    _say_skipped(source.name, lines)
    for split, names in listing.names.items() if damaged else ():
        images[split] = images[split][[name not in damaged for name in names]]
    listing = _less(source.name, listing, damaged)
    splits = {split: Arrays(images[split], listing.labels[split]) for split in images}
    if source.key is not None:
        stored = _flatten(listing.class_names, splits)
        if damaged:
            stored["damaged"] = np.array(lines)
        cache.write_arrays(path, source.key, stored)
    return listing.class_names, splits


def _without_damaged(source: Encoded, listing: Listing, directory: Path, root: Path) -> Listing:
    """Return the listing less the files below `directory` that cannot be decoded, and say which.

    Which they are is kept in the cache: a source is decoded once to find them.
    """
    path = cache.cache_path(root, source.path, "damaged.json")
    damaged = None if source.key is None else cache.read_json(path, source.key)
    if not isinstance(damaged, dict):
        names = list(chain.from_iterable(listing.names.values()))
        read = ((row, name, read_file(directory / name, name)) for row, name in enumerate(names))
        _, found = decode_all(read, len(names), (1, 1, 3))
        damaged = {names[row]: found[row] for row in sorted(found)}
        if source.key is not None:
            cache.write_json(path, source.key, damaged)
    _say_skipped(source.name, list(damaged.values()))
    return _less(source.name, listing, damaged)


def _less(source: str, listing: Listing, damaged: dict[str, str]) -> Listing:
    """Return the listing without the `damaged` names; every class must have others."""
    if not damaged:
        return listing
    names, labels = {}, {}
    for split, members in listing.names.items():
        whole = [name not in damaged for name in members]
        names[split] = [name for name, kept in zip(members, whole, strict=True) if kept]
        labels[split] = np.asarray(listing.labels[split], np.int32)[whole]
    left = Listing(tuple(listing.class_names), names, labels)
    _check_listing(f"{source}, less {len(damaged)} damaged", left)
    return left


def _say_skipped(source: str, lines: Sequence[str]) -> None:
    if lines:
        say(f"{source}: leaves out {_listed(lines)}")


def _listed(lines: Sequence[str]) -> str:
    """Count damaged images and name the first of them, a line each."""
    more = [f"and {len(lines) - _LISTED} more"] if len(lines) > _LISTED else []
    return "\n  ".join([f"{len(lines)} damaged image(s):", *lines[:_LISTED], *more])


def _unpack(source: Encoded, listing: Listing, path: Path, skip_corrupt: bool) -> Listing:
    """Write the encoded images as files of `path`, under names of our own; return their listing.

    Raises:
        DataError: the cache is not writable or full, or a file cannot be read; with `skip_corrupt`
            that one becomes an empty file.
    """
    wanted = list(chain.from_iterable(listing.names.values()))
    kept = {name: cache.file_name(position, name) for position, name in enumerate(wanted)}
    names = {split: [kept[n] for n in names] for split, names in listing.names.items()}
    index = {
        "class_names": listing.class_names,
        "names": names,
        "labels": {split: labels.tolist() for split, labels in listing.labels.items()},
    }

    def files() -> Iterator[tuple[str, bytes]]:
        for name, data in source.read(wanted):
            if isinstance(data, DataError):
                if not skip_corrupt:
                    raise DataError(f"{source.name}: {data}") from data
                data = b""
            yield kept[name], data

    try:
        cache.write_directory(path, source.key or "", index, files())
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

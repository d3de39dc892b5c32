"""Image folders: `folder:PATH`, a tree of class directories or an archive of one.

Two layouts, told apart by their names, with or without directories that enclose the whole tree:

    train/CLASS/.../IMAGE, test/CLASS/.../IMAGE  ("test", "valid", "val": the first that is there)
    CLASS/.../IMAGE                              (divided by `hold_out`)

Classes are numbered in the order of their names. Hidden files and files that are not images by
their suffix are passed over. Images are decoded by `read_image`.
"""

import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from jaxcnn.data import archive, cache
from jaxcnn.data.dataset import DataError
from jaxcnn.data.decode import read_file
from jaxcnn.data.encoded import UNDIVIDED, Encoded, Listing

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff")
_TEST_SPLITS = ("test", "valid", "val")


def open_folder(path: Path) -> Encoded:
    """Describe a directory or an archive of images for `load_encoded`.

    Raises:
        FileNotFoundError: there is no such path.
        DataError: the path is neither a directory nor an archive.
    """
    if path.is_dir():
        return _open_directory(path)
    if not path.exists():
        raise FileNotFoundError(f"folder:{path}: no such directory or archive")
    if not path.name.lower().endswith(archive.SUFFIXES):
        expected = ", ".join(archive.SUFFIXES)
        raise DataError(f"folder:{path}: expected a directory or an archive ({expected})")
    return _open_archive(path)


def _open_directory(path: Path) -> Encoded:
    files, directories = walk(path)
    return Encoded(
        name=f"folder:{path}",
        path=path,
        key=cache.fingerprint(sorted(files.items())),
        list=partial(read_layout, f"folder:{path}", files, directories),
        read=lambda names: ((name, read_file(path / name, name)) for name in names),
        directory=path.absolute(),
    )


def _open_archive(path: Path) -> Encoded:
    members: dict[str, archive.Member] = {}

    def listing() -> Listing:
        files, directories = archive.list_members(path)
        members.update(files)
        return read_layout(f"folder:{path}", files, directories)

    return Encoded(
        name=f"folder:{path}",
        path=path,
        key=cache.fingerprint([(path.name, path.stat())]),
        list=listing,
        read=partial(archive.read_members, path, members),
        directory=None,
    )


def walk(root: Path) -> tuple[dict[str, os.stat_result], set[str]]:
    """Return image files (with their stat) and directories below `root`, by relative posix name."""
    files, directories = {}, set()
    for parent, folders, names in os.walk(root, followlinks=True):
        here = Path(parent)
        directories.update((here / name).relative_to(root).as_posix() for name in folders)
        for name in names:
            if name.lower().endswith(SUFFIXES):
                path = here / name
                # A link to nothing is a damaged file, of which reading will tell.
                stat = path.stat() if path.exists() else path.lstat()
                files[path.relative_to(root).as_posix()] = stat
    return files, directories


def read_layout(source: str, files: Iterable[str], directories: Iterable[str]) -> Listing:
    """Tell splits, classes and images from relative names, as "train/cat/1.jpg" or "cat/1.jpg".

    `directories` tell of classes without a file. `source` is for the errors.

    Raises:
        DataError: no images, an image outside a class directory, "train" without a test split or
            the other way round.
    """
    images = image_parts(source, files)
    folders = [parts for parts in map(_parts, directories) if parts]
    root = _enclosing(images)
    top = {parts[len(root)] for parts in images + folders if _inside(parts, root)}
    tests = [name for name in _TEST_SPLITS if name in top]
    if "train" in top and tests:
        roots = {"train": (*root, "train"), "test": (*root, tests[0])}
    elif "train" in top or tests:
        raise DataError(
            f"{source}: found {', '.join(sorted(top))}; expected 'train' and one of "
            f"{', '.join(_TEST_SPLITS)}, or class directories alone"
        )
    else:
        roots = {UNDIVIDED: root}
    splits = {split: _classes(source, prefix, images, folders) for split, prefix in roots.items()}
    class_names = tuple(sorted(set().union(*splits.values())))
    names, labels = {}, {}
    for split, classes in splits.items():
        members = [(n, label) for label, c in enumerate(class_names) for n in classes.get(c, [])]
        names[split] = [name for name, _ in members]
        labels[split] = np.array([label for _, label in members], np.int32)
    return Listing(class_names, names, labels)


def image_parts(source: str, files: Iterable[str]) -> list[tuple[str, ...]]:
    """Return the components of the names of images among `files`, sorted, hidden ones left out.

    Raises:
        DataError: there is none; `source` is what it calls their place.
    """
    images = [_parts(name) for name in sorted(files) if name.lower().endswith(SUFFIXES)]
    images = [parts for parts in images if parts]
    if not images:
        raise DataError(f"{source}: no images in it (files named {', '.join(SUFFIXES)})")
    return images


def _parts(name: str) -> tuple[str, ...]:
    """Split a name at its slashes; () for hidden files, and for what macOS adds to archives."""
    parts = PurePosixPath(name).parts
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return () if hidden else parts


def _inside(parts: tuple[str, ...], root: tuple[str, ...]) -> bool:
    return len(parts) > len(root) and parts[: len(root)] == root


def _enclosing(images: list[tuple[str, ...]]) -> tuple[str, ...]:
    """Return the directories that hold everything, above the splits or classes."""
    root: tuple[str, ...] = ()
    shallowest = min(len(parts) for parts in images)
    # Two levels have to be left, the class and the image.
    while shallowest > len(root) + 2:
        top = {parts[len(root)] for parts in images}
        if len(top) > 1 or top & {"train", *_TEST_SPLITS}:
            break
        root += (top.pop(),)
    return root


def _classes(
    source: str,
    root: tuple[str, ...],
    images: list[tuple[str, ...]],
    folders: list[tuple[str, ...]],
) -> dict[str, list[str]]:
    """Return the names of the images of each class directory below `root`."""
    depth = len(root)
    inside = (parts for parts in folders if _inside(parts, root) and len(parts) == depth + 1)
    classes: dict[str, list[str]] = {parts[depth]: [] for parts in inside}
    for parts in images:
        if not _inside(parts, root):
            continue
        name = "/".join(parts)
        if len(parts) < depth + 2:
            raise DataError(f"{source}: {name} is not in a class directory")
        classes.setdefault(parts[depth], []).append(name)
    return classes

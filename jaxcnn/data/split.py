"""A folder of images divided once and for all into `train/CLASS/...` and `valid/CLASS/...`.

For sets that come flat, as the photographs of Kaggle's cats and dogs (`cat.0.jpg`, `dog.1.jpg`), or
in class folders without a test split. Nothing is copied unless asked: the default are links.
"""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from jaxcnn.data.dataset import DataError, held_out
from jaxcnn.data.encoded import UNDIVIDED, Listing
from jaxcnn.data.folder import image_parts, read_layout, walk

ClassFrom = Literal["prefix", "parent"]
How = Literal["symlink", "hardlink", "copy", "move"]

# Of every class its images: their names below the source, and below the class.
Classes = dict[str, list[tuple[str, str]]]

_LISTED = 20  # files that an error names


def split_folder(
    source: Path,
    dest: Path,
    *,
    holdout: float,
    seed: int = 0,
    class_from: ClassFrom | None = None,
    how: How = "symlink",
) -> dict[str, tuple[int, int]]:
    """Divide the images below `source` into `dest`/train/CLASS and `dest`/valid/CLASS.

    What `load("folder:DEST", ...)` takes, and the division that it makes itself of class folders
    at the same `seed` and `holdout`. `dest` appears when it is complete; an error or Ctrl-C before
    that leaves everything as it was. Images of class folders keep their places below them; hidden
    files and what is no image by its name stay behind.

    Args:
        source: a folder of images, or of class folders.
        dest: does not exist or is empty, is not below `source`; its parent is there.
        holdout: the share of each class that becomes valid, in (0, 1) or, an int, how many images
            in all, in the classes' proportions.
        seed: decides which.
        class_from: "prefix" takes the class from the file's name: the text before the first dot
            (cat.0.jpg), else that before the number at the end (cat_001.jpg, cat-1.jpg, cat 1.jpg,
            cat1.jpg, cat (1).jpg); "parent" from the folder; None the first where images lie
            directly in `source`, else the second.
        how: links to the files, hard links, copies with their times; or they are moved, which
            deletes the originals when `dest` is complete and leaves empty folders.

    Returns:
        Of every class how many images are in train and in valid.

    Raises:
        FileNotFoundError: no folder `source`, or none that `dest` is to be in.
        DataError: a `dest` that is not as above; `holdout` out of range; names that do not tell a
            class, all in one message; fewer than two classes, or two images of one.
        OSError: files cannot be written, or not linked in that place.
    """
    source, dest = source.absolute(), dest.absolute()
    _check_places(source, dest)
    classes = _classes(source, class_from)
    if len(classes) < 2:
        raise DataError(f"{source}: all images are of class {min(classes)!r}; expected 2 or more")
    names = sorted(classes)
    labels = np.repeat(np.arange(len(names)), [len(classes[name]) for name in names])
    held = held_out(str(source), labels, names, seed=seed, holdout=holdout, purpose="validation")
    images = [(name, image) for name in names for image in classes[name]]
    placed = {}
    for (name, (path, inside)), valid in zip(images, held, strict=True):
        placed[f"{'valid' if valid else 'train'}/{name}/{inside}"] = source / path
    _place(placed, dest, how)
    counts = [np.bincount(labels[side], minlength=len(names)) for side in (~held, held)]
    return {name: (int(t), int(v)) for name, t, v in zip(names, *counts, strict=True)}


def _check_places(source: Path, dest: Path) -> None:
    if not source.is_dir():
        raise FileNotFoundError(f"{source}: no such folder of images")
    if dest.resolve().is_relative_to(source.resolve()):
        raise DataError(f"{dest} is in {source}; expected a place outside of it")
    if dest.is_symlink() or (dest.exists() and (not dest.is_dir() or any(dest.iterdir()))):
        raise DataError(f"{dest} is there already; expected a new or an empty folder")
    if not dest.parent.is_dir():
        raise FileNotFoundError(f"{dest.parent}: no such folder to put {dest.name} in")


def _classes(source: Path, class_from: ClassFrom | None) -> Classes:
    """Return the images of every class, in the order of their names."""
    files, directories = walk(source)
    images = image_parts(str(source), files)
    flat = [parts[0] for parts in images if len(parts) == 1]
    if class_from is None:
        class_from = "prefix" if flat else "parent"
    if class_from == "prefix":
        deeper = ["/".join(parts) for parts in images if len(parts) > 1]
        if deeper:
            raise DataError(
                f"{source}: images in folders, where the class is to come from the names of files "
                f"directly in it:{_listed(deeper)}"
            )
        return _by_prefix(source, flat)
    if flat:
        raise DataError(f"{source}: images that are in no class folder:{_listed(flat)}")
    return _by_folder(source, read_layout(str(source), files, directories))


def _by_prefix(source: Path, names: list[str]) -> Classes:
    unknown = [name for name in names if _prefix(name) is None]
    if unknown:
        raise DataError(
            f"{source}: names that do not tell a class, as cat.0.jpg or cat_001.jpg do:"
            f"{_listed(unknown)}"
        )
    classes: Classes = {}
    for name in names:
        classes.setdefault(_prefix(name) or "", []).append((name, name))
    return classes


def _by_folder(source: Path, listing: Listing) -> Classes:
    if UNDIVIDED not in listing.names:
        raise DataError(f"{source}: is divided into train and test already")
    paths = listing.names[UNDIVIDED]
    labels: list[int] = listing.labels[UNDIVIDED].tolist()
    empty = [name for i, name in enumerate(listing.class_names) if i not in set(labels)]
    if empty:
        raise DataError(f"{source}: class folders without an image:{_listed(empty)}")
    # Below what encloses them all, the names of images begin with their class.
    root = PurePosixPath(os.path.commonpath(paths) if len(listing.class_names) > 1 else "")
    classes: Classes = {}
    for path, label in zip(paths, labels, strict=True):
        name = listing.class_names[label]
        classes.setdefault(name, []).append((path, path.removeprefix(f"{root / name}/")))
    return classes


def _prefix(name: str) -> str | None:
    """Return the class that a file's name begins with, None where it does not tell."""
    stem = PurePosixPath(name).stem
    prefix, dot, _ = stem.partition(".")
    if not dot:
        prefix = stem.rstrip("0123456789_-() ")
        if not any(letter.isdigit() for letter in stem[len(prefix) :]):
            return None
    return prefix if any(letter.isalpha() for letter in prefix) else None


def _listed(names: list[str]) -> str:
    more = [f"and {len(names) - _LISTED} more"] if len(names) > _LISTED else []
    return "".join(f"\n  {name}" for name in [*names[:_LISTED], *more])


def _place(placed: dict[str, Path], dest: Path, how: How) -> None:
    """Build the tree beside `dest` and rename it: there is a whole one or none."""
    put: Callable[[Path, Path], object] = {
        "symlink": lambda path, new: new.symlink_to(path),
        "hardlink": lambda path, new: new.hardlink_to(path.resolve()),
        "copy": shutil.copy2,
        "move": _link_or_copy,
    }[how]
    with tempfile.TemporaryDirectory(dir=dest.parent, prefix=f".{dest.name}-") as temporary:
        tree = Path(temporary, dest.name)
        tree.mkdir()  # with the permissions that the user's folders have, unlike `temporary`
        for name, path in placed.items():
            new = tree / name
            new.parent.mkdir(parents=True, exist_ok=True)
            put(path, new)
        if dest.exists():
            dest.rmdir()  # empty; not every system renames onto one
        tree.rename(dest)
    if how == "move":
        for path in placed.values():
            path.unlink()


def _link_or_copy(path: Path, new: Path) -> None:
    try:
        new.hardlink_to(path.resolve())
    except OSError:  # another file system, or one without hard links
        shutil.copy2(path, new)

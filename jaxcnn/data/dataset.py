"""What every source becomes: class names, a train split, a test split, perhaps a validation split.

A split is `Arrays` (all images in memory as uint8) or `Files` (paths, decoded batch by batch by
worker processes). The checks that every source shares are here too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import jax


class DataError(ValueError):
    """Data that cannot be used; the message names the file or argument and what was expected."""


@dataclass(frozen=True, eq=False)
class Arrays:
    """A split held in memory, on the host or (after `jaxcnn.data.to_device`) on the device.

    images: (N, H, W, C) uint8, at the source's own size, or features (N, ...), floating, that were
    computed from them; labels: (N,) int32.
    """

    images: np.ndarray | jax.Array
    labels: np.ndarray | jax.Array

    def __len__(self) -> int:
        return self.labels.shape[0]


@dataclass(frozen=True, eq=False)
class Files:
    """A split larger than memory: image files, decoded to `image_shape` (H, W, C) when needed.

    paths: N file names; labels: (N,) int32 on the host.
    """

    paths: tuple[str, ...]
    labels: np.ndarray
    image_shape: tuple[int, int, int]

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A source, loaded: `class_names[label]` names the class of every split's labels."""

    source: str
    class_names: tuple[str, ...]
    train: Arrays | Files
    test: Arrays | Files
    validation: Arrays | Files | None = None

    @property
    def watched(self) -> tuple[str, Arrays | Files]:
        """What is evaluated while training, with its name: validation, without one test."""
        if self.validation is None:
            return "test", self.test
        return "validation", self.validation


def take(split: Arrays | Files, indices: np.ndarray) -> Arrays | Files:
    """Return the examples at `indices` ((M,) integers), in that order."""
    if isinstance(split, Arrays):
        return Arrays(split.images[indices], split.labels[indices])
    paths = tuple(split.paths[i] for i in indices)
    return Files(paths, split.labels[indices], split.image_shape)


def hold_out(
    source: str,
    split: Any,
    class_names: Sequence[str],
    *,
    seed: int,
    holdout: float,
    purpose: str = "test",
) -> tuple[Any, Any]:
    """Divide a split as `held_out` says; both sides keep the source's order."""
    labels = np.asarray(split.labels)
    held = held_out(source, labels, class_names, seed=seed, holdout=holdout, purpose=purpose)
    return take(split, np.flatnonzero(~held)), take(split, np.flatnonzero(held))


def held_out(
    source: str,
    labels: np.ndarray,
    class_names: Sequence[str],
    *,
    seed: int,
    holdout: float,
    purpose: str = "test",
) -> np.ndarray:
    """Draw what is held out for testing, or for `purpose`: (N,) bool for labels (N,).

    `holdout` is a fraction in (0, 1) of each class or, an int, how many in all, in the classes'
    proportions. The draw is a pure function of the labels, `seed` and `holdout`; at least one image
    of each class goes to either side.

    Raises:
        DataError: `holdout` out of range, or a class of fewer than two images, so that it cannot
            be on both sides.
    """
    members = [np.flatnonzero(labels == label) for label in range(len(class_names))]
    sizes = np.array([len(rows) for rows in members])
    most = len(labels) - len(class_names)
    if isinstance(holdout, int):
        if not len(class_names) <= holdout <= most:
            raise DataError(
                f"holdout={holdout}: expected {len(class_names)} (one of each class) to {most} of "
                f"the {len(labels)} images of {source}, or a fraction between 0 and 1"
            )
    elif not 0 < holdout < 1:
        raise DataError(f"holdout={holdout}: expected a fraction between 0 and 1")
    for name, size in zip(class_names, sizes, strict=True):
        if size < 2:
            raise DataError(
                f"{source}: class {name!r} has {size} image(s); dividing it into train and "
                f"{purpose} takes 2 or more"
            )
    held = np.zeros(len(labels), dtype=bool)
    for label, count in enumerate(_held_counts(sizes, holdout)):
        held[np.random.default_rng([seed, label]).permutation(members[label])[:count]] = True
    return held


def _held_counts(sizes: np.ndarray, holdout: float) -> list[int]:
    """Return how many of each class are held out, at least one on either side."""
    if not isinstance(holdout, int):
        return [min(max(round(holdout * int(size)), 1), int(size) - 1) for size in sizes]
    shares = holdout * sizes / sizes.sum()
    counts = np.clip(np.floor(shares).astype(int), 1, sizes - 1)
    while (missing := holdout - counts.sum()) != 0:
        # One more of the class furthest below its share, or one less of that furthest above.
        step = 1 if missing > 0 else -1
        able = counts < sizes - 1 if step > 0 else counts > 1
        counts[np.argmax(np.where(able, step * (shares - counts), -np.inf))] += step
    return counts.tolist()


def draw(source: str, split: Any, class_names: Sequence[str], *, seed: int, examples: int) -> Any:
    """Draw a split's `examples` at random, as many of each class, in the source's order.

    Classes that have fewer give all of theirs, the others make up for it. The draw is a pure
    function of the labels, `seed` and `examples`; a larger one holds every smaller one.

    Raises:
        DataError: more examples than there are, or fewer than classes.
    """
    if not len(class_names) <= examples <= len(split):
        raise DataError(
            f"examples={examples}: expected {len(class_names)} (one of each class) to {len(split)} "
            f"(the training images of {source})"
        )
    labels = np.asarray(split.labels)
    turn = np.empty(len(labels), np.int64)
    for label in range(len(class_names)):
        members = np.flatnonzero(labels == label)
        turn[members] = np.random.default_rng([seed, label]).permutation(len(members))
    # All that are their class' first, then all that are its second, ...
    return take(split, np.sort(np.lexsort((labels, turn))[:examples]))


def divide(dataset: Dataset, *, seed: int, validation: float, examples: int | None) -> Dataset:
    """Return a data set with a validation split, and a train split of so many examples.

    Args:
        dataset: without a validation split.
        seed: decides which examples go where.
        validation: share of every class of the train split that becomes the validation split; 0
            for none.
        examples: how many of the rest stay, as many of each class (see `draw`); None for all.

    Raises:
        DataError: an argument out of range, or a class with too few images.
    """
    if not 0 <= validation < 1:
        raise DataError(f"validation={validation}: expected at least 0 and below 1")
    source, names, train, held = dataset.source, dataset.class_names, dataset.train, None
    if validation:
        train, held = hold_out(
            source, train, names, seed=seed, holdout=validation, purpose="validation"
        )
    if examples is not None:
        train = draw(source, train, names, seed=seed, examples=examples)
    return replace(dataset, train=train, validation=held)


def check_image_shape(image_shape: Sequence[int]) -> tuple[int, int, int]:
    """Return `image_shape` as (H, W, C), or raise a DataError: positive sizes, 1 or 3 channels."""
    shape = tuple(int(size) for size in image_shape)
    if len(shape) != 3 or min(shape) < 1 or shape[2] not in (1, 3):
        raise DataError(
            f"image_shape={tuple(image_shape)}: expected (height, width, channels), channels 1 or 3"
        )
    return shape


def check_labels(source: str, class_names: Sequence[str], labels: np.ndarray) -> None:
    """Raise a DataError unless every label is one of 0 .. len(class_names) - 1."""
    wrong = np.flatnonzero((labels < 0) | (labels >= len(class_names)))
    if len(wrong):
        raise DataError(
            f"{source}: label {labels[wrong[0]]} of image {wrong[0]} is out of range; expected "
            f"0 to {len(class_names) - 1} for {len(class_names)} classes"
        )


def check_classes(
    source: str, class_names: Sequence[str], train: np.ndarray, test: np.ndarray
) -> None:
    """Raise a DataError unless both splits have images of every class (labels (N,), (M,))."""
    for split, labels in (("train", train), ("test", test)):
        if len(labels) == 0:
            raise DataError(f"{source}: the {split} split has no images")
        check_labels(f"{source}, {split} split", class_names, labels)
    counts = [np.bincount(labels, minlength=len(class_names)) for labels in (train, test)]
    for name, in_train, in_test in zip(class_names, *counts, strict=True):
        if in_train == 0 and in_test == 0:
            raise DataError(f"{source}: class {name!r} is empty; expected images of every class")
        if in_train == 0 or in_test == 0:
            here, there = ("test", "train") if in_train == 0 else ("train", "test")
            raise DataError(
                f"{source}: class {name!r} is found in the {here} split only; expected the same "
                f"classes in {there}"
            )


def to_channels(images: np.ndarray, channels: int) -> np.ndarray:
    """Convert (N, H, W, 1 or 3) uint8 images to `channels` (1 or 3).

    Gray becomes RGB by repetition; RGB becomes gray by the ITU-R 601 luma, in the integer
    arithmetic of Pillow's `convert("L")`, so that both ways into the package agree bit for bit.
    """
    if images.shape[-1] == channels:
        return images
    if channels == 3:
        return np.repeat(images, 3, axis=-1)
    weights = np.array([19595, 38470, 7471], np.uint32)  # .299, .587, .114 in units of 2^-16
    luma = (images.astype(np.uint32) @ weights + 0x8000) >> 16
    return luma[..., None].astype(np.uint8)

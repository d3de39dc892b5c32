"""Draw images of a data source beside random augmentations of them, as one PNG.

    python scripts/augmentations.py folder:pets.tar --augment "random_resized_crop"
    python scripts/augmentations.py cifar10 --augment "random_crop(padding=4)" --copies 9

The originals are training images, chosen at random. `python scripts/train.py --list` names data
sources and transforms.
"""

from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import tyro
from _cli import run

from jaxcnn import canvas, data, plot_images
from jaxcnn.augment import create

# What folders and archives are decoded at unless --size says otherwise.
_SHAPE = (160, 160, 3)


def main(
    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")],
    /,
    augment: str,
    images: int = 8,
    copies: int = 6,
    size: str | None = None,
    seed: int = 0,
    out: Path = Path("augmentations.png"),
) -> None:
    """Draw images of a data source beside random augmentations of them, as one PNG.

    Args:
        source: data source (see train.py --list).
        augment: transforms with their arguments, separated by commas.
        images: originals, a row each.
        copies: augmented images of each.
        size: N or HxW of the crops, and of what is decoded from folders and archives; by default
            the data's own size, of folders and archives 160.
        seed: of the choice and of the transforms.
        out: the PNG.
    """
    for option, value in {"--images": images, "--copies": copies}.items():
        if value < 1:
            raise ValueError(f"{option} must be at least 1, got {value}")
    if not canvas.available():
        raise ModuleNotFoundError("pictures need Matplotlib: pip install 'jaxcnn[plot]'")
    shape = _SHAPE if size is None else _image_shape(size)
    if create(augment, shape) is None:
        raise ValueError("--augment names no transform")
    dataset = data.load(source, shape)
    originals, labels = _choose(dataset.train, images, seed)
    height, width, channels = originals.shape[1:] if size is None else shape
    transform = create(augment, (height, width, channels))
    assert transform is not None  # as above
    keys = jax.random.split(jax.random.key(seed), copies)
    drawn = jax.jit(jax.vmap(transform, (0, None)))(keys, originals)  # (K, N, h, w, C)
    names = [dataset.class_names[label] for label in labels]
    made = np.asarray(drawn).swapaxes(0, 1)
    plot_images.augmented(originals, made, out, names=names, title=augment)
    print(out)


def _choose(
    split: data.Arrays | data.Files, count: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return (N, H, W, C) uint8 images of the split and their labels, in the split's order."""
    chosen = np.random.default_rng(seed).permutation(len(split))[:count]
    chosen.sort()
    labels = np.asarray(split.labels)[chosen]
    if isinstance(split, data.Files):
        return np.stack(
            [data.read_image(split.paths[i], split.image_shape) for i in chosen]
        ), labels
    return np.asarray(split.images)[chosen], labels


def _image_shape(size: str) -> tuple[int, int, int]:
    """Return (H, W, 3) of "HxW" or "N"."""
    sides = size.split("x")
    if len(sides) > 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise ValueError(f"--size must be N or HxW, in pixels, got {size!r}")
    return int(sides[0]), int(sides[-1]), 3


if __name__ == "__main__":
    run(main)

"""Pictures of augmentation: originals, each beside what was drawn of it."""

import os
from collections.abc import Sequence

import numpy as np

from jaxcnn import canvas


def augmented(
    originals: np.ndarray,
    copies: np.ndarray,
    path: str | os.PathLike,
    *,
    names: Sequence[str],
    title: str | None = None,
    inches: float = 0.9,
) -> None:
    """Draw a row an image: the original, its name on the left, and its augmented copies.

    Args:
        originals: (N, H, W, 1 or 3) uint8, or floating in [0, 1].
        copies: (N, K, h, w, 1 or 3) floating in [0, 1]: K of each image.
        path: the PNG.
        names: of the originals, such as their classes.
        title: above the picture.
        inches: width of an image.

    Raises:
        ModuleNotFoundError: Matplotlib is not installed.
        ValueError: not as many originals, copies and names, or none.
    """
    if not len(originals) == len(copies) == len(names) or not copies.size or copies.ndim != 5:
        raise ValueError(
            "augmented: expected as many originals, copies (N, K, h, w, C) and names, got "
            f"{originals.shape}, {copies.shape} and {len(names)}"
        )
    rows, columns = len(originals), 1 + copies.shape[1]
    height = inches * max(image.shape[0] / image.shape[1] for image in (originals[0], copies[0, 0]))
    size = (inches * columns + 0.3, height * rows + (0.75 if title else 0.3))
    figure = canvas.make_figure(*size, None)
    figure.set_layout_engine("constrained", w_pad=0.015, h_pad=0.015, wspace=0, hspace=0)
    if title:
        figure.suptitle(title, fontsize=8, parse_math=False, wrap=True)
    grid = figure.subplots(rows, columns, squeeze=False)
    for line, original, made, name in zip(grid, originals, copies, names, strict=True):
        for axes, image in zip(line, [original, *made], strict=True):
            axes.imshow(_rgb(image), interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        line[0].set_ylabel(canvas.shorten(name, 14), fontsize=7, labelpad=2, parse_math=False)
    grid[0, 0].set_title("original", fontsize=7, pad=3)
    grid[0, 1].set_title("augmented", fontsize=7, pad=3)
    canvas.save(figure, path)


def _rgb(image: np.ndarray) -> np.ndarray:
    """Return (H, W, 3) in [0, 1]: gray as colours too, lest Matplotlib stretch its range."""
    image = np.asarray(image)
    values = image / 255 if image.dtype == np.uint8 else np.clip(image, 0, 1)
    return np.broadcast_to(values, (*image.shape[:2], 3))

"""Pictures of an evaluation: its confusion matrix, its calibration, its most confident mistakes.

Every function writes one PNG, whole or not at all. They need Matplotlib, see `jaxcnn.canvas`.
"""

import os
from collections.abc import Sequence

import numpy as np

from jaxcnn import canvas
from jaxcnn.canvas import GRAY
from jaxcnn.metrics import Calibration


def confusion_matrix(
    matrix: np.ndarray,
    class_names: Sequence[str],
    path: str | os.PathLike,
    *,
    title: str | None = None,
) -> None:
    """Draw a confusion matrix: counts as numbers (up to 20 classes), per cent of the row as colour.

    The colour grows with the square root of the share, so that rare confusions are seen.

    Args:
        matrix: (K, K) integers >= 0; [i, j] counts images of class i that were predicted as j.
        class_names: K names.
        path: the PNG.
        title: above the picture.

    Raises:
        ModuleNotFoundError: Matplotlib is not installed.
        ValueError: the matrix is not square or has negative counts, or not K names.
    """
    matrix = np.asarray(matrix)
    count = len(class_names)
    if matrix.shape != (count, count) or count == 0:
        raise ValueError(f"confusion_matrix: {count} class names for a matrix of {matrix.shape}")
    if (matrix < 0).any():
        raise ValueError("confusion_matrix: negative counts")
    share = 100 * matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = float(np.clip(0.55 * count, 3.2, 13))
    every = -(-count // 100)  # beyond 100 classes the names would touch
    size = float(np.clip(54 * side * every / count, 5, 9))  # points
    names = [canvas.shorten(name, 24) for name in class_names]
    margin = 0.0085 * size * max(map(len, names))
    height = side + margin + (0.8 if title else 0.4)
    figure = canvas.make_figure(side + margin + 1.3, height, title)
    axes = figure.subplots()
    from matplotlib.colors import PowerNorm

    image = axes.imshow(share, cmap="Blues", norm=PowerNorm(0.5, 0, 100), interpolation="nearest")
    if count <= 20:
        for i, j in zip(*np.nonzero(matrix), strict=True):
            colour = "white" if share[i, j] > 30 else "black"
            style = {"ha": "center", "va": "center", "color": colour, "fontsize": 8}
            axes.text(j, i, str(matrix[i, j]), **style)
    ticks = np.arange(0, count, every)
    turn = 0 if max(map(len, names)) <= 2 else 90
    shown = names[::every]
    axes.set_xticks(ticks, shown, rotation=turn, fontsize=size, parse_math=False)
    axes.set_yticks(ticks, shown, fontsize=size, parse_math=False)
    axes.set_xlabel("predicted", color=GRAY)
    axes.set_ylabel("true", color=GRAY)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(
        image, ax=axes, shrink=0.8, ticks=[0, 1, 5, 20, 50, 100], pad=0.02, aspect=30
    )
    bar.set_label("% of the true class", color=GRAY, fontsize=9)
    bar.ax.tick_params(labelsize=8, length=2)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    canvas.save(figure, path)


def reliability(
    calibration: Calibration, path: str | os.PathLike, *, title: str | None = None
) -> None:
    """Draw a reliability diagram: accuracy against confidence, and below how many examples.

    A bar a bin up to its accuracy; in other colours what that lacks to the bin's mean confidence,
    or has above it. C. Guo et al., 2017, arXiv:1706.04599, figure 1. The counts' axis is
    logarithmic where they span more than a decade.

    Args:
        calibration: what `jaxcnn.metrics.calibration` returned.
        path: the PNG.
        title: above the picture.

    Raises:
        ModuleNotFoundError: Matplotlib is not installed.
        ValueError: no bin has an example.
    """
    filled = calibration.count > 0
    if not filled.any():
        raise ValueError("reliability: no bin of the calibration has an example")
    count = calibration.count[filled]
    left, width = 100 * calibration.edges[:-1][filled], 100 * np.diff(calibration.edges)[filled]
    accuracy, confidence = 100 * calibration.accuracy[filled], 100 * calibration.confidence[filled]
    figure = canvas.make_figure(5, 6.2, title)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    shared = np.minimum(accuracy, confidence)
    style = {"align": "edge", "edgecolor": "white", "linewidth": 0.6}
    for height, colour, bottom, label in (
        (shared, 0, 0, "accuracy"),
        (confidence - shared, 1, shared, "confidence above accuracy"),
        (accuracy - shared, 4, shared, "accuracy above confidence"),
    ):
        place = {"bottom": bottom, "color": canvas.colour(colour), "label": label}
        upper.bar(left, height, width, **place, **style)
    upper.plot([0, 100], [0, 100], color="black", ls="--", lw=1, label="calibrated")
    lower.bar(left, count, width, color=GRAY, **style)
    canvas.finish(upper, "", "accuracy (%)")
    canvas.finish(lower, "confidence (%)", "images")
    upper.set(xlim=(0, 100), ylim=(0, 100))
    errors = f"ECE {100 * calibration.ece:.2f} %    MCE {100 * calibration.mce:.2f} %"
    upper.set_title(errors, fontsize=10)
    if count.max() > 10 * count.min():
        lower.set_yscale("log")
        lower.set_ylim(0.6, None)  # one example has a bar too
    lower.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    figure.align_ylabels()
    canvas.save(figure, path)


def mistakes(
    images: np.ndarray,
    labels: np.ndarray,
    predictions: np.ndarray,
    confidences: np.ndarray,
    class_names: Sequence[str],
    path: str | os.PathLike,
    *,
    columns: int = 8,
    limit: int = 64,
    title: str | None = None,
) -> None:
    """Draw the wrongly classified images, the most confident first; right ones are left out.

    Args:
        images: (N, H, W, C) uint8, C = 1 (drawn gray) or 3. N = 0 is allowed: the picture says so.
        labels: (N,) integers, the true classes.
        predictions: (N,) integers.
        confidences: (N,) in 0..1, the probability that was given to the prediction.
        class_names: a name for every class.
        path: the PNG.
        columns: images in a row.
        limit: images at most.
        title: above the picture.

    Raises:
        ModuleNotFoundError: Matplotlib is not installed.
        ValueError: shapes or dtype are others, or `columns` or `limit` is below 1.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    predictions, confidences = np.asarray(predictions), np.asarray(confidences)
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or images.dtype != np.uint8:
        got = f"{images.shape} {images.dtype}"
        raise ValueError(f"mistakes: images must be (N, H, W, 1 or 3) uint8, got {got}")
    shapes = [a.shape for a in (labels, predictions, confidences)]
    if any(shape != images.shape[:1] for shape in shapes):
        raise ValueError(f"mistakes: {len(images)} images with labels, ... of shapes {shapes}")
    if columns < 1 or limit < 1:
        raise ValueError(f"mistakes: columns {columns} and limit {limit} must be at least 1")
    wrong = np.flatnonzero(labels != predictions)
    wrong = wrong[np.argsort(-confidences[wrong], kind="stable")][:limit]
    if not len(wrong):
        figure = canvas.make_figure(5, 2, title)
        axes = figure.subplots()
        axes.set_axis_off()
        axes.text(0.5, 0.5, "no mistakes", ha="center", va="center", fontsize=14, color=GRAY)
        return canvas.save(figure, path)
    columns = min(columns, max(len(wrong), 4))
    names = [canvas.shorten(name, 16) for name in class_names]
    pairs = [(names[labels[i]], names[predictions[i]], f"{confidences[i]:.0%}") for i in wrong]
    captions = [f"{true} \u2192 {said}  {sure[:-1]} %" for true, said, sure in pairs]
    two_lines = max(map(len, captions)) > 20
    if two_lines:
        captions = [f"{true}\n\u2192 {said}  {sure[:-1]} %" for true, said, sure in pairs]
    rows = -(-len(wrong) // columns)
    height = 1.3 * images.shape[1] / images.shape[2] + (0.42 if two_lines else 0.25)
    figure = canvas.make_figure(1.45 * columns, height * rows + (0.7 if title else 0.35), title)
    meaning = "true class \u2192 prediction, its probability"
    figure.supxlabel(meaning, fontsize=7, color=GRAY)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, i, caption in zip(grid.flat, wrong, captions, strict=False):
        image = images[i, ..., 0] if images.shape[-1] == 1 else images[i]
        axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_title(caption, fontsize=7, pad=3, parse_math=False)
    widest = max(axes.title.get_window_extent().width for axes in grid.flat)
    for axes in grid.flat:  # names in capitals still fit beside each other
        axes.title.set_fontsize(7 * min(1, 1.4 * figure.dpi / widest))
    canvas.save(figure, path)

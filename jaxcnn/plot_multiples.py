"""Many small panels in one picture, in each a curve that should cover another one."""

import os
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxcnn import canvas

Curves = tuple[Sequence[float], Sequence[float]]

_SIZE = 7.5  # points: a picture of four columns is still read when it is shown 900 pixels wide
_LETTERS = 30  # of that size, beside each other in a panel


class Panel(NamedTuple):
    """What one panel shows.

    Attributes:
        title: above it, lines that are wrapped where they are too long.
        curves: the reference and what should cover it, one value a step from step 0 on; their
            lengths may differ, values that are not finite are gaps.
        second: two more, on an axis of their own at the right.
    """

    title: str
    curves: Curves
    second: Curves | None = None


def multiples(
    panels: Sequence[Panel],
    path: str | os.PathLike,
    *,
    names: tuple[str, str],
    ylabel: str,
    second: str = "",
    title: str | None = None,
    columns: int = 4,
    log: bool = False,
) -> None:
    """Draw panels of two curves against the step: the first thick and pale, the second thin on it.

    Args:
        panels: one or more.
        path: the PNG.
        names: what the first and the second curve of every panel are.
        ylabel: of the curves.
        second: what the curves at the right are, where a panel has them.
        title: above the picture.
        columns: panels in a row.
        log: one logarithmic y axis for all panels; values <= 0 are gaps. Else every panel has a
            linear axis of its own, from 0 where no value is below.

    Raises:
        ModuleNotFoundError: Matplotlib is not installed.
        ValueError: no panel, a panel with an empty curve, or `columns` below 1.
    """
    if not panels or columns < 1:
        raise ValueError(f"multiples: {len(panels)} panels in {columns} columns, needs 1 or more")
    for panel in panels:
        for curve in (*panel.curves, *(panel.second or ())):
            if np.ndim(curve) != 1 or not len(curve):
                raise ValueError(
                    f"multiples: panel {panel.title!r} has no curve of 1 or more values"
                )
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    figure = canvas.make_figure(max(2.25 * columns, 4.5), 1.75 * rows + 0.8, title)
    from matplotlib.ticker import LogLocator

    grid = figure.subplots(rows, columns, sharex=True, sharey=log, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for index, (axes, panel) in enumerate(zip(grid.flat, panels, strict=False)):
        lowest = index + columns >= len(panels)
        canvas.finish(axes, "step" if lowest else "", "" if index % columns else ylabel)
        if log:
            axes.set_yscale("log", nonpositive="mask")
            axes.yaxis.set_major_locator(LogLocator(numticks=9))  # every decade, up to eight
        else:
            axes.locator_params(axis="y", nbins=4)
        _draw(axes, panel.curves, 0)
        if not log:
            _from_zero(axes)
        if panel.second is not None:
            right = axes.twinx()
            _draw(right, panel.second, 2)
            right.spines["top"].set_visible(False)
            right.locator_params(axis="y", nbins=4)
            right.tick_params(labelsize=_SIZE, length=2, pad=1.5, labelcolor=canvas.colour(2))
        lines = [part for line in panel.title.split("\n") for part in textwrap.wrap(line, _LETTERS)]
        axes.set_title("\n".join(lines), fontsize=_SIZE, loc="left", parse_math=False)
        axes.tick_params(labelsize=_SIZE, length=2, pad=1.5, labelbottom=lowest)
        axes.xaxis.label.set_fontsize(_SIZE)
        axes.yaxis.label.set_fontsize(_SIZE)
    labels = list(names)
    if any(panel.second is not None for panel in panels):
        labels += [f"{name}, {second}" for name in names]
    canvas.legend(figure, labels, f"thick and pale: {names[0]}    thin, on top: {names[1]}")
    canvas.save(figure, path)


def _draw(axes, curves: Curves, first: int) -> None:
    """Draw a reference and its double in the colours `first` and the next one."""
    styles = {"lw": 4, "alpha": 0.4}, {"lw": 0.7}
    for index, (curve, style) in enumerate(zip(curves, styles, strict=True)):
        style = {**style, "color": canvas.colour(first + index), "solid_capstyle": "butt"}
        axes.plot(np.arange(len(curve)), canvas.gaps(curve), **style)


def _from_zero(axes) -> None:
    low, high = axes.get_ylim()
    lowest = np.nanmin(np.concatenate([line.get_ydata() for line in axes.lines]))
    if lowest >= 0:
        axes.set_ylim(min(low, -0.03 * high), high)

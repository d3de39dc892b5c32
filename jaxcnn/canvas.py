"""What all pictures of `plot` share: the figure, its axes, its legend and its PNG.

Matplotlib is an optional extra, imported only when something is drawn and only as `Figure` objects:
no pyplot, no display, no global state.
"""

import importlib.util
import io
import os
from typing import TYPE_CHECKING

import numpy as np

from jaxcnn.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GRAY = "#555555"
# Okabe & Ito's colours, told apart by the colour-blind too, less the yellow (too pale for a line).
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")


def available() -> bool:
    """Tell whether Matplotlib is installed, without importing it."""
    return importlib.util.find_spec("matplotlib") is not None


def colour(index: int) -> str:
    """Give the colour of the curve of that index; after seven they come again."""
    return _COLOURS[index % len(_COLOURS)]


def make_figure(width: float, height: float, title: str | None) -> "Figure":
    """Make an empty figure of that size in inches, with 150 dots to the inch.

    Raises:
        ModuleNotFoundError: Matplotlib is not installed.
    """
    if not available():
        raise ModuleNotFoundError("pictures need Matplotlib: pip install 'jaxcnn[plot]'")
    from matplotlib.figure import Figure

    size = (width, height)
    figure = Figure(figsize=size, dpi=150, layout="constrained", facecolor="white")
    if title:
        figure.suptitle(title, fontsize=12, parse_math=False, wrap=True)
    return figure


def save(figure: "Figure", path: str | os.PathLike) -> None:
    """Write the figure as a PNG, whole or not at all."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi="figure")
    write_atomically(path, picture.getvalue())


def finish(axes: "Axes", xlabel: str, ylabel: str) -> None:
    """Label the axes of a panel of curves, draw its grid, and count x in whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#dddddd", lw=0.6)
    axes.set_axisbelow(True)
    locator = MaxNLocator(nbins=8, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)
    axes.xaxis.set_major_locator(locator)


def log_axis(axes: "Axes", *, least: float, quantile: float) -> None:
    """Make y logarithmic where its largest value is over `least` times the `quantile` of all.

    Zeros do not count, and are drawn on the bottom edge; with a negative value y stays linear.
    """
    from matplotlib.ticker import LogLocator, NullFormatter

    y = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in axes.lines])
    y = y[np.isfinite(y)]
    positive = y[y > 0]
    if not len(positive) or (y < 0).any():
        return
    if positive.max() <= least * np.quantile(positive, quantile):
        return
    axes.set_yscale("log", nonpositive="clip")
    if 10 < positive.max() / positive.min() < 1000:  # few decades: 1, 2, 5 in each
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())


def legend(figure: "Figure", labels: list[str], key: str | None = None) -> None:
    """Name the colours below the panels, under a line `key` that explains the rest."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=colour(i), lw=2.5) for i in range(len(labels))]
    room = int(figure.get_figwidth() * 12 / (max(map(len, labels)) + 6))
    drawn = figure.legend(
        handles,
        ["."] * len(labels),
        loc="outside lower center",
        ncols=max(1, min(len(labels), room)),
        frameon=False,
        fontsize=9,
        title=key,
        title_fontproperties={"size": 8},
    )
    drawn.get_title().set_color(GRAY)
    for text, label in zip(drawn.get_texts(), labels, strict=True):
        text.set_parse_math(False)
        text.set_text(label)  # only here: Matplotlib hides labels that begin with "_"


def gaps(values: object) -> np.ndarray:
    """Give the values as float64, NaN (which is not drawn) for what is not finite."""
    values = np.asarray(values, dtype=np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def shorten(name: str, longest: int) -> str:
    """Give the name on one line, its middle replaced by an ellipsis if it is too long."""
    name = " ".join(str(name).split())
    half = (longest - 1) // 2
    return name if len(name) <= longest else f"{name[:half]}\u2026{name[-half:]}"

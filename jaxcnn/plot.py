"""Pictures of training: the curves of runs, and losses compared step by step.

Every function writes one PNG, whole or not at all. They need Matplotlib, an optional extra:
`available` tells whether it is there.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxcnn import canvas
from jaxcnn.canvas import GRAY, available

__all__ = ["available", "curves", "loss_comparison"]

_KINDS = ("step", "train", "eval")


def curves(
    runs: Mapping[str, Sequence[Mapping[str, Any]]],
    path: str | os.PathLike,
    *,
    title: str | None = None,
) -> None:
    """Draw loss, accuracy and (where it was logged) learning rate of runs against the epoch.

    A colour a run; evaluation solid, training means dashed, single training steps thin and pale,
    the best evaluation accuracy a star. The loss axis is logarithmic where it spans more than a
    decade. Values that are not finite are gaps. Where a run has no row with an epoch, all are
    drawn against the step.

    Args:
        runs: label -> the rows of its metrics.jsonl, as `log.read_metrics` gives them; accuracies
            in 0..1.
        path: the PNG.
        title: above the picture.

    Raises:
        ModuleNotFoundError: Matplotlib is not installed.
        ValueError: no run, or a run without a row to draw.
    """
    names = ("loss", "accuracy", "learning_rate")
    for label, rows in runs.items():
        if not any(row.get("kind") in _KINDS and name in row for row in rows for name in names):
            raise ValueError(f"curves: run {label!r} has no metrics to draw")
    if not runs:
        raise ValueError("curves: no run to draw")
    by_epoch = all(any("epoch" in row for row in rows) for rows in runs.values())
    names = [n for n in names if any(n in row for rows in runs.values() for row in rows)]
    figure = canvas.make_figure(max(4.6 * len(names), 7), 3.8 + 0.2 * len(runs), title)
    panels = dict(zip(names, figure.subplots(1, len(names), squeeze=False)[0], strict=True))
    labels = []
    for index, (label, rows) in enumerate(runs.items()):
        colour = canvas.colour(index)
        for name, axes in panels.items():
            for kind in _KINDS if name != "learning_rate" else _learning_rate_kind(rows):
                x, y = _points(rows, kind, name, by_epoch)
                style: dict[str, Any] = {"ls": "--" if kind == "train" else "-", "lw": 1.6}
                if kind == "step" and name != "learning_rate":
                    style = {"lw": 0.6, "alpha": 0.45, "zorder": 1}
                if len(x) == 1 or (kind != "step" and len(x) <= 30):  # one epoch is a point
                    style |= {"marker": "os^"[index // 7 % 3], "ms": 3.5}
                    style |= {"mfc": "white"} if kind == "train" else {}
                axes.plot(x, y, color=colour, **style)
        labels.append(canvas.shorten(label, 60))
        x, y = _points(rows, "eval", "accuracy", by_epoch)
        if np.isfinite(y).any():
            best = int(np.nanargmax(y))
            star = {"marker": "*", "ms": 12, "mec": "white", "mew": 0.7, "zorder": 3}
            panels["accuracy"].plot(x[best], y[best], color=colour, **star)
            where = f"{'epoch' if by_epoch else 'step'} {x[best]:g}"
            labels[-1] += f"  (best {y[best]:.2f} % at {where})"
    for name, axes in panels.items():
        unit = " (%)" if name == "accuracy" else ""
        canvas.finish(axes, "epoch" if by_epoch else "step", name.replace("_", " ") + unit)
        if name != "accuracy":
            # A cosine that ends near zero belongs on a linear axis, steps down by tens do not.
            canvas.log_axis(axes, least=10, quantile=0 if name == "loss" else 0.5)
    key = "solid: evaluation    dashed, hollow: training    thin: training steps    \u2605 best"
    canvas.legend(figure, labels, key)
    canvas.save(figure, path)


def loss_comparison(
    series: Mapping[str, Sequence[float]],
    path: str | os.PathLike,
    *,
    title: str | None = None,
    xlabel: str = "step",
) -> None:
    """Draw losses step by step and, below, how far each is from the first one (log axis).

    Steps at which both are equal to the last bit are gaps in the lower panel.

    Args:
        series: label -> one loss a step; lengths may differ, values that are not finite are gaps.
        path: the PNG.
        title: above the picture.
        xlabel: below the picture.

    Raises:
        ModuleNotFoundError: Matplotlib is not installed.
        ValueError: no series, or an empty one.
    """
    values = {label: np.asarray(losses, dtype=np.float64) for label, losses in series.items()}
    if not values or any(v.ndim != 1 or not len(v) for v in values.values()):
        raise ValueError("loss_comparison: needs one or more series of one or more losses each")
    (first, base), *others = values.items()
    figure = canvas.make_figure(7.5, 5.8 if others else 4, title)
    ratios = [3, 2] if others else [1]
    panels = figure.subplots(len(ratios), 1, sharex=True, squeeze=False, height_ratios=ratios)[:, 0]
    labels = [canvas.shorten(first, 60)]
    panels[0].plot(
        np.arange(1, len(base) + 1), canvas.gaps(base), color=canvas.colour(0), lw=3, alpha=0.6
    )
    for index, (label, losses) in enumerate(others, start=1):
        colour = canvas.colour(index)
        panels[0].plot(
            np.arange(1, len(losses) + 1), canvas.gaps(losses), color=colour, lw=1.2, ls="--"
        )
        common = min(len(base), len(losses))
        apart = np.abs(canvas.gaps(losses[:common]) - canvas.gaps(base[:common]))
        largest = np.nan_to_num(apart).max()
        if (np.isfinite(losses[:common]) != np.isfinite(base[:common])).any():
            found = "one is not finite where the other is"
        else:
            found = f"largest difference {largest:.1e}" if largest else "no difference"
        labels.append(f"{canvas.shorten(label, 60)}  ({found})")
        apart = np.where(apart == 0, np.nan, apart)  # equal to the last bit: nothing to draw
        panels[1].plot(np.arange(1, common + 1), apart, ".-", color=colour, lw=0.8, ms=2)
    canvas.finish(panels[0], "" if others else xlabel, "loss")
    canvas.log_axis(panels[0], least=10, quantile=0)
    if others:
        canvas.finish(panels[1], xlabel, "|difference|")
        if not any(np.isfinite(line.get_ydata()).any() for line in panels[1].lines):
            style = {"ha": "center", "va": "center", "color": GRAY}
            panels[1].text(0.5, 0.5, "nothing to draw", **style, transform=panels[1].transAxes)
            panels[1].set_yticks([])
        canvas.log_axis(panels[1], least=0, quantile=0)
    figure.align_ylabels(panels)
    canvas.legend(figure, labels)
    canvas.save(figure, path)


def _points(
    rows: Sequence[Mapping[str, Any]], kind: str, name: str, by_epoch: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Give x (epoch or step) and y (accuracy in per cent) of one curve, NaN for gaps."""
    chosen = [row for row in rows if row.get("kind") == kind and name in row]
    y = canvas.gaps([np.nan if row[name] is None else row[name] for row in chosen])
    steps = np.array([row["step"] for row in chosen], dtype=float)
    if name == "accuracy":
        y = 100 * y
    if not by_epoch:
        return steps, y
    ends = dict(sorted((row["step"], row["epoch"]) for row in rows if "epoch" in row))
    step, epoch = max(ends.items())
    inside = np.interp(steps, [0, *ends], [0, *ends.values()])
    return np.where(steps <= step, inside, epoch * steps / max(step, 1)), y


def _learning_rate_kind(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name the rows that tell most about the learning rate: the steps', else the epochs'."""
    found = {row.get("kind") for row in rows if "learning_rate" in row}
    return [kind for kind in _KINDS if kind in found][:1]

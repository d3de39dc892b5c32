"""Draw the curves of one or several runs in one picture.

    python scripts/plot.py runs/digits-cnn-20260101-120000
    python scripts/plot.py RUN RUN RUN --out curves.png

Loss, accuracy and learning rate against the epoch, a colour a run, labelled by its folder's name.
"""

from pathlib import Path
from typing import Annotated

import tyro
from _cli import run

from jaxcnn import log, plot


def main(
    folders: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="RUN...", help_behavior_hint="(one or more)"),
    ],
    /,
    out: Path = Path("curves.png"),
    title: str | None = None,
) -> None:
    """Draw the curves of one or several runs in one picture.

    Args:
        folders: run folders, each with a metrics.jsonl.
        out: the picture, a PNG.
        title: a line above the picture.
    """
    if not folders:
        raise ValueError("no run folder given")
    if out.suffix.lower() != ".png":
        raise ValueError(f"{out}: the picture is a PNG, its name must end in .png")
    curves = {}
    for label, folder in zip(labels(folders), folders, strict=True):
        curves[label] = log.read_metrics(folder)
        if not curves[label]:
            raise ValueError(f"{folder / 'metrics.jsonl'}: no metrics yet")
    plot.curves(curves, out, title=title)
    print(f"{len(curves)} run{'s' * (len(curves) > 1)} drawn in {out}")


def labels(folders: tuple[Path, ...]) -> list[str]:
    """Name each folder by as few of its path's last parts as tell it from the others.

    Raises:
        ValueError: a folder is given twice.
    """
    paths = [folder.resolve().parts for folder in folders]
    for i, path in enumerate(paths):
        if path in paths[:i]:
            raise ValueError(f"{folders[i]} is given twice")

    def label(path: tuple[str, ...]) -> str:
        for length in range(1, len(path)):
            if sum(other[-length:] == path[-length:] for other in paths) == 1:
                return "/".join(path[-length:])
        return str(Path(*path))

    return [label(path) for path in paths]


if __name__ == "__main__":
    run(main)

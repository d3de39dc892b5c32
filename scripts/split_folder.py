"""Divide a folder of images into train and valid, without copying them unless asked.

    python scripts/split_folder.py photographs split --holdout 280
    python scripts/split_folder.py pets split --holdout 0.2 --seed 1 --how copy
    python scripts/train.py cifar10-alexnet --data folder:split

A flat folder (cat.0.jpg, dog_001.jpg) or one of class folders becomes DEST/train/CLASS/IMAGE and
DEST/valid/CLASS/IMAGE, whole or not at all.
"""

from pathlib import Path
from typing import Annotated

import tyro
from _cli import run

from jaxcnn import tables
from jaxcnn.data.split import ClassFrom, How, split_folder


def main(
    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SRC")],
    dest: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DEST")],
    /,
    holdout: int | float,
    seed: int = 0,
    class_from: ClassFrom | None = None,
    how: How = "symlink",
) -> None:
    """Divide a folder of images into DEST/train/CLASS and DEST/valid/CLASS; print the counts.

    Args:
        source: folder of images named by their class (cat.0.jpg, cat_001.jpg), or of class folders.
        dest: new or empty folder.
        holdout: share of each class for valid (0.2), or how many images in all (280).
        seed: decides which.
        class_from: the class is the beginning of the file's name, or its folder; by default the
            first where images lie directly in SRC.
        how: symlink (nothing is copied), hardlink, copy, or move.
    """
    counts = split_folder(source, dest, holdout=holdout, seed=seed, class_from=class_from, how=how)
    rows = [(name, *map(str, sides)) for name, sides in counts.items()]
    totals = (str(sum(side)) for side in zip(*counts.values(), strict=True))
    print(
        tables.text(
            ("class", "train", "valid"),
            [*rows, ("all", *totals)],
            right=("train", "valid"),
            last_apart=True,
        )
    )


if __name__ == "__main__":
    run(main)

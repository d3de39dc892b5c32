"""Small trees of images for the tests of folders, archives and the cache."""

import tarfile
import zipfile
from pathlib import Path

from PIL import Image

from jaxcnn import data

SHAPE = (6, 5, 3)


def write_image(path: Path, value: int, size=(5, 6)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path)


def write_tree(root: Path, splits=("train/", "test/"), per_class=3) -> Path:
    """Write gray images of the classes ant and bee; each has a value of its own."""
    value = 0
    for split in splits:
        for name in ("bee", "ant"):
            for number in range(per_class):
                value += 1
                write_image(root / f"{split}{name}/{number}.png", value)
    (root / "README.txt").write_text("not an image")
    (root / ".hidden").mkdir()
    return root


def pack(tree: Path, target: Path, prefix: str = "") -> Path:
    if target.suffix == ".zip":
        with zipfile.ZipFile(target, "w") as archive:
            for path in sorted(tree.rglob("*")):
                archive.write(path, prefix + path.relative_to(tree).as_posix())
        return target
    mode = {".tar": "w", ".gz": "w:gz", ".tgz": "w:gz", ".xz": "w:xz", ".bz2": "w:bz2"}
    with tarfile.open(target, mode[target.suffix]) as archive:
        archive.add(tree, prefix.rstrip("/") or ".")
    return target


def contents(dataset: data.Dataset) -> list[list[tuple[int, int]]]:
    """Return (value of the image, label) of every example of either split."""
    assert all(isinstance(split, data.Arrays) for split in (dataset.train, dataset.test))
    return [
        [(int(image[0, 0, 0]), int(label)) for image, label in zip(s.images, s.labels, strict=True)]
        for s in (dataset.train, dataset.test)
    ]


# ant (4, 5, 6 and 10, 11, 12) is class 0 although bee was written first.
WANT = [
    [(4, 0), (5, 0), (6, 0), (1, 1), (2, 1), (3, 1)],
    [(10, 0), (11, 0), (12, 0), (7, 1), (8, 1), (9, 1)],
]

"""TensorFlow Datasets: `mnist`, `fashion_mnist`, `cifar10`, `cats_vs_dogs`, without TensorFlow.

The sets are read as TFDS data sources (random access to array_record files), which
`python scripts/prepare_data.py NAME` prepares once, with TensorFlow. Images are taken encoded
and decoded by Pillow here: TFDS's own decoder without TensorFlow returns a gray JPEG of an RGB
set as (H, W), and depends on whether OpenCV happens to be installed.

Source: https://www.tensorflow.org/datasets/data_source.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from jaxcnn.data import cache
from jaxcnn.data.encoded import UNDIVIDED, Encoded, Listing

NAMES = {
    "mnist": "MNIST, 28x28 gray digits, 60,000 and 10,000",
    "fashion_mnist": "Fashion-MNIST, 28x28 gray clothes, 60,000 and 10,000",
    "cifar10": "CIFAR-10, 32x32 RGB in 10 classes, 50,000 and 10,000",
    "cats_vs_dogs": "cats and dogs, 23,262 RGB photographs without a test split",
}


def open_tfds(
    name: str, image_shape: tuple[int, int, int], tfds_dir: Path | None
) -> tuple[Encoded, tuple[int, int, int]]:
    """Describe a prepared set for `load_encoded`, with the size to decode it at.

    Sets of one size keep it, with the channels of `image_shape`; others come at `image_shape`.
    `tfds_dir` is TFDS's data directory, by default $TFDS_DATA_DIR or ~/tensorflow_datasets.

    Raises:
        ImportError: TensorFlow Datasets is not installed.
        FileNotFoundError: the set is not prepared, or not as array_record.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ImportError(
            f"{name}: reading it takes TensorFlow Datasets ({error}); "
            "run: pip install 'jaxcnn[tfds]'"
        ) from error
    data_dir = tfds_dir or os.environ.get("TFDS_DATA_DIR") or None
    builder: Any = tfds.builder(name, data_dir=None if data_dir is None else os.fspath(data_dir))
    raw = {"image": tfds.decode.SkipDecoding()}
    tests = "test" in builder.info.splits or name != "cats_vs_dogs"
    splits = {"train": "train", "test": "test"} if tests else {UNDIVIDED: "train"}
    try:
        sources = {
            split: builder.as_data_source(split=stored, decoders=raw)
            for split, stored in splits.items()
        }
    except (AssertionError, NotImplementedError, ValueError, OSError) as error:
        raise FileNotFoundError(
            f"{name}: not prepared as array_record in {builder.data_path}; "
            f"run: python scripts/prepare_data.py {name}"
            + (f" --data-dir {data_dir}" if data_dir else "")
        ) from error
    shape = builder.info.features["image"].shape
    if None not in shape:
        image_shape = (shape[0], shape[1], image_shape[2])
    path = Path(builder.data_path)
    info = path / "dataset_info.json"
    encoded = Encoded(
        name=name,
        path=path.parent,
        key=cache.fingerprint([(str(info), info.stat())]) if info.is_file() else None,
        list=partial(_list, tuple(builder.info.features["label"].names), sources),
        read=partial(_read, sources),
        directory=None,
    )
    return encoded, image_shape


def _list(class_names: tuple[str, ...], sources: dict[str, Any]) -> Listing:
    """Name the examples "train/0" on, which `_read` understands; read their labels."""
    names = {split: [f"{split}/{i}" for i in range(len(s))] for split, s in sources.items()}
    labels = {
        split: np.array([e["label"] for e in _examples(source, range(len(source)))], np.int32)
        for split, source in sources.items()
    }
    return Listing(class_names, names, labels)


def _read(sources: dict[str, Any], names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    for split, group in groupby(names, lambda name: name.partition("/")[0]):
        members = list(group)
        positions = [int(name.partition("/")[2]) for name in members]
        for name, example in zip(members, _examples(sources[split], positions), strict=True):
            yield name, example["image"]


def _examples(source: Any, positions: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Read examples some hundred at a time, nine times as fast as one by one."""
    for first in range(0, len(positions), 512):
        yield from source.__getitems__(list(positions[first : first + 512]))

"""CIFAR-10's own file format: `cifar:DIR`, the Python batches of the original archive.

Source: https://www.cs.toronto.edu/~kriz/cifar.html (Krizhevsky 2009): pickled dicts with "data"
(10000, 3072) uint8, channels first, and "labels". (N, 32, 32, 3) uint8 after loading.

A pickle is a program: these are read by an unpickler that knows how to rebuild a NumPy array and
refuses everything else.
"""

import codecs
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from jaxcnn.data.dataset import Arrays, DataError, check_classes, check_labels, to_channels

_PIXELS = 3 * 32 * 32
_RECONSTRUCT = np.empty(0).__reduce__()[0]  # numpy's own function, wherever this version keeps it
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): codecs.encode,  # how Python 3 writes bytes in old protocols
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise DataError(f"refuses {module}.{name}: CIFAR batches hold arrays and lists only")
        return _ALLOWED[module, name]


def load_cifar(directory: Path, channels: int) -> tuple[tuple[str, ...], Arrays, Arrays]:
    """Load data_batch_1 to _5, test_batch and batches.meta: class names, train split, test split.

    `directory` holds these files or the folder cifar-10-batches-py that does.

    Raises:
        FileNotFoundError: the directory or one of the files is missing.
        DataError: a damaged file, a pickle that asks for more than arrays, wrong shapes or labels.
    """
    inner = directory / "cifar-10-batches-py"
    directory = inner if inner.is_dir() else directory
    if not directory.is_dir():
        raise FileNotFoundError(f"cifar:{directory}: no such directory")
    meta = directory / "batches.meta"
    names = _unpickle(meta).get("label_names")
    if not isinstance(names, list) or not names:
        raise DataError(f"{meta}: expected a dict with 'label_names', a list of class names")
    names = tuple(name.decode() if isinstance(name, bytes) else str(name) for name in names)
    train = _join([_batch(directory / f"data_batch_{i}", names, channels) for i in range(1, 6)])
    test = _batch(directory / "test_batch", names, channels)
    check_classes(f"cifar:{directory}", names, np.asarray(train.labels), np.asarray(test.labels))
    return names, train, test


def _join(parts: list[Arrays]) -> Arrays:
    images = np.concatenate([part.images for part in parts])
    return Arrays(images, np.concatenate([part.labels for part in parts]))


def _batch(path: Path, class_names: tuple[str, ...], channels: int) -> Arrays:
    """Read one batch file into images (n, 32, 32, channels) and labels (n,)."""
    content = _unpickle(path)
    data = content.get("data")
    if (
        not isinstance(data, np.ndarray)
        or data.dtype != np.uint8
        or data.ndim != 2
        or data.shape[1] != _PIXELS
    ):
        found = (
            f"{data.dtype} {data.shape}" if isinstance(data, np.ndarray) else type(data).__name__
        )
        raise DataError(f"{path}: 'data' is {found}; expected uint8 (n, {_PIXELS})")
    labels = content.get("labels")
    if not isinstance(labels, list) or not all(isinstance(label, int) for label in labels):
        raise DataError(f"{path}: expected 'labels', a list of integers")
    if len(labels) != len(data):
        raise DataError(f"{path}: {len(data)} images and {len(labels)} labels; expected as many")
    labels = np.array(labels, np.int32)
    check_labels(str(path), class_names, labels)
    images = data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return Arrays(np.ascontiguousarray(to_channels(images, channels)), labels)


def _unpickle(path: Path) -> dict[str, Any]:
    """Read a pickled dict, with its keys as str (files written by Python 2 have bytes)."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected the original CIFAR-10 batches")
    try:
        with path.open("rb") as file:
            content = _ArrayUnpickler(file, encoding="bytes").load()
    except Exception as error:  # damaged pickles raise nearly every kind
        raise DataError(f"{path}: not a readable CIFAR batch ({error})") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds a {type(content).__name__}; expected a dict")
    return {key.decode() if isinstance(key, bytes) else key: content[key] for key in content}

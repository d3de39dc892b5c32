"""MNIST's own file format: `idx:DIR`, four IDX files, gzipped or not.

Source: http://yann.lecun.com/exdb/mnist (LeCun, Cortes, Burges): big-endian, magic 0x00000803 for
(count, rows, columns) of unsigned bytes and 0x00000801 for (count,) labels. MNIST, Fashion-MNIST,
KMNIST and EMNIST come so.
"""

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

from jaxcnn.data.dataset import Arrays, DataError, check_classes, to_channels

_IMAGES, _LABELS = 0x00000803, 0x00000801


def load_idx(directory: Path, channels: int) -> tuple[tuple[str, ...], Arrays, Arrays]:
    """Load `train-*` and `t10k-*` from `directory`: class names, train split, test split.

    Images come as (N, rows, columns, `channels`). Classes are named by their number, 0 to the
    greatest training label.

    Raises:
        FileNotFoundError: the directory or one of the four files is missing.
        DataError: wrong magic number, truncated file, counts or sizes that do not agree.
    """
    if not directory.is_dir():
        raise FileNotFoundError(f"idx:{directory}: no such directory")
    splits = {}
    for prefix in ("train", "t10k"):
        images_path = _find(directory, f"{prefix}-images", "idx3")
        labels_path = _find(directory, f"{prefix}-labels", "idx1")
        images, labels = read_idx(images_path, _IMAGES), read_idx(labels_path, _LABELS)
        if len(images) != len(labels):
            raise DataError(
                f"{images_path} has {len(images)} images and {labels_path} {len(labels)} labels; "
                "expected as many"
            )
        images = to_channels(images[..., None], channels)
        splits[prefix] = Arrays(images, labels.astype(np.int32))
    train, test = splits["train"], splits["t10k"]
    if train.images.shape[1:3] != test.images.shape[1:3]:
        raise DataError(
            f"idx:{directory}: training images are {train.images.shape[1:3]}, test images "
            f"{test.images.shape[1:3]}; expected one size"
        )
    classes = int(train.labels.max()) + 1 if len(train) else 0
    names = tuple(str(label) for label in range(classes))
    check_classes(f"idx:{directory}", names, train.labels, test.labels)
    return names, train, test


def read_idx(path: Path, magic: int) -> np.ndarray:
    """Read one IDX file of unsigned bytes whose first four bytes are `magic`.

    Raises:
        DataError: damaged gzip, another magic number, fewer or more bytes than the header promises.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: not a readable gzip file ({error})") from error
    dimensions = magic & 0xFF
    header = 4 * (1 + dimensions)
    if len(data) < header:
        raise DataError(f"{path}: truncated: {len(data)} bytes, the header alone takes {header}")
    found, *shape = struct.unpack(f">{1 + dimensions}I", data[:header])
    if found != magic:
        raise DataError(f"{path}: magic number 0x{found:08x}; expected 0x{magic:08x}")
    expected = header + int(np.prod(shape, dtype=np.int64))
    if len(data) != expected:
        state = "truncated" if len(data) < expected else "too long"
        raise DataError(
            f"{path}: {state}: {len(data)} bytes; expected {expected} for shape {tuple(shape)}"
        )
    if min(shape) == 0:
        raise DataError(f"{path}: no data: its header says shape {tuple(shape)}")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def _find(directory: Path, stem: str, kind: str) -> Path:
    """Find e.g. train-images-idx3-ubyte or train-images.idx3-ubyte, unpacked or .gz."""
    names = [f"{stem}{sep}{kind}-ubyte{end}" for end in ("", ".gz") for sep in ("-", ".")]
    for name in names:
        if (directory / name).is_file():
            return directory / name
    raise FileNotFoundError(f"idx:{directory}: none of {', '.join(names)} is there")

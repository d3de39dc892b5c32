"""Sources of one file format each: digits, IDX, CIFAR batches; names, arguments, errors."""

import gzip
import hashlib
import pickle
import struct

import numpy as np
import pytest

from jaxcnn import data
from jaxcnn.data import tfds_sets

SHAPE = (8, 8, 1)


def idx_bytes(array, magic=None):
    header = 0x00000800 + array.ndim if magic is None else magic
    return struct.pack(f">{1 + array.ndim}I", header, *array.shape) + array.tobytes()


@pytest.fixture
def idx(tmp_path):
    """Write a small set in IDX form, one file gzipped, one with a dot in its name."""
    random = np.random.default_rng(0)
    labels = np.array([0, 1, 2, 0, 1, 2], np.uint8)
    images = random.integers(0, 256, (6, 5, 4), dtype=np.uint8)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx_bytes(images))
    (tmp_path / "train-labels.idx1-ubyte").write_bytes(idx_bytes(labels))
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(images[:3])))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(labels[:3]))
    return tmp_path


@pytest.fixture
def cifar(tmp_path):
    """Write a small set in the form of the original batches, pickled as Python 2 did."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    random = np.random.default_rng(0)
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        rows = random.integers(0, 256, (4, 3072), dtype=np.uint8)
        batch = {b"data": rows, b"labels": [0, 1, 2, 1], b"filenames": [b"x.png"] * 4}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    meta = {b"label_names": [b"airplane", b"automobile", b"bird"]}
    (folder / "batches.meta").write_bytes(pickle.dumps(meta, protocol=2))
    return tmp_path


def test_digits_are_the_real_ones():
    from sklearn.datasets import load_digits

    digits = load_digits()
    loaded = data.load("digits", SHAPE)
    assert loaded.source == "digits" and loaded.class_names == tuple("0123456789")
    assert (len(loaded.train), len(loaded.test)) == (1438, 359)
    images = np.concatenate([loaded.train.images, loaded.test.images])
    assert images.shape == (1797, 8, 8, 1) and images.dtype == np.uint8
    assert (images.min(), images.max()) == (0, 255)
    known = {
        (np.round(image * 255 / 16).astype(np.uint8).tobytes(), int(label))
        for image, label in zip(digits.images, digits.target, strict=True)
    }
    labels = np.concatenate([loaded.train.labels, loaded.test.labels])
    assert labels.dtype == np.int32
    got = {(image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True)}
    assert got == known


def test_digits_are_divided_by_the_seed_within_each_class():
    first, again, other = (data.load("digits", SHAPE, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.test.images, again.test.images)
    assert (first.test.images != other.test.images).any()
    for split, share in ((first.train, 0.8), (first.test, 0.2)):
        counts = np.bincount(split.labels)
        np.testing.assert_allclose(counts, share * 179.7, atol=5)
    assert len(data.load("digits", SHAPE, holdout=0.5).test) == pytest.approx(898, abs=5)


def test_digits_in_rgb_repeat_the_gray():
    gray, rgb = data.load("digits", SHAPE), data.load("digits", (32, 32, 3))
    np.testing.assert_array_equal(rgb.train.images, np.repeat(gray.train.images, 3, -1))


def test_real_mnist(data_root):
    loaded = data.load(f"idx:{data_root / 'mnist'}", (28, 28, 1))
    assert loaded.class_names == tuple("0123456789")
    assert loaded.train.images.shape == (60000, 28, 28, 1)
    assert loaded.test.images.shape == (10000, 28, 28, 1)
    assert loaded.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    unpacked = gzip.decompress((data_root / "mnist/train-images-idx3-ubyte.gz").read_bytes())
    assert hashlib.md5(unpacked).hexdigest().startswith("6bbc9ace")
    assert loaded.train.images.tobytes() == unpacked[16:]


def test_idx_reads_every_spelling(idx):
    loaded = data.load(f"idx:{idx}", (28, 28, 3))
    want = np.random.default_rng(0).integers(0, 256, (6, 5, 4), dtype=np.uint8)
    np.testing.assert_array_equal(loaded.train.images, np.repeat(want[..., None], 3, -1))
    np.testing.assert_array_equal(loaded.test.images[..., 0], want[:3])
    assert loaded.train.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert loaded.class_names == ("0", "1", "2")


def images_of(*shape):
    return idx_bytes(np.zeros(shape, np.uint8))


IDX_ERRORS = {
    "magic": ("train-images-idx3-ubyte", images_of(6, 5), "train-images.*0x00000802.*0x00000803"),
    "short header": ("train-images-idx3-ubyte", b"\0\0\x08", "truncated: 3 bytes"),
    "truncated": ("train-images-idx3-ubyte", images_of(6, 5, 4)[:-1], "truncated: 135 .* 136"),
    "too long": ("train-images-idx3-ubyte", images_of(6, 5, 4) + b"x", "too long: 137"),
    "counts": ("train-images-idx3-ubyte", images_of(7, 5, 4), "7 images .* 6 labels"),
    "sizes": ("train-images-idx3-ubyte", images_of(6, 5, 5), r"\(5, 5\).*\(5, 4\).*one size"),
    "empty": ("train-images-idx3-ubyte", images_of(6, 0, 4), "no data"),
    "gzip": ("t10k-images-idx3-ubyte.gz", b"\x1f\x8bnothing", "t10k-images.*gzip"),
    "cut gzip": (
        "t10k-images-idx3-ubyte.gz",
        gzip.compress(images_of(3, 5, 4))[:-6],
        "t10k-images.*gzip",
    ),
    "label out of range": (
        "t10k-labels-idx1-ubyte",
        idx_bytes(np.array([0, 1, 9], np.uint8)),
        "test split: label 9 of image 2 is out of range; expected 0 to 2",
    ),
    "class in one split": (
        "t10k-labels-idx1-ubyte",
        idx_bytes(np.array([0, 1, 1], np.uint8)),
        "class '2' is found in the train split only",
    ),
}


@pytest.mark.parametrize("case", IDX_ERRORS)
def test_idx_errors(idx, case):
    name, content, message = IDX_ERRORS[case]
    (idx / name).write_bytes(content)
    with pytest.raises(data.DataError, match=message):
        data.load(f"idx:{idx}", SHAPE)


def test_idx_names_what_is_missing(idx):
    (idx / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match="t10k-labels-idx1-ubyte"):
        data.load(f"idx:{idx}", SHAPE)
    with pytest.raises(FileNotFoundError, match="no such directory"):
        data.load(f"idx:{idx / 'absent'}", SHAPE)


@pytest.mark.parametrize("inner", ["", "cifar-10-batches-py"])
def test_cifar_reads_the_original_batches(cifar, inner):
    loaded = data.load(f"cifar:{cifar / inner}", (32, 32, 3))
    assert loaded.class_names == ("airplane", "automobile", "bird")
    assert loaded.train.images.shape == (20, 32, 32, 3)
    assert loaded.train.labels.tolist() == [0, 1, 2, 1] * 5
    random = np.random.default_rng(0)
    rows = np.concatenate([random.integers(0, 256, (4, 3072), dtype=np.uint8) for _ in range(6)])
    images = np.concatenate([loaded.train.images, loaded.test.images])
    # A row holds the red plane, then green, then blue, each row by row.
    assert images[3, 5, 7].tolist() == [rows[3, plane * 1024 + 5 * 32 + 7] for plane in range(3)]
    np.testing.assert_array_equal(images.transpose(0, 3, 1, 2).reshape(24, 3072), rows)
    assert data.load(f"cifar:{cifar}", SHAPE).train.images.shape == (20, 32, 32, 1)


class Command:
    """What a hostile pickle holds: a call."""

    def __reduce__(self):
        return print, ("executed",)


ROWS = np.zeros((4, 3072), np.uint8)
CIFAR_ERRORS = {
    "code": (pickle.dumps(Command()), "test_batch.*refuses builtins.print"),
    "damaged": (pickle.dumps({"data": ROWS})[:50], "test_batch: not a readable"),
    "no dict": (pickle.dumps([1, 2]), "holds a list; expected a dict"),
    "size": (pickle.dumps({"data": ROWS[:, :9], "labels": [0] * 4}), r"\(4, 9\).*3072"),
    "dtype": (pickle.dumps({"data": ROWS.astype(float), "labels": [0] * 4}), "float64"),
    "no labels": (pickle.dumps({"data": ROWS}), "'labels'"),
    "counts": (pickle.dumps({"data": ROWS, "labels": [0, 1]}), "4 images and 2 labels"),
    "range": (pickle.dumps({"data": ROWS, "labels": [0, 1, 2, 3]}), "label 3.*0 to 2"),
}


@pytest.mark.parametrize("case", CIFAR_ERRORS)
def test_cifar_errors(cifar, case, capsys):
    content, message = CIFAR_ERRORS[case]
    (cifar / "cifar-10-batches-py/test_batch").write_bytes(content)
    with pytest.raises(data.DataError, match=message):
        data.load(f"cifar:{cifar}", (32, 32, 3))
    assert capsys.readouterr().out == ""


def test_cifar_names_what_is_missing(cifar):
    (cifar / "cifar-10-batches-py/data_batch_3").unlink()
    with pytest.raises(FileNotFoundError, match="data_batch_3"):
        data.load(f"cifar:{cifar}", (32, 32, 3))
    with pytest.raises(FileNotFoundError, match="no such directory"):
        data.load("cifar:absent", (32, 32, 3))


@pytest.mark.parametrize("source", ["mnits", "", "folder:", "folder", "digits:x", "ftp:x", ":x"])
def test_an_unknown_source_lists_the_known(source):
    with pytest.raises(data.DataError) as caught:
        data.load(source, SHAPE)
    message = str(caught.value)
    assert f"source={source!r}" in message
    assert all(known in message for known in data.sources())


def test_sources_describes_every_source():
    assert set(data.sources()) >= {
        "digits",
        *tfds_sets.NAMES,
        "idx:DIR",
        "cifar:DIR",
        "folder:PATH",
    }
    assert all(data.sources().values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_shape": (8, 8)}, "image_shape"),
        ({"image_shape": (8, 8, 4)}, "image_shape"),
        ({"holdout": 0.0}, "holdout=0.0"),
        ({"holdout": 1.5}, "holdout=1.5"),
        ({"stream": True}, "stream=True: digits"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(data.DataError, match=message):
        data.load("digits", **{"image_shape": SHAPE, **arguments})

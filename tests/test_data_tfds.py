"""TFDS sets, prepared here in array_record form under the real names, read without TensorFlow."""

import io
import os
import runpy
import shutil
import subprocess
import sys
import typing
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from jaxcnn import data
from jaxcnn.data import encoded, tfds_sets

ROOT = Path(__file__).resolve().parents[1]


def encode(pixels, kind="png"):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    stream.seek(0)
    return stream


def make_builder(name, version, shape, class_names, splits):
    """Return a builder class of TFDS's name and version with our (file, label) pairs per split.

    The files come encoded: encoding arrays is what TFDS wants TensorFlow for.
    """

    def info(self):
        features = {
            "image": tfds.features.Image(shape=shape),
            "label": tfds.features.ClassLabel(names=class_names),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def split_generators(self, manager):
        return {split: self._generate_examples(split) for split in splits}

    def generate_examples(self, split):
        for number, (file, label) in enumerate(splits[split]):
            yield number, {"image": io.BytesIO(file.getvalue()), "label": label}

    members = {
        "VERSION": tfds.core.Version(version),
        "name": name,
        "_info": info,
        "_split_generators": split_generators,
        "_generate_examples": generate_examples,
    }
    with tfds.core.registered.skip_registration():
        return type(name, (tfds.core.GeneratorBasedBuilder,), members)


def version(name):
    return str(tfds.builder_cls(name).VERSION)


def prepare(name, data_dir, shape, class_names, splits):
    builder_class = make_builder(name, version(name), shape, class_names, splits)
    builder = builder_class(data_dir=data_dir, file_format="array_record")
    builder.download_and_prepare(file_format="array_record")


DIGITS = [str(digit) for digit in range(10)]
CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck".split()


@pytest.fixture(scope="module")
def digits():
    """Return 90 real digits, enlarged to MNIST's 28x28 gray pixels, and their labels."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.round(bunch.images[:90] * 255 / 16).astype(np.uint8)
    pixels = np.stack([Image.fromarray(image).resize((28, 28)) for image in pixels])
    return pixels, [int(label) for label in bunch.target[:90]]


def coloured(pixels):
    """Make (N, 32, 32, 3) images, CIFAR-10's size, of (N, 28, 28) ones."""
    pixels = np.pad(pixels, ((0, 0), (2, 2), (2, 2)))
    return np.stack([pixels, pixels // 2, 255 - pixels], -1)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, digits):
    """Prepare small sets under the real names."""
    folder = tmp_path_factory.mktemp("tfds")
    examples = [(encode(image), label) for image, label in zip(*digits, strict=True)]
    splits = {"train": examples[:60], "test": examples[60:]}
    for name in ("mnist", "fashion_mnist"):
        prepare(name, folder, (28, 28, 1), DIGITS, splits)
    rgb = [
        (encode(image), label) for image, label in zip(coloured(digits[0]), digits[1], strict=True)
    ]
    prepare("cifar10", folder, (32, 32, 3), CIFAR10, {"train": rgb[:60], "test": rgb[60:]})
    random = np.random.default_rng(0)
    pets = []
    for number in range(20):
        size = (int(random.integers(20, 40)), int(random.integers(20, 40)))
        gray = np.full(size, 10 * number, np.uint8)
        # Some of the real photographs are gray JPEGs in a set of RGB images.
        pets.append((encode(gray if number % 2 else np.stack([gray] * 3, -1), "jpeg"), number % 2))
    prepare("cats_vs_dogs", folder, (None, None, 3), ["cat", "dog"], {"train": pets})
    return folder


def sorted_examples(images, labels):
    return sorted(
        (image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True)
    )


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_gray_sets(prepared, digits, tmp_path, name):
    loaded = data.load(name, (28, 28, 1), tfds_dir=prepared, cache_dir=tmp_path)
    assert loaded.class_names[0] == {"mnist": "0", "fashion_mnist": "T-shirt/top"}[name]
    assert len(loaded.class_names) == 10
    assert loaded.train.images.shape == (60, 28, 28, 1) and loaded.train.images.dtype == np.uint8
    assert loaded.test.images.shape == (30, 28, 28, 1) and loaded.test.labels.dtype == np.int32
    pixels, labels = digits  # TFDS shuffles what it prepares
    for split, part in ((loaded.train, slice(60)), (loaded.test, slice(60, None))):
        want = sorted_examples(pixels[part], labels[part])
        assert sorted_examples(split.images, split.labels) == want


def test_rgb_sets(prepared, digits, tmp_path):
    loaded = data.load("cifar10", (32, 32, 3), tfds_dir=prepared, cache_dir=tmp_path)
    assert loaded.class_names == tuple(CIFAR10)  # kept with the prepared files, not in TFDS
    pixels, labels = digits
    want = sorted_examples(coloured(pixels)[:60], labels[:60])
    assert sorted_examples(loaded.train.images, loaded.train.labels) == want
    large = data.load("cifar10", (96, 96, 3), tfds_dir=prepared, cache_dir=tmp_path)
    np.testing.assert_array_equal(large.train.images, loaded.train.images)  # its own size
    gray = data.load("cifar10", (32, 32, 1), tfds_dir=prepared, cache_dir=tmp_path)
    assert gray.train.images.shape == (60, 32, 32, 1)


def test_sets_of_many_sizes_come_at_the_networks(prepared, tmp_path):
    options = {"tfds_dir": prepared, "cache_dir": tmp_path, "holdout": 0.2}
    loaded = data.load("cats_vs_dogs", (16, 12, 3), **options)
    assert loaded.class_names == ("cat", "dog")
    assert loaded.train.images.shape == (16, 16, 12, 3)
    assert np.bincount(loaded.test.labels).tolist() == [2, 2]
    images = np.concatenate([loaded.train.images, loaded.test.images])
    labels = np.concatenate([loaded.train.labels, loaded.test.labels])
    order = np.argsort(images[:, 0, 0, 0])
    assert np.abs(images[order].astype(int) - 10 * np.arange(20)[:, None, None, None]).max() <= 1
    assert labels[order].tolist() == [0, 1] * 10


def test_large_sets_are_streamed(prepared, tmp_path, monkeypatch):
    options = {"tfds_dir": prepared, "cache_dir": tmp_path}
    arrays = data.load("cats_vs_dogs", (16, 12, 3), **options, skip_corrupt=True)
    monkeypatch.setattr(encoded, "STREAM_LIMIT", 20 * 16 * 12 * 3 - 1)
    for stream in (None, True):
        options["cache_dir"] = tmp_path / str(stream)
        files = data.load("cats_vs_dogs", (16, 12, 3), stream=stream, **options)
        assert isinstance(files.train, data.Files)
        np.testing.assert_array_equal(files.train.labels, arrays.train.labels)
        decoded = [data.read_image(path, (16, 12, 3)) for path in files.train.paths]
        np.testing.assert_array_equal(decoded, arrays.train.images)


def test_the_second_load_comes_from_the_cache(prepared, tmp_path, monkeypatch):
    options = {"tfds_dir": prepared, "cache_dir": tmp_path}
    first = data.load("mnist", (28, 28, 1), **options)
    monkeypatch.setattr(encoded, "decode_all", None)
    second = data.load("mnist", (28, 28, 1), **options)
    np.testing.assert_array_equal(first.train.images, second.train.images)


def test_the_directory_comes_from_the_environment(prepared, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))
    assert len(data.load("mnist", (28, 28, 1), cache_dir=tmp_path).train) == 60


def test_tensorflow_stays_out(prepared, tmp_path):
    """A fresh process loads a set, and TFDS only then, TensorFlow never."""
    program = (
        "import sys; from pathlib import Path; from jaxcnn import data\n"
        "assert 'tensorflow_datasets' not in sys.modules\n"
        f"options = dict(tfds_dir=Path({str(prepared)!r}), cache_dir=Path({str(tmp_path)!r}))\n"
        "print(len(data.load('mnist', (28, 28, 1), **options).train))\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "60\n"), done.stderr


class Examples(list):
    """A TFDS data source of examples in memory."""

    def __getitems__(self, positions):
        return [self[position] for position in positions]


def test_mocked_data(tmp_path, digits, monkeypatch):
    """tfds.testing.mock_data: TFDS's own builder of the name, our examples, nothing on disk."""
    pixels, labels = digits
    asked = []

    def as_data_source(self, split=None, *, decoders=None, **options):
        asked.append((self.name, split, sorted(decoders)))
        return Examples(
            {"image": encode(image).getvalue(), "label": label}
            for image, label in zip(pixels, labels, strict=True)
        )

    with tfds.testing.mock_data(as_data_source_fn=as_data_source):
        loaded = data.load("mnist", (28, 28, 1), tfds_dir=tmp_path, cache_dir=tmp_path / "cache")
    assert asked == [("mnist", "train", ["image"]), ("mnist", "test", ["image"])]
    assert loaded.train.labels.tolist() == labels
    # The real builder says 28x28, and images come at the size that their set promises.
    assert loaded.train.images.shape == (90, 28, 28, 1)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("name", tfds_sets.NAMES)
def test_an_unprepared_set_names_the_command(tmp_path, name):
    with pytest.raises(FileNotFoundError) as caught:
        data.load(name, (32, 32, 3), tfds_dir=tmp_path)
    message = str(caught.value)
    assert f"python scripts/prepare_data.py {name} --data-dir {tmp_path}" in message


def test_another_file_format_names_the_command(prepared, tmp_path):
    """TFDS's default, tfrecord, is what a set prepared for something else is likely to be in."""
    shutil.copytree(prepared / "mnist", tmp_path / "mnist")
    for path in list(tmp_path.rglob("*array_record*")):
        path.rename(path.with_name(path.name.replace("array_record", "tfrecord")))
    (info,) = tmp_path.rglob("dataset_info.json")
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(FileNotFoundError, match="not prepared as array_record.*prepare_data.py"):
        data.load("mnist", (28, 28, 1), tfds_dir=tmp_path)


def test_without_tfds_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ImportError, match=r"mnist.*pip install 'jaxcnn\[tfds\]'"):
        data.load("mnist", (28, 28, 1))


# scripts/prepare_data.py


def run_script(*arguments, forbid=""):
    program = (
        "import runpy, sys, importlib.util as u\n"
        f"real, forbid = u.find_spec, {forbid!r}\n"
        "u.find_spec = lambda name, *rest: None if name == forbid else real(name, *rest)\n"
        f"sys.argv = {['prepare_data.py', *arguments]!r}\n"
        f"runpy.run_path({str(ROOT / 'scripts/prepare_data.py')!r}, run_name='__main__')\n"
    )
    environment = {**os.environ, "COLUMNS": "100"}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_preparing_without_tensorflow_names_the_extra():
    done = run_script("mnist", forbid="tensorflow")
    assert done.returncode == 1
    assert done.stderr.strip().endswith("run: pip install 'jaxcnn[prepare]'")
    assert "mnist takes tensorflow" in done.stderr and "Traceback" not in done.stderr


def test_preparing_offers_every_set():
    names = runpy.run_path(str(ROOT / "scripts/prepare_data.py"))["Name"]
    assert typing.get_args(names) == tuple(tfds_sets.NAMES)
    done = run_script("--help")
    assert done.returncode == 0
    assert all(name in done.stdout for name in tfds_sets.NAMES) and "--data-dir" in done.stdout

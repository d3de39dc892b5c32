"""Statistics of channels: NumPy and torch in float64, known figures of MNIST, the cache."""

import json
import os

import jax
import numpy as np
import pytest
import torch
from data_trees import SHAPE, write_image

from jaxcnn import data
from jaxcnn.data import statistics
from jaxcnn.data.statistics import cached_statistics, channel_statistics


def arrays(shape, seed=0, low=0, high=256):
    images = np.random.default_rng(seed).integers(low, high, shape, dtype=np.uint8)
    return data.Arrays(images, np.zeros(len(images), np.int32))


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 5, 7, 1), (70, 9, 8, 3)])
@pytest.mark.parametrize("batch_size", [1, 32, 1000])
def test_against_numpy_and_torch(shape, batch_size):
    split = arrays(shape)
    mean, std = channel_statistics(split, batch_size=batch_size)
    pixels = split.images / 255
    np.testing.assert_allclose(mean, pixels.mean((0, 1, 2)), rtol=1e-13)
    np.testing.assert_allclose(std, pixels.std((0, 1, 2)), rtol=1e-13)
    theirs = torch.tensor(pixels)
    np.testing.assert_allclose(mean, theirs.mean((0, 1, 2)), rtol=1e-13)
    np.testing.assert_allclose(std, theirs.std((0, 1, 2), correction=0), rtol=1e-13)
    assert all(type(value) is float for value in mean + std)


def test_nearly_constant_images_keep_all_digits():
    """One pixel of 200,000 differs by one: a deviation of 1 / sqrt(N - 1) levels or so."""
    images = np.full((200, 50, 20, 1), 254, np.uint8)
    images[7, 3, 2] = 255
    ((mean,), (std,)) = channel_statistics(data.Arrays(images, np.zeros(200, np.int32)))
    n = 200_000
    np.testing.assert_allclose(mean, (254 + 1 / n) / 255, rtol=1e-15)
    np.testing.assert_allclose(std, np.sqrt(n - 1) / n / 255, rtol=1e-15)
    assert channel_statistics(arrays((4, 2, 2, 3), high=1)) == ((0.0,) * 3, (0.0,) * 3)


def test_arrays_on_the_device():
    split = arrays((6, 4, 4, 3))
    assert channel_statistics(data.to_device(split)) == channel_statistics(split)


def test_files_equal_arrays(tree, load):
    """As many images as do not fill the last batch, which is filled up for evaluation."""
    want = channel_statistics(load(tree).train)
    files = load(tree, stream=True).train
    assert channel_statistics(files, batch_size=4) == want
    assert want[0] == want[0][:1] * 3 and want[1][0] > 0


def test_real_mnist(data_root):
    split = data.load(f"idx:{data_root / 'mnist'}", (28, 28, 1)).train
    ((mean,), (std,)) = channel_statistics(split)
    assert (round(mean, 4), round(std, 4)) == (0.1307, 0.3081)
    np.testing.assert_allclose(mean, split.images.mean(dtype=np.float64) / 255, rtol=1e-13)


def test_the_network_s_input_has_mean_0_and_deviation_1(float64):
    split = arrays((40, 6, 5, 3), high=200)
    normalization = channel_statistics(split)
    preprocess = data.make_preprocess((6, 5, 3), jax.numpy.float64, normalization=normalization)
    out = np.asarray(preprocess(split.images))
    np.testing.assert_allclose(out.mean((0, 1, 2)), 0, atol=1e-13)
    np.testing.assert_allclose(out.std((0, 1, 2)), 1, rtol=1e-13)
    shown = data.unstandardize(jax.numpy.asarray(out), normalization=normalization)
    np.testing.assert_array_equal(shown, split.images)


@pytest.fixture
def computed(monkeypatch):
    """Return a list that grows with every computation."""
    seen = []
    real = statistics.channel_statistics

    def spy(split, **options):
        seen.append(split)
        return real(split, **options)

    monkeypatch.setattr(statistics, "channel_statistics", spy)
    return seen


def test_kept_under_the_pixels(tmp_path, computed):
    split = arrays((5, 4, 4, 3))
    first = cached_statistics(split, tmp_path)
    same = data.Arrays(split.images.copy(), np.ones(5, np.int32))
    assert cached_statistics(data.to_device(same), tmp_path) == first == channel_statistics(split)
    assert len(computed) == 1
    other = split.images.copy()
    other[-1, -1, -1, -1] ^= 1
    assert cached_statistics(data.Arrays(other, split.labels), tmp_path) != first
    reshaped = data.Arrays(split.images.reshape(5, 2, 8, 3), split.labels)
    cached_statistics(reshaped, tmp_path)
    assert len(computed) == 3


def test_kept_under_the_files(tree, load, tmp_path, computed):
    files = load(tree, stream=True).train
    first = cached_statistics(files, tmp_path / "kept", batch_size=3)
    assert cached_statistics(files, tmp_path / "kept") == first and len(computed) == 1
    cached_statistics(data.Files(files.paths, files.labels, (4, 4, 3)), tmp_path / "kept")
    assert len(computed) == 2
    write_image(tree / "train/ant/0.png", 99)
    os.utime(tree / "train/ant/0.png", ns=(0, 1))
    assert cached_statistics(files, tmp_path / "kept") != first and len(computed) == 3
    assert cached_statistics(files, tmp_path / "kept") == channel_statistics(load(tree).train)


@pytest.mark.parametrize(
    "change",
    [
        lambda kept: "",
        lambda kept: json.dumps(kept)[:-20],
        lambda kept: "[]",
        lambda kept: json.dumps({**kept, "fingerprint": "0"}),
        lambda kept: json.dumps({**kept, "content": None}),
        lambda kept: json.dumps({**kept, "content": {"mean": [0.5]}}),
        lambda kept: json.dumps({**kept, "content": {"mean": [0.5], "std": []}}),
        lambda kept: json.dumps({**kept, "content": {"mean": ["a"], "std": [0.1]}}),
        lambda kept: json.dumps({**kept, "content": {"mean": [5.0], "std": [0.1]}}),
        lambda kept: json.dumps({**kept, "content": {"mean": [float("nan")], "std": [0.1]}}),
    ],
)
def test_a_damaged_file_is_made_again(tmp_path, computed, change):
    split = arrays((3, 2, 2, 1))
    want = cached_statistics(split, tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_text()
    path.write_text(change(json.loads(whole)))
    assert cached_statistics(split, tmp_path) == want
    assert len(computed) == 2 and path.read_text() == whole


def test_where_it_cannot_be_kept_it_warns(tmp_path):
    (tmp_path / "file").write_text("")
    split = arrays((3, 2, 2, 1))
    with pytest.warns(UserWarning, match="cannot keep results.*cache_dir"):
        assert cached_statistics(split, tmp_path / "file/cache") == channel_statistics(split)


@pytest.mark.parametrize(
    ("split", "options", "message"),
    [
        (arrays((0, 2, 2, 1)), {}, "the split has no images"),
        (data.Files((), np.zeros(0, np.int32), SHAPE), {}, "the split has no images"),
        (arrays((1, 2, 2, 1)), {"batch_size": 0}, "batch_size=0: expected 1 or more"),
        (
            data.Arrays(np.zeros((1, 2, 2, 1), np.float32), np.zeros(1, np.int32)),
            {},
            "images must be uint8, got float32",
        ),
    ],
)
def test_errors(split, options, message):
    for function in (channel_statistics, lambda s, **o: cached_statistics(s, "unused", **o)):
        with pytest.raises(data.DataError, match=f"channel_statistics: .*{message}"):
            function(split, **options)

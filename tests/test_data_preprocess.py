"""From pixels to the network's input: the formulas, resizing as Pillow, crops as torchvision."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from test_data_decode import photograph
from torchvision_import import torchvision_models

from jaxcnn import data


def test_standardize_is_the_formula():
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    got = jax.jit(data.standardize)(pixels)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, (pixels / 255 - 0.5) / 0.5, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(data.unstandardize(got), pixels)


def test_standardize_in_float64(float64):
    pixels = np.arange(256, dtype=np.uint8)
    got = data.standardize(jnp.asarray(pixels), jnp.float64)
    np.testing.assert_allclose(got, (pixels / 255 - 0.5) / 0.5, rtol=0, atol=1e-15)


def test_unstandardize_clips():
    got = data.unstandardize(jnp.array([-3.0, 3.0]))
    np.testing.assert_array_equal(got, np.array([0, 255], np.uint8))


def test_imagenet_normalization_is_torchvision_s_formula():
    pixels = photograph(8, 9)
    got = data.standardize(jnp.asarray(pixels), normalization="imagenet")
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, (pixels / 255 - mean) / std, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(data.unstandardize(got, normalization="imagenet"), pixels)
    preprocess = jax.jit(data.make_preprocess((8, 9, 3), normalization="imagenet"))
    np.testing.assert_allclose(preprocess(pixels[None])[0], got, rtol=0, atol=1e-6)


def test_normalization_and_resizing_change_places():
    """What resizes in the step sees the pixels of a photograph resized before it."""
    images = np.stack([photograph(64, 48)])
    resized, plain = (
        data.make_preprocess((24, 20, 3), normalization=name)(images)
        for name in ("imagenet", "symmetric")
    )
    want = data.unstandardize(plain).astype(int)
    got = data.unstandardize(resized, normalization="imagenet").astype(int)
    assert jnp.abs(got - want).max() <= 1


PAIRS = [
    ("none", 0.0, 1.0),
    ((0.4, 0.25), 0.4, 0.25),
    (([0.1, 0.2, 0.3], 0.5), [0.1, 0.2, 0.3], 0.5),
    ((np.array([0.1, 0.2, 0.3]), (0.4, 0.5, 0.6)), [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]),
]


@pytest.mark.parametrize(("normalization", "mean", "std"), PAIRS)
def test_floats_in_the_unit_range_are_uint8_over_255(normalization, mean, std, float64):
    pixels = photograph(6, 7)
    want = (pixels / 255 - mean) / std
    for images in (jnp.asarray(pixels), jnp.asarray(pixels / 255)):
        got = data.standardize(images, jnp.float64, normalization=normalization)
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-14)
        np.testing.assert_array_equal(data.unstandardize(got, normalization=normalization), pixels)
    resized = [
        data.make_preprocess((4, 5, 3), jnp.float64, normalization=normalization)(images[None])
        for images in (jnp.asarray(pixels), jnp.asarray(pixels / 255))
    ]
    np.testing.assert_allclose(*resized, rtol=0, atol=1e-14)


def test_the_dtype_is_the_network_s_whatever_the_images_are(float64):
    for dtype in ("uint8", "float16", "float64"):
        images = jnp.ones((1, 2, 2, 1), dtype)
        for wanted in (jnp.float32, jnp.float64):
            assert data.make_preprocess((2, 2, 1), wanted)(images).dtype == wanted


NAN = float("nan")


@pytest.mark.parametrize(
    ("channels", "normalization", "message"),
    [
        (3, "caffe", "unknown normalization 'caffe'; known: symmetric, imagenet, none, or a pair"),
        (1, "imagenet", "'imagenet' is for 3 channels; the images have 1 channel"),
        (3, (0.5, (0.2, 0.3)), "is for 2 channels; the images have 3 channel"),
        (3, (0.5, 0.0), "expected a standard deviation above 0"),
        (3, (0.5, (1.0, -1.0, 1.0)), "expected a standard deviation above 0"),
        (3, (NAN, 1.0), "expected a name or .mean, std."),
        (3, (0.5, float("inf")), "expected a name or .mean, std."),
        (3, (0.5,), "expected a name or .mean, std."),
        (3, 0.5, "normalization=0.5: expected a name or .mean, std."),
        (3, ("a", 1.0), "expected a name or .mean, std."),
        (3, (0.5, [[1.0]]), "expected a name or .mean, std."),
    ],
)
def test_normalization_is_checked(channels, normalization, message):
    with pytest.raises(data.DataError, match=message):
        data.make_preprocess((8, 8, channels), normalization=normalization)
    images = jnp.zeros((8, 8, channels), jnp.uint8)
    with pytest.raises(data.DataError, match=message):
        data.standardize(images, normalization=normalization)
    with pytest.raises(data.DataError, match=message):
        data.unstandardize(images.astype(jnp.float32), normalization=normalization)


@pytest.mark.parametrize("dtype", ["int32", "bool"])
def test_images_are_uint8_or_floating(dtype):
    with pytest.raises(data.DataError, match=f"images are {dtype}; expected uint8"):
        data.standardize(jnp.zeros((2, 2, 3), dtype))


@pytest.mark.parametrize("size", [(24, 31), (20, 60), (90, 70)])
def test_preprocess_resizes_as_pillow(size):
    """Smaller, larger, one of each: within one gray level of Pillow's own rounding."""
    images = np.stack([photograph(64, 48, seed) for seed in (0, 1)])
    preprocess = jax.jit(data.make_preprocess((*size, 3)))
    got = preprocess(images)
    assert got.shape == (2, *size, 3) and got.dtype == jnp.float32
    want = [
        np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))
        for image in images
    ]
    difference = np.abs(np.asarray(data.unstandardize(got), int) - np.stack(want).astype(int))
    assert difference.max() <= 1


def test_preprocess_leaves_the_right_size_alone():
    images = np.stack([photograph(10, 12)])
    got = data.make_preprocess((10, 12, 3))(images)
    np.testing.assert_array_equal(got, data.standardize(images))


def test_preprocess_refuses_other_channels():
    with pytest.raises(data.DataError, match="1 channel.*expects 3"):
        data.make_preprocess((8, 8, 3))(np.zeros((2, 8, 8, 1), np.uint8))


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 2), (0, 8, 3)])
def test_image_shape_is_checked(shape):
    with pytest.raises(data.DataError, match="image_shape"):
        data.make_preprocess(shape)


@pytest.mark.parametrize("stored", [(9, 12), (8, 8), (11, 8), (21, 14)])
def test_the_centre_is_torchvision_s(stored):
    """Odd differences too, where half a pixel is rounded."""
    torchvision_models()
    functional = importlib.import_module("torchvision.transforms.functional")
    torch = importlib.import_module("torch")
    pixels = np.random.default_rng(0).integers(0, 256, (2, *stored, 3), dtype=np.uint8)
    want = functional.center_crop(torch.tensor(np.moveaxis(pixels, -1, 1)), [8, 7])
    preprocess = data.make_preprocess((8, 7, 3), normalization="none", center_crop=True)
    got = data.unstandardize(preprocess(pixels), normalization="none")
    np.testing.assert_array_equal(got, np.moveaxis(want.numpy(), 1, -1))
    floats = preprocess(jnp.asarray(pixels, jnp.float32) / 255.0)
    np.testing.assert_array_equal(floats, preprocess(pixels))


@pytest.mark.parametrize("stored", [(7, 20), (20, 6), (5, 5)])
def test_too_small_for_the_centre_is_resized(stored):
    images = np.stack([photograph(*stored)])
    got = data.make_preprocess((8, 7, 3), center_crop=True)(images)
    np.testing.assert_array_equal(got, data.make_preprocess((8, 7, 3))(images))

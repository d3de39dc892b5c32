"""Pixels in: decoding and resizing against Pillow, standardizing against the formula."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxcnn import data
from jaxcnn.data.dataset import to_channels
from jaxcnn.data.preprocess import decode_all


def photograph(height, width, seed=0):
    """Return a smooth random RGB picture, (height, width, 3) uint8."""
    small = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def encode(pixels, kind="png", **options):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


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


@pytest.mark.parametrize(
    ("channels", "name", "message"),
    [
        (3, "caffe", "unknown normalization 'caffe'; known: symmetric, imagenet"),
        (1, "imagenet", "'imagenet' is for 3 channels; the images have 1 channel"),
    ],
)
def test_normalization_is_checked(channels, name, message):
    with pytest.raises(data.DataError, match=message):
        data.make_preprocess((8, 8, channels), normalization=name)
    with pytest.raises(data.DataError, match=message):
        data.standardize(jnp.zeros((8, 8, channels), jnp.uint8), normalization=name)
    with pytest.raises(data.DataError, match=message):
        data.unstandardize(jnp.zeros((8, 8, channels)), normalization=name)


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


@pytest.mark.parametrize("wide", [True, False])
def test_read_image_fits_the_shorter_side_and_crops_the_centre(wide):
    pixels = photograph(40, 80) if wide else photograph(80, 40)
    got = data.read_image(encode(pixels), (20, 20, 3))
    fitted = (40, 20) if wide else (20, 40)
    whole = np.asarray(Image.fromarray(pixels).resize(fitted, Image.Resampling.BILINEAR))
    want = whole[:, 10:30] if wide else whole[10:30]
    assert np.abs(got.astype(int) - want).max() <= 1


def torchvision_evaluation(image):
    """Resize(256) and CenterCrop(224) of torchvision.transforms, with its rounding."""
    width, height = image.size
    short = min(width, height)
    size = (256 * width // short, 256 * height // short)
    left, top = (round((side - 224) / 2) for side in size)
    box = (left, top, left + 224, top + 224)
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR).crop(box), int)


@pytest.mark.parametrize("size", [(375, 500), (500, 333), (160, 213), (256, 256), (300, 300)])
def test_crop_is_torchvision_s_evaluation_transform(size):
    """To a gray level on squares, else to the half pixel that torchvision may round away."""
    pixels = photograph(*size)
    got = data.read_image(encode(pixels), (224, 224, 3), crop=0.875).astype(int)
    difference = np.abs(got - torchvision_evaluation(Image.fromarray(pixels)))
    whole = np.abs(got - data.read_image(encode(pixels), (224, 224, 3))).mean()
    if size[0] == size[1]:
        assert difference.max() <= 1
    assert difference.max() <= 8 and difference.mean() < 1.5 and whole > 20


def test_crop_of_a_shape_that_fits_already():
    pixels = photograph(16, 24)
    got = data.read_image(encode(pixels), (16, 24, 3), crop=0.5)
    middle = Image.fromarray(pixels).resize((24, 16), Image.Resampling.BILINEAR, (6, 4, 18, 12))
    np.testing.assert_array_equal(got, np.asarray(middle))
    np.testing.assert_array_equal(data.read_image(encode(pixels), (16, 24, 3), crop=1.0), pixels)


@pytest.mark.parametrize("crop", [0.0, -0.5, 1.01, float("nan")])
def test_crop_is_checked(crop):
    with pytest.raises(ValueError, match="crop must be above 0 and at most 1"):
        data.read_image(encode(photograph(8, 8)), (8, 8, 3), crop=crop)


def test_read_image_takes_paths_bytes_and_files(tmp_path):
    pixels = photograph(9, 11)
    path = tmp_path / "a.png"
    path.write_bytes(encode(pixels))
    for source in (path, str(path), path.read_bytes(), io.BytesIO(path.read_bytes())):
        got = data.read_image(source, (9, 11, 3))
        assert got.dtype == np.uint8
        np.testing.assert_array_equal(got, pixels)


def test_read_image_applies_the_orientation():
    pixels = photograph(10, 20)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side: turn clockwise to see it
    got = data.read_image(encode(pixels, exif=exif), (20, 10, 3))
    np.testing.assert_array_equal(got, np.rot90(pixels, -1))


def test_channels_agree_with_pillow():
    """Both ways from RGB to gray, the decoder's and the arrays', give the same bits."""
    pixels = photograph(16, 16)
    want = np.asarray(Image.fromarray(pixels).convert("L"))[..., None]
    np.testing.assert_array_equal(data.read_image(encode(pixels), (16, 16, 1)), want)
    np.testing.assert_array_equal(to_channels(pixels[None], 1)[0], want)
    gray = want[..., 0]
    np.testing.assert_array_equal(
        data.read_image(encode(gray), (16, 16, 3)), np.stack([gray] * 3, -1)
    )
    np.testing.assert_array_equal(to_channels(want[None], 3)[0], np.stack([gray] * 3, -1))


def test_sixteen_bit_gray_keeps_its_tones():
    gray = np.arange(256, dtype=np.uint16).reshape(16, 16)
    got = data.read_image(encode(gray << 8), (16, 16, 1))
    np.testing.assert_array_equal(got[..., 0], gray)


def test_damaged_images_are_named(tmp_path):
    whole = encode(photograph(60, 60), "jpeg")
    for name, content in [("cut.jpg", whole[: len(whole) // 2]), ("text.jpg", b"no image")]:
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(data.DataError, match=name):
            data.read_image(path, (8, 8, 3))
    with pytest.raises(FileNotFoundError):
        data.read_image(tmp_path / "absent.jpg", (8, 8, 3))


@pytest.mark.parametrize("kind", ["small files", "large files"])
def test_decode_all_puts_every_image_in_its_row(kind):
    side = 8 if kind == "small files" else 60
    noise = np.random.default_rng(0).integers(0, 256, (40, side, side, 3), dtype=np.uint8)
    files = [encode(image) for image in noise]
    assert (len(files[0]) > 4096) == (kind == "large files")
    rows = np.random.default_rng(1).permutation(40)
    got = decode_all(((row, str(row), files[row]) for row in rows), 40, (side, side, 3))
    np.testing.assert_array_equal(got, noise)
    with pytest.raises(data.DataError, match="expected 41"):
        decode_all(((row, str(row), files[row]) for row in rows), 41, (side, side, 3))

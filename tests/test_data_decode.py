"""Image files to pixels: against Pillow and torchvision's evaluation transform; damage told."""

import importlib
import io
import tarfile

import numpy as np
import pytest
from PIL import Image
from torchvision_import import torchvision_models

from jaxcnn import data
from jaxcnn.data.dataset import to_channels
from jaxcnn.data.decode import decode_all


def photograph(height, width, seed=0):
    """Return a smooth random RGB picture, (height, width, 3) uint8."""
    small = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def encode(pixels, kind="png", **options):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("wide", [True, False])
def test_read_image_fits_the_shorter_side_and_crops_the_centre(wide):
    pixels = photograph(40, 80) if wide else photograph(80, 40)
    got = data.read_image(encode(pixels), (20, 20, 3))
    fitted = (40, 20) if wide else (20, 40)
    whole = np.asarray(Image.fromarray(pixels).resize(fitted, Image.Resampling.BILINEAR))
    want = whole[:, 10:30] if wide else whole[10:30]
    assert np.abs(got.astype(int) - want).max() <= 1


def torchvision_evaluation(image, short, size):
    """Return what torchvision's own Resize(short), CenterCrop(size) make of a PIL image."""
    torchvision_models()
    transforms = importlib.import_module("torchvision.transforms")
    transform = transforms.Compose([transforms.Resize(short), transforms.CenterCrop(size)])
    return np.asarray(transform(image))


SIZES = [(375, 500), (500, 333), (160, 213), (213, 161), (256, 256), (223, 224), (90, 401)]


@pytest.mark.parametrize("size", SIZES)
def test_read_image_is_torchvision_s_resize_and_centre_crop(size):
    """To the bit, whatever the rounding of the longer side and of the centre."""
    pixels = photograph(*size)
    got = data.read_image(encode(pixels), (224, 224, 3))
    want = torchvision_evaluation(Image.fromarray(pixels), 224, 224)
    np.testing.assert_array_equal(got, want)


def test_a_line_of_pixels_is_not_blown_up():
    """Resized whole it would be 224 x 4,480,000, 3 GB."""
    pixels = np.full((1, 20_000, 3), 7, np.uint8)
    pixels[:, 9_990:10_010] = 200
    got = data.read_image(encode(pixels), (224, 224, 3))
    np.testing.assert_array_equal(got, 200)


@pytest.mark.parametrize("size", [(375, 500), (500, 333), (160, 213), (256, 256), (300, 300)])
def test_crop_is_torchvision_s_evaluation_transform(size):
    """To a gray level on squares, else to the half pixel that torchvision may round away."""
    pixels = photograph(*size)
    got = data.read_image(encode(pixels), (224, 224, 3), crop=0.875).astype(int)
    difference = np.abs(got - torchvision_evaluation(Image.fromarray(pixels), 256, 224))
    whole = np.abs(got - data.read_image(encode(pixels), (224, 224, 3)))
    assert difference.max() <= (1 if size[0] == size[1] else 8) and whole.max() > 100


@pytest.mark.parametrize(("stored", "size"), [(160, 144), (128, 112), (96, 96)])
def test_real_photographs_kept_larger_are_torchvision_s(data_root, stored, size):
    """Kept at S x S, the centre taken in the step: Resize(S), CenterCrop(N), to the bit."""
    preprocess = data.make_preprocess((size, size, 3), normalization="none", center_crop=True)
    shapes = set()
    with tarfile.open(data_root / "cats-dogs-160.tar") as archive:
        members = [m for m in archive if "/valid/" in m.name and m.isfile()]
        for member in members[::25]:
            encoded = archive.extractfile(member).read()
            image = Image.open(io.BytesIO(encoded)).convert("RGB")
            kept = data.read_image(encoded, (stored, stored, 3))
            got = data.unstandardize(preprocess(kept[None]), normalization="none")[0]
            np.testing.assert_array_equal(got, torchvision_evaluation(image, stored, size))
            shapes.add(image.size)
    assert len(shapes) > 5


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
    got, damaged = decode_all(((row, str(row), files[row]) for row in rows), 40, noise.shape[1:])
    np.testing.assert_array_equal(got, noise)
    assert damaged == {}
    with pytest.raises(data.DataError, match="expected 41"):
        decode_all(((row, str(row), files[row]) for row in rows), 41, noise.shape[1:])


def test_decode_all_tells_every_damaged_file():
    whole = encode(photograph(60, 60), "jpeg")
    files = [whole, b"", whole[:-100], b"text", data.DataError("e: not in the archive"), whole]
    names = enumerate(zip("abcdef", files, strict=True))
    got, damaged = decode_all(((row, *named) for row, named in names), 6, (60, 60, 3))
    want = data.read_image(whole, (60, 60, 3))
    np.testing.assert_array_equal(got[[0, 5]], np.stack([want, want]))
    assert sorted(damaged) == [1, 2, 3, 4]
    assert damaged[1] == "b: not an image, or of a format that Pillow does not read"
    assert damaged[2].startswith("c: not a readable image (") and "truncated" in damaged[2]
    assert damaged[4] == "e: not in the archive"

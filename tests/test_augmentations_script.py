"""scripts/augmentations.py and the picture that it draws."""

import numpy as np
import pytest
from pictures import pixels, texts_apart
from processes import call

from jaxcnn import plot_images


def test_a_row_an_image_with_its_copies_unstretched(tmp_path, figures):
    rng = np.random.default_rng(0)
    originals = rng.integers(100, 120, (3, 6, 8, 1)).astype(np.uint8)
    copies = rng.uniform(0.4, 0.6, (3, 4, 5, 7, 1))
    copies[0, 0, 0, 0] = 1.01  # interpolation's rounding
    path = tmp_path / "x.png"
    plot_images.augmented(originals, copies, path, names=["cat", "$x", "a dog"], title="$flip")
    (figure,) = figures
    axes = np.array(figure.axes).reshape(3, 5)
    assert [row[0].get_ylabel() for row in axes] == ["cat", "$x", "a dog"]
    assert [ax.get_title() for ax in axes[0]] == ["original", "augmented", "", "", ""]
    drawn = np.asarray(axes[1, 0].images[0].get_array())
    np.testing.assert_allclose(drawn, np.repeat(originals[1] / 255, 3, axis=-1))
    drawn = np.asarray(axes[2, 3].images[0].get_array())
    np.testing.assert_allclose(drawn, np.repeat(copies[2, 2], 3, axis=-1))
    assert axes[0, 1].images[0].get_array().max() == 1
    assert pixels(path, figure).shape[1] > 500
    labels = [ax.yaxis.label for ax in axes[:, 0]]
    titles = [ax.title for ax in axes[0, :2]]
    texts_apart(figure, [figure._suptitle, *labels, *titles])


@pytest.mark.parametrize("copies", [np.zeros((2, 1, 4, 4, 3)), np.zeros((1, 0, 4, 4, 3))])
def test_unequal_numbers_of_images_are_an_error(copies):
    with pytest.raises(ValueError, match="augmented: expected as many originals, copies"):
        plot_images.augmented(np.zeros((1, 4, 4, 3), np.uint8), copies, "x.png", names=["a"])


def test_script_draws_a_folder(tree, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    out = tmp_path / "grid.png"
    options = ["--augment", "random_crop(padding=2), random_vertical_flip", "--size", "12x9"]
    options += ["--images", 3, "--copies", 2, "--out", out]
    assert call("augmentations", f"folder:{tree}", *options).strip() == str(out)
    height, width, _ = pixels(out).shape
    assert width > 300 and height > 450  # three columns, three rows of 12x9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--augment", "flip"], "augment: unknown transform 'flip'"),
        (["--augment", ""], "--augment names no transform"),
        (["--augment", "random_crop", "--images", 0], "--images must be at least 1, got 0"),
        (["--augment", "random_crop", "--size", "3x"], "--size must be N or HxW, in pixels"),
    ],
)
def test_script_mistakes_get_one_clear_line(options, message, tmp_path):
    err = call("augmentations", "digits", *options, "--out", tmp_path / "x.png", status=2)
    assert err.startswith("error: ") and message in err and len(err.splitlines()) == 1

"""The demonstrations on a photograph: their numbers against PyTorch, the pictures, the script."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image

from jaxcnn import gallery, models, weights

PHOTO = np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype(np.uint8)
GRAY = torch.from_numpy(PHOTO / 255.0) @ torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)


def assert_same(got, want):
    np.testing.assert_allclose(got, np.asarray(want), atol=2e-6)


def test_the_edge_kernel():
    photograph, gray, found, colours = gallery.edges(PHOTO)
    assert_same(photograph.image, PHOTO / 255)
    assert_same(gray.image, GRAY)
    kernel = torch.tensor([[-1.0, -1, -1], [-1, 8, -1], [-1, -1, -1]], dtype=torch.float64)
    convolved = torch.nn.functional.conv2d(GRAY[None, None], kernel[None, None])[0, 0]
    assert_same(found.image, convolved.abs().clip(0, 1))
    each = torch.from_numpy(PHOTO / 255.0).permute(2, 0, 1)[:, None]
    convolved = torch.nn.functional.conv2d(each, kernel[None, None])[:, 0].permute(1, 2, 0)
    assert_same(colours.image, convolved.abs().clip(0, 1))
    assert found.caption.endswith("38x48")
    plain = gallery.edges(np.full((9, 9, 3), 77, np.uint8))
    assert np.abs(plain[2].image).max() < 1e-6, "a plain surface has no edges"


def test_random_kernels_and_a_rectangular_one():
    panels = gallery.random_kernels(PHOTO, jax.random.key(1), count=3)
    assert len(panels) == 6 and not np.array_equal(panels[0].image, panels[2].image)
    for kernel, response in zip(panels[::2], panels[1::2], strict=True):
        taps = torch.from_numpy(kernel.image.astype(np.float64))
        want = torch.nn.functional.conv2d(GRAY[None, None], taps[None, None])[0, 0]
        np.testing.assert_allclose(response.image, want, atol=1e-5)
    _, kernel, dense, strided = gallery.rectangular_kernel(PHOTO, jax.random.key(2))
    assert kernel.image.shape == (4, 3)
    assert dense.image.shape == (37, 48) and strided.image.shape == (10, 16)
    assert_same(strided.image, dense.image[::4, ::3])


def test_pooling():
    panels = gallery.pooling(PHOTO, sizes=(2, 8))
    pixels = torch.from_numpy(PHOTO / 255.0).permute(2, 0, 1)
    assert len(panels) == 6
    for start, pool in (
        (1, torch.nn.functional.max_pool2d),
        (4, torch.nn.functional.avg_pool2d),
    ):
        for i, size in enumerate((2, 8)):
            assert_same(panels[start + i].image, pool(pixels, size).permute(1, 2, 0))
    assert panels[2].caption == "maximum of 8x8, 5x6"


def network(name):
    model = models.create(name)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(1, *models.input_shape(name))))
    init = jax.jit(lambda key: model.init(key, images, train=False))
    return model, init(jax.random.key(0)), images


def test_filters_are_those_of_the_layer_that_sees_the_image():
    _, variables, _ = network("alexnet_cifar")
    name, panels = gallery.filters(variables, limit=5)
    kernel = np.asarray(variables["params"]["conv1.0"]["kernel"])
    assert name == "conv1.0" and len(panels) == 5
    for i, panel in enumerate(panels):
        values = kernel[..., i]
        assert_same(panel.image, (values - values.min()) / (values.max() - values.min()))
    _, variables, _ = network("cnn_mnist")
    name, panels = gallery.filters(variables)
    assert name == "layer1.0" and len(panels) == 16
    assert_same(panels[3].image, variables["params"]["layer1.0"]["kernel"][:, :, 0, 3])
    with pytest.raises(ValueError, match="no convolution"):
        gallery.filters(network("mlp_mnist")[1])


def test_feature_maps_are_the_layers_outputs():
    model, variables, images = network("cnn_mnist")
    panels = gallery.feature_maps(model, variables, images, layers=3, maps=4)
    assert len(panels) == 12
    captions = [panel.caption for panel in panels[::4]]
    assert [caption.partition(",")[0] for caption in captions] == [
        "layer1.0",
        "layer2.0",
        "layer2.3",
    ]
    layer = variables["params"]["layer1.0"]
    kernel, bias = layer["kernel"], layer["bias"]
    convolved = torch.nn.functional.conv2d(
        torch.from_numpy(np.array(images[..., 0]))[None],
        torch.from_numpy(np.asarray(kernel).transpose(3, 2, 0, 1).copy()),
        torch.from_numpy(np.array(bias)),
        padding=2,
    )[0]
    deviations = convolved.std(dim=(1, 2), correction=0)
    for panel, channel in zip(panels[:4], deviations.argsort(descending=True), strict=False):
        assert panel.caption.endswith(f"channel {channel}")
        np.testing.assert_allclose(panel.image, convolved[channel], atol=1e-5)
    with pytest.raises(ValueError, match="no feature maps"):
        gallery.feature_maps(*network("mlp_mnist"))


def test_draw_places_panels_and_leaves_empty_ones_out(figures):
    blank = gallery.Panel(np.zeros((0, 0)), "")
    shown = gallery.Panel(np.array([[1.0, -3.0]]), "shown", signed=True)
    gallery.draw([shown, blank, shown], "x.png", columns=2)
    (figure,) = figures
    drawn = [axes for axes in figure.axes if axes.images]
    assert len(figure.axes) == 4 and [axes.get_title() for axes in drawn] == ["shown", "shown"]
    assert drawn[0].images[0].get_clim() == (-3, 3)
    with pytest.raises(ValueError, match="expected panels and columns >= 1, got 0 and 2"):
        gallery.draw([], "x.png", columns=2)


def test_a_photograph_of_another_form_is_an_error():
    with pytest.raises(ValueError, match=r"must be \(H, W, 3\) uint8, got \(4, 4\) float64"):
        gallery.edges(np.zeros((4, 4)))


def call(*arguments, status=0):
    command = [sys.executable, str(ROOT / "scripts/gallery.py"), *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout if status == 0 else done.stderr


@pytest.mark.slow
def test_script_draws_every_picture(tmp_path):
    Image.fromarray(PHOTO).save(tmp_path / "photo.png")
    _, variables, _ = network("cnn_mnist")
    weights.save(tmp_path / "weights.npz", variables)
    out = tmp_path / "pictures"
    call(tmp_path / "photo.png", "--weights", tmp_path / "weights.npz", "--out", out)
    names = "edges feature_maps filters pooling random_kernels rectangular_kernel".split()
    assert sorted(path.stem for path in out.iterdir()) == names
    for path in out.iterdir():
        with Image.open(path) as picture:
            assert min(picture.size) > 200


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.jpg"], "missing.jpg"),
        (["README.md"], "not an image"),
        (["--network", "vgg16"], "--network and --normalization belong to --weights"),
        (["--weights", "missing.npz"], "missing.npz: no such file"),
    ],
)
def test_script_mistakes_get_one_clear_line(arguments, message, tmp_path):
    err = call(*arguments, "--out", tmp_path / "out", status=2)
    assert err.startswith("error: ") and message in err and len(err.splitlines()) == 1
    assert not (tmp_path / "out").exists()

"""The numbers that random transforms draw: distributed as torchvision's, new for every image."""

import importlib

import jax
import numpy as np
import pytest
import torch
from scipy import stats
from torchvision_import import torchvision_models

from jaxcnn import augment

torchvision_models()
transforms = importlib.import_module("torchvision.transforms")
COUNT = 1500


def draw(transform, shape, seed=0):
    return jax.jit(transform.draw, static_argnums=1)(jax.random.key(seed), (COUNT, *shape))


def assert_alike(got, theirs):
    """Compare the columns of both by Kolmogorov and Smirnov's test."""
    torch.manual_seed(0)
    want = np.array([np.ravel(theirs()) for _ in range(COUNT)]).T
    for ours, column in zip(got, want, strict=True):
        ours = np.asarray(ours)
        assert ours.shape == (COUNT,)
        assert stats.ks_2samp(ours, column).pvalue > 0.001
        slack = 0.15 * np.ptp(column) + 1e-6
        assert column.min() - slack <= ours.min() and ours.max() <= column.max() + slack


def test_random_crop():
    image = torch.zeros(3, 9, 14)
    drawn = draw(augment.random_crop(size=(5, 12), padding=(0, 1)), (7, 14, 3))
    theirs = transforms.RandomCrop((5, 12))
    got = [drawn["top"], drawn["left"]]
    assert_alike(got, lambda: theirs.get_params(image, theirs.size)[:2])
    assert set(np.asarray(drawn["top"])) == set(range(5))
    assert set(np.asarray(drawn["left"])) == set(range(3))


@pytest.mark.parametrize(
    ("size", "scale"), [((30, 40), (0.08, 1.0)), ((12, 30), (0.3, 1.0)), ((7, 7), (0.9, 1.0))]
)
def test_random_resized_crop(size, scale):
    image, ratio = torch.zeros(3, *size), (3 / 4, 4 / 3)
    drawn = draw(augment.random_resized_crop(scale=scale), (*size, 3))
    got = [drawn[name] for name in ("top", "left", "height", "width")]
    theirs = transforms.RandomResizedCrop.get_params
    assert_alike(got, lambda: theirs(image, scale, ratio))
    top, left, height, width = map(np.asarray, got)
    assert min(top.min(), left.min()) >= 0 and min(height.min(), width.min()) >= 1
    assert (top + height).max() <= size[0] and (left + width).max() <= size[1]


@pytest.mark.parametrize("size", [(100, 8), (8, 100), (3, 3)])
def test_random_resized_crop_falls_back_to_the_centre(size):
    scale = (1.5, 2.0)  # no candidate fits
    drawn = draw(augment.random_resized_crop(scale=scale), (*size, 3))
    want = transforms.RandomResizedCrop.get_params(torch.zeros(3, *size), scale, (3 / 4, 4 / 3))
    for name, value in zip(("top", "left", "height", "width"), want, strict=True):
        assert np.array_equal(drawn[name], np.full(COUNT, value))


def test_random_rotation():
    drawn = draw(augment.random_rotation(degrees=(-10, 50)), (4, 5, 3))
    theirs = transforms.RandomRotation((-10, 50))
    assert_alike([drawn["angle"]], lambda: theirs.get_params(theirs.degrees))


@pytest.mark.parametrize("shear", [12, (2, 9), (2, 9, -20, 0)])
def test_random_affine(shear):
    options = {"degrees": 30, "translate": (0.1, 0.4), "scale": (0.5, 1.1), "shear": shear}
    drawn = draw(augment.random_affine(**options), (20, 30, 3))
    theirs = transforms.RandomAffine(**options)

    def params():
        angle, shift, scale, sheared = theirs.get_params(
            theirs.degrees, theirs.translate, theirs.scale, theirs.shear, [30, 20]
        )
        return angle, *shift, scale, *sheared

    got = [drawn["angle"], *drawn["translate"].T, drawn["scale"], *drawn["shear"].T]
    assert_alike(got, params)
    assert np.array_equal(drawn["translate"], np.round(drawn["translate"]))


def test_random_affine_leaves_out_what_is_not_given():
    drawn = draw(augment.random_affine(degrees=0), (20, 30, 3))
    for name, value in {"angle": 0, "translate": 0, "scale": 1, "shear": 0}.items():
        assert (np.asarray(drawn[name]) == value).all()


def test_color_jitter():
    options = {"brightness": 0.4, "contrast": 1.5, "saturation": (0.2, 0.9), "hue": 0.3}
    drawn = draw(augment.color_jitter(**options), (4, 5, 3))
    theirs = transforms.ColorJitter(**options)
    ranges = [getattr(theirs, name) for name in options]
    assert_alike([drawn[name] for name in options], lambda: theirs.get_params(*ranges)[1:])
    assert sorted(np.asarray(drawn["order"])) == [0, 1, 2, 3]
    # One factor tells nothing of another.
    factors = np.corrcoef([drawn[name] for name in options])
    assert np.abs(factors - np.eye(4)).max() < 0.1


@pytest.mark.parametrize("p", [0, 0.2, 0.5, 1])
@pytest.mark.parametrize("name", ["random_horizontal_flip", "random_vertical_flip"])
def test_flips_are_as_frequent_as_asked(name, p):
    chosen = np.asarray(draw(augment.TRANSFORMS[name](p=p), (4, 5, 3))["chosen"])
    assert chosen.mean() == p if p in (0, 1) else abs(chosen.mean() - p) < 0.04


def test_p_chooses_apart_from_the_numbers():
    drawn = draw(augment.random_rotation(degrees=30, p=0.3), (4, 5, 3))
    chosen, angle = np.asarray(drawn["chosen"]), np.asarray(drawn["angle"])
    assert abs(chosen.mean() - 0.3) < 0.04
    assert stats.ks_2samp(angle[chosen], angle[~chosen]).pvalue > 0.001


def test_draws_are_the_keys_and_the_same_in_every_precision(float64):
    transform = augment.random_affine(degrees=30, scale=(0.5, 2))
    first, again, other = (draw(transform, (4, 5, 3), seed) for seed in (0, 0, 1))
    with jax.enable_x64(False):
        single = draw(transform, (4, 5, 3))
    for name, values in first.items():
        assert values.dtype == np.float32
        assert np.array_equal(values, again[name]) and np.array_equal(values, single[name])
    assert np.mean(np.isclose(first["angle"], other["angle"])) < 0.01
    assert len(np.unique(first["angle"])) > 0.99 * COUNT

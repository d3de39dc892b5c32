"""What random transforms make of their numbers, against torchvision given the same numbers."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torchvision_import import torchvision_models

from jaxcnn import augment

torchvision_models()
tv = importlib.import_module("torchvision.transforms.functional")
BILINEAR, NEAREST = tv.InterpolationMode.BILINEAR, tv.InterpolationMode.NEAREST
SHAPE = (6, 11, 9, 3)


def padded_crop(image, top, left):
    return tv.crop(tv.pad(image, [2, 1], 0.5, "constant"), top, left, 11, 9)


def grown_crop(image, top, left):
    return tv.crop(tv.pad(tv.pad(image, [3, 0]), [0, 9]), top, left, 20, 12)


def resized(image, top, left, height, width):
    return tv.resized_crop(image, top, left, height, width, [5, 12], BILINEAR, antialias=True)


# Name -> transform, what torchvision does to an image with the numbers drawn for it, their names.
CASES = {
    "horizontal flip": (
        augment.random_horizontal_flip(),
        lambda image, chosen: tv.hflip(image) if chosen else image,
        ["chosen"],
    ),
    "vertical flip": (
        augment.random_vertical_flip(p=0.6),
        lambda image, chosen: tv.vflip(image) if chosen else image,
        ["chosen"],
    ),
    "crop": (augment.random_crop(padding=(2, 1), fill=0.5), padded_crop, ["top", "left"]),
    "smaller crop": (
        augment.random_crop(size=(4, 7)),
        lambda image, top, left: tv.crop(image, top, left, 4, 7),
        ["top", "left"],
    ),
    "larger crop": (
        augment.random_crop(size=(20, 12), pad_if_needed=True),
        grown_crop,
        ["top", "left"],
    ),
    "reflected crop, sometimes": (
        augment.random_crop(padding=3, padding_mode="reflect", p=0.5),
        lambda image, chosen, top, left: (
            tv.crop(tv.pad(image, 3, padding_mode="reflect"), top, left, 11, 9) if chosen else image
        ),
        ["chosen", "top", "left"],
    ),
    "resized crop": (
        augment.random_resized_crop(size=(5, 12)),
        resized,
        ["top", "left", "height", "width"],
    ),
    "rotation": (
        augment.random_rotation(degrees=70, interpolation="bilinear", fill=0.3),
        lambda image, angle: tv.rotate(image, angle, BILINEAR, fill=[0.3]),
        ["angle"],
    ),
    "rotation to the nearest, sometimes": (
        augment.random_rotation(degrees=(10, 170), p=0.5),
        lambda image, chosen, angle: tv.rotate(image, angle, NEAREST, fill=0) if chosen else image,
        ["chosen", "angle"],
    ),
    "scale": (
        augment.random_scale(),
        lambda image, factor: tv.affine(image, 0, [0, 0], factor, [0.0], BILINEAR, fill=[0.0]),
        ["factors"],
    ),
    "affine": (
        augment.random_affine(degrees=20, translate=(0.2, 0.4), scale=(0.5, 1.5), shear=(-9, 9)),
        lambda image, *numbers: tv.affine(image, *numbers, NEAREST, fill=[0.0]),
        ["angle", "translate", "scale", "shear"],
    ),
    "grayscale": (
        augment.random_grayscale(p=0.5),
        lambda image, chosen: tv.rgb_to_grayscale(image, 3) if chosen else image,
        ["chosen"],
    ),
}


def torchs(function, images, numbers, names):
    """Call torchvision with each image and its numbers."""
    made = []
    for i, image in enumerate(images):
        own = [np.asarray(numbers[name])[i].tolist() for name in names]
        made.append(function(torch.from_numpy(image).permute(2, 0, 1), *own).permute(1, 2, 0))
    return np.stack(made)


def draw(transform, shape=SHAPE, seed=0):
    return jax.jit(transform.draw, static_argnums=1)(jax.random.key(seed), shape)


@pytest.mark.parametrize("name", CASES)
def test_the_same_numbers_give_torchvisions_images(name, float64):
    transform, theirs, names = CASES[name]
    images = np.random.default_rng(0).random(SHAPE)
    numbers = draw(transform)
    assert sorted(numbers) == sorted(names)
    if "chosen" in names:
        assert 0 < np.sum(numbers["chosen"]) < len(images)
    got = jax.jit(transform.apply)(jnp.asarray(images), numbers)
    want = torchs(theirs, images, numbers, names)
    assert got.dtype == jnp.float64 and np.abs(want - np.resize(images, want.shape)).max() > 0.1
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("channels", [1, 3])
def test_color_jitter_in_every_order(channels, float64):
    changes = {"brightness": 0.6, "contrast": 0.5, "saturation": 0.9}
    theirs = [getattr(tv, f"adjust_{name}") for name in changes]
    images = np.random.default_rng(0).random((3, 6, 5, channels))
    transform = augment.color_jitter(**changes)
    apply = jax.jit(transform.apply)
    orders = set()
    for seed in range(12):
        numbers = draw(transform, images.shape, seed)
        order = tuple(np.asarray(numbers["order"]).tolist())
        orders.add(order)

        def jitter(image, *factors, order=order):
            for change in order:
                image = theirs[change](image, factors[change])
            return image

        want = torchs(jitter, images, numbers, list(changes))
        np.testing.assert_allclose(apply(jnp.asarray(images), numbers), want, rtol=0, atol=1e-12)
    assert len(orders) > 3


def test_color_jitter_with_hue():
    transform = augment.color_jitter(hue=(0.1, 0.3), contrast=0.4)
    images = np.random.default_rng(0).random((4, 6, 5, 3)).astype(np.float32)
    numbers = draw(transform, images.shape) | {"order": jnp.array([1, 0])}  # the hue at first
    assert sorted(numbers) == ["contrast", "hue", "order"]
    want = torchs(
        lambda image, contrast, hue: tv.adjust_contrast(tv.adjust_hue(image, hue), contrast),
        images,
        numbers,
        ["contrast", "hue"],
    )
    got = jax.jit(transform.apply)(jnp.asarray(images), numbers)
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-6)


REQUIRED = {"random_rotation": {"degrees": 30}, "random_affine": {"degrees": 30, "shear": 20}}
STRONG = {"color_jitter": {"brightness": 0.5}, "random_crop": {"padding": 3}} | REQUIRED


@pytest.mark.parametrize("name", augment.TRANSFORMS)
def test_probability_0_is_the_identity_and_1_always_transforms(name):
    build, arguments = augment.TRANSFORMS[name], STRONG.get(name, {})
    images = jnp.asarray(np.random.default_rng(0).random((16, 8, 7, 3)), jnp.float32)
    never = build(p=0, **arguments)
    assert np.array_equal(never.apply(images, draw(never, images.shape)), images)
    if name in ("random_crop", "random_resized_crop"):
        other = build(p=0, size=3)
        assert other.apply(images, draw(other, images.shape)) is images
    changed = {}
    for p in (0.4, 1):
        transform = build(p=p, **arguments)
        made = jax.jit(transform.apply)(images, draw(transform, images.shape))
        changed[p] = (np.asarray(made) != images).any(axis=(1, 2, 3)).sum()
    # A crop may be drawn where the image was, and a small angle move no pixel.
    assert 2 <= changed[0.4] < changed[1] and changed[1] >= 11


@pytest.mark.parametrize("size", [(8, 9), 3])
def test_a_choice_between_images_of_two_sizes_is_an_error(size):
    transform = augment.random_resized_crop(size=size, p=0.5)
    images = jnp.zeros((2, 8, 7, 3))
    with pytest.raises(ValueError, match=r"random_resized_crop: makes images of .* so that p must"):
        transform.apply(images, draw(transform, images.shape))


def test_images_smaller_than_a_crop_are_an_error():
    transform = augment.random_crop(size=(6, 20), padding=(1, 2))
    match = "random_crop: a crop of 6x20 is larger than the image, padding included, of 12x9"
    with pytest.raises(ValueError, match=match):
        draw(transform, (2, 8, 7, 3))

"""Augmentations from their text: composed, jitted, mapped over seeds; the mistakes of the text."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcnn import augment

SHAPE = (8, 6, 3)
ALL = (
    "random_crop(padding=2, padding_mode='reflect'), random_resized_crop(scale=(0.5, 1)), "
    "random_horizontal_flip, random_rotation(degrees=20, p=0.5), "
    "color_jitter(brightness=0.2, saturation=0.3, hue=0.1)"
)


def stored(count=4, size=(8, 6), channels=3):
    pixels = np.random.default_rng(0).integers(0, 256, (count, *size, channels))
    return jnp.asarray(pixels.astype(np.uint8))


def test_an_empty_text_is_no_augmentation():
    assert augment.create("", SHAPE) is None and augment.create(" \n", SHAPE) is None


def test_transforms_are_done_in_order_each_with_a_key_of_its_own():
    apply = augment.create("random_crop(padding=(0, 3)), color_jitter(brightness=(2, 4)),", SHAPE)
    assert apply is not None
    key, images = jax.random.key(3), stored()
    want = images.astype(jnp.float32) / jnp.float32(255)
    crop = augment.random_crop(size=SHAPE[:2], padding=(0, 3))
    for place, transform in enumerate([crop, augment.color_jitter(brightness=(2, 4))]):
        numbers = transform.draw(jax.random.fold_in(key, place), want.shape)
        want = transform.apply(want, numbers)
    np.testing.assert_array_equal(apply(key, images), want)


@pytest.fixture(scope="module")
def everything():
    return augment.create(ALL, SHAPE)


def test_compiled_and_mapped_over_seeds_it_gives_the_same(everything):
    """Mapped, every change of color_jitter is computed and fused, hue included."""
    keys, images = jax.random.split(jax.random.key(0), 3), stored(size=(20, 30))
    compiled = jax.jit(everything)
    want = np.stack([compiled(key, images) for key in keys])
    assert want.dtype == np.float32 and want.min() >= 0 and want.max() <= 1
    got = jax.jit(jax.vmap(everything, (0, None)))(keys, images)
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-4)
    assert np.abs(want[0] - want[1]).max() > 0.1, "every key draws anew"
    same = np.broadcast_to(images[:1], images.shape)
    assert np.abs(np.diff(compiled(keys[0], same), axis=0)).max() > 0.1, "and so does every image"


def test_hue_holds_where_a_compiler_computes_channels_twice():
    """Rounded in two ways, no channel equals the largest, and a few pixels turn blue."""
    text = (
        "random_resized_crop(scale=(0.4, 1)), random_horizontal_flip, "
        "random_rotation(degrees=15, interpolation='bilinear'), "
        "color_jitter(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.02)"
    )
    apply = augment.create(text, (32, 32, 3))
    assert apply is not None
    # Orange: no turn by 0.02 makes its blue exceed its red.
    noise = 0.1 * jax.random.uniform(jax.random.key(1), (4, 32, 32, 1))
    keys = jax.random.split(jax.random.key(0), 6)
    made = jax.jit(jax.vmap(apply, (0, None)))(keys, jnp.array([0.8, 0.5, 0.2]) + noise)
    assert (made[..., 2] <= made[..., 0] + 1e-6).all()


def test_an_image_stays_at_its_place():
    """Labels need no change: plain images of rising brightness come out in their order."""
    text = "random_resized_crop, random_horizontal_flip, random_vertical_flip"
    apply = augment.create(text, SHAPE)
    assert apply is not None
    levels = jnp.linspace(0, 1, 5)
    made = apply(jax.random.key(0), jnp.broadcast_to(levels[:, None, None, None], (5, *SHAPE)))
    np.testing.assert_allclose(made, np.broadcast_to(levels[:, None, None, None], made.shape), 1e-5)


@pytest.mark.parametrize(
    ("images", "want"), [((20, 30), (8, 6)), ((5, 30), (5, 6)), ((5, 4), (5, 4))]
)
def test_a_random_crop_keeps_images_that_are_smaller_than_the_network(images, want):
    """They are resized behind it: CIFAR's 32x32 for a network of 96x96."""
    apply = augment.create("random_crop(padding=2)", SHAPE)
    assert apply is not None
    found = jax.eval_shape(apply, jax.random.key(0), stored(size=images))
    assert found.shape == (4, *want, 3)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("random_crop(padding=4), random_horizontal_flip", (8, 6)),
        ("random_resized_crop(size=5)", (5, 5)),
        ("random_horizontal_flip", (9, 11)),
    ],
)
def test_crops_have_the_networks_size_unless_told(text, size):
    apply = augment.create(text, (8, 6, 1))
    assert apply is not None
    images = stored(1, (9, 11), 1)
    assert jax.eval_shape(apply, jax.random.key(0), images).shape == (1, *size, 1)
    floats = images.astype(jnp.float32) / jnp.float32(255)
    key = jax.random.key(1)
    np.testing.assert_array_equal(apply(key, images), apply(key, floats))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("flip", "augment: unknown transform 'flip'; known: color_jitter, random_affine"),
        ("random_crop(pad=4)", "augment: transform 'random_crop' takes size, padding.*got pad"),
        ("random_rotation", "augment: transform 'random_rotation' needs degrees"),
        ("random_rotation(15)", "augment: expected transforms like .* arguments by name"),
        ("random_crop(padding=open('x'))", "augment: expected transforms like"),
        ("random_crop(**{})", "augment: expected transforms like"),
        ("random_crop], [random_crop", "augment: expected transforms like"),
        ("random_crop random_crop", "augment: expected transforms like"),
        ("random_horizontal_flip(p=2)", r"random_horizontal_flip: p must be .* \[0, 1\], got 2"),
        ("random_crop(size=0)", "random_crop: size must be an int >= 1 or a pair of them, got 0"),
        ("random_crop(padding=-1)", "random_crop: padding must be an int >= 0 .* got -1"),
        ("random_crop(padding_mode='wrap')", "padding_mode must be one of constant, .* got 'wrap'"),
        ("random_crop(pad_if_needed=1)", "pad_if_needed must be True or False, got 1"),
        ("random_resized_crop(scale=0.5)", r"scale must be a pair \(lowest, highest\), got 0.5"),
        ("random_resized_crop(ratio=(0, 1))", r"ratio must be above 0, got \(0, 1\)"),
        ("random_rotation(degrees=-3)", "random_rotation: degrees must be a number >= 0 or a pair"),
        ("random_rotation(degrees=3, fill='red')", "fill must be a number or one a channel"),
        ("random_rotation(degrees=3, interpolation='cubic')", "nearest, bilinear, got 'cubic'"),
        ("random_scale(scale=(0, 1))", r"random_scale: scale must be above 0, got \(0, 1\)"),
        ("random_affine(degrees=0, translate=(0, 2))", r"translate must be .* got \(0, 2\)"),
        ("color_jitter(hue=0.6)", r"hue must be an interval within \[-0.5, 0.5\], got 0.6"),
        ("color_jitter(contrast=(2, 1))", r"contrast must be an interval .* got \(2, 1\)"),
    ],
)
def test_a_mistake_in_the_text_is_one_clear_error(text, message):
    with pytest.raises(ValueError, match=message):
        augment.create(text, SHAPE)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (stored(channels=1), r"images must be \(B, H, W, 3\), uint8 or floating .* 1\) uint8"),
        (stored().astype(jnp.int32), "got .* int32"),
    ],
)
def test_images_that_do_not_fit_are_an_error_while_tracing(images, message):
    apply = augment.create("random_crop", SHAPE)
    assert apply is not None
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(apply, jax.random.key(0), images)


def test_functions_tell_wrong_arguments():
    images = jnp.zeros((2, 4, 5, 3))
    with pytest.raises(ValueError, match=r"adjust_hue: factors must have shape \(2,\)"):
        augment.adjust_hue(images, jnp.zeros(3))
    with pytest.raises(ValueError, match="adjust_contrast: images must have 1 or 3 channels, got"):
        augment.adjust_contrast(images[..., :2], jnp.zeros(2))
    with pytest.raises(ValueError, match="rotate: images must be floating, got uint8"):
        augment.rotate(stored(), jnp.zeros(4))
    with pytest.raises(ValueError, match=r"flip_vertical: chosen must be \(2,\) bool"):
        augment.flip_vertical(images, jnp.zeros(2))
    with pytest.raises(ValueError, match="padding 4 is more than images of 4x5 have to reflect"):
        augment.pad(images, 4, "reflect")


def test_describe_names_every_transform_with_its_arguments():
    described = augment.describe()
    assert described.keys() == augment.TRANSFORMS.keys()
    assert described["random_horizontal_flip"] == "p=0.5"
    assert described["random_rotation"].startswith("degrees, interpolation='nearest'")

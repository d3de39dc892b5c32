"""Standardisation against NumPy in float64, torchvision's `normalize`, and itself backwards."""

import importlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torchvision_import import torchvision_models

from jaxcnn import data
from jaxcnn.standardize import (
    channel_statistics,
    denormalize,
    normalize,
    to_symmetric,
    unit_deviation,
    zero_center,
)
from parity.errors import assert_close
from parity.functions import compare, mapped
from parity.sides import to_nhwc

RTOL = {"float64": 1e-12, "float32": 1e-5}
AXES = [0, (0, 1, 2), None, (1, 2), -1]
SHAPES = [(4, 3, 5, 6), (2, 1, 3, 1), (5, 2, 1, 1)]
CHANNELS = [  # mean, deviation
    ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    (0.5, 0.5),
    ([0.1, -2.0, 30.0], 4.0),
    (0.0, (1.0, -2.0, 1e-3)),
]
# Our axes of (B, H, W, C) in PyTorch's (B, C, H, W).
TORCH_AXES = {0: 0, (0, 1, 2): (0, 2, 3), None: (0, 1, 2, 3), (1, 2): (2, 3), -1: 1}


def pixels(shape, dtype):
    return np.random.default_rng(0).uniform(0, 255, shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("axis", AXES)
def test_zero_center(axis, shape, dtype):
    got, want = compare(
        lambda x: zero_center(x, axis),
        lambda x: x - x.mean(TORCH_AXES[axis], keepdim=True),
        {"x": pixels(shape, dtype)},
    )
    # Over one value alone the rest is zero, and so is its gradient.
    zeros = () if want["output"].any() else list(want)
    assert_close(got, want, rtol=RTOL[dtype], zeros=zeros)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape", SHAPES[:1])
@pytest.mark.parametrize("axis", AXES)
def test_unit_deviation(axis, shape, dtype):
    got, want = compare(
        lambda x: unit_deviation(x, axis),
        lambda x: x / x.std(TORCH_AXES[axis], correction=0, keepdim=True),
        {"x": pixels(shape, dtype)},
        second=dtype == "float64",
    )
    assert_close(got, want, rtol=1e-11 if dtype == "float64" else 1e-4)


@pytest.mark.parametrize("axis", AXES)
def test_both_give_mean_0_and_deviation_1(axis, float64):
    x = jnp.asarray(pixels((6, 5, 4, 3), "float64"))
    out = np.asarray(unit_deviation(zero_center(x, axis), axis))
    np.testing.assert_allclose(out.mean(axis), 0, atol=1e-13)
    np.testing.assert_allclose(out.std(axis), 1, rtol=1e-13)


def test_what_never_changes_stays_and_has_a_gradient():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 2, 2, 1)), jnp.float32)
    x = x.at[:, 0, 0].set(7.0)
    value, gradient = jax.value_and_grad(lambda x: unit_deviation(x).sum())(x)
    assert np.isfinite(value) and np.isfinite(gradient).all()
    np.testing.assert_array_equal(unit_deviation(x)[:, 0, 0], 7)
    np.testing.assert_array_equal(gradient[:, 0, 0], 1)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_to_symmetric(dtype):
    got, want = compare(
        to_symmetric,
        lambda images: (images / 255 - 0.5) / 0.5,
        {"images": pixels((2, 3, 4, 5), dtype)},
    )
    assert_close(got, want, rtol=RTOL[dtype])


def test_to_symmetric_of_every_byte_is_the_documented_preprocessing():
    every = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    out = np.asarray(to_symmetric(jnp.asarray(every, jnp.float32)))
    assert out.min() == -1 and out.max() == 1
    np.testing.assert_allclose(out, every / 127.5 - 1, atol=1e-7)
    np.testing.assert_array_equal(out, data.standardize(jnp.asarray(every)))
    np.testing.assert_array_equal(data.unstandardize(jnp.asarray(out)), every)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("mean", "std"), CHANNELS)
def test_normalize_equals_torchvisions(mean, std, dtype):
    torchvision_models()
    functional = importlib.import_module("torchvision.transforms.functional")

    def theirs(x):
        each = (np.broadcast_to(value, 3).tolist() for value in (mean, std))
        return functional.normalize(x, *each)

    got, want = compare(
        lambda x: normalize(x, mean, std), theirs, {"x": pixels((2, 3, 4, 5), dtype)}
    )
    assert_close(got, want, rtol=RTOL[dtype])


@pytest.mark.parametrize(("mean", "std"), CHANNELS)
def test_denormalize_is_the_inverse(mean, std, float64):
    x = jnp.asarray(to_nhwc(pixels((2, 3, 4, 5), "float64")))
    there = jax.jit(lambda x: normalize(x, mean, std))(x)
    back = denormalize(there, mean, std)
    np.testing.assert_allclose(back, x, rtol=1e-12)
    assert np.abs(there - x).max() > 0.1
    images = np.moveaxis(np.asarray(there), -1, 1)
    want = torch.tensor(images) * torch.tensor(np.broadcast_to(std, 3).reshape(3, 1, 1))
    want = want + torch.tensor(np.broadcast_to(mean, 3).reshape(3, 1, 1))
    np.testing.assert_allclose(np.moveaxis(np.asarray(back), -1, 1), want, rtol=1e-14)


def test_normalize_under_vmap_and_with_traced_statistics():
    x = pixels((3, 4, 2, 3), "float64")
    assert_close(*mapped(lambda x: normalize(x, 0.5, 0.25), {"x": x}), rtol=1e-13)
    traced = jax.jit(normalize)(jnp.ones((2, 2, 3)), jnp.zeros(3), jnp.full(3, 2.0))
    np.testing.assert_array_equal(traced, 0.5)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((700, 3, 4, 2), "uint8"),
        ((257, 2, 2, 3), "float32"),
        ((1, 5, 5, 1), "float64"),
        ((10, 3), "float16"),
    ],
)
def test_channel_statistics(shape, dtype):
    values = np.random.default_rng(0).uniform(0, 200, shape).astype(dtype)
    mean, std = channel_statistics(values)
    axes = tuple(range(len(shape) - 1))
    exact = values.astype(np.longdouble)
    np.testing.assert_allclose(mean, exact.mean(axes).astype(float), rtol=1e-14)
    np.testing.assert_allclose(std, exact.std(axes).astype(float), rtol=1e-13)
    assert mean.dtype == std.dtype == np.float64 and mean.shape == shape[-1:]


def test_channel_statistics_where_the_mean_is_large():
    """A million against a deviation of 1, in float32: one pass would give no digit."""
    values = np.random.default_rng(0).normal(1e6, 1, (300, 4, 4, 2)).astype(np.float32)
    mean, std = channel_statistics(values)
    exact = values.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean((0, 1, 2)), rtol=1e-15)
    np.testing.assert_allclose(std, exact.std((0, 1, 2)), rtol=1e-13)
    out = normalize(jnp.asarray(values), mean, std)
    assert np.abs(np.asarray(out).std((0, 1, 2)) - 1).max() < 1e-2


IMAGES = jnp.ones((2, 4, 4, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: zero_center(IMAGES.astype(int)), "zero_center: images must be floating, got int"),
        (lambda: unit_deviation(IMAGES.astype("uint8")), "unit_deviation: images must be floating"),
        (lambda: to_symmetric(IMAGES.astype("uint8")), "to_symmetric: images must be floating"),
        (
            lambda: normalize(IMAGES.astype("uint8"), 0, 1),
            "normalize: images must be floating, got",
        ),
        (lambda: normalize(IMAGES, (0, 1), 1.0), "normalize: mean must be one number or one a c"),
        (
            lambda: normalize(IMAGES, 0.5, (1, 1)),
            "std must be one number or one a channel, got sha",
        ),
        (lambda: normalize(IMAGES, 0.5, 0.0), "normalize: std must not be 0, got 0.0"),
        (lambda: normalize(IMAGES, 0.5, (1, 0, 1)), "std must not be 0, got (1, 0, 1)"),
        (lambda: denormalize(IMAGES, [[0.5]], 1.0), "denormalize: mean must be one number"),
        (
            lambda: channel_statistics(np.ones(3)),
            "images must be (N, ..., C), not empty, got shape",
        ),
        (lambda: channel_statistics(np.ones((0, 2, 3))), "not empty, got shape (0, 2, 3)"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()

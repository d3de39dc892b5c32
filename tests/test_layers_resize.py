"""Resizing against `torch.nn.functional.interpolate` over modes, sizes and scale factors."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from precisions import PRECISIONS

from jaxcnn.layers import Upsample, interpolate
from parity.errors import assert_close
from parity.functions import compare, mapped

# The widest antialiased filters sum some twenty weights in another order.
RTOL = {"float64": 1e-12, "float32": 2e-6}

MODES = {
    "nearest": {"mode": "nearest"},
    "nearest-exact": {"mode": "nearest-exact"},
    "area": {"mode": "area"},
    "bilinear": {"mode": "bilinear"},
    "bilinear, corners": {"mode": "bilinear", "align_corners": True},
    "bilinear, antialias": {"mode": "bilinear", "align_corners": False, "antialias": True},
    "bilinear, both": {"mode": "bilinear", "align_corners": True, "antialias": True},
    "bicubic": {"mode": "bicubic"},
    "bicubic, corners": {"mode": "bicubic", "align_corners": True},
    "bicubic, antialias": {"mode": "bicubic", "antialias": True},
    "bicubic, both": {"mode": "bicubic", "align_corners": True, "antialias": True},
}
TARGETS = [
    ((2, 3, 7, 6), {"size": (14, 12)}),
    ((2, 3, 7, 6), {"size": (3, 11)}),  # one axis shrinks, the other grows
    ((2, 1, 13, 9), {"size": (4, 2)}),
    ((1, 2, 5, 8), {"size": 1}),
    ((1, 2, 5, 8), {"size": (5, 3)}),  # one axis stays
    ((1, 2, 1, 4), {"size": (3, 7)}),  # nothing to interpolate between
    ((2, 2, 6, 5), {"scale_factor": 2}),
    ((2, 2, 6, 5), {"scale_factor": 0.5}),
    ((2, 2, 6, 5), {"scale_factor": 1.7}),
    ((2, 2, 10, 5), {"scale_factor": (0.33, 2.3)}),
    ((1, 3, 7, 10), {"scale_factor": (2.5, 0.7)}),
    ((1, 3, 7, 10), {"scale_factor": 1.3, "recompute_scale_factor": True}),
    ((1, 1, 9, 11), {"scale_factor": 0.3, "recompute_scale_factor": False}),
]


def values(shape, dtype="float64"):
    return np.random.default_rng(0).normal(0.3, 1, shape).astype(dtype)


def check(x, *, second=False, **options):
    power = 2 if second else 1
    got, want = compare(
        lambda x: interpolate(x, **options) ** power,
        lambda x: F.interpolate(x, **options) ** power,
        {"x": x},
        second=second,
    )
    assert_close(got, want, rtol=RTOL[str(x.dtype)])


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("shape", "target"), TARGETS)
def test_values_and_gradients(shape, target, mode, dtype):
    check(values(shape, dtype), **target, **MODES[mode])


# A factor may leave a size as it is, but not the coordinates. Then PyTorch copies the axis, but in
# antialias' gradient it does not; and its bicubic copies the gradient of an image of the same size,
# but not the image. Only the outputs can be equal to those of a differentiable function.
ODD_GRADIENT = ["bilinear, antialias", "bicubic, antialias", "bicubic"]


@pytest.mark.parametrize("factor", [1.1, (1.1, 1.6), (0.7, 1.05)])
@pytest.mark.parametrize("mode", MODES)
def test_a_factor_that_keeps_the_size(mode, factor):
    options = {"scale_factor": factor, **MODES[mode]}
    if mode not in ODD_GRADIENT:
        return check(values((1, 2, 6, 7)), **options)
    x = values((1, 2, 6, 7))
    got, want = compare(
        lambda x: interpolate(x, **options), lambda x: F.interpolate(x, **options), {"x": x}
    )
    assert_close({"output": got["output"]}, {"output": want["output"]}, rtol=1e-12)
    # Linear: the gradient along x is the output.
    direction = np.random.default_rng(0).normal(size=want["output"].shape)
    along = np.vdot(got["gradient of x"], x)
    np.testing.assert_allclose(along, np.vdot(direction, want["output"]), rtol=1e-12)


# Sizes whose quotient lies next to a whole number: float32 and float64 round to different pixels.
@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "bilinear", "bicubic"])
@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize(
    ("length", "target"),
    [
        (49, {"size": (49, 98)}),
        (41, {"size": (33, 82)}),
        (63, {"size": (60, 61)}),
        (10, {"scale_factor": 4.1}),
        (50, {"scale_factor": 0.98}),
        (57, {"scale_factor": 1 / 3}),
        (60, {"scale_factor": 1 / 1.1}),
    ],
)
def test_the_same_pixels_of_long_axes(length, target, dtype, mode):
    check(values((1, 1, length, length), dtype), **target, mode=mode)


@pytest.mark.parametrize("mode", MODES)
def test_twice_differentiable_and_mapped(mode):
    options = {"size": (4, 9), **MODES[mode]}
    check(values((2, 2, 7, 6)), second=True, **options)
    got, want = mapped(lambda x: interpolate(x, **options), {"x": values((2, 2, 7, 6))})
    assert_close(got, want, rtol=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_a_nan_stays_in_its_windows(mode):
    x = np.zeros((1, 1, 12, 16))
    x[0, 0, 2, 3] = np.nan
    options = {"size": (9, 19), **MODES[mode]}
    want = F.interpolate(torch.from_numpy(x), **options).numpy()
    got = interpolate(jnp.asarray(x.transpose(0, 2, 3, 1), jnp.float32), **options)
    assert 0 < np.isnan(want).sum() < want.size / 2
    np.testing.assert_array_equal(np.isnan(got[0, :, :, 0]), np.isnan(want[0, 0]))


def pairs(element):
    return st.tuples(element, element)


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    image=pairs(st.integers(1, 12)),
    target=st.one_of(
        st.fixed_dictionaries({"size": pairs(st.integers(1, 16))}),
        st.fixed_dictionaries({"scale_factor": pairs(st.floats(0.2, 3))}),
    ),
    mode=st.sampled_from(list(MODES)),
    dtype=st.sampled_from(["float64", "float32"]),
)
def test_random_arguments(image, target, mode, dtype):
    if "scale_factor" in target:
        size = [int(n * f) for n, f in zip(image, target["scale_factor"], strict=True)]
        assume(min(size) >= 1)
        assume(mode not in ODD_GRADIENT or all(map(int.__ne__, image, size)))
    check(values((1, 2, *image), dtype), **target, **MODES[mode])


@pytest.mark.parametrize(
    "options",
    [
        {"scale_factor": 2},
        {"size": (3, 8), "mode": "bilinear", "align_corners": True},
        {"scale_factor": (1.3, 0.6), "mode": "bicubic", "recompute_scale_factor": True},
    ],
)
def test_module(options):
    layer = Upsample(**options)
    assert layer.init(jax.random.key(0), jnp.ones((1, 7, 6, 1))) == {}
    theirs = torch.nn.Upsample(**options)
    got, want = compare(
        lambda x: layer.apply({}, x), lambda x: theirs(x), {"x": values((2, 2, 7, 6))}
    )
    assert_close(got, want, rtol=1e-12)


def test_nearest_takes_labels():
    labels = np.arange(12, dtype=np.uint8).reshape(1, 1, 3, 4)
    want = F.interpolate(torch.from_numpy(labels), (5, 2)).numpy()
    got = interpolate(jnp.asarray(labels.transpose(0, 2, 3, 1)), (5, 2))
    assert got.dtype == jnp.uint8
    np.testing.assert_array_equal(got[..., 0], want[:, 0])


@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "area"])
def test_narrow_dtypes_keep_their_dtype(mode):
    x = jnp.asarray(values((1, 7, 6, 2)), jnp.bfloat16)
    got = interpolate(x, (4, 9), mode=mode)
    assert got.dtype == jnp.bfloat16
    want = interpolate(x.astype(jnp.float32), (4, 9), mode=mode)
    np.testing.assert_allclose(got.astype(jnp.float32), want, atol=0.03)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give one of size and scale_factor, got size=None and scale_factor=None"),
        ({"size": 3, "scale_factor": 2}, "got size=3 and scale_factor=2"),
        ({"size": 3, "mode": "cubic"}, "nearest-exact, bilinear, bicubic, area, got 'cubic'"),
        ({"size": 0}, "interpolate: size must be an int or a pair of ints >= 1, got 0"),
        ({"size": (3, -1)}, "interpolate: size must be"),
        ({"size": (3, 4, 5)}, "got (3, 4, 5)"),
        ({"size": 2.5}, "interpolate: size must be an int or a pair of ints >= 1, got 2.5"),
        ({"scale_factor": 0.0}, "scale_factor must be a number or a pair of numbers > 0, got 0.0"),
        ({"scale_factor": (1.0, -2.0)}, "got (1.0, -2.0)"),
        ({"scale_factor": (1.0, 1.0, 1.0)}, "got (1.0, 1.0, 1.0)"),
        ({"scale_factor": float("inf")}, "got inf"),
        ({"scale_factor": "2"}, "got '2'"),
        ({"scale_factor": 0.1}, "scale_factor 0.1 leaves nothing of images (4, 5): (0, 0)"),
        ({"size": 3, "align_corners": True}, "got align_corners=True with mode 'nearest'"),
        ({"size": 3, "align_corners": False, "mode": "area"}, "with mode 'area'"),
        ({"size": 3, "antialias": True}, "antialias goes with bilinear and bicubic, got mode"),
        ({"size": 3, "recompute_scale_factor": True}, "needs a scale_factor, got size=3"),
    ],
)
def test_errors_name_function_argument_and_value(options, message):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        interpolate(jnp.zeros((1, 4, 5, 1)), **options)
    assert str(error.value).startswith("interpolate: ")


def test_errors_of_rank_and_dtype():
    with pytest.raises(ValueError, match=r"interpolate: images must be \(B, H, W, C\)"):
        interpolate(jnp.zeros((4, 5, 1)), 3)
    with pytest.raises(ValueError, match="mode 'bilinear' needs floating images, got uint8"):
        interpolate(jnp.zeros((1, 4, 5, 1), jnp.uint8), 3, mode="bilinear")

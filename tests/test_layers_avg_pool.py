"""Average pools against `torch.nn.functional`: sizes, what counts, overlapping windows, NaN."""

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

from jaxcnn.layers import (
    AdaptiveAvgPool2d,
    AvgPool2d,
    adaptive_avg_pool2d,
    avg_pool2d,
    global_avg_pool2d,
)
from parity.errors import assert_close
from parity.functions import compare, mapped

RTOL = {"float64": 1e-12, "float32": 1e-6}
GRID = [
    ((2, 3, 8, 8), (2,)),
    ((2, 3, 9, 7), (2,)),  # rounds down
    ((2, 2, 13, 28), (3, 2)),
    ((2, 2, 9, 8), (3, 1, 1)),
    ((2, 2, 9, 8), (3, 2, 1)),
    ((2, 2, 9, 8), ((2, 3), (3, 1), (1, 0))),
    ((2, 2, 11, 9), (2, 3)),  # a stride larger than the window
    ((1, 2, 6, 5), (2, 3, 1)),  # in ceil_mode the last window would start behind the image
    ((2, 2, 3, 4), ((3, 4),)),  # one window
    ((1, 1, 5, 4), ((5, 4), 7)),
]
SIZES = [
    ((2, 3, 8, 6), 1),
    ((2, 3, 8, 6), 2),
    ((2, 3, 7, 11), (3, 4)),  # windows overlap
    ((1, 2, 3, 2), (7, 6)),  # values repeat
    ((1, 2, 1, 5), (6, 5)),
    ((2, 1, 9, 9), (9, 2)),
    ((2, 2, 5, 7), (None, 3)),
    ((2, 2, 5, 7), (4, None)),
    ((1, 1, 5, 7), (None, None)),
    ((1, 3, 10, 6), [5, 12]),
]


def values(shape, dtype="float64"):
    return np.random.default_rng(0).normal(0.3, 1, shape).astype(dtype)


def check(ours, theirs, x, *args, second=False, **options):
    power = 2 if second else 1
    got, want = compare(
        lambda x: ours(x, *args, **options) ** power,
        lambda x: theirs(x, *args, **options) ** power,
        {"x": x},
        second=second,
    )
    assert_close(got, want, rtol=RTOL[str(x.dtype)])


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("count_include_pad", [False, True])
@pytest.mark.parametrize(("shape", "args"), GRID)
def test_average(shape, args, ceil_mode, count_include_pad, dtype):
    options = {"ceil_mode": ceil_mode, "count_include_pad": count_include_pad}
    check(avg_pool2d, F.avg_pool2d, values(shape, dtype), *args, **options)


@pytest.mark.parametrize("divisor", [1, 3, -2])
@pytest.mark.parametrize(("shape", "args"), GRID[1:7:2])
def test_divisor_override(shape, args, divisor):
    x = values(shape)
    options = {"divisor_override": divisor}
    check(avg_pool2d, F.avg_pool2d, x, *args, **options)
    options |= {"ceil_mode": True, "count_include_pad": False}
    check(avg_pool2d, F.avg_pool2d, x, *args, **options)


@pytest.mark.parametrize("count_include_pad", [False, True])
def test_a_window_larger_than_the_image_rounds_up_to_one(count_include_pad):
    options = {"ceil_mode": True, "count_include_pad": count_include_pad}
    check(avg_pool2d, F.avg_pool2d, values((1, 2, 2, 5)), 3, 2, **options)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize(("shape", "size"), SIZES)
def test_adaptive_average(shape, size, dtype):
    check(adaptive_avg_pool2d, F.adaptive_avg_pool2d, values(shape, dtype), size)


@pytest.mark.parametrize("shape", [(2, 3, 8, 6), (1, 1, 5, 7), (2, 2, 1, 1)])
@pytest.mark.parametrize("dtype", PRECISIONS)
def test_global_average(shape, dtype):
    check(global_avg_pool2d, lambda x: x.mean((2, 3)), values(shape, dtype))


@pytest.mark.parametrize(
    ("ours", "theirs", "args"),
    [
        (avg_pool2d, F.avg_pool2d, (3, 2, 1)),
        (avg_pool2d, F.avg_pool2d, ((2, 3),)),
        (adaptive_avg_pool2d, F.adaptive_avg_pool2d, ((3, 4),)),
        (adaptive_avg_pool2d, F.adaptive_avg_pool2d, (1,)),
        (global_avg_pool2d, lambda x: x.mean((2, 3)), ()),
    ],
)
def test_twice_differentiable_and_mapped(ours, theirs, args):
    check(ours, theirs, values((2, 3, 7, 9)), *args, second=True)
    got, want = mapped(lambda x: ours(x, *args), {"x": values((2, 3, 7, 9))})
    assert_close(got, want, rtol=1e-12)


def sizes(low, high):
    return st.tuples(st.integers(low, high), st.integers(low, high))


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    image=sizes(1, 9),
    kernel=sizes(1, 4),
    stride=sizes(1, 4),
    padding=sizes(0, 2),
    ceil_mode=st.booleans(),
    count_include_pad=st.booleans(),
    divisor_override=st.sampled_from([None, None, 2, 5]),
)
def test_random_arguments(image, kernel, stride, padding, **options):
    for n, k, p in zip(image, kernel, padding, strict=True):
        assume(2 * p <= k <= n + 2 * p)
    check(avg_pool2d, F.avg_pool2d, values((2, 2, *image)), kernel, stride, padding, **options)


@settings(deadline=None, derandomize=True, max_examples=20)
@given(sizes(1, 9), sizes(1, 9))
def test_random_adaptive_sizes(image, size):
    check(adaptive_avg_pool2d, F.adaptive_avg_pool2d, values((1, 2, *image)), size)


def test_a_nan_stays_in_its_windows():
    x = np.zeros((1, 1, 7, 9))
    x[0, 0, 2, 3] = np.nan
    for ours, theirs, argument in (
        (adaptive_avg_pool2d, F.adaptive_avg_pool2d, (3, 4)),
        (avg_pool2d, F.avg_pool2d, 2),
    ):
        got, want = compare(
            lambda x, ours=ours, argument=argument: ours(x, argument),
            lambda x, theirs=theirs, argument=argument: theirs(x, argument),
            {"x": x},
        )
        assert 0 < np.isnan(want["output"]).sum() < want["output"].size / 2
        np.testing.assert_array_equal(np.isnan(got["output"]), np.isnan(want["output"]))


@pytest.mark.parametrize(
    ("ours", "theirs", "options"),
    [
        (AvgPool2d, torch.nn.AvgPool2d, {"kernel_size": 2}),
        (
            AvgPool2d,
            torch.nn.AvgPool2d,
            {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False},
        ),
        (
            AvgPool2d,
            torch.nn.AvgPool2d,
            {"kernel_size": (3, 2), "ceil_mode": True, "divisor_override": 5},
        ),
        (AdaptiveAvgPool2d, torch.nn.AdaptiveAvgPool2d, {"output_size": (3, None)}),
    ],
)
def test_modules(ours, theirs, options):
    layer = ours(**options)
    assert layer.init(jax.random.key(0), jnp.ones((1, 7, 8, 1))) == {}
    check(lambda x: layer.apply({}, x), theirs(**options), values((2, 2, 8, 7)))


@pytest.mark.parametrize(
    ("function", "shape", "args", "message"),
    [
        (avg_pool2d, (4, 4, 1), (2,), "avg_pool2d: images must be (B, H, W, C), got shape"),
        (avg_pool2d, (1, 4, 4, 1), (0,), "avg_pool2d: kernel_size must be"),
        (avg_pool2d, (1, 4, 4, 1), (2, 0), "avg_pool2d: stride must be"),
        (avg_pool2d, (1, 4, 4, 1), (3, 1, 2), "avg_pool2d: padding (2, 2) must be at most half"),
        (avg_pool2d, (1, 4, 4, 1), (5,), "avg_pool2d: kernel (5, 5)"),
        (adaptive_avg_pool2d, (4, 1), (2,), "adaptive_avg_pool2d: images must be"),
        (adaptive_avg_pool2d, (1, 4, 4, 1), (0,), "adaptive_avg_pool2d: output_size must be"),
        (adaptive_avg_pool2d, (1, 4, 4, 1), (None,), "adaptive_avg_pool2d: output_size must be"),
        (adaptive_avg_pool2d, (1, 4, 4, 1), ((2, -1),), "output_size must be an int or a pair"),
        (adaptive_avg_pool2d, (1, 4, 4, 1), ((2, 2, None),), "got (2, 2, None)"),
        (global_avg_pool2d, (4, 4, 1), (), "global_avg_pool2d: images must be (B, H, W, C)"),
    ],
)
def test_errors_name_layer_argument_and_value(function, shape, args, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        function(jnp.zeros(shape), *args)


@pytest.mark.parametrize("divisor", [0, 2.5])
def test_error_of_the_divisor(divisor):
    message = f"avg_pool2d: divisor_override must be an int other than 0, got {divisor}"
    with pytest.raises(ValueError, match=message):
        avg_pool2d(jnp.zeros((1, 4, 4, 1)), 2, divisor_override=divisor)

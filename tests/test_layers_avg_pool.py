"""Average pools against `torch.nn.functional`: sizes, what counts, overlapping windows, NaN."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch.nn.functional as F

from jaxcnn.layers import AdaptiveAvgPool2d, AvgPool2d, adaptive_avg_pool2d, avg_pool2d
from parity.errors import assert_close
from parity.functions import compare

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
]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("count_include_pad", [False, True])
@pytest.mark.parametrize(("shape", "args"), GRID)
def test_average(shape, args, ceil_mode, count_include_pad, dtype):
    options = {"ceil_mode": ceil_mode, "count_include_pad": count_include_pad}
    got, want = compare(
        lambda x: avg_pool2d(x, *args, **options),
        lambda x: F.avg_pool2d(x, *args, **options),
        {"x": np.random.default_rng(0).normal(0.3, 1, shape).astype(dtype)},
    )
    assert_close(got, want, rtol=RTOL[dtype])


@pytest.mark.parametrize("count_include_pad", [False, True])
def test_a_window_larger_than_the_image_rounds_up_to_one(count_include_pad):
    options = {"ceil_mode": True, "count_include_pad": count_include_pad}
    got, want = compare(
        lambda x: avg_pool2d(x, 3, 2, **options),
        lambda x: F.avg_pool2d(x, 3, 2, **options),
        {"x": np.random.default_rng(0).normal(0.3, 1, (1, 2, 2, 5))},
    )
    assert_close(got, want, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("shape", "size"), SIZES)
def test_adaptive_average(shape, size, dtype):
    got, want = compare(
        lambda x: adaptive_avg_pool2d(x, size),
        lambda x: F.adaptive_avg_pool2d(x, size),
        {"x": np.random.default_rng(0).normal(0.3, 1, shape).astype(dtype)},
    )
    assert_close(got, want, rtol=RTOL[dtype])


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
    "layer", [AvgPool2d(3, 2, 1, count_include_pad=False), AdaptiveAvgPool2d((3, 2))]
)
def test_jit_vmap_and_module(layer, float64):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2, 7, 6, 2)))
    assert layer.init(jax.random.key(0), x[0]) == {}

    def objective(x):
        return (layer.apply({}, x) ** 3).sum()

    mapped = jax.jit(jax.vmap(jax.grad(objective)))(x)
    for i in range(3):
        np.testing.assert_allclose(mapped[i], jax.grad(objective)(x[i]), rtol=1e-12)


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
    ],
)
def test_errors_name_layer_argument_and_value(function, shape, args, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        function(jnp.zeros(shape), *args)

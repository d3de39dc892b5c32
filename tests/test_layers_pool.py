"""Max pools against `torch.nn.functional.max_pool2d`: sizes, ties, NaN, infinities."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from torch.nn.functional import max_pool2d as torch_max_pool2d

from jaxcnn.layers import MaxPool2d, max_pool2d
from parity.errors import assert_close
from parity.functions import compare

GRID = [
    ((2, 3, 8, 8), (2,)),
    ((2, 3, 9, 7), (2,)),  # rounds down
    ((1, 1, 7, 12), (3, 2)),
    ((2, 2, 13, 28), (3, 2)),
    ((2, 2, 9, 8), (3, 1, 1)),
    ((2, 2, 9, 8), (3, 2, 1)),
    ((2, 2, 9, 8), ((2, 3), (3, 1), (1, 0))),
    ((2, 2, 9, 8), ((3, 2), (1, 2), (0, 1))),
    ((2, 2, 11, 9), (2, 3)),  # a stride larger than the window
    ((2, 2, 3, 4), ((3, 4),)),  # one window
    ((1, 2, 1, 5), (1,)),
    ((1, 1, 15, 16), (12, 2, 6)),  # 144 taps: places no longer fit int8
]
CEIL = [
    ((2, 3, 8, 11), (3, 2)),
    ((2, 3, 7, 9), (2, 2)),
    ((1, 2, 6, 5), (2, 3, 1)),  # the last window would start behind the image
    ((2, 2, 9, 8), ((3, 2), (2, 4), (1, 0))),
    ((1, 1, 5, 4), ((5, 4), 7)),
    ((1, 2, 2, 5), (3, 2)),  # the window is larger than the image
    ((1, 2, 1, 2), ((3, 4), 3)),
]


def check(x, args, dtype, **options):
    got, want = compare(
        lambda x: max_pool2d(x, *args, **options),
        lambda x: torch_max_pool2d(x, *args, **options),
        {"x": x.astype(dtype)},
    )
    assert_close(got, want, rtol=1e-12 if dtype == "float64" else 1e-6)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("shape", "args"), GRID)
def test_values_and_gradients(shape, args, dtype):
    # All negative: padding with zeros would win.
    check(-np.random.default_rng(0).uniform(1, 2, shape), args, dtype)


@pytest.mark.parametrize(("shape", "args"), GRID)
def test_of_equal_maxima_pytorchs_gets_the_gradient(shape, args):
    check(-np.random.default_rng(0).integers(1, 3, shape), args, "float64")


@pytest.mark.parametrize(("shape", "args"), [*CEIL, *GRID[1:4]])
def test_ceil_mode(shape, args):
    check(-np.random.default_rng(0).uniform(1, 2, shape), args, "float64", ceil_mode=True)
    check(-np.random.default_rng(0).integers(1, 3, shape), args, "float64", ceil_mode=True)


@pytest.mark.parametrize("args", [(2,), (3, 2, 1)])
@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity(special, args):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 2, 8, 9))
    x[rng.random(x.shape) < 0.3] = special
    x[0, 0] = special  # whole windows too
    got, want = compare(
        lambda x: max_pool2d(x, *args), lambda x: torch_max_pool2d(x, *args), {"x": x}
    )
    assert np.isin(want["output"], special).any() or np.isnan(want["output"]).any()
    for name in want:
        # Overlapping windows add their gradients in another order.
        np.testing.assert_allclose(got[name], want[name], rtol=1e-14, err_msg=name)


def test_jit_vmap_and_module(float64):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2, 7, 6, 2)))
    layer = MaxPool2d(3, 2, 1)
    assert layer.init(jax.random.key(0), x[0]) == {}
    mapped = jax.jit(jax.vmap(jax.grad(lambda x: (layer.apply({}, x) ** 3).sum())))(x)
    for i in range(3):
        one = jax.grad(lambda x: (max_pool2d(x, 3, 2, 1) ** 3).sum())(x[i])
        np.testing.assert_allclose(mapped[i], one, rtol=1e-12)


@pytest.mark.parametrize(
    ("shape", "args", "message"),
    [
        ((4, 4, 1), (2,), "max_pool2d: images must be (B, H, W, C), got shape (4, 4, 1)"),
        (
            (1, 4, 4, 1),
            (0,),
            "max_pool2d: kernel_size must be an int or a pair of ints >= 1, got 0",
        ),
        ((1, 4, 4, 1), (2, 0), "max_pool2d: stride must be"),
        ((1, 4, 4, 1), (2, 1, -1), "max_pool2d: padding must be"),
        ((1, 4, 4, 1), (3, 1, 2), "max_pool2d: padding (2, 2) must be at most half of kernel_size"),
        ((1, 4, 4, 1), (5,), "max_pool2d: kernel (5, 5)"),
    ],
)
def test_errors_name_layer_argument_and_value(shape, args, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        max_pool2d(jnp.zeros(shape), *args)

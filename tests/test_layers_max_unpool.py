"""Max unpooling against `torch.nn.functional.max_unpool2d`."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from precisions import PRECISIONS

from jaxcnn.layers import MaxUnpool2d, max_pool2d, max_unpool2d
from parity.errors import assert_close
from parity.functions import compare, mapped

RTOL = {"float64": 1e-12, "float32": 1e-6}

# shape of what is pooled, (kernel_size, stride, padding)
GRID = [
    ((2, 3, 8, 8), (2,)),
    ((2, 3, 9, 7), (2,)),
    ((1, 1, 7, 12), (3, 2)),  # windows overlap: some values share a place
    ((2, 2, 9, 8), (3, 1, 1)),
    ((2, 2, 9, 8), (3, 2, 1)),
    ((2, 2, 9, 8), ((2, 3), (3, 1), (1, 0))),
    ((2, 2, 11, 9), (2, 3)),
    ((1, 2, 1, 5), (1,)),
]


def pooled(shape, args):
    """Return maxima and their indices, both NCHW."""
    x = torch.from_numpy(np.random.default_rng(0).normal(size=shape))
    maxima, indices = F.max_pool2d(x, *args, return_indices=True)
    # Other values than the maxima: those that share a place differ.
    return np.random.default_rng(1).normal(0.3, 1, maxima.shape), indices


def check(x, indices, args, output_size=None, ours=max_unpool2d, second=False):
    places = jnp.asarray(indices.numpy().transpose(0, 2, 3, 1), jnp.int32)
    power = 2 if second else 1
    got, want = compare(
        lambda x: ours(x, places, *args, output_size=output_size) ** power,
        lambda x: F.max_unpool2d(x, indices, *args, output_size=output_size) ** power,
        {"x": x},
        second=second,
    )
    assert_close(got, want, rtol=RTOL[str(x.dtype)])


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize(("shape", "args"), GRID)
def test_to_the_size_that_was_pooled(shape, args, dtype):
    x, indices = pooled(shape, args)
    check(x.astype(dtype), indices, args, output_size=shape[2:])


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize(("shape", "args"), [GRID[0], GRID[3], GRID[7]])
def test_to_the_default_size(shape, args, dtype):
    x, indices = pooled(shape, args)
    check(x.astype(dtype), indices, args)


@pytest.mark.parametrize(("shape", "args"), [GRID[0], GRID[2], GRID[4]])
def test_twice_differentiable(shape, args):
    x, indices = pooled(shape, args)
    check(x, indices, args, output_size=shape[2:], second=True)


def test_module_takes_the_shape_of_what_was_pooled():
    x, indices = pooled((2, 3, 9, 7), (2,))
    places = jnp.asarray(indices.numpy().transpose(0, 2, 3, 1))
    layer = MaxUnpool2d(2)
    got, want = compare(
        lambda x: layer.apply({}, x, places, (2, 9, 7, 3)),
        lambda x: torch.nn.MaxUnpool2d(2)(x, indices, (2, 3, 9, 7)),
        {"x": x},
    )
    assert_close(got, want, rtol=1e-12)


def test_inverts_a_pool_under_jit_and_vmap():
    def there_and_back(x):
        return max_unpool2d(*max_pool2d(x, 2, return_indices=True), 2, output_size=x.shape)

    got, want = mapped(there_and_back, {"x": np.random.default_rng(0).normal(size=(2, 2, 7, 6))})
    assert_close(got, want, rtol=1e-12)

    def theirs(x):
        return F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2, output_size=x.shape)

    got, want = compare(
        there_and_back, theirs, {"x": np.random.default_rng(0).normal(size=(2, 2, 7, 6))}
    )
    assert_close(got, want, rtol=1e-12)


def test_indices_out_of_range_are_dropped(float64):
    x = jnp.asarray([1.0, 2.0, 3.0, 4.0]).reshape(1, 2, 2, 1)
    indices = jnp.asarray([5, 16, -1, 99]).reshape(1, 2, 2, 1)

    @jax.jit
    def run(x):
        out, pull = jax.vjp(lambda x: max_unpool2d(x, indices, 2), x)
        return out, pull(jnp.full_like(out, 7))[0]

    out, gradient = run(x)
    np.testing.assert_array_equal(out, 1.0 * (np.arange(16) == 5).reshape(1, 4, 4, 1))
    np.testing.assert_array_equal(gradient.ravel(), [7, 0, 0, 0])


@pytest.mark.parametrize(
    ("shape", "indices", "args", "message"),
    [
        ((2, 2, 1), (2, 2, 1), (2,), "max_unpool2d: images must be (B, H, W, C), got shape"),
        ((1, 2, 2, 1), (1, 2, 3, 1), (2,), "indices must be integers of the images' shape"),
        ((1, 2, 2, 1), (1, 2, 2, 1), (0,), "max_unpool2d: kernel_size must be"),
        ((1, 2, 2, 1), (1, 2, 2, 1), (2, -1), "max_unpool2d: stride must be"),
        ((1, 2, 2, 1), (1, 2, 2, 1), (2, 2, -1), "max_unpool2d: padding must be"),
        ((1, 2, 2, 1), (1, 2, 2, 1), (2, 2, 2), "max_unpool2d: output_size must be"),
        ((1, 2, 2, 1), (1, 2, 2, 1), (2, 2, 0, (4, 6)), "output_size (4, 6) must be less than"),
        ((1, 2, 2, 1), (1, 2, 2, 1), (2, 2, 0, (2, 4)), "output_size (2, 4) must be less than"),
        ((1, 2, 2, 1), (1, 2, 2, 1), (2, 2, 0, (4, 4, 4)), "got (4, 4, 4)"),
    ],
)
def test_errors_name_layer_argument_and_value(shape, indices, args, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        max_unpool2d(jnp.zeros(shape), jnp.zeros(indices, jnp.int32), *args)


def test_indices_must_be_integers():
    with pytest.raises(ValueError, match="indices must be integers .* got float32"):
        max_unpool2d(jnp.zeros((1, 2, 2, 1)), jnp.zeros((1, 2, 2, 1)), 2)

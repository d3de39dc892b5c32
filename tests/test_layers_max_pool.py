"""Max pools against `torch.nn.functional`: sizes, indices, ties, NaN, infinities."""

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

from jaxcnn.layers import AdaptiveMaxPool2d, MaxPool2d, adaptive_max_pool2d, forms, max_pool2d
from parity.errors import assert_close
from parity.functions import compare, mapped

RTOL = {"float64": 1e-12, "float32": 1e-6}
INDICES = "output[1]"

# shape, (kernel_size, stride, padding, dilation)
GRID = [
    ((2, 3, 8, 8), (2,)),
    ((2, 3, 9, 7), (2,)),  # rounds down
    ((1, 1, 7, 12), (3, 2)),
    ((2, 2, 13, 28), (3, 2)),
    ((2, 3, 7, 9), (2, 2)),
    ((2, 2, 9, 8), (3, 1, 1)),
    ((2, 2, 9, 8), (3, 2, 1)),
    ((2, 2, 9, 8), ((2, 3), (3, 1), (1, 0))),
    ((2, 2, 9, 8), ((3, 2), (1, 2), (0, 1))),
    ((2, 2, 9, 8), ((3, 2), (2, 4), (1, 0))),
    ((2, 2, 11, 9), (2, 3)),  # a stride larger than the window
    ((1, 2, 6, 5), (2, 3, 1)),  # the last window of ceil_mode would start behind the image
    ((2, 2, 3, 4), ((3, 4),)),  # one window
    ((1, 2, 1, 5), (1,)),
    ((1, 2, 5, 1), ((2, 1), 1)),
    ((2, 2, 9, 8), (2, 1, 0, 2)),
    ((2, 2, 9, 8), (3, 2, 1, 2)),
    ((2, 2, 9, 10), (2, 2, 1, 3)),
    ((2, 2, 9, 10), (3, None, 0, (2, 3))),
    ((1, 3, 10, 7), ((2, 3), (3, 1), (1, 0), (4, 2))),
    ((1, 2, 10, 9), ((4, 3), (2, 3), (2, 1), (2, 1))),
    ((1, 1, 5, 7), (3, 4, 1, (2, 3))),  # the taps reach as far as the padded image
]
CEIL = [  # a window larger than the image
    ((1, 1, 5, 4), ((5, 4), 7)),
    ((1, 2, 2, 5), (3, 2)),
    ((1, 2, 1, 2), ((3, 4), 3)),
    ((1, 2, 6, 6), (3, 2, 0, 3)),
]
ADAPTIVE = [
    ((2, 3, 8, 6), 1),
    ((2, 3, 8, 6), 2),
    ((2, 3, 7, 11), (3, 4)),  # windows overlap
    ((1, 2, 3, 2), (7, 6)),  # values repeat
    ((1, 2, 1, 5), (6, 5)),
    ((2, 1, 9, 9), (9, 2)),
    ((2, 2, 5, 7), (None, 3)),
    ((2, 2, 5, 7), (4, None)),
    ((1, 1, 5, 7), (None, None)),
]


def values(shape, dtype="float64"):
    """All negative: padding with zeros would win."""
    return (-np.random.default_rng(0).uniform(1, 2, shape)).astype(dtype)


def ties(shape):
    return -np.random.default_rng(0).integers(1, 3, shape).astype("float64")


def check(ours, theirs, x, *args, **options):
    """Compare maxima, indices and gradients."""

    def with_indices(x):
        out, indices = theirs(x, *args, **options, return_indices=True)
        return out, indices.int()

    got, want = compare(
        lambda x: ours(x, *args, **options, return_indices=True), with_indices, {"x": x}
    )
    assert_close(got, want, rtol=RTOL[str(x.dtype)], zeros=[INDICES])


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize(("shape", "args"), GRID)
def test_maxima_indices_and_gradients(shape, args, dtype, ceil_mode):
    check(max_pool2d, F.max_pool2d, values(shape, dtype), *args, ceil_mode=ceil_mode)


def test_more_taps_than_int8_counts():
    check(max_pool2d, F.max_pool2d, ties((1, 1, 15, 16)), 12, 2, 6)


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize(("shape", "args"), GRID)
def test_of_equal_maxima_pytorchs_wins(shape, args, ceil_mode):
    check(max_pool2d, F.max_pool2d, ties(shape), *args, ceil_mode=ceil_mode)


@pytest.mark.parametrize(("shape", "args"), CEIL)
def test_a_window_larger_than_the_image_rounds_up_to_one(shape, args):
    check(max_pool2d, F.max_pool2d, values(shape), *args, ceil_mode=True)
    check(max_pool2d, F.max_pool2d, ties(shape), *args, ceil_mode=True)


@pytest.mark.parametrize(("shape", "args"), GRID)
def test_xlas_form_of_the_gradient(shape, args):
    with forms.prefer("xla"):
        check(max_pool2d, F.max_pool2d, ties(shape), *args)


def test_the_gradient_is_our_own_code_on_a_cpu():
    text = jax.jit(jax.grad(lambda x: max_pool2d(x, 2).sum())).lower(jnp.ones((1, 4, 4, 3)))
    assert ("jaxcnn_unpool" in text.as_text()) == forms.native("float32")


@pytest.mark.parametrize("form", ["native", "xla"])
@pytest.mark.parametrize(("shape", "args"), GRID[::3])
def test_without_indices_twice_differentiable(shape, args, form):
    with forms.prefer(form):
        got, want = compare(
            lambda x: max_pool2d(x, *args) ** 2,
            lambda x: F.max_pool2d(x, *args) ** 2,
            {"x": values(shape)},
            second=True,
        )
    assert_close(got, want, rtol=1e-12)


@pytest.mark.parametrize("form", ["native", "xla"])
@pytest.mark.parametrize(("shape", "args"), GRID[::3])
def test_forward_mode_is_the_transposed_of_reverse(shape, args, form, float64):
    """Also of a gradient, and mapped over directions."""

    def pool(x):
        return max_pool2d(x, *args) ** 2

    def squared(x):
        return jnp.sum(pool(x) ** 2)

    with forms.prefer(form):
        x, *directions = (jnp.asarray(values(shape)).transpose(0, 2, 3, 1) * k for k in (1, 2, -3))
        out, tangents = jax.jvp(pool, (x,), (directions[0],))
        weights = jnp.sin(jnp.arange(out.size, dtype=out.dtype)).reshape(out.shape)
        (pulled,) = jax.vjp(pool, x)[1](weights)
        forward = (tangents * weights).sum()
        np.testing.assert_allclose(forward, (pulled * directions[0]).sum(), rtol=1e-12)
        hessian = [jax.jvp(jax.grad(squared), (x,), (t,))[1] for t in directions]
        mapped = jax.vmap(lambda t: jax.jvp(jax.grad(squared), (x,), (t,))[1])
        np.testing.assert_allclose(mapped(jnp.stack(directions)), jnp.stack(hessian), rtol=1e-12)
        (again,) = jax.vjp(jax.grad(squared), x)[1](directions[0])  # a Hessian is symmetric
        np.testing.assert_allclose(again, hessian[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize(("shape", "size"), ADAPTIVE)
def test_adaptive(shape, size, dtype, tied):
    x = ties(shape).astype(dtype) if tied else values(shape, dtype)
    check(adaptive_max_pool2d, F.adaptive_max_pool2d, x, size)


@pytest.mark.parametrize(("shape", "size"), ADAPTIVE[1:4])
def test_adaptive_without_indices_twice_differentiable(shape, size):
    got, want = compare(
        lambda x: adaptive_max_pool2d(x, size) ** 2,
        lambda x: F.adaptive_max_pool2d(x, size) ** 2,
        {"x": values(shape)},
        second=True,
    )
    assert_close(got, want, rtol=1e-12)


@pytest.mark.parametrize(
    ("ours", "theirs", "args"),
    [
        (max_pool2d, F.max_pool2d, (2,)),
        (max_pool2d, F.max_pool2d, (3, 2, 1)),
        (max_pool2d, F.max_pool2d, (3, 1, 1, 2)),
        (adaptive_max_pool2d, F.adaptive_max_pool2d, ((3, 4),)),
    ],
)
@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity(special, ours, theirs, args):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 2, 8, 9))
    x[rng.random(x.shape) < 0.3] = special
    x[0, 0] = special  # whole windows too
    got, want = compare(
        lambda x: ours(x, *args, return_indices=True),
        lambda x: theirs(x, *args, return_indices=True),
        {"x": x},
    )
    assert np.isin(want["output"], special).any() or np.isnan(want["output"]).any()
    for name in want:
        # Overlapping windows add their gradients in another order.
        np.testing.assert_allclose(got[name], want[name], rtol=1e-14, err_msg=name)


def sizes(low, high):
    return st.tuples(st.integers(low, high), st.integers(low, high))


@settings(deadline=None, derandomize=True, max_examples=40)
@given(sizes(1, 9), sizes(1, 4), sizes(1, 4), sizes(0, 2), sizes(1, 3), st.booleans())
def test_random_arguments(image, kernel, stride, padding, dilation, ceil_mode):
    for n, k, s, p, d in zip(image, kernel, stride, padding, dilation, strict=True):
        reach = d * (k - 1) + 1
        assume(2 * p <= k and n + 2 * p >= reach)
        # PyTorch writes beyond the image where the taps step over all of it.
        starts = range(-p, min(n, n + 2 * p - reach + s), s)
        assume(all(any(0 <= start + i * d < n for i in range(k)) for start in starts))
    x = ties((2, 2, *image))
    check(max_pool2d, F.max_pool2d, x, kernel, stride, padding, dilation, ceil_mode=ceil_mode)


def test_a_window_whose_taps_step_over_the_image(float64):
    x = jnp.ones((1, 2, 2, 1))
    maxima, gradient = jax.value_and_grad(lambda x: max_pool2d(x, 2, 1, 1, 3).max())(x)
    assert maxima == -np.inf
    assert not gradient.any()


@pytest.mark.parametrize("options", [{}, {"padding": 1, "ceil_mode": True}, {"dilation": 2}])
def test_vmap(options):
    x = {"x": values((2, 2, 7, 6))}
    got, want = mapped(lambda x: max_pool2d(x, 3, 2, **options), x)
    assert_close(got, want, rtol=1e-12)


def test_adaptive_vmap():
    got, want = mapped(lambda x: adaptive_max_pool2d(x, (3, 4)), {"x": values((2, 2, 7, 6))})
    assert_close(got, want, rtol=1e-12)


def test_gradient_of_a_jitted_pool_is_the_pools(float64):
    x = jnp.asarray(values((2, 7, 6, 2)))
    pool = jax.jit(lambda x: (max_pool2d(x, 3, 2, 1) ** 2).sum())
    np.testing.assert_array_equal(jax.grad(pool)(x), jax.jit(jax.grad(pool))(x))


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 2},
        {"kernel_size": 3, "stride": 2, "padding": 1, "return_indices": True},
        {"kernel_size": (3, 2), "dilation": 2, "ceil_mode": True, "return_indices": True},
    ],
)
def test_module(options):
    def theirs(x):
        out = torch.nn.MaxPool2d(**options)(x)
        return (out[0], out[1].int()) if isinstance(out, tuple) else out

    layer = MaxPool2d(**options)
    assert layer.init(jax.random.key(0), jnp.ones((1, 7, 8, 1))) == {}
    got, want = compare(lambda x: layer.apply({}, x), theirs, {"x": values((2, 2, 8, 7))})
    assert_close(got, want, rtol=1e-12)


@pytest.mark.parametrize("return_indices", [False, True])
def test_adaptive_module(return_indices):
    def theirs(x):
        out = torch.nn.AdaptiveMaxPool2d((3, None), return_indices)(x)
        return (out[0], out[1].int()) if return_indices else out

    layer = AdaptiveMaxPool2d((3, None), return_indices)
    got, want = compare(lambda x: layer.apply({}, x), theirs, {"x": values((2, 2, 8, 7))})
    assert_close(got, want, rtol=1e-12)


@pytest.mark.parametrize(
    ("shape", "args", "message"),
    [
        ((4, 4, 1), (2,), "max_pool2d: images must be (B, H, W, C), got shape (4, 4, 1)"),
        (
            (1, 4, 4, 1),
            (0,),
            "max_pool2d: kernel_size must be an int or a pair of ints >= 1, got 0",
        ),
        ((1, 4, 4, 1), ((2, 2, 2),), "max_pool2d: kernel_size must be"),
        ((1, 4, 4, 1), (2.5,), "max_pool2d: kernel_size must be"),
        ((1, 4, 4, 1), (2, 0), "max_pool2d: stride must be"),
        ((1, 4, 4, 1), (2, 1, -1), "max_pool2d: padding must be"),
        ((1, 4, 4, 1), (2, 1, 0, 0), "max_pool2d: dilation must be"),
        ((1, 4, 4, 1), (3, 1, 2), "max_pool2d: padding (2, 2) must be at most half of kernel_size"),
        ((1, 4, 4, 1), (3, 1, 2, 2), "padding (2, 2) must be at most half of kernel_size (3, 3)"),
        ((1, 4, 4, 1), (5,), "max_pool2d: kernel (5, 5)"),
        ((1, 4, 4, 1), (3, 1, 0, 2), "max_pool2d: kernel (5, 5) (dilation included)"),
    ],
)
def test_errors_name_layer_argument_and_value(shape, args, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        max_pool2d(jnp.zeros(shape), *args)


@pytest.mark.parametrize(
    ("shape", "size", "message"),
    [
        ((4, 4, 1), 2, "adaptive_max_pool2d: images must be (B, H, W, C), got shape (4, 4, 1)"),
        ((1, 4, 4, 1), 0, "adaptive_max_pool2d: output_size must be"),
        ((1, 4, 4, 1), None, "adaptive_max_pool2d: output_size must be"),
        ((1, 4, 4, 1), (2, -1), "adaptive_max_pool2d: output_size must be"),
        ((1, 4, 4, 1), (2, 2, None), "adaptive_max_pool2d: output_size must be"),
    ],
)
def test_adaptive_errors_name_layer_argument_and_value(shape, size, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        adaptive_max_pool2d(jnp.zeros(shape), size)

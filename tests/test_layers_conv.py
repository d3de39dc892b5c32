"""Convolutions against `torch.nn.functional.conv2d` over a grid of arguments, in every form."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn.functional import conv2d as torch_conv2d

from jaxcnn.layers import Conv2d, Linear, conv2d, forms, global_avg_pool2d
from parity.errors import assert_close
from parity.functions import compare, mapped

RTOL = {"float64": 1e-12, "float32": 1e-5}

# (batch, in, height, width), (out, kh, kw), arguments
GRID = [
    ((2, 3, 7, 7), (4, 3, 3), {}),
    ((2, 3, 8, 11), (4, 3, 3), {"padding": 1}),
    ((1, 1, 5, 9), (1, 1, 1), {}),
    ((1, 1, 28, 28), (2, 5, 5), {"padding": 2}),
    ((2, 2, 9, 6), (3, 3, 2), {"stride": 2}),
    ((2, 2, 9, 6), (3, 2, 3), {"stride": (1, 3), "padding": (2, 0)}),
    ((2, 2, 10, 13), (3, 7, 7), {"stride": 2}),
    ((2, 2, 10, 13), (3, 7, 7), {"stride": 2, "padding": 3}),
    ((1, 3, 11, 12), (2, 3, 3), {"dilation": 2}),
    ((1, 3, 11, 12), (2, 3, 2), {"dilation": (1, 4), "padding": (3, 1), "stride": (3, 2)}),
    ((2, 2, 6, 7), (3, 3, 3), {"padding": "same"}),
    ((2, 2, 6, 7), (3, 2, 4), {"padding": "same"}),
    ((2, 2, 9, 7), (3, 4, 2), {"padding": "same", "dilation": (1, 3)}),
    ((2, 2, 6, 7), (3, 3, 5), {"padding": "valid"}),
    ((3, 5, 2, 2), (4, 3, 3), {"padding": 1}),  # the image is smaller than the kernel
    ((1, 2, 1, 1), (3, 5, 3), {"padding": (2, 1)}),
    ((2, 2, 4, 5), (3, 4, 5), {}),  # one output pixel
    ((2, 2, 4, 5), (3, 1, 1), {"stride": 3, "padding": 2}),  # padding larger than the kernel
    ((2, 2, 5, 4), (3, 2, 2), {"stride": 5}),  # stride larger than the kernel
]


def arguments(images, kernel, dtype, groups=1, bias=True, **_):
    rng = np.random.default_rng(0)
    values = {
        "x": rng.normal(0.3, 1, images),
        "weight": rng.normal(size=(kernel[0], images[1] // groups, *kernel[1:])),
        "bias": rng.normal(size=kernel[0]),
    }
    return {n: v.astype(dtype) for n, v in values.items() if bias or n != "bias"}


def check(images, kernel, options, dtype, bias=True, second=False, zeros=frozenset()):
    def ours(x, weight, bias=None):
        return conv2d(x, weight, bias, **options)

    def theirs(x, weight, bias=None):
        return torch_conv2d(x, weight, bias, **options)

    values = arguments(images, kernel, dtype, bias=bias, **options)
    got, want = compare(ours, theirs, values, second=second)
    # The output is linear in the bias, which no other gradient holds.
    assert_close(got, want, rtol=RTOL[dtype], zeros={*zeros, "second gradient of bias"})


# PyTorch says so where the odd zero of 'same' costs it a copy.
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("form", ["convolution", "matrix_product"])
@pytest.mark.parametrize(("images", "kernel", "options"), GRID)
def test_both_forms(images, kernel, options, form, dtype, monkeypatch):
    monkeypatch.setattr(forms, "conv", lambda *_: form)
    check(images, kernel, options, dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("images", "kernel", "options"), [GRID[1], GRID[14]])
def test_the_form_chosen(images, kernel, options, dtype):
    check(images, kernel, options, dtype)
    check(images, kernel, options, dtype, bias=False)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize(
    ("images", "kernel", "options"),
    [*GRID[1:14:3], GRID[14]],
)
def test_gradients_of_gradients(images, kernel, options):
    check(images, kernel, options, "float64", second=True)


@pytest.mark.parametrize(("images", "kernel", "options"), GRID[1:12:3])
def test_vmap(images, kernel, options):
    got, want = mapped(
        lambda x, weight, bias: conv2d(x, weight, bias, **options),
        arguments(images, kernel, "float64", **options),
    )
    assert_close(got, want, rtol=1e-12)


def test_edge_detection():
    """The documented demonstration: a kernel of one's own, on a picture of two flat halves."""
    edges = np.array([[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]], np.float32)
    picture = np.zeros((1, 1, 6, 8), np.float32)
    picture[..., 4:] = 200
    got = conv2d(jnp.asarray(picture.transpose(0, 2, 3, 1)), jnp.asarray(edges[:, :, None, None]))
    want = torch_conv2d(torch.from_numpy(picture), torch.from_numpy(edges[None, None]))
    np.testing.assert_array_equal(got.transpose(0, 3, 1, 2), want.numpy())
    np.testing.assert_array_equal(got[0, :, :, 0], [[0, 0, -600, 600, 0, 0]] * 4)


def test_one_by_one_convolution_and_global_pool_stand_in_place_of_a_linear(float64):
    """A mean is linear: classes of the pooled features, or the pooled maps of classes."""
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(2, 5, 4, 6)))
    kernel, bias = jnp.asarray(rng.normal(size=(6, 3))), jnp.asarray(rng.normal(size=3))
    params = {"params": {"kernel": kernel, "bias": bias}}
    linear = Linear(3).apply(params, global_avg_pool2d(images))
    params = {"params": {"kernel": kernel[None, None], "bias": bias}}
    maps = Conv2d(3, 1).apply(params, images)
    np.testing.assert_allclose(global_avg_pool2d(maps), linear, rtol=1e-12)
    with torch.no_grad():
        twin = torch.nn.Linear(6, 3).double()
        twin.weight.copy_(torch.from_numpy(np.array(kernel.T)))
        twin.bias.copy_(torch.from_numpy(np.array(bias)))
        want = twin(torch.from_numpy(np.array(images)).mean((1, 2)))
    np.testing.assert_allclose(linear, want.numpy(), rtol=1e-12)


@pytest.mark.parametrize("form", ["convolution", "matrix_product"])
def test_padding_of_every_side(form, monkeypatch):
    monkeypatch.setattr(forms, "conv", lambda *_: form)
    (top, bottom), (left, right) = sides = ((1, 2), (0, 3))
    got, want = compare(
        lambda x, weight: conv2d(x, weight, padding=sides, stride=2),
        lambda x, weight: torch_conv2d(
            torch.nn.functional.pad(x, (left, right, top, bottom)), weight, stride=2
        ),
        arguments((2, 3, 6, 5), (4, 3, 2), "float64", bias=False),
    )
    assert_close(got, want, rtol=RTOL["float64"])


@pytest.mark.parametrize("groups", [1, 2])
def test_initial_values_are_distributed_as_pytorchs(groups):
    layer = Conv2d(64, (3, 5), groups=groups, name="conv")
    params = layer.init(jax.random.key(1), jnp.zeros((1, 8, 8, 16)))["params"]
    assert params["kernel"].shape == (3, 5, 16 // groups, 64)
    biases = [
        layer.init(key, jnp.zeros((1, 8, 8, 16)))["params"]["bias"]
        for key in jax.random.split(jax.random.key(2), 20)
    ]
    torch.manual_seed(0)
    twin = torch.nn.Conv2d(16, 64, (3, 5), groups=groups).requires_grad_(False)
    bound = 1 / np.sqrt(16 // groups * 15)
    assert_uniform(params["kernel"], bound)
    assert_uniform(np.stack(biases), bound)
    assert_uniform(twin.weight.numpy(), bound)
    assert float(twin.bias.abs().max()) <= bound
    assert not np.array_equal(biases[0], biases[1])
    assert params["kernel"].std() == pytest.approx(twin.weight.std().item(), rel=0.05)


def assert_uniform(values, bound):
    """Assert U(-bound, bound) by the Kolmogorov-Smirnov distance (false alarm: 1 in 10,000)."""
    ordered = np.sort(np.asarray(values, np.float64).ravel())
    assert np.abs(ordered).max() <= bound * (1 + 1e-6)
    share = (ordered + bound) / (2 * bound)
    expected = (np.arange(ordered.size) + 0.5) / ordered.size
    assert np.abs(share - expected).max() < 2.2 / np.sqrt(ordered.size)
    assert ordered.mean() == pytest.approx(0, abs=4 * bound / np.sqrt(3 * ordered.size))
    assert ordered.var() == pytest.approx(bound**2 / 3, rel=4 / np.sqrt(ordered.size))


def test_initial_values_of_another_distribution():
    normal, zeros = jax.nn.initializers.he_normal(), jax.nn.initializers.zeros
    key, images = jax.random.key(3), jnp.zeros((1, 8, 8, 16))
    for layer, x in (
        (Conv2d(64, 3, kernel_init=normal, bias_init=zeros), images),
        (Linear(300, kernel_init=normal, bias_init=zeros), images[0, 0]),
    ):
        params = layer.init(key, x)["params"]
        fan_in = params["kernel"].size // params["kernel"].shape[-1]
        assert params["kernel"].std() == pytest.approx(np.sqrt(2 / fan_in), rel=0.03)
        assert not params["bias"].any()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_parameters_take_the_images_dtype(dtype, float64):
    layer = Conv2d(2, 3)
    images = jnp.ones((1, 5, 5, 1), dtype)
    out, variables = layer.init_with_output(jax.random.key(0), images)
    assert {leaf.dtype.name for leaf in jax.tree.leaves((out, variables))} == {dtype}
    assert set(Conv2d(2, 3, bias=False).init(jax.random.key(0), images)["params"]) == {"kernel"}


@pytest.mark.parametrize(
    ("images", "kernel", "options", "message"),
    [
        ((5, 5, 2), (3, 3, 2, 4), {}, "conv2d: images must be (B, H, W, C), got shape (5, 5, 2)"),
        ((1, 5, 5, 2), (3, 3, 2), {}, "conv2d: kernel must be (kh, kw, in / groups, out)"),
        ((1, 5, 5, 3), (3, 3, 2, 4), {}, "images have 3 channels, but kernel (3, 3, 2, 4)"),
        ((1, 5, 5, 3), (3, 3, 1, 4), {"groups": 2}, "groups=2 must divide both the 3 input"),
        ((1, 5, 5, 2), (3, 3, 2, 4), {"groups": 0}, "groups=0"),
        ((1, 5, 5, 2), (3, 3, 2, 4), {"stride": 0}, "conv2d: stride must be an int or a pair"),
        ((1, 5, 5, 2), (3, 3, 2, 4), {"stride": (1, 2, 3)}, "got (1, 2, 3)"),
        ((1, 5, 5, 2), (3, 3, 2, 4), {"dilation": -1}, "conv2d: dilation must be"),
        ((1, 5, 5, 2), (3, 3, 2, 4), {"padding": -1}, "conv2d: padding must be"),
        ((1, 5, 5, 2), (3, 3, 2, 4), {"padding": "full"}, "'same' or 'valid', got 'full'"),
        (
            (1, 5, 5, 2),
            (3, 3, 2, 4),
            {"padding": ((0, 1),)},
            "two ints or two pairs, got ((0, 1),)",
        ),
        ((1, 5, 5, 2), (3, 3, 2, 4), {"padding": ((0, 1), (0, -1))}, ">= 0, got (0, -1)"),
        ((1, 5, 5, 2), (3, 3, 2, 4), {"padding": "same", "stride": 2}, "stride (2, 2)"),
        ((1, 4, 5, 2), (3, 3, 2, 4), {"dilation": 2}, "kernel (5, 5) (dilation included)"),
    ],
)
def test_errors_name_layer_argument_and_value(images, kernel, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        conv2d(jnp.zeros(images), jnp.zeros(kernel), **options)


def test_module_errors_name_the_module():
    with pytest.raises(ValueError, match="Conv2d 'stem': images must be"):
        Conv2d(2, 3, name="stem").init(jax.random.key(0), jnp.zeros((5, 5, 1)))
    with pytest.raises(ValueError, match="Conv2d 'stem': kernel_size must be .* got 0"):
        Conv2d(2, 0, name="stem").init(jax.random.key(0), jnp.zeros((1, 5, 5, 1)))
    with pytest.raises(ValueError, match="Conv2d 'stem': groups=2"):
        Conv2d(3, 1, groups=2, name="stem").init(jax.random.key(0), jnp.zeros((1, 5, 5, 2)))

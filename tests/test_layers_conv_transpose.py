"""Transposed convolutions against `torch.nn.functional.conv_transpose2d` over their arguments."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from precisions import PRECISIONS
from test_layers_conv import RTOL, assert_uniform
from torch.nn.functional import conv_transpose2d as torch_conv_transpose2d

from jaxcnn import weights
from jaxcnn.layers import ConvTranspose2d, conv2d, conv_transpose2d, forms
from parity.errors import assert_close
from parity.functions import compare, mapped

# (batch, in, height, width), (out, kh, kw), arguments
GRID = [
    ((2, 3, 4, 5), (4, 3, 3), {}),
    ((2, 3, 4, 5), (4, 3, 2), {"stride": 2}),
    ((2, 3, 4, 5), (4, 3, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
    ((2, 2, 3, 4), (3, 2, 2), {"stride": 2}),  # the U-Net's
    ((2, 2, 3, 4), (3, 4, 4), {"stride": 2, "padding": 1}),  # the DCGAN's
    ((1, 1, 1, 1), (1, 1, 1), {}),
    ((1, 2, 1, 1), (3, 4, 3), {"stride": 3}),
    ((1, 2, 1, 6), (3, 3, 1), {"stride": (2, 3), "padding": (1, 0)}),
    ((2, 2, 5, 3), (3, 2, 3), {"stride": (1, 3), "padding": (1, 2), "output_padding": (0, 2)}),
    ((2, 2, 4, 3), (3, 3, 3), {"dilation": 2}),
    ((2, 2, 4, 3), (3, 3, 2), {"dilation": (1, 3), "stride": (3, 2), "padding": (1, 2)}),
    ((2, 2, 4, 3), (3, 2, 2), {"dilation": 3, "output_padding": 2}),  # less than the dilation
    ((1, 2, 3, 3), (2, 1, 1), {"stride": 3}),  # pixels that nothing reaches
    ((2, 2, 6, 7), (3, 1, 2), {"padding": (2, 1)}),  # more cut off than the kernel adds
    ((2, 4, 3, 4), (6, 3, 3), {"groups": 2, "stride": 2, "padding": 1}),
    ((2, 4, 3, 4), (4, 3, 2), {"groups": 2, "dilation": 2}),
    ((2, 3, 4, 3), (3, 3, 3), {"groups": 3, "stride": 2, "padding": 1, "output_padding": 1}),
    ((1, 2, 4, 3), (6, 2, 3), {"groups": 2, "stride": (1, 2)}),
    ((1, 6, 3, 2), (3, 2, 2), {"groups": 3, "stride": 2, "padding": (0, 1)}),
]


def arguments(images, kernel, dtype, groups=1, bias=True, **_):
    rng = np.random.default_rng(0)
    values = {
        "x": rng.normal(0.3, 1, images),
        "weight": rng.normal(size=(images[1], kernel[0] // groups, *kernel[1:])),
        "bias": rng.normal(size=kernel[0]),
    }
    return {n: v.astype(dtype) for n, v in values.items() if bias or n != "bias"}


def check(images, kernel, options, dtype, bias=True, second=False):
    got, want = compare(
        lambda x, weight, bias=None: conv_transpose2d(x, weight, bias, **options),
        lambda x, weight, bias=None: torch_conv_transpose2d(x, weight, bias, **options),
        arguments(images, kernel, dtype, bias=bias, **options),
        second=second,
    )
    # The output is linear in the bias, which no other gradient holds.
    assert_close(got, want, rtol=RTOL[dtype], zeros={"second gradient of bias"})


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("form", ["native", "convolution", "xla"])
@pytest.mark.parametrize(("images", "kernel", "options"), GRID)
def test_every_form(images, kernel, options, form, dtype, monkeypatch):
    if form == "convolution":
        monkeypatch.setattr(forms, "conv", lambda *_: "convolution")
    with forms.prefer("native" if form == "native" else "xla"):
        check(images, kernel, options, dtype)


@pytest.mark.parametrize(("images", "kernel", "options"), GRID[2:20:5])
def test_without_bias(images, kernel, options):
    check(images, kernel, options, "float64", bias=False)


@pytest.mark.parametrize(("images", "kernel", "options"), GRID[1:20:2])
def test_gradients_of_gradients(images, kernel, options):
    check(images, kernel, options, "float64", second=True)


@pytest.mark.parametrize(("images", "kernel", "options"), GRID[2:20:3])
def test_vmap(images, kernel, options):
    got, want = mapped(
        lambda x, weight, bias: conv_transpose2d(x, weight, bias, **options),
        arguments(images, kernel, "float64", **options),
    )
    assert_close(got, want, rtol=1e-12)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    st.tuples(*[st.integers(1, 2)] * 3),
    st.tuples(*[st.integers(1, 4)] * 2),
    *[st.tuples(*[st.integers(1, 3)] * 2)] * 3,
    st.integers(0, 2),
)
def test_random_arguments(counts, size, kernel, stride, dilation, extra):
    batch, per_group, groups = counts
    # No padding: it may leave nothing.
    output_padding = [min(extra, max(s, d) - 1) for s, d in zip(stride, dilation, strict=True)]
    options = {"stride": stride, "dilation": dilation, "groups": groups}
    options["output_padding"] = tuple(output_padding)
    check((batch, groups * per_group, *size), (2 * groups, *kernel), options, "float64")


@pytest.mark.parametrize("groups", [1, 2])
def test_is_the_gradient_of_a_convolution(groups, float64):
    """The kernel of either is the other's, transposed and its groups apart."""
    rng = np.random.default_rng(0)
    kernel = jnp.asarray(rng.normal(size=(3, 2, 4 // groups, 6)))
    images = jnp.asarray(rng.normal(size=(2, 7, 6, 4)))

    def down(images):
        return conv2d(images, kernel, stride=2, padding=1, groups=groups)

    out, pull = jax.vjp(down, images)
    upwards = conv_transpose2d(out, kernel, stride=2, padding=1, groups=groups, output_size=(7, 6))
    np.testing.assert_allclose(upwards, pull(out)[0], rtol=1e-12, atol=1e-12)


def make_twins(dtype, **options):
    torch.manual_seed(0)
    twin = torch.nn.ConvTranspose2d(4, 6, (3, 2), dtype=getattr(torch, dtype), **options)
    layer = ConvTranspose2d(6, (3, 2), **options)
    images = np.random.default_rng(0).normal(size=(2, 4, 3, 5)).astype(dtype)
    ours = jnp.asarray(images.transpose(0, 2, 3, 1))
    template = jax.eval_shape(layer.init, jax.random.key(0), ours)
    return twin, layer, torch.from_numpy(images), ours, template


@pytest.mark.parametrize("size", [None, (7, 8), (8, 9), (9, 8)])
@pytest.mark.parametrize(
    "options",
    [{"stride": (3, 2), "padding": 1}, {"stride": (3, 2), "padding": 1, "groups": 2}],
)
def test_output_size_and_state_dict_round_trip(size, options, float64):
    twin, layer, theirs, images, template = make_twins("float64", **options)
    variables = weights.from_torch(twin.state_dict(), template)
    got = layer.apply(variables, images, size)
    want = twin(theirs, size).detach().numpy()
    assert_close({"out": np.asarray(got).transpose(0, 3, 1, 2)}, {"out": want}, rtol=1e-12)
    back = weights.to_torch(variables)
    assert {n: v.tobytes() for n, v in back.items()} == {
        n: v.numpy().tobytes() for n, v in twin.state_dict().items()
    }


@pytest.mark.parametrize("groups", [1, 2])
def test_initial_values_are_distributed_as_pytorchs(groups):
    layer = ConvTranspose2d(64, (3, 5), groups=groups)
    params = layer.init(jax.random.key(1), jnp.zeros((1, 2, 2, 16)))["params"]
    assert params["kernel"].shape == (3, 5, 64 // groups, 16)
    torch.manual_seed(0)
    twin = torch.nn.ConvTranspose2d(16, 64, (3, 5), groups=groups).requires_grad_(False)
    bound = 1 / np.sqrt(64 // groups * 15)
    for values in (params["kernel"], params["bias"], twin.weight.numpy(), twin.bias.numpy()):
        assert_uniform(values, bound)


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_parameters_take_the_images_dtype_or_another_distribution(dtype, float64):
    ones = jax.nn.initializers.ones
    layer = ConvTranspose2d(2, 3, kernel_init=ones, bias_init=ones)
    out, variables = layer.init_with_output(jax.random.key(0), jnp.ones((1, 2, 2, 1), dtype))
    assert {leaf.dtype.name for leaf in jax.tree.leaves((out, variables))} == {dtype}
    assert all((leaf == 1).all() for leaf in jax.tree.leaves(variables))
    bare = ConvTranspose2d(2, 3, bias=False).init(jax.random.key(0), jnp.ones((1, 2, 2, 1)))
    assert set(bare["params"]) == {"kernel"}


@pytest.mark.parametrize(
    ("images", "kernel", "options", "message"),
    [
        ((5, 5, 2), (3, 3, 4, 2), {}, "conv_transpose2d: images must be (B, H, W, C), got shape"),
        ((1, 5, 5, 2), (3, 3, 2), {}, "conv_transpose2d: kernel must be (kh, kw, out / groups, in"),
        ((1, 5, 5, 3), (3, 3, 4, 2), {}, "images have 3 channels, but kernel (3, 3, 4, 2) expects"),
        ((1, 5, 5, 3), (3, 3, 4, 3), {"groups": 2}, "groups=2 must divide the 3 input channels"),
        ((1, 5, 5, 2), (3, 3, 4, 2), {"groups": 0}, "groups=0"),
        ((1, 5, 5, 2), (3, 3, 4, 2), {"stride": 0}, "conv_transpose2d: stride must be an int"),
        ((1, 5, 5, 2), (3, 3, 4, 2), {"dilation": (1, 0)}, "dilation must be"),
        ((1, 5, 5, 2), (3, 3, 4, 2), {"padding": -1}, "padding must be"),
        ((1, 5, 5, 2), (3, 3, 4, 2), {"output_padding": -1}, "output_padding must be"),
        (
            (1, 5, 5, 2),
            (3, 3, 4, 2),
            {"output_padding": 1},
            "output_padding (1, 1) must be smaller",
        ),
        (
            (1, 5, 5, 2),
            (3, 3, 4, 2),
            {"output_padding": (2, 3), "stride": 3, "dilation": 2},
            "output_padding (2, 3) must be smaller than stride (3, 3) or dilation (2, 2)",
        ),
        (
            (1, 5, 5, 2),
            (3, 3, 4, 2),
            {"output_size": (13, 12), "stride": 2},
            "output_size (13, 12) must be between (11, 11) and (12, 12)",
        ),
        ((1, 5, 5, 2), (3, 3, 4, 2), {"output_size": (1, 2, 3)}, "output_size must be"),
        ((1, 2, 5, 2), (1, 3, 4, 2), {"padding": 1}, "the output would be (0, 5)"),
    ],
)
def test_errors_name_layer_argument_and_value(images, kernel, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        conv_transpose2d(jnp.zeros(images), jnp.zeros(kernel), **options)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (ConvTranspose2d(2, 0, name="up"), "ConvTranspose2d 'up': kernel_size must be"),
        (ConvTranspose2d(3, 2, groups=2, name="up"), "ConvTranspose2d 'up': groups=2 must divide"),
    ],
)
def test_module_errors_name_the_module(layer, message):
    with pytest.raises(ValueError, match=message):
        layer.init(jax.random.key(0), jnp.zeros((1, 5, 5, 2)))
    with pytest.raises(ValueError, match="ConvTranspose2d 'up': images must be"):
        layer.init(jax.random.key(0), jnp.zeros((5, 5, 2)))

"""Depthwise separable convolution and channel shuffle against PyTorch's modules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from precisions import PRECISIONS

from jaxcnn import weights
from jaxcnn.layers import ChannelShuffle, Conv2d, DepthwiseSeparableConv2d, channel_shuffle
from parity.errors import assert_close
from parity.functions import compare, mapped
from parity.sides import to_nchw, to_nhwc

RTOL = {"float64": 1e-12, "float32": 1e-5}

# (batch, in, height, width), features, kernel, arguments
GRID = [
    ((2, 3, 7, 6), 4, 3, {"padding": 1}),
    ((2, 3, 7, 6), 4, 3, {"stride": 2, "padding": 1}),
    ((1, 2, 9, 5), 1, (3, 2), {"stride": (1, 2), "dilation": (2, 1)}),
    ((1, 1, 5, 5), 3, 3, {"padding": "same"}),
    ((2, 4, 6, 5), 2, (1, 3), {"padding": "valid", "bias": False}),
    ((2, 3, 5, 6), 4, 3, {"padding": 1, "multiplier": 2}),
]


class Twin(torch.nn.Module):
    def __init__(self, channels, features, kernel, multiplier=1, bias=True, **options):
        super().__init__()
        inner = channels * multiplier
        self.depthwise = torch.nn.Conv2d(
            channels, inner, kernel, groups=channels, bias=bias, **options
        )
        self.pointwise = torch.nn.Conv2d(inner, features, 1, bias=bias)

    def forward(self, x):
        return self.pointwise(self.depthwise(x))


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize(("shape", "features", "kernel", "options"), GRID)
def test_separable(shape, features, kernel, options, dtype):
    torch.manual_seed(0)
    twin = Twin(shape[1], features, kernel, **options).to(getattr(torch, dtype))
    layer = DepthwiseSeparableConv2d(features, kernel, **options)
    x = np.random.default_rng(0).normal(size=shape).astype(dtype)
    with jax.enable_x64(dtype == "float64"):
        images = jnp.asarray(to_nhwc(x))
        template = jax.eval_shape(layer.init, jax.random.key(0), images)
        variables = weights.from_torch(twin.state_dict(), template)

        @jax.jit
        def gradients(variables, images):
            out, pull = jax.vjp(layer.apply, variables, images)
            return out, *pull(jnp.cos(out))

        out, to_variables, to_images = gradients(variables, images)
        got = {"out": to_nchw(out), "images": to_nchw(to_images), **weights.to_torch(to_variables)}
    inputs = torch.from_numpy(x).requires_grad_()
    out = twin(inputs)
    out.backward(torch.cos(out.detach()))
    want = {"out": out.detach().numpy(), "images": inputs.grad.numpy()}
    want |= {n: p.grad.numpy() for n, p in twin.named_parameters()}
    assert_close(got, want, rtol=RTOL[dtype])


def test_weights_of_the_two_against_one_convolution():
    """C (k^2 + features) weights in place of C k^2 features."""
    images = jnp.zeros((1, 5, 5, 16))

    def count(layer):
        params = jax.eval_shape(layer.init, jax.random.key(0), images)["params"]
        return sum(leaf.size for leaf in jax.tree.leaves(params))

    assert count(DepthwiseSeparableConv2d(32, 3, bias=False)) == 16 * (9 + 32)
    assert count(Conv2d(32, 3, bias=False)) == 16 * 9 * 32


def test_separable_errors():
    layer = DepthwiseSeparableConv2d(4, 3, multiplier=0, name="block")
    with pytest.raises(ValueError, match="DepthwiseSeparableConv2d 'block': multiplier must be at"):
        layer.init(jax.random.key(0), jnp.zeros((1, 5, 5, 2)))
    with pytest.raises(ValueError, match="DepthwiseSeparableConv2d 'block': images must be"):
        layer.init(jax.random.key(0), jnp.zeros((5, 5, 2)))
    with pytest.raises(ValueError, match="Conv2d 'depthwise': kernel_size must be .* got 0"):
        DepthwiseSeparableConv2d(4, 0).init(jax.random.key(0), jnp.zeros((1, 5, 5, 2)))


SHUFFLES = [
    ((2, 6, 3, 4), 2),
    ((2, 6, 3, 4), 3),
    ((1, 8, 1, 5), 4),
    ((1, 5, 2, 3), 1),
    ((1, 5, 2, 3), 5),
    ((3, 1, 2, 2), 1),
]


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize(("shape", "groups"), SHUFFLES)
def test_channel_shuffle(shape, groups, dtype):
    x = {"x": np.random.default_rng(0).normal(size=shape).astype(dtype)}
    twin = torch.nn.ChannelShuffle(groups)
    got, want = compare(lambda x: ChannelShuffle(groups).apply({}, x), lambda x: twin(x), x)
    assert_close(got, want, rtol=0)
    got, want = mapped(lambda x: channel_shuffle(x, groups), x)
    assert_close(got, want, rtol=0)


def test_shuffle_by_example():
    images = jnp.arange(6, dtype=jnp.int32).reshape(1, 1, 1, 6)
    assert channel_shuffle(images, 2).ravel().tolist() == [0, 3, 1, 4, 2, 5]


@pytest.mark.parametrize(
    ("shape", "groups", "message"),
    [
        ((1, 2, 2, 6), 4, "channel_shuffle: groups=4 must divide the 6 channels"),
        ((1, 2, 2, 6), 0, "channel_shuffle: groups=0"),
        ((2, 2, 6), 2, "channel_shuffle: images must be"),
    ],
)
def test_shuffle_errors(shape, groups, message):
    with pytest.raises(ValueError, match=message):
        channel_shuffle(jnp.zeros(shape), groups)

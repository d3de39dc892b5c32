"""Attention against PyTorch's, torchvision's and the plain twins of `parity.attention`."""

import importlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen as nn
from precisions import PRECISIONS
from torch.nn import functional
from torchvision_import import torchvision_models

from jaxcnn import layers, weights
from parity import attention, harness
from parity.compilation import precision
from parity.errors import assert_close
from parity.functions import compare, mapped

RTOL = {"float64": 1e-12, "float32": 1e-5}

# Name, arguments of ours, arguments of the twin, channels.
GATES = [
    ("SqueezeExcitation", {"reduction": 2}, (6, 2), 6),
    ("SqueezeExcitation", {"reduction": 4}, (9, 4), 9),
    ("SqueezeExcitation", {}, (32,), 32),
    ("SqueezeExcitation", {"reduction": 1}, (1, 1), 1),
    ("ChannelAttention", {"reduction": 2}, (6, 2), 6),
    ("ChannelAttention", {}, (32,), 32),
    ("ChannelAttention", {"reduction": 3}, (4, 3), 4),
    ("SpatialAttention", {}, (), 5),
    ("SpatialAttention", {"kernel_size": 3}, (3,), 1),
    ("SpatialAttention", {"kernel_size": 1}, (1,), 4),
    ("CBAM", {}, (16,), 16),
    ("CBAM", {"reduction": 2, "kernel_size": 5}, (6, 2, 5), 6),
]


@pytest.mark.parametrize("size", [(7, 6), (1, 1), (3, 9)])
@pytest.mark.parametrize(("name", "options", "arguments", "channels"), GATES)
def test_gates_equal_their_twins(name, options, arguments, channels, size):
    """Every module inside, every parameter's gradient, the input's, in float64."""
    twin, layer = getattr(attention, name)(*arguments), getattr(layers, name)(**options)
    pair = harness.make_pair(twin, layer, (*size, channels), batch_size=3)
    got, want = harness.activations(pair, train=True)

    def dead(names):
        """Return what a ReLU may shut: of one pixel all, of one hidden value the perceptron."""
        perceptron = "channel_attention." if arguments == (16,) else None
        return [n for n in names if size == (1, 1) or perceptron and n.startswith(perceptron)]

    assert_close(got, want, rtol=1e-12, zeros=dead(list(want)))
    got, want = harness.gradients(pair, train=True)
    assert_close(got, want, rtol=1e-11, zeros=dead(list(want)))
    assert want["input"].any()


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize(("name", "options", "arguments", "channels"), GATES)
def test_second_gradients_of_gates_and_vmap(name, options, arguments, channels, dtype):
    twin, layer = getattr(attention, name)(*arguments), getattr(layers, name)(**options)
    harness.randomise(twin, seed=2)
    if name == "SqueezeExcitation":
        torch.nn.init.constant_(twin.fc1.bias, 2.0)  # so that its ReLU lets something through
    twin = twin.to(getattr(torch, dtype))
    x = np.random.default_rng(0).normal(0.2, 1, (2, channels, 4, 5)).astype(dtype)
    with precision(dtype):
        images = jnp.zeros((2, 4, 5, channels), dtype)
        template = jax.eval_shape(layer.init, jax.random.key(0), images)
        variables = weights.from_torch(twin.state_dict(), template)
    got, want = compare(
        lambda x: layer.apply(variables, x), lambda x: twin(x), {"x": x}, second=True
    )
    assert_close(got, want, rtol=1e-11 if dtype == "float64" else 1e-4)
    if dtype == "float64":
        assert_close(*mapped(lambda x: layer.apply(variables, x), {"x": x}), rtol=1e-12)


@pytest.mark.parametrize(("channels", "squeezed"), [(32, 2), (48, 3), (16, 1)])
def test_squeeze_excitation_equals_torchvisions(channels, squeezed):
    torchvision_models()
    ops = importlib.import_module("torchvision.ops")
    twin = ops.SqueezeExcitation(channels, squeezed)
    pair = harness.make_pair(twin, layers.SqueezeExcitation(), (5, 4, channels), batch_size=3)
    got, want = harness.activations(pair, train=False)
    assert {"avgpool", "fc1", "activation", "fc2", "scale_activation"} < set(got)
    assert_close(got, want, rtol=1e-12)
    assert_close(*harness.gradients(pair, train=True), rtol=1e-11)


def test_squeeze_excitation_with_other_activations():
    twin = attention.SqueezeExcitation(8, 2)
    twin.activation, twin.scale_activation = torch.nn.ELU(), torch.nn.Tanh()
    layer = layers.SqueezeExcitation(2, layers.ELU, layers.Tanh)
    pair = harness.make_pair(twin, layer, (5, 4, 8))
    assert_close(*harness.activations(pair, train=False), rtol=1e-12)


class Pyramid(nn.Module):
    """The images, and their averages of windows, merged."""

    windows: tuple
    features: int
    hard: bool = False

    @nn.compact
    def __call__(self, images):
        maps = [images, *(layers.avg_pool2d(images, w) for w in self.windows)]
        return layers.ScaleAttention(self.features, self.hard, name="attention")(maps)


class TorchPyramid(torch.nn.Module):
    def __init__(self, channels, windows, features, hard=False):
        super().__init__()
        self.windows = windows
        self.attention = attention.ScaleAttention(channels, 1 + len(windows), features, hard)

    def forward(self, x):
        return self.attention([x, *(functional.avg_pool2d(x, w) for w in self.windows)])


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("windows", [(), (2,), (2, 3), (2, (1, 3), 4)])
@pytest.mark.parametrize(("channels", "size"), [(3, (9, 8)), (1, (7, 12))])
def test_attention_over_scales(channels, size, windows, hard):
    twin = TorchPyramid(channels, windows, 5, hard)
    pair = harness.make_pair(twin, Pyramid(windows, 5, hard), (*size, channels), batch_size=2)
    assert_close(*harness.activations(pair, train=False), rtol=1e-12)
    got, want = harness.gradients(pair, train=True)
    # One scale has the weight 1 whatever its score.
    assert_close(got, want, rtol=1e-11, zeros=() if windows else list(want))


class Film(nn.Module):
    """Channels as a sequence of feature maps, and back."""

    maps: int
    features: int | None
    is_causal: bool = False

    @nn.compact
    def __call__(self, images):
        film = jnp.moveaxis(images.reshape(*images.shape[:3], self.maps, -1), 3, 1)
        out = layers.SequenceAttention(self.features, self.is_causal, name="attention")(film)
        return jnp.moveaxis(out, 1, 3).reshape(*images.shape[:3], -1)


class TorchFilm(torch.nn.Module):
    def __init__(self, maps, channels, features, is_causal=False):
        super().__init__()
        self.maps = maps
        self.attention = attention.SequenceAttention(channels, features, is_causal)

    def forward(self, x):
        film = x.reshape(x.shape[0], self.maps, -1, *x.shape[2:])
        return self.attention(film).flatten(1, 2)


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize(("maps", "channels", "features"), [(4, 3, 5), (1, 2, 2), (6, 1, 1)])
def test_attention_over_a_sequence_of_feature_maps(maps, channels, features, is_causal):
    layer = Film(maps, features if features != channels else None, is_causal)
    twin = TorchFilm(maps, channels, features, is_causal)
    pair = harness.make_pair(twin, layer, (3, 4, maps * channels), batch_size=2)
    assert_close(*harness.outputs(pair, train=False), rtol=1e-12)
    got, want = harness.gradients(pair, train=True)
    # Of one map the weight is 1, and a key's bias moves all scores alike.
    zeros = [n for n in want if "query" in n or "key" in n]
    assert_close(got, want, rtol=1e-11, zeros=zeros)


IMAGES = jnp.ones((2, 6, 6, 8))


@pytest.mark.parametrize(
    ("layer", "x", "message"),
    [
        (layers.SqueezeExcitation(9), IMAGES, "SqueezeExcitation None: reduction must be at least"),
        (layers.SqueezeExcitation(0), IMAGES, "at most the 8 channels, got 0"),
        (
            layers.SqueezeExcitation(2),
            IMAGES[0],
            "images must be (B, H, W, C), got shape (6, 6, 8)",
        ),
        (
            layers.ChannelAttention(-1),
            IMAGES,
            "ChannelAttention None: reduction must be at least 1",
        ),
        (layers.ChannelAttention(), IMAGES, "at most the 8 channels, got 16"),
        (layers.SpatialAttention(4), IMAGES, "SpatialAttention None: kernel_size must be odd"),
        (layers.SpatialAttention(-1), IMAGES, "at least 1, got -1"),
        (layers.SpatialAttention(), IMAGES[0], "SpatialAttention None: images must be"),
        (layers.ScaleAttention(), [], "maps must hold at least one feature map, got none"),
        (layers.ScaleAttention(), [IMAGES, IMAGES[..., :2]], "(2, 6, 6, 8), (2, 6, 6, 2)"),
        (layers.ScaleAttention(), [IMAGES, IMAGES[:1]], "one batch size and one number of chan"),
        (layers.ScaleAttention(), [IMAGES[0]], "ScaleAttention None: images must be"),
        (
            layers.SequenceAttention(),
            IMAGES,
            "SequenceAttention None: maps must be (B, T, H, W, C)",
        ),
    ],
)
def test_errors_of_modules(layer, x, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        layer.init(jax.random.key(0), x)

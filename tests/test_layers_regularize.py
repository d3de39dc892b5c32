"""Dropout and Dropout2d against `torch.nn`'s under PyTorch's own masks, and their statistics."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen as nn
from precisions import PRECISIONS

from jaxcnn.layers import Conv2d, Dropout, Dropout2d, regularize
from parity import harness
from parity.errors import assert_close
from parity.functions import compare, mapped

LAYERS = {"Dropout": Dropout, "Dropout2d": Dropout2d}
SHAPES = [(2, 3, 5, 4), (4, 8, 1, 1), (1, 6, 2, 3), (3, 1, 4, 4)]


def drop(name, p, x, key=0, train=True):
    layer = LAYERS[name](p, name="drop")
    return layer.apply({}, x, train=train, rngs={"dropout": jax.random.key(key)})


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("p", [0.2, 0.5, 0.75])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", LAYERS)
def test_equals_pytorchs_dropout_under_its_mask(name, shape, p, dtype, monkeypatch):
    """PyTorch draws; ours gets the same draws in place of JAX's. Both scale, and both gradients."""
    layer = getattr(torch.nn, name)(p)
    seed = next(s for s in range(99) if 0 < kept(layer, shape, s).mean() < 1 or 1 in shape[:2])
    mask = kept(layer, shape, seed).permute(0, 2, 3, 1).numpy().astype(bool)
    drawn = mask[:, :1, :1] if name == "Dropout2d" else mask

    def bernoulli(key, keep, mask_shape):
        assert mask_shape == drawn.shape
        return jnp.asarray(drawn)

    def theirs(x):
        torch.manual_seed(seed)
        return layer(x)

    monkeypatch.setattr(regularize.jax.random, "bernoulli", bernoulli)
    x = np.random.default_rng(0).normal(size=shape).astype(dtype)
    got, want = compare(lambda x: drop(name, p, x), theirs, {"x": x})
    rtol = 1e-15 if dtype == "float64" else 1e-6
    # Of few channels all may be dropped.
    assert_close(got, want, rtol=rtol, zeros=() if mask.any() else list(want))


def kept(layer, shape, seed):
    """Return PyTorch's mask: what it makes of ones, without the scale."""
    torch.manual_seed(seed)
    return (layer(torch.ones(shape)) != 0).float()


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.8])
@pytest.mark.parametrize("name", LAYERS)
def test_share_of_dropped_is_binomial(name, p):
    """Within 4.5 deviations, in every image, over all of them, and anew for every key."""
    x = jnp.ones((40, 3, 3, 60))
    masks = [np.asarray(drop(name, p, x, key) != 0) for key in range(3)]
    assert not any(np.array_equal(masks[0], other) for other in masks[1:])
    for mask in masks:
        if name == "Dropout2d":
            assert (mask == mask[:, :1, :1]).all(), "whole channels"
            mask = mask[:, 0, 0]
        for axes in (None, tuple(range(1, mask.ndim)), tuple(range(mask.ndim - 1))):
            dropped = 1 - mask.mean(axes)
            n = mask.size / dropped.size
            assert np.abs(dropped - p).max() < 4.5 * np.sqrt(p * (1 - p) / n)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("name", LAYERS)
def test_kept_values_are_scaled_and_gradients_flow_by_the_mask(name, p, float64):
    x = jnp.asarray(np.random.default_rng(0).uniform(1, 2, (9, 4, 3, 11)))
    out, pull = jax.vjp(lambda x: drop(name, p, x), x)
    mask = np.asarray(out != 0)
    np.testing.assert_allclose(out, np.where(mask, x / (1 - p), 0), rtol=1e-15)
    np.testing.assert_allclose(pull(jnp.ones_like(x))[0], mask / (1 - p), rtol=1e-15)
    # The mean over many draws is the value itself.
    key = jax.random.split(jax.random.key(0), 2000)
    ones = jnp.ones((1, 1, 1, 4))
    draws = jax.vmap(lambda k: LAYERS[name](p).apply({}, ones, train=True, rngs={"dropout": k}))(
        key
    )
    assert np.abs(draws.mean(0) - 1).max() < 5 * np.sqrt(p / (1 - p) / 2000)


@pytest.mark.parametrize("name", LAYERS)
def test_extremes_and_evaluation(name):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 2, 4)), jnp.float32)
    assert drop(name, 0.0, x) is x
    np.testing.assert_array_equal(drop(name, 1.0, x), 0)
    np.testing.assert_array_equal(jax.grad(lambda x: drop(name, 1.0, x).sum())(x), 0)
    assert drop(name, 0.7, x, train=False) is x, "every neuron is active in evaluation"
    assert LAYERS[name](0.7).apply({}, x, train=False) is x, "evaluation needs no key"
    infinite = jnp.full((2, 2, 2, 3), jnp.inf)
    assert not np.isnan(drop(name, 0.5, infinite)).any(), "dropped, not multiplied by 0"


@pytest.mark.parametrize("p", [-0.1, 1.5, float("nan")])
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("train", [True, False])
def test_errors_name_the_layer_and_the_value(train, name, p):
    with pytest.raises(ValueError, match=rf"^{name} 'drop': p must be in \[0, 1\], got {p}"):
        drop(name, p, jnp.ones((1, 2, 2, 3)), train=train)


def test_images_of_another_rank():
    message = "Dropout2d 'drop': images must be (B, H, W, C), got shape (2, 3)"
    with pytest.raises(ValueError, match=re.escape(message)):
        drop("Dropout2d", 0.5, jnp.ones((2, 3)))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", LAYERS)
def test_dtypes_stay(name, dtype):
    assert drop(name, 0.5, jnp.ones((2, 2, 2, 3), dtype)).dtype == dtype


@pytest.mark.parametrize("name", LAYERS)
def test_vmap(name):
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 4))
    assert_close(*mapped(lambda x: drop(name, 0.5, x), {"x": x}), rtol=1e-15)


class Dropped(nn.Module):
    """A convolution between two dropouts of channels."""

    @nn.compact
    def __call__(self, images, *, train):
        x = Dropout2d(0.4, name="drop1")(images, train=train)
        x = Conv2d(6, 3, name="conv")(x)
        return Dropout2d(0.25, name="drop2")(x, train=train)


class TorchDropped(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.drop1, self.drop2 = torch.nn.Dropout2d(0.4), torch.nn.Dropout2d(0.25)
        self.conv = torch.nn.Conv2d(5, 6, 3)

    def forward(self, x):
        return self.drop2(self.conv(self.drop1(x)))


def test_a_network_under_our_masks():
    """The masks are sown where parity's harness finds them, a channel an entry."""
    pair = harness.make_pair(TorchDropped(), Dropped(), (6, 7, 5), batch_size=4)
    for train in (True, False):
        assert_close(*harness.activations(pair, train=train), rtol=1e-12)
    assert_close(*harness.gradients(pair, train=True), rtol=1e-12)
    key = {"dropout": jax.random.key(0)}
    images = jnp.ones((4, 6, 7, 5))
    _, sown = Dropout2d(0.5).apply({}, images, train=True, rngs=key, mutable=["dropout_masks"])
    assert sown["dropout_masks"]["mask"][0].shape == (4, 1, 1, 5)

"""Dropout as an option of the documented networks: its places, parity under shared masks."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax.errors import InvalidRngError
from flax.traverse_util import flatten_dict

import parity.reference
from jaxcnn import models, weights
from parity import harness
from parity.sides import named

OPTIONS = {
    "mlp_mnist": {"dropout": 0.4},
    "cnn_mnist": {"dropout": 0.4, "dropout2d": 0.2},
    "alexnet_cifar": {"dropout": 0.4, "dropout2d": 0.2},
    "vgg_cifar": {"dropout": 0.4, "dropout2d": 0.2},
}
PLACES = {
    "mlp_mnist": {"dropout": (4, 500)},
    "cnn_mnist": {
        "layer1.4": (4, 1, 1, 16),
        "layer2.4": (4, 1, 1, 32),
        "dropout": (4, 1568),
    },
    "alexnet_cifar": {
        "dropout2d1": (4, 1, 1, 64),
        "dropout2d2": (4, 1, 1, 64),
        "fc1.2": (4, 384),
        "fc2.2": (4, 192),
    },
    "vgg_cifar": {
        "feature.0.3": (4, 1, 1, 64),
        "feature.1.3": (4, 1, 1, 128),
        "feature.2.5": (4, 1, 1, 256),
        "feature.3.5": (4, 1, 1, 512),
        "feature.4.5": (4, 1, 1, 512),
        "fc.dropout": (4, 100),
    },
}


@pytest.fixture(scope="module", params=OPTIONS)
def pair(request):
    """A network with all its dropouts on beside its twin."""
    # Square images of the documented size: another one would only compile once more.
    name = request.param
    size = models.input_shape(name)[:2]
    return harness.pair(name, size=size, **OPTIONS[name])


@pytest.mark.parametrize("train", [False, True])
def test_activations_and_output(pair, train):
    got, want = harness.activations(pair, train=train)
    harness.assert_close(got, want, rtol=1e-12)
    assert set(PLACES[pair.name]) < set(want)


def test_gradients(pair):
    harness.assert_close(*harness.gradients(pair, train=True), rtol=1e-11)


@pytest.mark.parametrize("pair", ["cnn_mnist", "alexnet_cifar"], indirect=True)
def test_steps_of_sgd(pair):
    """With other masks at every step."""
    got, want = harness.trajectory(pair, steps=4, learning_rate=1e-3)
    harness.assert_close(got, want, rtol=1e-11)
    assert len(set(want[harness.LOSS])) == 4


@pytest.mark.parametrize("name", OPTIONS)
def test_places_and_probabilities(name):
    twin = parity.reference.create(name, **OPTIONS[name])
    dropouts = {n: m for n, m in twin.named_modules() if "Dropout" in type(m).__name__}
    model = models.create(name, **OPTIONS[name])
    images = jax.ShapeDtypeStruct((4, *models.input_shape(name)), jnp.float32)
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    mutable = ["params", "batch_stats", "dropout_masks"]
    apply = partial(model.apply, {}, train=True, mutable=mutable)
    _, made = jax.eval_shape(lambda x: apply(x, rngs=keys), images)
    masks = named(made["dropout_masks"], "mask")
    assert {n: mask.shape for n, (mask,) in masks.items()} == PLACES[name]
    assert set(dropouts) == set(masks)
    for place, dropout in dropouts.items():
        channels = len(PLACES[name][place]) == 4
        assert isinstance(dropout, torch.nn.Dropout2d) == channels
        assert dropout.p == OPTIONS[name]["dropout2d" if channels else "dropout"]


@pytest.mark.parametrize("name", OPTIONS)
def test_the_default_is_the_documented_network(name):
    """No layer and no random key in training, and in either case the twin's keys."""
    plain, dropping = models.create(name), models.create(name, **OPTIONS[name])
    images = jax.ShapeDtypeStruct((1, *models.input_shape(name)), jnp.float32)
    variables = jax.eval_shape(partial(plain.init, train=True), jax.random.key(0), images)
    arrays = jax.tree.map(lambda v: np.zeros(v.shape, v.dtype), variables)
    for options in ({}, OPTIONS[name]):
        twin = parity.reference.create(name, **options)
        assert set(weights.to_torch(arrays)) == set(twin.state_dict())

    def train(model):
        mutable = ["batch_stats", "intermediates"]
        apply = partial(model.apply, train=True, mutable=mutable, capture_intermediates=True)
        logits, updated = jax.eval_shape(apply, variables, images)
        assert logits.shape == (1, 10)
        return flatten_dict(updated["intermediates"], sep="|")

    assert not [path for path in train(plain) if "drop" in path]
    with pytest.raises(InvalidRngError, match='needs PRNG for "dropout"'):
        train(dropping)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mlp_mnist", {"dropout": 1.1}, r"Dropout 'dropout': p must be in \[0, 1\], got 1.1"),
        ("cnn_mnist", {"dropout2d": -0.1}, r"Dropout2d 'layer1.4': p must be in .*, got -0.1"),
        ("vgg_cifar", {"dropout2d": 2}, r"Dropout2d '3': p must be in .*, got 2"),
    ],
)
def test_errors_name_the_layer(name, options, message):
    images = jax.ShapeDtypeStruct((1, *models.input_shape(name)), jnp.float32)
    init = partial(models.create(name, **options).init, train=False)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(init, jax.random.key(0), images)

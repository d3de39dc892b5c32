"""Deliberate mistakes in blocks and networks, each of which the parity suite must catch.

As in `test_mutations.py`: a comparison passes as things are, and with the mistake it fails by a
thousand times its budget.
"""

from functools import partial

import jax.numpy as jnp
import pytest
import test_parity_heads
import torch
from flax import linen as nn
from test_mutations import (
    BACKWARD,
    FORWARD,
    STATISTICS,
    STEPS,
    TRAINING,
    assert_caught,
    patch,
)
from test_parity_heads import Heads, HeadsNet, heads_pair

from jaxcnn import losses, train
from jaxcnn.layers import (
    AdaptiveAvgPool2d,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    ReLU,
    avg_pool,
    conv,
    flatten,
    keras,
)
from jaxcnn.models import densenet, googlenet, resnet, resnet_keras, squeezenet
from parity import harness
from parity.reference import densenet as densenet_twins
from parity.reference import googlenet as googlenet_twins
from parity.reference import resnet as resnet_twins
from parity.reference import resnet_keras as keras_twins


class PoolsNet(nn.Module):
    """Average pools with padding and adaptive ones that overlap."""

    @nn.compact
    def __call__(self, images):
        x = AvgPool2d(3, 2, 1, name="0")(images)
        return flatten(AdaptiveAvgPool2d((3, 2), name="1")(x))


def pools_pair():
    pools = torch.nn.AvgPool2d(3, 2, 1), torch.nn.AdaptiveAvgPool2d((3, 2))
    return harness.make_pair(
        torch.nn.Sequential(*pools, torch.nn.Flatten()), PoolsNet(), (9, 13, 2)
    )


def inception_pair():
    twin = googlenet_twins.inception(5, 4, 3, 6, 2, 5, 3)
    return harness.make_pair(twin, googlenet.Inception(4, 3, 6, 2, 5, 3), (7, 9, 5))


def dense_pair():
    twin = densenet_twins.DenseBlock(3, 4, 3)
    return harness.make_pair(twin, densenet.DenseBlock(4, 3), (7, 9, 3))


def transition_pair():
    return harness.make_pair(densenet_twins.transition(3, 4), densenet.Transition(4), (8, 9, 3))


def residual_pair():
    twin = resnet_twins.ResidualBlock(3, 4, False)
    return harness.make_pair(twin, resnet.ResidualBlock(4, same_shape=False), (8, 9, 3))


def bottleneck_pair():
    twin = resnet_twins.Bottleneck(6, 4, 2)
    return harness.make_pair(twin, resnet.Bottleneck(4, 2), (8, 9, 6))


def keras_pair():
    twin = keras_twins.Residual(3, 4, True, 2)
    return harness.make_pair(twin, resnet_keras.Residual(4, True, 2), (8, 9, 3))


squeezenet_pair = partial(harness.pair, "squeezenet1_1", batch_size=2)
googlenet_pair = partial(
    harness.pair, "googlenet", batch_size=2, aux_logits=False, transform_input=True, size=(33, 40)
)


class SwappedHeads(HeadsNet):
    """The early head's logits in the main head's place."""

    @nn.compact
    def __call__(self, images, *, train):
        out = super().__call__(images, train=train)
        return Heads(out.early, out.logits) if train else out


class PaperBlock(nn.Module):
    """The paper's residual block: no ReLU in front of the addition."""

    features: int
    same_shape: bool

    @nn.compact
    def __call__(self, images, *, train):
        relu = ReLU(name="relu")
        x = Conv2d(self.features, 3, 2, padding=1, bias=False, name="conv1")(images)
        x = relu(BatchNorm2d(name="bn1")(x, train=train))
        x = Conv2d(self.features, 3, padding=1, bias=False, name="conv2")(x)
        x = BatchNorm2d(name="bn2")(x, train=train)
        return relu(Conv2d(self.features, 1, 2, name="conv3")(images) + x)


def strides_swapped(real):
    """A bottleneck's stride on its first 1x1 convolution, as in the paper."""

    def make(features, size, stride=1, **options):
        return real(
            features, size, {"conv1": 2, "conv2": 1}.get(options["name"], stride), **options
        )

    return make


def reversed_order(join):
    return lambda parts: join(parts[::-1])


def apart(pool2d):
    """Adaptive windows that end where the next one starts."""

    def adaptive_avg_pool2d(images, output_size):
        for axis, count in zip((1, 2), output_size, strict=True):
            length = images.shape[axis]
            ends = [(i + 1) * length // count for i in range(count)]
            parts = jnp.split(images, ends[:-1], axis)
            images = jnp.concatenate([p.mean(axis, keepdims=True) for p in parts], axis)
        return images

    return adaptive_avg_pool2d


def options(**changed):
    """Call a function or a layer with other options."""
    return lambda f: lambda *args, **given: f(*args, **{**given, **changed})


MUTATIONS = {
    # order of concatenation
    "inception's branches reversed": (
        inception_pair,
        FORWARD,
        patch(googlenet, "join", reversed_order),
    ),
    "old features first": (dense_pair, FORWARD, patch(densenet, "join", reversed_order)),
    # blocks
    "inception's eps 1e-5": (inception_pair, FORWARD, patch(googlenet, "_EPS", lambda _: 1e-5)),
    "inception's pool without padding's infinity": (
        inception_pair,
        FORWARD,
        patch(
            googlenet,
            "MaxPool2d",
            lambda layer: lambda *_, name: AvgPool2d(3, 1, 1, name=name),
        ),
    ),
    "no ReLU in front of the addition": (
        residual_pair,
        FORWARD,
        patch(resnet, "ResidualBlock", lambda _: PaperBlock),
    ),
    "shortcut without bias": (
        residual_pair,
        FORWARD,
        patch(conv, "conv2d", lambda f: lambda x, k, b, **o: f(x, k, None, **o)),
    ),
    "bottleneck's stride on the 1x1": (
        bottleneck_pair,
        FORWARD,
        patch(resnet, "_conv", strides_swapped),
    ),
    "transition pools the maximum": (
        transition_pair,
        FORWARD,
        patch(
            densenet, "AvgPool2d", lambda _: lambda size, name: densenet.MaxPool2d(size, name=name)
        ),
    ),
    # pools
    "sizes rounded down": (
        squeezenet_pair,
        FORWARD,
        patch(squeezenet, "MaxPool2d", options(ceil_mode=False)),
    ),
    "padding not counted": (
        pools_pair,
        FORWARD,
        patch(avg_pool, "avg_pool2d", options(count_include_pad=False)),
    ),
    "adaptive windows do not overlap": (
        pools_pair,
        FORWARD,
        patch(avg_pool, "adaptive_avg_pool2d", apart),
    ),
    # Keras
    "the odd pixel of padding in front": (
        keras_pair,
        FORWARD,
        patch(keras, "_sides", lambda f: lambda *args: f(*args)[::-1]),
    ),
    "Keras' eps 1e-5": (
        keras_pair,
        FORWARD,
        patch(resnet_keras, "BatchNormalization", options(eps=1e-5)),
    ),
    "Keras' momentum as the new value's weight": (
        keras_pair,
        STATISTICS,
        patch(resnet_keras, "BatchNormalization", options(momentum=0.99)),
    ),
    "Keras' running variance unbiased": (
        keras_pair,
        STATISTICS,
        patch(resnet_keras, "BatchNormalization", options(unbiased=True)),
    ),
    # heads
    "input not transformed": (
        googlenet_pair,
        FORWARD,
        patch(googlenet, "_to_symmetric", lambda _: lambda images: images),
    ),
    "auxiliary loss of another weight": (
        heads_pair,
        BACKWARD,
        patch(losses, "with_auxiliary", lambda f: partial(f, weight=0.4)),
    ),
    "auxiliary loss left out of training": (
        heads_pair,
        STEPS,
        patch(train, "with_auxiliary", lambda f: lambda *args: f(*args[:3], 0.0)),
    ),
    "main head and auxiliary head swapped": (
        heads_pair,
        TRAINING,
        patch(test_parity_heads, "HeadsNet", lambda _: SwappedHeads),
    ),
}


@pytest.mark.parametrize("mistake", MUTATIONS)
def test_mistake_is_caught(mistake, monkeypatch):
    assert_caught(*MUTATIONS[mistake], monkeypatch)

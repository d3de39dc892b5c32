"""Costs and receptive fields against published figures, formulas, XLA's count and probing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torchvision_import
from flax import linen as nn

from jaxcnn import models, summary
from jaxcnn.layers import (
    AdaptiveAvgPool2d,
    AvgPool2d,
    Conv2d,
    ConvTranspose2d,
    Linear,
    MaxPool2d,
    ReLU,
    flatten,
)
from jaxcnn.layers.receptive import Window, window
from jaxcnn.models.googlenet import Inception

OF_OUR_OWN = "cifar", "mnist", "keras", "airbench94"
FAMILIES = [name for name in models.names() if not name.endswith(OF_OUR_OWN)]


def rows(name, size=224):
    return {row.name: row for row in summary.rows(models.create(name), (size, size, 3))}


@pytest.mark.parametrize("name", FAMILIES)
def test_macs_are_what_torchvision_publishes_as_gflops(name):
    weights = torchvision_import.torchvision_models().get_model_weights(name)
    table = rows(name).values()
    found = sum(row.macs for row in table) / 1e9
    # Published with three decimals.
    assert found == pytest.approx(weights.DEFAULT.meta["_ops"], abs=6e-4)


@pytest.mark.parametrize(
    ("name", "layer", "published"),
    [
        ("alexnet", "features.12", 195),  # Araujo et al. 2019, table of section 4
        ("vgg16", "features.30", 212),
        ("vgg16", "features.4", 6),
    ],
)
def test_published_receptive_fields(name, layer, published):
    assert rows(name)[layer].receptive_field == (published, published)


class Branches(nn.Module):
    """Windows of every kind, two branches, an addition of different depths."""

    @nn.compact
    def __call__(self, images):
        x = Conv2d(2, (3, 2), stride=(2, 1), padding=1, name="a")(images)
        left = AvgPool2d(3, 1, 1, name="pool")(Conv2d(2, 3, dilation=2, padding=2, name="b")(x))
        x = ReLU(name="relu")(x + left)
        x = MaxPool2d((2, 3), name="c")(x)
        return Conv2d(1, 1, name="d")(jnp.concatenate([x, 2 * x], axis=-1))


class Upsampled(nn.Module):
    """Back to the image's resolution by a transposed convolution."""

    @nn.compact
    def __call__(self, images):
        x = Conv2d(2, 3, stride=3, name="down")(images)
        x = ConvTranspose2d(2, 4, stride=3, name="up")(x)
        return Conv2d(1, 4, name="window")(x)


@pytest.mark.parametrize(
    ("model", "size"),
    [
        (Branches(), (41, 53)),
        (Inception(4, 2, 3, 2, 3, 4), (31, 37)),
        (Upsampled(), (31, 37)),
    ],
)
def test_receptive_field_is_what_a_pixel_depends_on(model, size):
    """Perturb every pixel: those that move the middle output are a box of the field's size."""
    images = jnp.asarray(np.random.default_rng(0).uniform(0.5, 1, (1, *size, 3)), jnp.float32)
    mode = {"train": False} if isinstance(model, Inception) else {}
    variables = model.init(jax.random.key(0), images, **mode)
    # Positive weights: nothing is cancelled and no ReLU shut.
    variables["params"] = jax.tree.map(lambda v: jnp.abs(v) + 0.1, variables["params"])
    out = jax.eval_shape(lambda: model.apply(variables, images, **mode))
    middle = np.asarray(out.shape[1:3]) // 2
    # Behind a transposed convolution not every pixel sees equally much: the largest field counts.
    found = [_extent(model, variables, mode, size, middle + shift) for shift in range(3)]
    fields = [row.receptive_field for row in summary.rows(model, (*size, 3))]
    assert max(fields) == tuple(np.max(found, axis=0))


def _extent(model, variables, mode, size, place):
    """Return (h, w) of the box of pixels that the output at a place has a gradient to."""
    row, column = place
    gradient = jax.jit(
        jax.grad(lambda x: jnp.sum(model.apply(variables, x, **mode)[0, row, column]))
    )
    # A max pool's gradient reaches one pixel only: many random images reach them all.
    seen = np.zeros(size, bool)
    for seed in range(40):
        x = np.random.default_rng(seed).uniform(0.5, 1, (1, *size, 3))
        gradients = np.asarray(gradient(jnp.asarray(x, jnp.float32)))
        seen |= np.abs(gradients).sum(axis=(0, 3)) > 0
    return [np.ptp(np.flatnonzero(seen.any(axis=axis))) + 1 for axis in (1, 0)]


class Head(nn.Module):
    """A flatten, a mean and an adaptive pool see all that their pixels see."""

    @nn.compact
    def __call__(self, images):
        x = Conv2d(2, 3, stride=2, name="conv")(images)  # 7x9: fields of 3, 2 apart
        mean = Linear(2, name="mean")(x.mean(axis=(1, 2)))
        flat = Linear(2, name="flat")(flatten(x))
        x = AdaptiveAvgPool2d((2, 3), name="pool")(x)
        return Linear(2, name="fc")(flatten(x)) + mean + flat


def test_fields_of_what_sees_the_whole_image():
    table = {row.name: row for row in summary.rows(Head(), (15, 19, 3))}
    assert table["conv"].receptive_field == (3, 3)
    # Adaptive windows of 7 rows in 2: 4 each; of 9 columns in 3: 3 each.
    assert table["pool"].receptive_field == (3 + 3 * 2, 3 + 2 * 2)
    assert table["mean"].receptive_field == table["flat"].receptive_field == (15, 19)
    assert table["mean"].macs == 2 * 2 and table["flat"].macs == 7 * 9 * 2 * 2


@pytest.mark.parametrize(
    ("layer", "shape", "macs"),
    [
        (Conv2d(8, 3), (9, 7, 4), 4 * 3 * 3 * 7 * 5 * 8),
        (Conv2d(8, (3, 1), stride=2, bias=False), (9, 7, 4), 4 * 3 * 4 * 4 * 8),
        (Conv2d(8, 3, groups=4, dilation=2), (9, 7, 4), 1 * 3 * 3 * 5 * 3 * 8),
        (ConvTranspose2d(8, 3), (9, 7, 4), 4 * 3 * 3 * 9 * 7 * 8),
    ],
)
def test_formulas_and_xlas_count_of_one_layer(layer, shape, macs):
    (row,) = summary.rows(layer, shape, batch_size=3)
    assert (row.macs, row.flops) == (3 * macs, 6 * macs)
    bias = row.parameters - 4 // layer.groups * 8 * np.prod(row.window.kernel)
    assert bias == (8 if layer.bias else 0)
    assert row.activation_bytes == np.prod(row.output_shape) * 4
    # Without padding XLA counts the same, and an addition for each bias.
    biases = np.prod(row.output_shape) if layer.bias else 0
    if layer.groups == 1:  # groups may be computed by another form, whose operations it counts
        assert summary.xla_flops(layer, shape, batch_size=3) == row.flops + biases


@pytest.mark.parametrize("name", ["vgg16", "resnet18", "densenet121", "alexnet_cifar"])
def test_xlas_count_of_a_network_is_near_the_formula(name):
    size = (224, 224, 3) if name in FAMILIES else models.input_shape(name)
    model = models.create(name)
    flops = sum(row.flops for row in summary.rows(model, size))
    # Beside the formula's it counts norms, activations and pools, but no taps in the padding.
    assert flops * 0.9 < summary.xla_flops(model, size) < flops * 1.1


def test_windows():
    assert window(Conv2d(8, (3, 5), 2, dilation=(1, 2))) == Window((3, 5), (2, 2), (1, 2))
    assert window(MaxPool2d(3)) == Window((3, 3), (3, 3), (1, 1))
    assert window(AvgPool2d(2, 1)) == Window((2, 2), (1, 1), (1, 1))
    assert window(ReLU()) is None
    table = {row.name: row for row in summary.rows(models.create("resnet18_keras"), (56, 56, 1))}
    strided = [row.window for row in table.values() if row.window and row.window.stride == (2, 2)]
    assert strided[:2] == [Window((7, 7), (2, 2), (1, 1)), Window((3, 3), (2, 2), (1, 1))]


def test_activation_memory_of_a_block_is_that_of_its_layers():
    model = models.create("resnet18")
    layers, blocks = (summary.rows(model, (64, 64, 3), depth=depth) for depth in (None, 1))
    for name in ("activation_bytes", "macs", "parameters"):
        assert sum(getattr(r, name) for r in layers) == sum(getattr(r, name) for r in blocks)
    assert summary.rows(model, (64, 64, 3), batch_size=4)[0].activation_bytes == 4 * (
        layers[0].activation_bytes
    )

"""Frozen batch norms against torch's `eval()` on single norms, and where a network is cut."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from small import SmallNet

from jaxcnn import models, weights
from jaxcnn.layers import frozen_norms
from jaxcnn.layers.cut import find_cut
from jaxcnn.models import cnn, densenet, resnet, resnet_keras
from parity import harness
from parity.compilation import compiled
from parity.reference import cnn as torch_cnn
from parity.reference import densenet as torch_densenet
from parity.reference import resnet as torch_resnet
from parity.reference import resnet_keras as torch_resnet_keras


@dataclass(frozen=True, eq=False)
class FrozenPair(harness.Pair):
    """A pair whose selected norms are in evaluation mode on both sides, whatever the rest is."""

    select: Callable[[str], bool] = lambda name: True

    def apply(self, variables, images, *, train, **options):
        with frozen_norms(self.select):
            return super().apply(variables, images, train=train, **options)

    def twin(self, *, train, step=0):
        module = super().twin(train=train, step=step)
        for name, norm in module.named_modules():
            if isinstance(norm, torch.nn.BatchNorm2d) and self.select(name):
                norm.eval()
        return module


# Both sides, the images' shape, which norms are frozen.
BLOCKS = (1, 1, 1, 1)
CASES = {
    "cnn": (
        lambda: (torch_cnn.CNN(3, dropout=0.4, dropout2d=0.2), cnn.CNN(3, 0.4, 0.2)),
        (28, 28, 1),
        "layer1.1".__eq__,
    ),
    "resnet": (
        lambda: (
            torch_resnet.ResNet(torch_resnet.BasicBlock, BLOCKS, 3),
            resnet.ResNet(resnet.BasicBlock, BLOCKS, 3),
        ),
        (33, 48, 3),
        lambda name: not name.startswith("layer4."),
    ),
    "densenet": (
        lambda: (
            torch_densenet.DenseNet(4, (1, 2), 8, 3, drop_rate=0.3),
            densenet.DenseNet(4, (1, 2), 8, 3, drop_rate=0.3),
        ),
        (29, 34, 3),
        lambda name: name.endswith("norm2") or "transition" in name,
    ),
    "keras": (
        lambda: (
            torch_resnet_keras.ResNetKeras(3, BLOCKS),
            resnet_keras.ResNetKeras(3, BLOCKS),
        ),
        (30, 33, 1),
        lambda name: True,
    ),
}


def frozen(case):
    sides, shape, select = CASES[case]
    made = harness.make_pair(*sides(), shape, name=case)
    given = {field.name: getattr(made, field.name) for field in fields(made)}
    return FrozenPair(**given, select=select)


@pytest.fixture(scope="module", params=CASES)
def pair(request):
    return frozen(request.param)


def test_activations_in_training_are_torchs_with_the_norms_in_evaluation(pair):
    got, want = harness.activations(pair, train=True)
    harness.assert_close(got, want, rtol=1e-11)


def test_gradients_flow_through_frozen_norms_as_in_torch(pair):
    got, want = harness.gradients(pair, train=True)
    harness.assert_close(got, want, rtol=1e-11)


def assert_selected_kept(pair, after):
    """Assert that the statistics of the selected norms, and of no others, are as before."""
    before = weights.to_torch({"batch_stats": pair.variables["batch_stats"]})
    kept = {key: np.array_equal(after[key], value) for key, value in before.items()}
    assert kept == {key: pair.select(key.rpartition(".")[0]) for key in before}


def test_frozen_statistics_stay_and_the_others_move_as_in_torch(pair):
    got, want = harness.statistics(pair, batches=3)
    harness.assert_close(got, want, rtol=1e-11)
    assert_selected_kept(pair, got)


def test_training_steps_are_torchs():
    pair = frozen("cnn")
    got, want = harness.trajectory(pair, steps=5)
    harness.assert_close(got, want, rtol=1e-11)
    assert_selected_kept(pair, got)
    assert not np.array_equal(
        got["layer1.1.weight"], weights.to_torch(pair.variables)["layer1.1.weight"]
    )


def test_only_the_norms_are_frozen_and_only_inside():
    model, images = SmallNet(), np.random.default_rng(1).normal(size=(4, 8, 8, 1))
    images = jnp.asarray(images, jnp.float32)
    variables = jax.jit(partial(model.init, train=False))(jax.random.key(0), images)

    def run(key=0, train=True):
        apply = compiled(partial(model.apply, train=train, mutable=["batch_stats"]))
        logits, updated = apply(variables, images, rngs={"dropout": jax.random.key(key)})
        return logits, int(updated["batch_stats"]["bn"]["num_batches_tracked"])

    with frozen_norms(lambda name: True):
        (dropped, counted), (other, _), (evaluated, _) = run(), run(key=1), run(train=False)
    assert counted == 0
    assert not np.array_equal(dropped, other), "dropout is on"
    np.testing.assert_array_equal(evaluated, run(train=False)[0])
    with frozen_norms("conv".__eq__):
        assert run()[1] == 1
    assert run()[1] == 1


def test_norms_inside_recomputed_blocks_are_frozen():
    model = resnet.ResNet(resnet.BasicBlock, BLOCKS, 3, remat=True)
    images = jnp.zeros((2, 32, 32, 3))
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
    seen = []

    def select(name):
        seen.append(name)
        return True

    with frozen_norms(select):
        mutable = ["batch_stats"]
        jax.eval_shape(lambda v: model.apply(v, images, train=True, mutable=mutable), shapes)
    assert {"bn1", "layer1.0.bn1", "layer4.0.downsample.1"} <= set(seen)
    assert len(seen) == 1 + 4 * 2 + 3


def cut(model, head, image_shape):
    images = jnp.zeros((1, *image_shape))
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
    return find_cut(model, head, shapes, image_shape, jnp.float32)


@pytest.mark.parametrize(
    ("name", "options", "head", "size", "path", "shape"),
    [
        ("mlp_mnist", {}, "fc2", 28, ("fc2",), (500,)),
        ("mlp_mnist", {"dropout": 0.1}, "fc2", 28, ("dropout",), (500,)),
        ("cnn_mnist", {"dropout2d": 0.1}, "fc", 28, ("layer2.4",), (7, 7, 32)),
        ("cnn_mnist", {"dropout": 0.1, "dropout2d": 0.1}, "fc", 28, ("layer2.4",), (7, 7, 32)),
        ("alexnet_cifar", {"dropout2d": 0.1}, "fc3", 32, ("fc3",), (192,)),
        ("squeezenet1_1", {}, "classifier.1", 33, ("classifier.0",), (2, 2, 512)),
        ("alexnet", {}, "classifier.6", 63, ("classifier.6",), (4096,)),
    ],
)
def test_a_cut_lies_before_the_head_and_the_dropouts_in_front_of_it(
    name, options, head, size, path, shape
):
    model = models.create(name, **options)
    found = cut(model, head, (size, size, models.input_shape(name)[2]))
    assert (found.path, found.shape) == (path, shape)
    assert found.outputs.shape == (2, model.num_classes)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("fcc", r"head='fcc': expected a module that ResNet calls once.*'avgpool', 'fc'"),
        ("layer3.0.relu", r"head='layer3.0.relu': expected a module that ResNet calls once"),
        ("layer3.0.conv1", r"head='layer3.0.conv1': the logits of ResNet follow .* not only"),
    ],
)
def test_modules_that_no_network_can_be_cut_at(head, message):
    with pytest.raises(ValueError, match=message):
        cut(resnet.ResNet(resnet.BasicBlock, BLOCKS, 3), head, (32, 32, 3))

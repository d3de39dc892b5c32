"""The residual networks: documented shapes and counts, blocks alone, initialisation, remat."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcnn import models
from jaxcnn.models import resnet, resnet_keras
from parity import harness
from parity.compilation import compiled
from parity.reference import resnet as reference
from parity.reference import resnet_keras as keras_reference

PARAMETERS = {
    "resnet_cifar": 11_180_682,
    "resnet18_keras": 11_178_378,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
}

# Name -> (twin, block, channels of its input).
BLOCKS = {
    "residual_block": (reference.residual_block(5, 5), resnet.residual_block(5), 5),
    "residual_block, smaller": (
        reference.residual_block(3, 6, False),
        resnet.residual_block(6, False),
        3,
    ),
    "BasicBlock": (reference.BasicBlock(5, 5), resnet.BasicBlock(5), 5),
    "BasicBlock, smaller": (reference.BasicBlock(5, 5, 2), resnet.BasicBlock(5, 2), 5),
    "BasicBlock, wider": (reference.BasicBlock(3, 5), resnet.BasicBlock(5), 3),
    "Bottleneck": (reference.Bottleneck(8, 2), resnet.Bottleneck(2), 8),
    "Bottleneck, smaller": (reference.Bottleneck(8, 3, 2), resnet.Bottleneck(3, 2), 8),
    "Residual": (keras_reference.Residual(4, 4), resnet_keras.Residual(4), 4),
    "Residual, smaller": (
        keras_reference.Residual(3, 4, True, 2),
        resnet_keras.Residual(4, True, 2),
        3,
    ),
    "Stage": (keras_reference.Stage(3, 4, 2), resnet_keras.Stage(4, 2), 3),
    "Stage, first": (
        keras_reference.Stage(4, 4, 2, first=True),
        resnet_keras.Stage(4, 2, first=True),
        4,
    ),
}


def block_pair(name, size=(9, 14)):
    twin, block, channels = BLOCKS[name]
    return harness.make_pair(twin, block, (*size, channels), name=name, batch_size=3)


def evaluated(module, *shape, **options):
    """Return the output's shape, and the variables', of a module on images of a shape."""
    images = jax.ShapeDtypeStruct(shape, jnp.float32)

    def init(key, images):
        return module.init_with_output(key, images, train=False, **options)

    return jax.eval_shape(init, jax.random.key(0), images)


def test_documented_shapes_of_the_blocks():
    assert evaluated(resnet.residual_block(32), 1, 96, 96, 32)[0].shape == (1, 96, 96, 32)
    assert evaluated(resnet.residual_block(32, False), 1, 96, 96, 3)[0].shape == (1, 48, 48, 32)
    assert evaluated(resnet.bottleneck(64, 2), 1, 57, 56, 256)[0].shape == (1, 29, 28, 256)
    assert evaluated(resnet.basic_block(128, 2), 1, 56, 57, 64)[0].shape == (1, 28, 29, 128)
    assert evaluated(resnet_keras.Stage(128, 2), 1, 55, 56, 64)[0].shape == (1, 28, 28, 128)


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        (
            "resnet_cifar",
            {
                "block1": (45, 45, 64),
                "block2.0": (22, 22, 64),
                "block2.2": (22, 22, 64),
                "block3.1": (11, 11, 128),
                "block4.1": (6, 6, 256),
                "block5.1": (3, 3, 512),
                "block5.2": (1, 1, 512),
                "classifier": (10,),
            },
        ),
        (
            "resnet50",
            {
                "conv1": (112, 112, 64),
                "maxpool": (56, 56, 64),
                "layer1.2": (56, 56, 256),
                "layer2.3": (28, 28, 512),
                "layer3.5": (14, 14, 1024),
                "layer4.2": (7, 7, 2048),
                "avgpool": (1, 1, 2048),
                "fc": (1000,),
            },
        ),
        (
            "resnet18_keras",
            {
                "conv": (112, 112, 64),
                "max_pool": (56, 56, 64),
                "stage1": (56, 56, 64),
                "stage2": (28, 28, 128),
                "stage3": (14, 14, 256),
                "stage4": (7, 7, 512),
                "global_pool": (1, 1, 512),
                "dense": (10,),
            },
        ),
    ],
)
def test_shapes_inside_the_networks(name, shapes):
    images = 2, *models.input_shape(name)
    _, variables = evaluated(models.create(name), *images, capture_intermediates=True)
    calls = variables["intermediates"]
    assert {layer: calls[layer]["__call__"][0].shape[1:] for layer in shapes} == shapes


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_counts(name):
    _, variables = evaluated(models.create(name), 1, *models.input_shape(name))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == PARAMETERS[name]


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_alone_equal_the_twins(name):
    pair = block_pair(name)
    harness.assert_close(*harness.activations(pair, train=False), rtol=1e-12)
    harness.assert_close(*harness.activations(pair, train=True), rtol=1e-12)
    harness.assert_close(*harness.gradients(pair, train=True), rtol=1e-11)
    harness.assert_close(*harness.statistics(pair, batches=10), rtol=1e-12)


def test_the_documented_block_adds_nothing_negative(float64):
    """ReLU before the addition: where the input is positive, the output is no smaller."""
    pair = block_pair("residual_block")
    images = jnp.abs(jnp.asarray(pair.batch(0)[0]))
    branch = pair.apply(pair.variables, images, train=False) - images
    assert float(branch.min()) > -1e-15 and float(branch.max()) > 1


def test_a_block_whose_input_does_not_fit_names_the_shapes():
    with pytest.raises(ValueError, match=r"same_shape=True needs images of 32 channels, got .*3\)"):
        evaluated(resnet.ResidualBlock(32), 1, 8, 8, 3)
    with pytest.raises(ValueError, match=r"same_shape=True needs images of 32 channels, got .*1\)"):
        evaluated(resnet.ResidualBlock(32), 1, 8, 8, 1)
    with pytest.raises(ValueError, match=r"Residual 'r': use_1x1conv=False .*8, 1\) become .*4, 4"):
        evaluated(resnet_keras.Residual(4, strides=2, name="r"), 1, 8, 8, 1)


def initialised(model, images):
    """Draw a module's variables in one program, which leaves out what only the output needs."""
    return compiled(partial(model.init, train=False))(jax.random.key(0), images)


@pytest.mark.parametrize(
    ("block", "last_norm", "zero_init_residual"),
    [(resnet.BasicBlock, "bn2", True), (resnet.Bottleneck, "bn3", False)],
)
def test_initial_values_are_torchvisions(block, last_norm, zero_init_residual):
    model = resnet.ResNet(block, (1, 1, 1, 1), zero_init_residual=zero_init_residual)
    params = initialised(model, jnp.zeros((1, 32, 32, 3)))["params"]
    seen = set()
    for path, value in jax.tree_util.tree_leaves_with_path(params):
        layer, leaf = (part.key for part in path[-2:])
        value = np.asarray(value)
        if layer == "fc":
            bound = params["fc"]["kernel"].shape[0] ** -0.5
            assert 0.95 * bound < np.abs(value).max() <= bound
            assert value.std() == pytest.approx(bound / 3**0.5, rel=0.05)
        elif leaf == "kernel":
            kh, kw, _, features = value.shape
            normal = value * (kh * kw * features / 2) ** 0.5  # kaiming_normal_, fan_out, ReLU
            assert np.std(normal) == pytest.approx(1, rel=0.03)
            assert abs(normal.mean()) < 5 / normal.size**0.5
            assert np.mean(normal**4) == pytest.approx(3, rel=0.15), "neither uniform nor truncated"
        else:
            zero = leaf == "bias" or (zero_init_residual and layer == last_norm)
            np.testing.assert_array_equal(value, 0 if zero else 1)
        seen.add((layer, leaf))
    assert {("fc", "bias"), (last_norm, "scale"), ("downsample.0", "kernel")} < seen


def test_zero_initialised_blocks_start_as_their_shortcut():
    images = jnp.abs(jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 6, 8)), jnp.float32))
    for block in (resnet.BasicBlock(8), resnet.Bottleneck(2)):
        zero = block.clone(zero_init_residual=True)
        variables, plain = initialised(zero, images), initialised(block, images)
        np.testing.assert_array_equal(zero.apply(variables, images, train=False), images)
        assert np.abs(block.apply(plain, images, train=False) - images).max() > 0.1
        assert jax.tree.structure(plain) == jax.tree.structure(variables)


def test_rematerialised_equals_kept(float64):
    num_blocks = (1, 1, 1, 1)
    twin = reference.ResNet(reference.Bottleneck, num_blocks, num_classes=5)
    model = resnet.ResNet(resnet.Bottleneck, num_blocks, num_classes=5)
    pair = harness.make_pair(twin, model, (33, 40, 3), batch_size=3)
    images = jnp.asarray(pair.batch(0)[0])
    found = []
    for remat in (False, True):
        model = resnet.ResNet(resnet.Bottleneck, num_blocks, num_classes=5, remat=remat)

        def objective(params, images, model=model):
            variables = {**pair.variables, "params": params}
            logits, updated = model.apply(variables, images, train=True, mutable=["batch_stats"])
            return jnp.sum(jnp.square(logits)), (logits, updated)

        trained = compiled(jax.grad(objective, has_aux=True))(pair.variables["params"], images)
        found.append({"fresh": initialised(model, images), "trained": trained})
    kept, rematerialised = found
    assert jax.tree.structure(kept) == jax.tree.structure(rematerialised)
    for want, got in zip(jax.tree.leaves(kept), jax.tree.leaves(rematerialised), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-12 * np.abs(want).max())


def test_rematerialised_blocks_keep_less_for_the_gradient():
    images = jax.ShapeDtypeStruct((4, 128, 128, 3), jnp.float32)

    def kept(remat):
        """Return how many values the backward pass needs, the parameters apart."""
        model = resnet.ResNet(resnet.Bottleneck, (2, 1, 1, 1), remat=remat)
        _, variables = evaluated(model, *images.shape)

        def backward(variables, images):
            def network(params):
                known = {**variables, "params": params}
                return model.apply(known, images, train=True, mutable=["batch_stats"])[0]

            return jax.vjp(network, variables["params"])[1]

        def count(tree):
            return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))

        saved = jax.eval_shape(backward, variables, images)
        return count(saved) - count(variables["params"])

    assert kept(remat=True) < 0.5 * kept(remat=False)


@pytest.mark.parametrize("train", [False, True])
def test_a_rematerialised_network_shows_the_same_activations(train):
    twin = reference.ResNet(reference.BasicBlock, (1, 1, 1, 1), num_classes=5)
    model = resnet.ResNet(resnet.BasicBlock, (1, 1, 1, 1), num_classes=5, remat=True)
    pair = harness.make_pair(twin, model, (33, 40, 3), batch_size=2)
    got, want = harness.activations(pair, train=train)
    assert {"layer1.0.relu[1]", "layer4.0.downsample.0", "layer4.0", "fc"} < set(got)
    harness.assert_close(got, want, rtol=1e-12)

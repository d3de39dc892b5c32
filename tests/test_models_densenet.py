"""The blocks of the DenseNets alone, and their options."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxcnn import weights
from jaxcnn.models import densenet
from parity import harness
from parity.compilation import compiled
from parity.reference import densenet as reference

# Name -> (twin, block, channels of its input).
BLOCKS = {
    "conv_block": (reference.conv_block(5, 7), densenet.conv_block(7), 5),
    "dense_block": (reference.dense_block(3, 12, 3), densenet.dense_block(12, 3), 3),
    "transition": (reference.transition(3, 12), densenet.transition(12), 3),
    "dense layer": (reference.dense_layer(6, 5), densenet.DenseLayer(5), 6),
    "dense layers": (reference.DenseLayers(6, 5, 3), densenet.DenseLayers(5, 3), 6),
}


def block_pair(name):
    twin, block, channels = BLOCKS[name]
    return harness.make_pair(twin, block, (7, 10, channels), name=name, batch_size=3)


def small(side, **options):
    """A DenseNet of either side with torchvision's layers, but few of them."""
    return side.DenseNet(4, (2, 2), 6, num_classes=5, **options)


def output_shape(module, *shape):
    key, images = jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32)
    init = jax.eval_shape(lambda k, x: module.init_with_output(k, x, train=False)[0], key, images)
    return init.shape


def test_documented_shapes_of_the_blocks():
    assert output_shape(densenet.dense_block(12, 3), 1, 96, 96, 3) == (1, 96, 96, 39)
    assert output_shape(densenet.transition(12), 1, 96, 96, 3) == (1, 48, 48, 12)
    assert output_shape(densenet.conv_block(8), 2, 5, 9, 3) == (2, 5, 9, 8)
    with torch.device("meta"):
        images = torch.zeros(1, 3, 96, 96)
        assert reference.dense_block(3, 12, 3)(images).shape == (1, 39, 96, 96)
        assert reference.transition(3, 12)(images).shape == (1, 12, 48, 48)


def test_documented_shapes_inside_the_network():
    model, images = densenet.DenseNetCifar(), jax.ShapeDtypeStruct((1, 96, 96, 3), jnp.float32)

    def captured(key, images):
        return model.init_with_output(key, images, train=False, capture_intermediates=True)

    logits, variables = jax.eval_shape(captured, jax.random.key(0), images)
    shapes = {
        name: layer["__call__"][0].shape
        for name, layer in variables["intermediates"].items()
        if name != "__call__"
    }
    assert shapes["block1.3"] == (1, 24, 24, 64)
    assert [shapes[f"block2.{i}"][1:] for i in range(7)] == [
        (24, 24, 64 + 6 * 32),
        (12, 12, 128),
        (12, 12, 128 + 12 * 32),
        (6, 6, 256),
        (6, 6, 256 + 24 * 32),
        (3, 3, 512),
        (3, 3, 512 + 16 * 32),
    ]
    assert shapes["block2.avg_pool"] == (1, 1, 1, 1024)
    assert logits.shape == (1, 10)


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_alone_equal_the_twins(name):
    pair = block_pair(name)
    harness.assert_close(*harness.outputs(pair, train=False), rtol=1e-12)
    harness.assert_close(*harness.activations(pair, train=True), rtol=1e-12)
    harness.assert_close(*harness.gradients(pair, train=True), rtol=1e-11)
    harness.assert_close(*harness.statistics(pair, batches=10), rtol=1e-12)


def test_new_features_come_first_in_the_documented_block_and_last_in_torchvisions(float64):
    for name, old in (("dense_block", slice(-3, None)), ("dense layers", slice(0, 6))):
        pair = block_pair(name)
        images, _ = pair.batch(0)
        out = compiled(partial(pair.apply, train=False))(pair.variables, jnp.asarray(images))
        np.testing.assert_array_equal(out[..., old], images)


@pytest.mark.parametrize("drop_rate", [0.0, 0.4])
def test_small_network_equals_the_twin(drop_rate):
    twin, model = (small(side, drop_rate=drop_rate) for side in (reference, densenet))
    pair = harness.make_pair(twin, model, (17, 30, 3), batch_size=3)
    assert any(isinstance(m, torch.nn.Dropout) for m in twin.modules()) == bool(drop_rate)
    harness.assert_close(*harness.activations(pair, train=False), rtol=1e-12)
    harness.assert_close(*harness.activations(pair, train=True), rtol=1e-12)
    harness.assert_close(*harness.gradients(pair, train=True), rtol=1e-11)


@pytest.mark.parametrize("drop_rate", [0.0, 0.4])
def test_rematerialised_equals_kept(drop_rate, float64):
    pair = harness.make_pair(
        small(reference, drop_rate=drop_rate),
        small(densenet, drop_rate=drop_rate),
        (17, 30, 3),
        batch_size=3,
    )
    images = jnp.asarray(pair.batch(0)[0])
    found = []
    for remat in (False, True):
        model = small(densenet, drop_rate=drop_rate, remat=remat)
        fresh = compiled(partial(model.init, train=False))(jax.random.key(0), images)

        @compiled
        def run(variables, images, model=model):
            def objective(params):
                logits, updated = model.apply(
                    {**variables, "params": params},
                    images,
                    train=True,
                    rngs={"dropout": jax.random.key(1)},
                    mutable=["batch_stats"],
                )
                return jnp.sum(jnp.square(logits)), (logits, updated)

            return jax.grad(objective, has_aux=True)(variables["params"])

        found.append({"fresh": fresh, "trained": run(pair.variables, images)})
    kept, rematerialised = found
    assert jax.tree.structure(kept) == jax.tree.structure(rematerialised)
    for want, got in zip(jax.tree.leaves(kept), jax.tree.leaves(rematerialised), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-13 * np.abs(want).max())


def test_rematerialised_layers_keep_their_new_features_only():
    """What is kept for the gradient grows with the layers, not with their squares."""

    def kept(num_layers, remat):
        model = densenet.DenseLayers(4, num_layers, remat=remat)
        x = jnp.zeros((2, 32, 32, 8))
        variables = jax.eval_shape(lambda: model.init(jax.random.key(0), x, train=False))

        def forward(variables, x):
            return model.apply(variables, x, train=True, mutable=["batch_stats"])[0]

        pull = jax.eval_shape(lambda *inputs: jax.vjp(forward, *inputs)[1], variables, x)
        return sum(leaf.size for leaf in jax.tree.leaves(pull))

    assert kept(16, remat=True) < 0.05 * kept(16, remat=False)
    assert kept(16, remat=True) < 2.2 * kept(8, remat=True)


def test_drop_rate_leaves_the_parameters_as_they_are():
    def keys(model):
        def init(images):
            return model.init(jax.random.key(0), images, train=False)

        template = jax.eval_shape(init, jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32))
        return weights.to_torch(jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), template))

    assert keys(small(densenet, drop_rate=0.4)).keys() == keys(small(densenet)).keys()

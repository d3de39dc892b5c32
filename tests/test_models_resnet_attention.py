"""Residual networks whose blocks end with attention: counts, twins, training."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from jaxcnn import models, train, weights
from jaxcnn.models import resnet
from parity import attention, harness
from parity.reference import resnet as reference

# A squeeze-excitation of C channels adds C/8 (C + 1/2) + C parameters, CBAM C^2/8 + 98.
COUNTS = {
    ("resnet18", "none"): 11_689_512,
    ("resnet18", "se"): 11_778_592,
    ("resnet18", "cbam"): 11_689_512 + 2 * 43_520 + 8 * 98,
    ("resnet50", "se"): 28_088_024,
}
BLOCKS = {
    "BasicBlock": (attention.BasicBlock, resnet.BasicBlock, (64, 64)),
    "BasicBlock, smaller": (attention.BasicBlock, resnet.BasicBlock, (5, 64, 2)),
    "Bottleneck": (attention.Bottleneck, resnet.Bottleneck, (64, 16)),
    "Bottleneck, smaller": (attention.Bottleneck, resnet.Bottleneck, (6, 16, 2)),
}


def shapes(name, kind):
    model = models.create(name, attention=kind)
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    return jax.eval_shape(partial(model.init, train=False), jax.random.key(0), images)


@pytest.mark.parametrize(("name", "kind"), COUNTS)
def test_parameter_counts(name, kind):
    params = shapes(name, kind)["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == COUNTS[name, kind]


def test_without_attention_the_keys_stay_torchvisions():
    plain = models.create("resnet18")
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    want = weights.shapes(
        jax.eval_shape(partial(plain.init, train=False), jax.random.key(0), images)
    )
    assert weights.shapes(shapes("resnet18", "none")) == want
    added = {
        key: s for key, s in weights.shapes(shapes("resnet18", "se")).items() if key not in want
    }
    assert added["layer4.1.se.fc1.weight"] == (32, 512, 1, 1)
    assert set(added) == {
        f"layer{i}.{j}.se.fc{k}.{leaf}"
        for i in range(1, 5)
        for j in range(2)
        for k in (1, 2)
        for leaf in ("weight", "bias")
    }


@pytest.mark.parametrize("kind", ["se", "cbam"])
@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_equal_the_twins(name, kind):
    twin, block, (channels, *arguments) = BLOCKS[name]
    twin = twin(channels, *arguments, attention=kind)
    pair = harness.make_pair(twin, block(*arguments, attention=kind), (7, 10, channels))
    harness.assert_close(*harness.activations(pair, train=False), rtol=1e-12)
    harness.assert_close(*harness.activations(pair, train=True), rtol=1e-12)
    harness.assert_close(*harness.gradients(pair, train=True), rtol=1e-11)
    harness.assert_close(*harness.statistics(pair, batches=3), rtol=1e-12)


def test_a_network_equals_the_twin_block_by_block():
    block = partial(attention.BasicBlock, attention="se")
    block.expansion = 1
    twin = reference.ResNet(block, (2, 2, 2, 2), num_classes=5)
    model = models.create("resnet18", num_classes=5, attention="se")
    pair = harness.make_pair(twin, model, (33, 40, 3), batch_size=2)
    got, want = harness.activations(pair, train=False)
    inside = {f"layer{i}.{j}.se" for i in range(1, 5) for j in range(2)}
    assert inside | {"layer4.1.se.scale_activation", "fc"} <= set(got)
    harness.assert_close(got, want, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["se", "cbam"])
def test_a_few_steps_lower_the_loss(kind):
    model = resnet.ResNet(resnet.BasicBlock, (1, 1, 1, 1), num_classes=4, attention=kind)
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(8, 24, 24, 3)), jnp.float32)
    batch = {"images": images, "labels": jnp.asarray(rng.integers(0, 4, 8), jnp.int32)}
    tx = optax.sgd(0.02)
    state = train.init_state(model, tx, jax.random.key(0), images)
    step = train.make_train_step(model, tx)
    found = []
    for _ in range(5):
        state, metrics = step(state, batch, jax.random.key(1))
        found.append(float(metrics["loss"]))
    assert found[-1] < 0.7 * found[0] and np.isfinite(found).all()


def test_unknown_attention():
    message = "attention must be 'none', 'se' or 'cbam', got 'eca'"
    with pytest.raises(ValueError, match=message):
        shapes("resnet18", "eca")


def test_the_gate_is_in_front_of_the_addition(float64):
    """A closed gate leaves the shortcut alone: its ReLU is the output."""
    block = resnet.BasicBlock(16, attention="se")
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 5, 16)))
    variables = block.init(jax.random.key(0), images, train=False)
    gate = variables["params"]["se"]["fc2"]
    closed = {**gate, "kernel": gate["kernel"] * 0, "bias": gate["bias"] * 0 - 800}
    variables["params"]["se"]["fc2"] = closed
    out = block.apply(variables, images, train=False)
    np.testing.assert_allclose(out, torch.relu(torch.tensor(np.asarray(images))), atol=1e-15)

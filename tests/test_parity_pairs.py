"""Pairs of a user's own: layers and options that the project's networks do not have (yet)."""

import jax
import numpy as np
import pytest
import torch
from flax import linen as nn

from jaxcnn import layers
from parity import harness


class DropoutNet(nn.Module):
    """Convolution without bias, batch norm, dropout of images and of vectors."""

    @nn.compact
    def __call__(self, images, *, train):
        x = layers.Conv2d(6, (3, 5), (2, 1), (1, 2), bias=False, name="0")(images)
        x = layers.BatchNorm2d(eps=1e-3, momentum=None, name="1")(x, train=train)
        x = layers.ReLU(name="2")(x)
        x = layers.Dropout(0.3, name="3")(x, train=train)
        x = layers.flatten(layers.MaxPool2d(3, 2, 1, name="4")(x))
        x = layers.Dropout(0.5, name="6")(x, train=train)
        return layers.Linear(5, name="7")(x)


def dropout_twin():
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, (3, 5), (2, 1), (1, 2), bias=False),
        torch.nn.BatchNorm2d(6, eps=1e-3, momentum=None),
        torch.nn.ReLU(inplace=True),
        torch.nn.Dropout(0.3),
        torch.nn.MaxPool2d(3, 2, 1),
        torch.nn.Flatten(),
        torch.nn.Dropout(0.5, inplace=True),
        torch.nn.Linear(126, 5),
    )


def dropout_pair(dtype="float64"):
    """Return the dropout network beside its twin, on images that are not square."""
    return harness.make_pair(dropout_twin(), DropoutNet(), (9, 14, 3), dtype=dtype)


class PoolNet(nn.Module):
    """A max pool in front, so that the input's gradient shows who won a tie."""

    @nn.compact
    def __call__(self, images):
        x = layers.MaxPool2d(3, 2, 1, name="0")(images)
        return layers.Linear(4, name="2")(layers.flatten(x))


def pool_pair():
    """Return the pool beside its twin, on images of three values, all of them negative."""

    def batches(i):
        rng = np.random.default_rng(i)
        images = -rng.integers(1, 4, (3, 7, 9, 2)).astype(np.float64)
        return images, rng.integers(0, 4, 3).astype(np.int32)

    twin = torch.nn.Sequential(
        torch.nn.MaxPool2d(3, 2, 1), torch.nn.Flatten(), torch.nn.Linear(40, 4)
    )
    return harness.make_pair(twin, PoolNet(), (7, 9, 2), batch_size=3, batches=batches)


@pytest.mark.parametrize("comparison", harness.COMPARISONS)
def test_dropout_network_with_shared_masks(comparison):
    compare, budget, applies = harness.COMPARISONS[comparison]
    pair = dropout_pair()
    assert applies(pair)
    harness.assert_close(*compare(pair), rtol=budget)


def test_the_masks_drop_and_change_from_step_to_step():
    pair = dropout_pair()
    activations, _ = harness.activations(pair, train=True)
    dropped = (activations["3"] == 0) & (activations["2"] != 0)
    assert 0.15 < dropped.sum() / (activations["2"] != 0).sum() < 0.45
    first, second = (
        pair.twin(train=True, step=step)[3].forward(torch.ones(4, 6, 5, 14)) for step in (0, 1)
    )
    assert not torch.equal(first, second)


def test_masks_are_the_same_in_both_dtypes():
    sides = [
        harness.activations(dropout_pair(dtype), train=True)[0]["6"]
        for dtype in ("float32", "float64")
    ]
    np.testing.assert_array_equal(sides[0] == 0, sides[1] == 0)


def test_a_dropout_without_a_shared_mask_is_an_error():
    class Unnamed(nn.Module):
        @nn.compact
        def __call__(self, images, *, train):
            x = nn.Dropout(0.5, deterministic=not train, name="0")(layers.flatten(images))
            return layers.Linear(4, name="2")(x)

    twin = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.5), torch.nn.Linear(12, 4))
    pair = harness.make_pair(twin, Unnamed(), (2, 3, 2))
    harness.assert_close(*harness.outputs(pair, train=False), rtol=1e-12)
    with pytest.raises(ValueError, match="dropout '1' of Sequential has no mask"):
        harness.outputs(pair, train=True)


@pytest.mark.parametrize("comparison", ["output, training", "gradients, training"])
def test_max_pool_ties_in_front_of_the_network(comparison):
    compare, budget, _ = harness.COMPARISONS[comparison]
    harness.assert_close(*compare(pool_pair()), rtol=budget)


class LinenNet(nn.Module):
    """Flax's own layers, and ReLU as a function: the code that a user comes with."""

    @nn.compact
    def __call__(self, images, train):
        dtype = images.dtype
        x = nn.Conv(5, (3, 3), padding=1, param_dtype=dtype, name="0")(images)
        x = nn.BatchNorm(not train, momentum=0.9, epsilon=1e-5, param_dtype=dtype, name="1")(x)
        x = nn.relu(x)
        x = x.mean((1, 2))
        return nn.Dense(4, param_dtype=dtype, name="5")(x)


@pytest.fixture
def standard_promotion():
    """Flax's BatchNorm promotes float32 statistics on its own."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def linen_pair(**options):
    twin = torch.nn.Sequential(
        torch.nn.Conv2d(3, 5, 3, padding=1),
        torch.nn.BatchNorm2d(5),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(5, 4),
    )
    return harness.make_pair(twin, LinenNet(), (6, 8, 3), **options)


def test_layers_on_one_side_only_are_listed(standard_promotion):
    with pytest.raises(ValueError, match=r"torch only: 2\n.*torch only: 3$"):
        harness.activations(linen_pair(), train=False)


def test_flax_own_layers_agree_but_for_the_running_variance(standard_promotion):
    pair = linen_pair(functional=True)
    assert pair.uncounted == {"1.num_batches_tracked"}
    got, want = harness.activations(pair, train=True)
    assert set(got) == {"0", "1", "5", "output"}
    harness.assert_close(got, want, rtol=1e-12)
    harness.assert_close(*harness.gradients(pair, train=True), rtol=1e-11)
    got, want = harness.statistics(pair, batches=1)
    found = harness.errors(got, want)
    assert found["1.running_mean"] < 1e-12 < 1e-4 < found["1.running_var"]


def test_a_user_pair_whose_parameters_differ_is_an_error():
    with pytest.raises(ValueError, match=r"missing: 2\.weight"):
        harness.make_pair(torch.nn.Linear(3, 4), PoolNet(), (7, 9, 2))
    with pytest.raises(ValueError, match="dtype must be"):
        harness.pair("mlp_mnist", dtype="bfloat16")
    with pytest.raises(ValueError, match="unknown network"):
        harness.pair("lenet")


def test_the_users_modules_stay_as_they_are():
    twin = dropout_twin()
    before = {key: value.clone() for key, value in twin.state_dict().items()}
    pair = harness.make_pair(twin, DropoutNet(), (9, 14, 3))
    kept = harness.make_pair(twin, DropoutNet(), (9, 14, 3), randomised=False)
    held = jax.tree.map(np.array, pair.variables)
    harness.trajectory(pair, steps=2)
    harness.activations(pair, train=True)
    for key, value in before.items():
        assert torch.equal(twin.state_dict()[key], value)
        copied = kept.torch_module.state_dict()[key]
        assert torch.equal(copied, value.to(copied.dtype))
    assert pair.torch_module.training is twin.training
    jax.tree.map(np.testing.assert_array_equal, held, jax.tree.map(np.asarray, pair.variables))
    assert not any(module._forward_hooks for module in pair.torch_module.modules())


def test_variables_do_not_share_the_torch_modules_memory():
    pair = harness.pair("cnn_mnist")
    held = jax.tree.map(np.array, pair.variables)
    for tensor in pair.torch_module.state_dict().values():
        tensor += 1
    jax.tree.map(np.testing.assert_array_equal, held, jax.tree.map(np.asarray, pair.variables))


def test_randomise_leaves_no_value_at_its_default():
    pair = dropout_pair()
    norm = pair.torch_module[1]
    assert norm.running_var.min() > 0.4 and (norm.running_var - 1).abs().max() > 0.1
    assert norm.num_batches_tracked > 0
    for value in (norm.running_mean, norm.bias, norm.weight - 1, pair.torch_module[7].bias):
        assert value.abs().min() > 0

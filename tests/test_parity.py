"""Every network against its twin, found by name, in every way the harness can compare.

What takes minutes is marked slow: of each standard family one small network is compared in every
run, the others with `-m slow`.
"""

from functools import partial

import jax
import numpy as np
import pytest
import torch

import parity.reference
from jaxcnn import models, weights
from jaxcnn.models.vgg import VGGStack
from parity import harness, report
from parity.compilation import precision
from parity.reference.vgg import cifar_stack

DOCUMENTED = {"mlp_mnist", "cnn_mnist", "alexnet_cifar", "vgg_cifar", "googlenet_cifar"} | {
    "resnet_cifar",
    "densenet_cifar",
    "resnet18_keras",
}
SMALL = "mlp_mnist", "cnn_mnist", "alexnet_cifar", "vgg_cifar", "squeezenet1_1"
# Compared in every way in every run, and in the ways that say most.
WHOLLY = {"mlp_mnist", "cnn_mnist", "alexnet_cifar"}
ALWAYS = DOCUMENTED | {"squeezenet1_1"}
OFTEN = {"alexnet", "resnet18"}
MOST = "activations, training", "gradients, training"
# Statistics and steps of a deep network take minutes: of these one network each in every run.
SOME = {
    ("resnet_cifar", "activations, evaluation"),
    ("densenet_cifar", "activations, evaluation"),
    ("resnet18_keras", "activations, evaluation"),
    ("resnet_cifar", "statistics, 1 batch"),
    ("densenet_cifar", "output, evaluation"),
    ("squeezenet1_1", "10 steps, decay per epoch"),
    ("airbench94", "gradients, training"),
}


def often(name, comparison):
    """Tell whether a comparison of a network belongs to every run."""
    if name in WHOLLY or (name, comparison) in SOME:
        return True
    return name in ALWAYS | OFTEN and comparison in MOST


def networks(always):
    """Return all networks as parameters, slow but for those in `always`."""
    return [
        pytest.param(name, marks=[] if name in always else pytest.mark.slow)
        for name in models.names()
    ]


CASES = [
    pytest.param(
        name,
        comparison,
        marks=[] if often(name, comparison) else pytest.mark.slow,
    )
    for name in models.names()
    for comparison in harness.COMPARISONS
]


@pytest.fixture(scope="module")
def pair(request):
    """The pair of a network, built once for all its comparisons."""
    return harness.pair(request.param)


def test_every_network_has_a_twin_and_every_twin_a_network():
    assert parity.reference.names() == models.names()


@pytest.mark.parametrize(("pair", "comparison"), CASES, indirect=["pair"])
def test_float64(pair, comparison):
    compare, budget, applies = harness.COMPARISONS[comparison]
    if applies(pair):
        got, want = compare(pair)
        harness.assert_close(got, want, rtol=budget, zeros=unused(pair, comparison))
    elif compare is harness.trajectory:
        # A deep network takes the shorter run.
        assert harness.COMPARISONS["10 steps, decay per epoch"].applies(pair)
    else:
        # Only statistics may be missing, and only from both sides.
        assert compare(pair) == ({}, {})
        assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in pair.torch_module.modules())


def unused(pair, comparison):
    """Return what has no gradient in evaluation: auxiliary heads are for training."""
    if comparison != "gradients, evaluation":
        return ()
    return {name for name, _ in pair.torch_module.named_parameters() if name.startswith("aux")}


@pytest.mark.parametrize("name", networks(SMALL))
@pytest.mark.parametrize("comparison", ["output, training", "gradients, training"])
def test_float32_errors_are_rounding(name, comparison):
    compare = harness.COMPARISONS[comparison].compare
    got, want = compare(harness.pair(name, dtype="float32"))
    _, exact = compare(harness.pair(name))
    rounding = harness.errors(want, exact)
    for array, error in harness.errors(got, want).items():
        # Ten times what float32 costs PyTorch itself; below 1e-5 the luck of single bits decides.
        assert error <= max(10 * rounding[array], 1e-5), array


@pytest.mark.parametrize("pair", networks(ALWAYS | OFTEN), indirect=True)
def test_activations_hold_every_layer_of_the_twin(pair):
    got, _ = harness.activations(pair, train=True)
    nothing = torch.nn.Identity, torch.nn.Sequential  # a shortcut that changes nothing
    layers = [
        name
        for name, module in pair.torch_module.named_modules()
        if not list(module.children()) and not isinstance(module, nothing)
    ]
    assert set(layers) <= set(got)
    assert harness.OUTPUT in got
    assert not pair.uncounted


@pytest.mark.parametrize("name", networks(ALWAYS))
def test_logits_follow_num_classes_and_batch_size(name):
    pair = harness.pair(name, num_classes=7, batch_size=2, seed=3)
    got, want = harness.outputs(pair, train=False)
    assert got["output"].shape == (2, 7)
    harness.assert_close(got, want, rtol=harness.COMPARISONS["output, evaluation"].budget)


@pytest.mark.parametrize("name", models.names())
def test_parameters_are_as_many_as_the_twin_has(name):
    with torch.device("meta"):  # shapes only
        twin = parity.reference.create(name)
    assert parameter_count(name) == sum(p.numel() for p in twin.parameters())


def parameter_count(name):
    model = models.create(name)
    images = jax.ShapeDtypeStruct((1, *models.input_shape(name)), "float32")
    init = partial(model.init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), images)
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", networks(ALWAYS | OFTEN))
def test_weights_survive_the_way_through_torch(name, dtype):
    pair = harness.pair(name, dtype=dtype)
    with precision(dtype):
        state_dict = weights.to_torch(pair.variables)
        twin = parity.reference.create(name, 10).to(getattr(torch, dtype))
        tensors = {key: torch.from_numpy(value) for key, value in state_dict.items()}
        twin.load_state_dict(tensors, strict=True)
        for key, value in pair.torch_module.state_dict().items():
            assert state_dict[key].dtype == value.numpy().dtype
            np.testing.assert_array_equal(state_dict[key], value.numpy(), strict=True)
        back = weights.from_torch(twin.state_dict(), pair.variables)
        assert jax.tree.structure(back) == jax.tree.structure(pair.variables)
        for got, want in zip(jax.tree.leaves(back), jax.tree.leaves(pair.variables), strict=True):
            assert got.dtype == want.dtype
            np.testing.assert_array_equal(got, want, strict=True)


def test_vgg_feature_stack_on_the_documented_size():
    pair = harness.make_pair(cifar_stack(), VGGStack(), (256, 256, 3), batch_size=1)
    got, want = harness.outputs(pair, train=False)
    assert want["output"].shape == (1, 512, 8, 8)
    harness.assert_close(got, want, rtol=1e-12)


def test_vgg_feature_stack_on_an_image_that_is_not_square():
    pair = harness.make_pair(cifar_stack(), VGGStack(), (33, 70, 3), batch_size=2)
    got, want = harness.activations(pair, train=True)
    assert want["output"].shape == (2, 512, 1, 2)
    harness.assert_close(got, want, rtol=1e-12)
    harness.assert_close(*harness.gradients(pair, train=True), rtol=1e-11)
    with pytest.raises(ValueError, match="logits"):
        harness.trajectory(pair)


def test_no_part_of_a_network_diverges():
    found = report.first_divergence(harness.pair("mlp_mnist"), steps=3)
    assert not found
    assert str(found).count("no divergence") == 3

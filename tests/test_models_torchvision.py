"""The standard families against torchvision itself: names, keys, values, initialisation."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torchvision_import import torchvision_models

import parity.reference
from jaxcnn import models, weights
from parity import harness
from parity.compilation import compiled
from parity.sides import heads

# The smallest of every family, and of the ResNets with either block; then the others.
FIRST = ["alexnet", "densenet121", "googlenet", "resnet18", "resnet50", "squeezenet1_1", "vgg11_bn"]
OTHERS = [
    "densenet161",
    "densenet169",
    "densenet201",
    "resnet34",
    "resnet101",
    "resnet152",
    "vgg11",
    "vgg13",
    "vgg13_bn",
    "vgg16",
    "vgg16_bn",
    "vgg19",
    "vgg19_bn",
]
# A VGG's 130 million parameters are a gigabyte in float64, and a comparison holds several.
LARGE = [name for name in FIRST if name.startswith("vgg")] + OTHERS
CASES = [
    pytest.param(name, marks=pytest.mark.slow) if name in LARGE else name for name in FIRST + OTHERS
]


@pytest.fixture(scope="module")
def torchvision():
    return torchvision_models()


def build(torchvision, name, initialised=False, **options):
    """Build torchvision's network; GoogLeNet's own initialisation takes a minute if asked for."""
    if name == "googlenet":
        options["init_weights"] = initialised
    return getattr(torchvision, name)(weights=None, **options)


def described(torchvision, name):
    """Build torchvision's network without memory for its values."""
    with torch.device("meta"):
        return build(torchvision, name)


def shapes(module):
    return [(key, tuple(value.shape)) for key, value in module.state_dict().items()]


def test_the_networks_of_torchvisions_names_are_the_specified_ones(torchvision):
    known = torchvision.list_models(module=torchvision)
    assert sorted(set(known) & set(models.names())) == sorted(FIRST + OTHERS)


@pytest.mark.parametrize("name", FIRST + OTHERS)
def test_parameters_keys_and_shapes(torchvision, name):
    module = described(torchvision, name)
    model = models.create(name)
    images = jax.ShapeDtypeStruct((1, *models.input_shape(name)), jnp.float32)
    template = jax.eval_shape(partial(model.init, train=False), jax.random.key(0), images)
    # Bytes in place of floats: only names and shapes are looked at.
    variables = jax.tree.map(lambda x: np.zeros(x.shape, np.int8), template)
    got = {key: value.shape for key, value in weights.to_torch(variables).items()}
    assert got == dict(shapes(module))
    count = sum(leaf.size for leaf in jax.tree.leaves(template["params"]))
    assert count == sum(p.numel() for p in module.parameters())


SMALLEST = {
    "alexnet": 63,
    "densenet121": 29,
    "googlenet": 15,
    "resnet18": 1,
    "squeezenet1_1": 17,
    "vgg11": 32,
}


@pytest.mark.parametrize(("name", "smallest"), SMALLEST.items())
def test_images_may_be_as_small_as_torchvisions(torchvision, name, smallest):
    model = models.create(name)

    def logits(*size):
        images = jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)
        init = partial(model.init_with_output, train=False)
        return jax.eval_shape(init, jax.random.key(0), images)[0]

    def theirs(*size):
        with torch.device("meta"):
            return build(torchvision, name).eval()(torch.zeros(2, 3, *size))

    sizes = (smallest, smallest), (smallest, smallest + 6)
    assert [logits(*s).shape for s in sizes] == [tuple(theirs(*s).shape) for s in sizes]
    if smallest > 1:
        with pytest.raises(ValueError, match="larger than the padded input"):
            logits(smallest + 6, smallest - 1)
        with pytest.raises(RuntimeError, match="too small"):
            theirs(smallest + 6, smallest - 1)


@pytest.mark.parametrize("name", FIRST + OTHERS)
def test_twins_keys_and_shapes_in_order(torchvision, name):
    with torch.device("meta"):
        twin = parity.reference.create(name)
    assert shapes(twin) == shapes(described(torchvision, name))


@pytest.mark.parametrize("name", CASES)
def test_twin_computes_what_torchvision_does(torchvision, name):
    """Logits, gradients and statistics in training, so that the twin may stand for torchvision."""
    module = build(torchvision, name, num_classes=10)
    harness.randomise(module, 0)
    twin = parity.reference.create(name, 10)
    twin.load_state_dict(module.state_dict())
    images = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, *size(name))))

    def run(network):
        network.double().train()
        for dropout in dropouts(network).values():
            dropout.eval()  # the order in which two networks draw their masks may differ
        inputs = images.clone().requires_grad_()
        found = heads(network(inputs))
        sum(torch.sin(head).sum() for head in found.values()).backward()
        found |= {f"gradient of {key}": p.grad for key, p in network.named_parameters()}
        found |= {"gradient of the input": inputs.grad, **dict(network.named_buffers())}
        return {key: value.detach().numpy() for key, value in found.items()}

    probabilities = [{k: d.p for k, d in dropouts(m).items()} for m in (module, twin)]
    assert probabilities[0] == probabilities[1]
    harness.assert_close(run(twin), run(module), rtol=1e-12)


def dropouts(network):
    return {k: m for k, m in network.named_modules() if isinstance(m, torch.nn.Dropout)}


@pytest.mark.parametrize("name", CASES)
def test_weights_go_both_ways(torchvision, name):
    pair = harness.make_pair(
        build(torchvision, name, num_classes=10),
        models.create(name, num_classes=10),
        (*size(name), 3),
        name=name,
        batch_size=2,
        functional=True,
    )
    harness.assert_close(*harness.outputs(pair, train=False), rtol=1e-11)

    state_dict = weights.to_torch(pair.variables)
    with torch.device("meta"):
        fresh = build(torchvision, name, num_classes=10)
    tensors = {key: torch.from_numpy(value) for key, value in state_dict.items()}
    fresh.load_state_dict(tensors, strict=True, assign=True)
    loaded = fresh.state_dict()
    for key, value in pair.torch_module.state_dict().items():
        np.testing.assert_array_equal(loaded[key].numpy(), value.numpy(), strict=True)


def size(name):
    return parity.reference.comparison_size(name)


# resnet18 stands for resnet50, and in every run for all.
INITIAL = [
    case if case == "resnet18" else pytest.param(case, marks=pytest.mark.slow)
    for case in CASES[: len(FIRST)]
    if case != "resnet50"
]


@pytest.mark.parametrize("name", INITIAL)
def test_initial_values_have_torchvisions_distributions(torchvision, name):
    """Compare mean, deviation, shape and bounds of every parameter.

    A difference of two estimates from n values each has the standard error sqrt(2 / n) deviations
    for the mean, at most sqrt(1 / n) for the logarithm of the deviation and sqrt(48 / n) for the
    kurtosis (3 for a normal, 1.8 for a uniform distribution). Six of them are allowed, which
    happens by chance in 2 of 10^9 comparisons. The largest of n uniform values misses its bound by
    20 / n with the probability e^-20.
    """
    torch.manual_seed(0)
    theirs = build(torchvision, name, initialised=True).state_dict()
    model = models.create(name)
    images = jnp.zeros((1, *size(name), 3))
    ours = weights.to_torch(compiled(partial(model.init, train=False))(jax.random.key(0), images))
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        want = value.numpy()
        n = want.size
        if want.min() == want.max():
            np.testing.assert_array_equal(ours[key], want, strict=True, err_msg=key)
            continue
        (mean, std, kurtosis, largest), reference = moments(ours[key]), moments(want)
        assert abs(mean - reference[0]) <= 6 * reference[1] * (2 / n) ** 0.5, key
        assert abs(np.log(std / reference[1])) <= 6 * (1 / n) ** 0.5, key
        assert abs(kurtosis - reference[2]) <= 6 * (48 / n) ** 0.5, key
        if reference[2] < 2:
            assert abs(largest / reference[3] - 1) <= 20 / n, key


def moments(array):
    """Return mean, standard deviation, kurtosis and the largest absolute value."""
    values = array.astype(np.float64).ravel()
    mean, std = values.mean(), values.std()
    values -= mean
    values *= values  # in place: the largest arrays are 100 million values
    return mean, std, np.square(values).mean() / std**4, float(np.abs(array).max())

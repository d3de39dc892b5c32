"""State_dicts of others to networks: cleaning, heads, options and names, against the twins."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxcnn import models, pretrained, weights
from parity import reference

# Tracing these takes seconds, and guessing one traces its smaller relatives to their end too.
DEEP = ("densenet161", "densenet169", "densenet201", "resnet101", "resnet152")
NAMES = [
    pytest.param(name, marks=pytest.mark.slow) if name in DEEP else name for name in models.names()
]


def described(name, **options):
    """Return PyTorch key -> shape of the twin, built without memory for its values."""
    with torch.device("meta"):
        twin = reference.create(name, **options)
    return {key: tuple(value.shape) for key, value in twin.state_dict().items()}


def zeros(shapes):
    """Return a state_dict of these shapes that takes no memory."""
    return {key: np.broadcast_to(np.float32(0), shape) for key, shape in shapes.items()}


def state_dict_of(name, **options):
    """Return the twin's own state_dict as arrays."""
    twin = reference.create(name, **options)
    return {key: value.numpy() for key, value in twin.state_dict().items()}


@pytest.mark.parametrize("name", NAMES)
def test_every_network_is_found_by_its_keys_and_shapes(name):
    few, more = described(name, num_classes=3), described(name, num_classes=4)
    head = {key for key in few if few[key] != more[key]}
    assert pretrained.head(name) == dict.fromkeys(head, 0)
    assert pretrained.shapes(name, num_classes=3) == few
    state_dict = zeros(few)
    assert pretrained.guess(state_dict) == [name]
    assert pretrained.options(name, state_dict)["num_classes"] == 3
    assert pretrained.guess(zeros(described(name))) == [name], "by its own number of classes"


@pytest.mark.parametrize("aux_logits", [True, False])
def test_googlenet_has_auxiliary_heads_where_the_file_has_them(aux_logits):
    state_dict = state_dict_of("googlenet", num_classes=5, aux_logits=aux_logits)
    assert pretrained.guess(state_dict) == ["googlenet"]
    found = pretrained.options("googlenet", state_dict)
    assert found == {"num_classes": 5, "aux_logits": aux_logits}
    model, variables = pretrained.load("googlenet", state_dict)
    assert (model.aux_logits, model.transform_input) == (aux_logits, False)
    back = weights.to_torch(variables)
    assert back.keys() == state_dict.keys()
    assert all(np.array_equal(back[key], value) for key, value in state_dict.items())
    given, _ = pretrained.load("googlenet", state_dict, transform_input=True)
    assert given.transform_input and given.aux_logits == aux_logits


@pytest.mark.parametrize("kind", ["se", "cbam"])
def test_a_resnet_has_attention_where_the_file_has_it(kind):
    model = models.create("resnet18", num_classes=3, attention=kind)
    images = jnp.zeros((1, 32, 32, 3))
    drawn = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
    state_dict = zeros(weights.shapes(drawn))
    for key in state_dict:
        if key.endswith("num_batches_tracked"):
            state_dict[key] = np.zeros((), np.int64)
    assert pretrained.guess(state_dict) == ["resnet18"]
    assert pretrained.options("resnet18", state_dict) == {"num_classes": 3, "attention": kind}
    loaded, variables = pretrained.load("resnet18", state_dict)
    assert loaded == model
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, drawn)


def test_loaded_network_computes_what_the_twin_computes():
    twin = reference.create("cnn_mnist", num_classes=4).eval()
    state_dict = {f"module.{key}": value.numpy() for key, value in twin.state_dict().items()}
    model, variables = pretrained.load("cnn_mnist", pretrained.clean(state_dict))
    assert model.num_classes == 4
    images = np.random.default_rng(0).normal(size=(2, 28, 28, 1)).astype(np.float32)
    got = model.apply(variables, images, train=False)
    with torch.no_grad():
        want = twin(torch.from_numpy(images.transpose(0, 3, 1, 2)))
    np.testing.assert_allclose(got, want.numpy(), rtol=0, atol=1e-5)


def test_clean_leaves_a_clean_state_dict_alone():
    state_dict = state_dict_of("densenet121", num_classes=2)
    cleaned = pretrained.clean(state_dict)
    assert list(cleaned) == list(state_dict)
    assert all(cleaned[key] is value for key, value in state_dict.items())
    # A prefix that not every key has is the network's own.
    mixed = {"module.fc.weight": np.zeros(1), "fc.weight": np.ones(1)}
    assert pretrained.clean(mixed) == mixed


def test_clean_undoes_dataparallel():
    state_dict = state_dict_of("cnn_mnist")
    parallel = torch.nn.DataParallel(reference.create("cnn_mnist")).state_dict()
    assert all(key.startswith("module.") for key in parallel)
    assert list(pretrained.clean({key: value.numpy() for key, value in parallel.items()})) == list(
        state_dict
    )


def test_clean_renames_the_old_densenet_keys():
    state_dict = state_dict_of("densenet121", num_classes=2)
    old = {}
    for key, value in state_dict.items():
        for layer in ("norm1", "conv1", "norm2", "conv2"):
            if ".denselayer" in key:
                key = key.replace(f".{layer}.", f".{layer[:-1]}.{layer[-1]}.")
        if not key.endswith("num_batches_tracked"):
            old[key] = value
    assert "features.denseblock2.denselayer3.norm.2.running_var" in old
    cleaned = pretrained.clean(old)
    assert cleaned.keys() == state_dict.keys()
    assert pretrained.guess(cleaned) == ["densenet121"]
    key = "features.denseblock1.denselayer1.norm.1.weight"
    with pytest.raises(ValueError, match="two entries for features.*denselayer1.norm1.weight"):
        pretrained.clean(state_dict | {key: old[key]})


def test_clean_counts_no_batches_in_files_older_than_the_counters():
    state_dict = state_dict_of("cnn_mnist")
    counters = {key for key in state_dict if key.endswith("num_batches_tracked")}
    old = {key: value for key, value in state_dict.items() if key not in counters}
    cleaned = pretrained.clean(old)
    assert cleaned.keys() == state_dict.keys() and len(counters) == 2
    assert all(cleaned[key].dtype == np.int64 and cleaned[key] == 0 for key in counters)
    pretrained.load("cnn_mnist", cleaned)
    # Some counters and not others is damage, not age.
    del state_dict[min(counters)]
    assert pretrained.clean(state_dict).keys() == state_dict.keys()
    with pytest.raises(ValueError, match=f"missing: {min(counters)}"):
        pretrained.load("cnn_mnist", state_dict)


def test_half_precision_stays_as_it_is_in_the_file():
    half = {key: value.astype(np.float16) for key, value in state_dict_of("mlp_mnist").items()}
    _, variables = pretrained.load("mlp_mnist", half)
    assert Counter(leaf.dtype for leaf in jax.tree.leaves(variables)) == {jnp.dtype("float16"): 4}


def test_errors_say_what_is_wrong_and_what_would_fit():
    state_dict = state_dict_of("mlp_mnist", num_classes=6)
    with pytest.raises(
        ValueError, match="unknown network 'lenet'; known: airbench94, alexnet, alexnet_cifar"
    ):
        pretrained.load("lenet", state_dict)
    with pytest.raises(ValueError) as caught:
        pretrained.load("cnn_mnist", state_dict)
    expected = "cnn_mnist: the weights have none of the last layer's keys: fc.bias, fc.weight"
    assert expected in str(caught.value)
    assert str(caught.value).endswith("the weights fit mlp_mnist")
    with pytest.raises(ValueError) as caught:
        pretrained.load("mlp_mnist", state_dict, num_classes=7)
    assert "wrong shape: fc2.weight is (6, 500), expected (7, 500)" in str(caught.value)
    assert "wrong shape: fc2.bias is (6,), expected (7,)" in str(caught.value)
    with pytest.raises(TypeError, match="transform_input"):
        pretrained.load("mlp_mnist", state_dict, transform_input=True)
    with pytest.raises(ValueError, match="several numbers of classes"):
        pretrained.options("mlp_mnist", state_dict | {"fc2.bias": np.zeros(5)})


def test_guess_looks_at_every_shape():
    state_dict = state_dict_of("cnn_mnist")
    assert pretrained.guess(state_dict) == ["cnn_mnist"]
    for key, shape in {
        "layer2.0.weight": (32, 16, 3, 3),
        "layer1.0.weight": (16, 3, 5, 5),
        "fc.bias": (9,),
        "fc.weight": (10, 1568, 1),
    }.items():
        assert pretrained.guess(state_dict | {key: np.zeros(shape, np.float32)}) == []
    assert pretrained.guess(state_dict | {"fc2.bias": np.zeros(10, np.float32)}) == []
    del state_dict["fc.bias"]
    assert pretrained.guess(state_dict) == []


def test_closest_is_the_network_with_most_layers_in_common():
    damaged = zeros(described("resnet50"))
    del damaged["layer3.4.conv2.weight"]
    assert pretrained.closest(damaged) == "resnet50"
    damaged = zeros(described("resnet18"))
    damaged["head.weight"] = damaged.pop("fc.weight")
    damaged["head.bias"] = damaged.pop("fc.bias")
    assert pretrained.closest(damaged) == "resnet18"
    assert pretrained.closest({"blocks.0.attn.qkv.weight": np.zeros((3, 1))}) is None
    assert pretrained.closest({}) is None

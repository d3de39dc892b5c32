"""`resnet18_keras` and its layers against real Keras 3 layers, on Keras' torch backend.

Keras promotes every float64 to float32 where it mixes dtypes, on all backends but TensorFlow's; so
batch norms would compute in float32, whatever their dtype. `keras64` switches that one table entry
to TensorFlow's value. `test_batch_normalization_in_float32` runs Keras untouched.
"""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax.traverse_util import flatten_dict

from jaxcnn import losses
from jaxcnn.layers import keras as ours
from jaxcnn.models.resnet_keras import ResNetKeras
from parity import harness
from parity.compilation import compiled
from parity.errors import assert_close
from parity.reference.resnet_keras import ResNetKeras as Twin

# Our leaf -> Keras' variable, of layers with a kernel and of norms.
KERNEL = {"kernel": "kernel", "bias": "bias"}
NORM = {"scale": "gamma", "bias": "beta", "mean": "moving_mean", "var": "moving_variance"}


@pytest.fixture(scope="module")
def keras(tmp_path_factory):
    """Import Keras on torch, on the CPU, with its settings in a folder of the test's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "torch")
        patch.setenv("KERAS_TORCH_DEVICE", "cpu")
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
        keras = pytest.importorskip("keras", minversion="3.8")
    assert keras.backend.backend() == "torch"
    return keras


@pytest.fixture
def keras64(keras, monkeypatch, float64):
    """Keras and JAX that both keep float64."""
    from keras.src.backend.common import dtypes

    monkeypatch.setitem(dtypes.BIT64_TO_BIT32_DTYPE, "float64", "float64")
    return keras


def resnet18(keras, num_blocks):
    """Build the documented network; a layer is named after ours, with `-` for `.`."""
    layers = keras.layers

    def conv(x, filters, size, strides, name, padding="same"):
        options = {"strides": strides, "padding": padding, "dtype": "float64", "name": name}
        return layers.Conv2D(filters, size, **options)(x)

    def norm(x, name):
        return layers.BatchNormalization(dtype="float64", name=name)(x)

    def relu(x):
        return layers.Activation("relu", dtype="float64")(x)

    def residual(x, channels, use_1x1conv, strides, name):
        y = relu(norm(conv(x, channels, 3, strides, f"{name}-conv1"), f"{name}-bn1"))
        y = norm(conv(y, channels, 3, 1, f"{name}-conv2"), f"{name}-bn2")
        if use_1x1conv:
            x = conv(x, channels, 1, strides, f"{name}-conv3", padding="valid")
        return relu(layers.Add(dtype="float64")([y, x]))

    images = keras.Input((None, None, 1), dtype="float64")
    x = relu(norm(conv(images, 64, 7, 2, "conv"), "bn"))
    x = layers.MaxPooling2D(3, 2, padding="same", dtype="float64")(x)
    for stage, (channels, n) in enumerate(zip((64, 128, 256, 512), num_blocks, strict=True), 1):
        for i in range(n):
            changes = i == 0 and stage > 1
            x = residual(x, channels, changes, 2 if changes else 1, f"stage{stage}-{i}")
    x = layers.GlobalAveragePooling2D(dtype="float64")(x)
    return keras.Model(images, layers.Dense(10, "softmax", dtype="float64", name="dense")(x))


def named(layer_or_model, value=lambda variable: variable.value):
    """Return our dotted names -> Keras' variables, or what `value` makes of them."""
    found = {}
    for layer in getattr(layer_or_model, "layers", [layer_or_model]):
        prefix = layer.name.replace("-", ".") + "."
        leaves = NORM if hasattr(layer, "gamma") else KERNEL
        if layer.weights:
            found.update({prefix + o: value(getattr(layer, k)) for o, k in leaves.items()})
    return found


def flat(variables):
    """Return our variables under dotted names, less the counters that Keras does not have."""
    both = flatten_dict(variables["params"], sep=".")
    both |= flatten_dict(variables.get("batch_stats", {}), sep=".")
    return {k: np.asarray(v) for k, v in both.items() if not k.endswith("num_batches_tracked")}


def copy_to_keras(variables, layer_or_model):
    values = flat(variables)
    slots = named(layer_or_model, value=lambda variable: variable)
    assert set(slots) == set(values)
    for name, slot in slots.items():
        slot.assign(values[name])


def copy_from_keras(model, template):
    """Return variables like the template, every value but the counters taken from Keras."""
    values = arrays(named(model))

    def pick(path, value):
        return values.get(".".join(part.key for part in path[1:]), value)

    return jax.tree_util.tree_map_with_path(pick, template)


def arrays(tensors):
    return {name: tensor.detach().numpy().copy() for name, tensor in tensors.items()}


def network(keras, size, num_blocks):
    """Return Keras' network and a pair whose random weights and statistics it has."""
    twin, model = Twin(num_blocks=num_blocks), ResNetKeras(num_blocks=num_blocks)
    pair = harness.make_pair(twin, model, (*size, 1), batch_size=3)
    theirs = resnet18(keras, num_blocks)
    copy_to_keras(pair.variables, theirs)
    return pair, theirs


# (2, 2, 2, 2) is the documented network. Each size halves through odd and even numbers: 63, 32, 16,
# 8, 4, 2 and 50, 25, 13, 7, 4, 2; 37, 19, 10, 5, 3, 2 and 68, 34, 17, 9, 5, 3.
NETWORKS = [((63, 50), (2, 2, 2, 2), 10), ((37, 68), (1, 1, 1, 1), 2)]


@pytest.mark.parametrize(("size", "num_blocks", "batches"), NETWORKS)
def test_network(size, num_blocks, batches, keras64):
    """Output in both modes, gradients on the first batch, moving statistics after the last."""
    pair, theirs = network(keras64, size, num_blocks)
    params, stats = pair.variables["params"], pair.variables["batch_stats"]
    images, labels = map(torch.from_numpy, pair.batch(0))
    infer = compiled(lambda v, x: jax.nn.log_softmax(pair.flax_module.apply(v, x, train=False)))
    log_probabilities = np.asarray(infer(pair.variables, images.numpy()))
    with torch.no_grad():
        want = theirs(images, training=False).numpy()
    # The logarithms too: of probabilities between 1e-17 and 1 only the largest would be compared.
    got = {"softmax": np.exp(log_probabilities), "logarithm": log_probabilities}
    assert_close(got, {"softmax": want, "logarithm": np.log(want)}, rtol=1e-12)

    @compiled
    def step(params, stats, images, labels):
        def objective(params):
            variables = {"params": params, "batch_stats": stats}
            logits, updated = pair.flax_module.apply(
                variables, images, train=True, mutable=["batch_stats"]
            )
            loss = jnp.mean(losses.cross_entropy(logits, labels))
            return loss, (jax.nn.softmax(logits), updated["batch_stats"])

        (loss, (out, updated)), gradients = jax.value_and_grad(objective, has_aux=True)(params)
        return {"loss": loss, "output": out}, gradients, updated

    first, gradients, stats = step(params, stats, images.numpy(), labels.numpy())
    out = theirs(images, training=True)
    assert out.min() > 1.1e-7, "Keras clips probabilities at 1e-7"
    loss = keras64.losses.SparseCategoricalCrossentropy(dtype="float64")(labels, out)
    loss.backward()
    got = {name: np.asarray(value) for name, value in first.items()}
    assert_close(got, arrays({"loss": loss, "output": out}), rtol=1e-12)
    of_weights = named(theirs, value=lambda variable: variable.value.grad)
    want = arrays({name: g for name, g in of_weights.items() if g is not None})
    assert_close(flat({"params": gradients}), want, rtol=1e-11)

    for i in range(1, batches):
        _, _, stats = step(params, stats, *pair.batch(i))
        with torch.no_grad():
            theirs(torch.from_numpy(pair.batch(i)[0]), training=True)
    moved = {k: v for k, v in named(theirs).items() if k.endswith((".mean", ".var"))}
    assert_close(flat({"params": {}, "batch_stats": stats}), arrays(moved), rtol=1e-12)


def test_weights_copied_to_keras_and_back_are_the_same(keras64):
    pair, theirs = network(keras64, (37, 68), (1, 1, 1, 1))
    empty = jax.tree.map(jnp.zeros_like, pair.variables)
    back = flat(copy_from_keras(theirs, empty))
    assert set(back) == set(flat(pair.variables))
    for name, value in flat(pair.variables).items():
        np.testing.assert_array_equal(back[name], value, strict=True, err_msg=name)


def compare_layer(layer, theirs, images, **train):
    """Compare one layer's output and gradients on (B, H, W, C) images, and its statistics after.

    Both layers are called once; `train` goes to ours, and to Keras' as `training`.
    """
    init = jax.eval_shape(lambda x: layer.init(jax.random.key(0), x, **train), images)
    rng = np.random.default_rng(1)
    variables = jax.tree.map(lambda v: rng.uniform(0.5, 1.5, v.shape).astype(v.dtype), init)
    theirs.build(images.shape)
    if theirs.weights:
        wrapped = {collection: {theirs.name: tree} for collection, tree in variables.items()}
        copy_to_keras(wrapped, theirs)
    inputs = torch.from_numpy(images.copy()).requires_grad_()
    out = theirs(inputs, **({"training": train["train"]} if train else {}))
    direction = rng.normal(size=out.shape).astype(images.dtype)
    (out * torch.from_numpy(direction)).sum().backward()
    want = {"output": out, "input": inputs.grad}
    for name, tensor in named(theirs).items():
        leaf = name.rsplit(".", 1)[1]
        want[leaf] = tensor if leaf in ("mean", "var") else tensor.grad

    @compiled
    def run(params, stats, images, direction):
        def apply(params, images):
            variables = {"params": params, "batch_stats": stats}
            return layer.apply(variables, images, mutable=["batch_stats"], **train)

        out, pull, updated = jax.vjp(apply, params, images, has_aux=True)
        of_params, of_images = pull(direction)
        running = {k: v for k, v in updated.get("batch_stats", {}).items() if k in ("mean", "var")}
        return {"output": out, "input": of_images, **of_params, **running}

    got = run(variables.get("params", {}), variables.get("batch_stats", {}), images, direction)
    return {name: np.asarray(value) for name, value in got.items()}, arrays(want)


# Every remainder of a division by 2 and by 3.
SIZES = [(7, 10), (8, 9)]
WINDOWS = [*itertools.product([1, 3, 4, 7], [1, 2, 3]), ((2, 5), (2, 1))]


@pytest.mark.parametrize(("kernel_size", "strides"), WINDOWS)
def test_same_convolution(kernel_size, strides, keras64):
    for height, width in SIZES:
        options = {"strides": strides, "padding": "same", "dtype": "float64"}
        theirs = keras64.layers.Conv2D(4, kernel_size, **options)
        images = np.random.default_rng(0).normal(size=(2, height, width, 3))
        got, want = compare_layer(ours.Conv2D(4, kernel_size, strides), theirs, images)
        assert set(got) == {"output", "input", "kernel", "bias"}
        assert_close(got, want, rtol=1e-12)


@pytest.mark.parametrize(("pool_size", "strides"), [*WINDOWS, (2, None), ((1, 3), None)])
def test_same_max_pool(pool_size, strides, keras64):
    for height, width in SIZES:
        options = {"strides": strides, "padding": "same", "dtype": "float64"}
        theirs = keras64.layers.MaxPooling2D(pool_size, **options)
        # All negative, so that a padding of zeros would win; the second image is full of ties.
        images = np.random.default_rng(0).uniform(-4, -1, (2, height, width, 3))
        images[1] = np.round(images[1])
        got, want = compare_layer(ours.MaxPooling2D(pool_size, strides), theirs, images)
        assert_close(got, want, rtol=1e-12)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("shape", [(4, 5, 8, 3), (2, 1, 3, 5)])
def test_batch_normalization(shape, train, keras64):
    images = np.random.default_rng(0).normal(0.5, 2, shape)
    theirs = keras64.layers.BatchNormalization(dtype="float64")
    got, want = compare_layer(ours.BatchNormalization(), theirs, images, train=train)
    assert set(got) == {"output", "input", "scale", "bias", "mean", "var"}
    assert_close(got, want, rtol=1e-12)


@pytest.mark.parametrize("train", [False, True])
def test_batch_normalization_in_float32(train, keras):
    """Keras as it comes, with float32 throughout."""
    images = np.random.default_rng(0).normal(0.5, 2, (4, 5, 8, 3)).astype(np.float32)
    theirs = keras.layers.BatchNormalization(dtype="float32")
    got, want = compare_layer(ours.BatchNormalization(), theirs, images, train=train)
    assert_close(got, want, rtol=1e-5)


def test_initial_values(keras):
    cases = [
        (ours.Conv2D(256, (3, 5)), keras.layers.Conv2D(256, (3, 5)), (1, 8, 8, 16)),
        (ours.Dense(300), keras.layers.Dense(300), (1, 200)),
    ]
    for layer, theirs, shape in cases:
        theirs.build(shape)
        params = layer.init(jax.random.key(0), jnp.zeros(shape))["params"]
        *window, inputs, outputs = params["kernel"].shape
        limit = math.sqrt(6 / (math.prod(window) * (inputs + outputs)))
        for kernel in (np.asarray(params["kernel"]), theirs.kernel.value.detach().numpy()):
            assert 0.99 * limit < np.abs(kernel).max() <= limit * (1 + 1e-6)
            assert kernel.std() == pytest.approx(limit / 3**0.5, rel=0.02)
        np.testing.assert_array_equal(params["bias"], np.zeros(outputs))
        np.testing.assert_array_equal(theirs.bias.value.detach().numpy(), np.zeros(outputs))


def test_errors_name_the_layer():
    images, key = jnp.zeros((1, 4, 4, 1)), jax.random.key(0)
    with pytest.raises(ValueError, match=r"Conv2D 'c': images must be .* got shape \(4, 4\)"):
        ours.Conv2D(2, 3, name="c").init(key, images[0, ..., 0])
    with pytest.raises(ValueError, match="Conv2D 'c': strides must be an int or a pair"):
        ours.Conv2D(2, 3, 0, name="c").init(key, images)
    with pytest.raises(ValueError, match="MaxPooling2D 'm': pool_size must be an int or a pair"):
        ours.MaxPooling2D((2, 2, 2), name="m").init(key, images)

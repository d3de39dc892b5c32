"""A head on features that are computed once: the same numbers as the whole network's."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from data_trees import SHAPE
from small import SmallNet, small_dataset

from jaxcnn import data, losses, models, optim, train
from jaxcnn.features import HeadModel, compute_features, head_features
from jaxcnn.layers import forms, frozen_norms
from jaxcnn.models.densenet import DenseNet
from jaxcnn.models.resnet import BasicBlock, ResNet
from parity.compilation import compiled

# A network whose body has no dropout (a head is trained behind a body in evaluation mode), the
# path of its head, the images' size.
NETWORKS = {
    "mlp_mnist": ({"dropout": 0.3}, "fc2", 28),
    "cnn_mnist": ({"dropout": 0.3}, "fc", 28),
    "vgg_cifar": ({"dropout": 0.3}, "fc.2", 32),
    "alexnet_cifar": ({}, "fc3", 32),
    "squeezenet1_1": ({}, "classifier.1", 33),
    "resnet18": ({}, "fc", 32),
}
KEY = jax.random.key(3)


def drawn(model, image_shape, dtype=np.float64):
    """Draw variables of a network, variances above 0, without compiling its `init`."""
    rng = np.random.default_rng(0)
    images = jax.ShapeDtypeStruct((1, *image_shape), np.float32)
    shapes = jax.eval_shape(partial(model.init, train=False), jax.random.key(0), images)

    def draw(path, leaf):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return jnp.asarray(rng.integers(1, 9, leaf.shape), leaf.dtype)
        if path[-1].key == "kernel":
            value = rng.normal(0, np.sqrt(2 / np.prod(leaf.shape[:-1])), leaf.shape)
        else:
            value = rng.uniform(0.1, 1, leaf.shape)
        return jnp.asarray(value, dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def batch(image_shape, dtype=np.float64):
    rng = np.random.default_rng(1)
    return jnp.asarray(rng.normal(size=(4, *image_shape)), dtype), jnp.asarray([2, 0, 1, 1])


def whole_gradients(model, head, variables, images, labels):
    """Return features, logits and the head's gradients in training, all norms in evaluation."""

    def objective(part, variables, images):
        params = variables["params"] | {head: part}
        with frozen_norms(lambda name: True):
            logits = model.apply(
                {**variables, "params": params}, images, train=True, rngs={"dropout": KEY}
            )
        return jnp.mean(losses.cross_entropy(logits, labels)), logits

    def whole(variables, images):
        part = variables["params"][head]
        gradients, logits = jax.grad(objective, has_aux=True)(part, variables, images)
        return head_features(model, head)(variables, images), logits, gradients

    return compiled(whole)(variables, images)


def head_gradients(part, variables, found, labels):
    """Return logits, updated collections and all parameters' gradients; and the FLOPs they take."""

    def objective(params, found):
        logits, updated = part.apply(
            {**variables, "params": params},
            found,
            train=True,
            rngs={"dropout": KEY},
            mutable=["batch_stats"],
        )
        return jnp.mean(losses.cross_entropy(logits, labels)), (logits, updated)

    lowered = jax.jit(jax.grad(objective, has_aux=True)).lower(variables["params"], found)
    program = lowered.compile()
    gradients, (logits, updated) = program(variables["params"], found)
    return logits, updated, gradients, program.cost_analysis()["flops"]


def assert_close(got, want):
    scale = np.abs(want).max()
    assert scale > 0
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-12 * scale)


def assert_tree_equal(got, want):
    jax.tree.map(np.testing.assert_array_equal, got, want)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_head_on_features_is_the_head_of_the_network(name, float64):
    options, head, size = NETWORKS[name]
    model = models.create(name, num_classes=3, **options)
    shape = (size, size, models.input_shape(name)[2])
    variables, (images, labels) = drawn(model, shape), batch(shape)
    found, logits, gradients = whole_gradients(model, head, variables, images, labels)
    part = HeadModel(model, head, shape)
    got, updated, all_gradients, flops = head_gradients(part, variables, found, labels)
    assert_close(got, logits)
    of_head = all_gradients.pop(head)
    jax.tree.map(assert_close, of_head, gradients)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(all_gradients)), "the body's are zero"
    assert_tree_equal(updated.get("batch_stats", {}), variables.get("batch_stats", {}))
    # Of a small head most of them are spent on the dropout's random bits.
    assert flops < 0.05 * cost(model, variables, images)


def cost(model, variables, images):
    """Count the multiplications and additions of the forward pass' convolutions and products."""
    with forms.prefer("xla"):  # what is not XLA's it cannot count
        lowered = jax.jit(partial(model.apply, train=False)).lower(variables, images)
    return lowered.cost_analysis()["flops"]


def test_evaluation_is_the_networks(float64):
    model = DenseNet(4, (1, 2), 8, 3, drop_rate=0.4)
    shape = (29, 29, 3)
    variables, (images, _) = drawn(model, shape), batch(shape)
    part = HeadModel(model, "classifier", shape)

    @compiled
    def both(variables, images):
        found = head_features(model, "classifier")(variables, images)
        in_training = part.apply(variables, found, train=True, rngs={"dropout": KEY})
        logits = model.apply(variables, images, train=False)
        return part.apply(variables, found, train=False), in_training, logits

    evaluated, in_training, want = both(variables, images)
    assert_close(evaluated, want)
    assert_close(in_training, want)  # the dropouts belong to the body


def test_googlenet_from_its_head_on():
    """Dropout and a Linear, whatever stands in front of them."""
    model = models.create("googlenet", num_classes=3, aux_logits=False)
    part = HeadModel(model, "fc", (32, 32, 3))
    rng = np.random.default_rng(0)
    variables = drawn(model, (32, 32, 3), np.float32)
    found = jnp.asarray(rng.normal(size=(2, *part.cut.shape)), jnp.float32)
    run = partial(part.apply, rngs={"dropout": KEY}, mutable=["dropout_masks"], train=True)
    got, updated = jax.jit(run)(variables, found)
    (mask,) = updated["dropout_masks"]["dropout"]["mask"]
    assert 0 < mask.mean() < 1
    kernel, bias = (np.float64(variables["params"]["fc"][leaf]) for leaf in ("kernel", "bias"))
    want = np.float64(found) * np.asarray(mask) / 0.8 @ kernel + bias
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_features_are_computed_in_the_precision_that_is_asked_for(small):
    model, variables, split, computed = small
    options = {"preprocess": data.standardize, "batch_size": 25}
    rounded = compute_features(model, "fc", variables, split, precision="bfloat16", **options)
    assert rounded.images.dtype == np.float32
    difference = np.abs(rounded.images - computed.images).max() / np.abs(computed.images).max()
    assert 1e-5 < difference < 0.03
    step = train.make_train_step(
        HeadModel(model, "fc", (8, 8, 1)), optim.create("sgd", 0.02), precision="bfloat16"
    )
    state = jax.tree.map(jnp.copy, train.state_from(variables, optim.create("sgd", 0.02)))
    _, metrics = step(state, next(data.train_batches(rounded, 25, seed=0, epoch=0)), KEY)
    assert np.isfinite(metrics["loss"])


def test_densenet121_from_its_head_on():
    model = models.create("densenet121", num_classes=3)
    part = HeadModel(model, "classifier", (32, 32, 3))
    assert (part.cut.path, part.cut.shape) == (("classifier",), (1024,))
    assert part.cut.outputs.shape == (2, 3)


def test_norms_of_the_head_are_trained_and_those_of_the_body_are_not(float64):
    model, head, shape = ResNet(BasicBlock, (1, 1, 1, 1), 3), "layer4.0", (40, 40, 3)
    variables, (images, labels) = drawn(model, shape), batch(shape)

    @compiled
    def whole(variables, images):
        with frozen_norms(lambda name: not name.startswith(head)):
            out = model.apply(variables, images, train=True, mutable=["batch_stats"])
        return *out, head_features(model, head)(variables, images)

    logits, want, found = whole(variables, images)
    part = HeadModel(model, head, shape)
    got, updated, _, _ = head_gradients(part, variables, found, labels)
    assert_close(got, logits)
    jax.tree.map(assert_close, updated["batch_stats"], want["batch_stats"])
    counts = [
        s[head]["bn1"]["num_batches_tracked"]
        for s in (variables["batch_stats"], updated["batch_stats"])
    ]
    assert int(counts[1]) == int(counts[0]) + 1


def test_what_has_no_head_to_train_is_refused():
    with pytest.raises(ValueError, match=r"HeadModel: model=GoogLeNet returns .* 3 heads.*aux_log"):
        HeadModel(models.create("googlenet"), "fc", (32, 32, 3))
    with pytest.raises(ValueError, match=r"head='fc9': expected a module that SmallNet calls once"):
        HeadModel(SmallNet(), "fc9", (8, 8, 1))
    part = HeadModel(SmallNet(), "fc", (8, 8, 1))
    variables = drawn(SmallNet(), (8, 8, 1), np.float32)
    with pytest.raises(ValueError, match=r"features must be \(B, 4, 4, 4\), got \(2, 64\)"):
        part.apply(variables, jnp.zeros((2, 64)), train=False)


@pytest.fixture(scope="module")
def small():
    """A network, its variables, a split and its features."""
    model, split = SmallNet(), small_dataset().train
    variables = drawn(model, (8, 8, 1), np.float32)
    computed = compute_features(model, "fc", variables, split, data.standardize, batch_size=16)
    return model, variables, split, computed


def test_features_of_a_split_come_in_order_with_its_labels(small):
    model, variables, split, computed = small
    assert (computed.images.shape, computed.images.dtype) == ((50, 4, 4, 4), np.float32)
    assert computed.labels is split.labels
    one_by_one = jax.jit(head_features(model, "fc"))
    for i in (0, 17, 48, 49):
        want = one_by_one(variables, data.standardize(jnp.asarray(split.images[i : i + 1])))
        np.testing.assert_allclose(computed.images[i : i + 1], want, rtol=1e-5, atol=1e-6)


def test_batches_of_features_are_those_of_their_images(small):
    _, _, split, computed = small
    of_image = {
        image.tobytes(): row for image, row in zip(split.images, computed.images, strict=True)
    }
    for make in (partial(data.train_batches, seed=0, epoch=1), data.eval_batches):
        for batch, images in zip(make(data.to_device(computed), 16), make(split, 16), strict=True):
            assert batch["images"].dtype == jnp.float32
            np.testing.assert_array_equal(batch["labels"], images["labels"])
            for row, image in zip(batch["images"], np.asarray(images["images"]), strict=True):
                np.testing.assert_array_equal(row, of_image[image.tobytes()])


def test_training_steps_on_features_learn_and_move_the_head_only(small):
    model, variables, _, computed = small
    part = HeadModel(model, "fc", (8, 8, 1))
    tx = optim.create("sgd", 0.02, momentum=0.9)
    state = jax.tree.map(jnp.copy, train.state_from(variables, tx))
    step, seen = train.make_train_step(part, tx), []
    for epoch in range(15):
        for batch in data.train_batches(computed, 25, seed=0, epoch=epoch):
            state, metrics = step(state, batch, KEY)
            seen.append(float(metrics["loss"]))
    assert seen[-1] < 0.5 * seen[0]
    assert_tree_equal(state.batch_stats, variables["batch_stats"])
    for name in ("conv", "bn"):
        assert_tree_equal(state.params[name], variables["params"][name])
    assert not np.array_equal(state.params["fc"]["kernel"], variables["params"]["fc"]["kernel"])
    batch = next(data.eval_batches(computed, 50))
    evaluated = train.make_eval_step(part)(state, batch)
    want = train.make_eval_step(model, preprocess=data.standardize)(
        state, {**batch, "images": small[2].images}
    )
    np.testing.assert_allclose(
        evaluated["probabilities"], want["probabilities"], rtol=1e-4, atol=1e-6
    )


def test_features_of_files_are_those_of_their_images(tree, load):
    model = SmallNet()
    variables = drawn(model, SHAPE, np.float32)
    in_memory, streamed = load(tree).train, load(tree, stream=True).train
    assert isinstance(streamed, data.Files)
    compute = partial(compute_features, model, "fc", variables, preprocess=data.standardize)
    a, b = (compute(split=split, batch_size=4) for split in (in_memory, streamed))
    np.testing.assert_array_equal(a.images, b.images)
    np.testing.assert_array_equal(a.labels, b.labels)
    assert len(np.unique(a.images[:, 0, 0, 0])) == len(a)

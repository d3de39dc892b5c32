from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from small import small_dataset

from jaxcnn import data, models
from jaxcnn.assembly import build
from jaxcnn.data import Arrays, DataError, Dataset, Files
from jaxcnn.data.dataset import divide, draw, hold_out
from jaxcnn.recipes import RECIPES, Settings, load_data
from jaxcnn.train import init_state

# spec: the documented networks, and digits-cnn for want of a download.
PARAMETERS = {
    "digits-cnn": 29_034,
    "mnist-mlp": 397_510,
    "mnist-cnn": 29_034,
    "cifar10-alexnet": 576_778,
    "cifar10-vgg": 9_272_790,
    "cifar10-googlenet": 5_955_452,
    "cifar10-resnet": 11_180_682,
    "cifar10-densenet": 9_855_306,
    "digits-overfit": 397_510,
    "cifar10-overfit": 576_778,
    "cifar10-94": 1_972_792,
    "cats-dogs": 11_181_642,
    "mnist-resnet18-keras": 11_178_378,
}
STORED = {
    "digits": (8, 8, 1),
    "mnist": (28, 28, 1),
    "cifar10": (32, 32, 3),
    "cats_vs_dogs": (256, 256, 3),
}


def test_every_recipe_is_known_here():
    assert RECIPES.keys() == PARAMETERS.keys()


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_builds_its_network_and_steps(name):
    text, settings = RECIPES[name]
    assert settings.network in models.names() and text.startswith(f"{settings.network} on ")
    assert settings.data in data.sources()
    assert settings.init is None
    assert (settings.examples is None) == ("overfit" not in name)
    pixels = [[0.5] * 3, [0.2] * 3] if settings.normalization == "dataset" else None
    run = build(settings, num_classes=10, steps_per_epoch=3, pixels=pixels)

    def fresh():
        images = jnp.zeros((1, *run.input_shape), jnp.float32)
        return init_state(run.model, run.tx, jax.random.key(0), images)

    state = jax.eval_shape(fresh)
    assert sum(leaf.size for leaf in jax.tree.leaves(state.params)) == PARAMETERS[name]
    batch = {
        "images": jax.ShapeDtypeStruct((6, *STORED[settings.data]), jnp.uint8),
        "labels": jax.ShapeDtypeStruct((6,), jnp.int32),
    }
    key = jax.eval_shape(lambda: jax.random.key(0))
    after, metrics = jax.eval_shape(run.train_step, state, batch, key)
    assert after == state
    assert metrics["loss"].shape == () and metrics["loss"].dtype == jnp.float32
    mask = jax.ShapeDtypeStruct((6,), bool)
    evaluated = jax.eval_shape(run.eval_step, state, batch | {"mask": mask})
    assert evaluated["probabilities"].shape == (6, 10)


def test_documented_settings():
    for name in ("cifar10-googlenet", "cifar10-resnet", "cifar10-densenet"):
        settings = RECIPES[name][1]
        assert (settings.epochs, settings.batch_size, settings.learning_rate) == (20, 64, 0.01)
        assert settings.optimizer == "sgd" and settings.momentum == 0 and settings.validation == 0
        assert models.input_shape(settings.network) == (96, 96, 3)
    keras = RECIPES["mnist-resnet18-keras"][1]
    assert (keras.epochs, keras.batch_size, keras.learning_rate) == (3, 128, 0.01)
    assert keras.optimizer == "sgd" and keras.momentum == 0 and keras.validation == 0.2
    assert models.input_shape(keras.network) == (224, 224, 1)


def test_settings_decide_the_normalization():
    image = np.full((1, 32, 32, 3), 128, np.uint8)
    seen = []
    for normalization in ("symmetric", "imagenet"):
        settings = replace(RECIPES["cifar10-alexnet"][1], normalization=normalization)
        run = build(settings, num_classes=10)
        state = init_state(run.model, run.tx, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
        batch = {"images": image, "labels": np.zeros(1, np.int32), "mask": np.ones(1, bool)}
        seen.append(run.eval_step(state, batch)["probabilities"])
        inputs = data.standardize(image, normalization=normalization)
        logits = run.model.apply({"params": state.params}, inputs, train=False)
        np.testing.assert_allclose(seen[-1], jax.nn.softmax(logits), rtol=1e-5)
    assert not np.allclose(*seen, rtol=1e-3)
    with pytest.raises(DataError, match="'imagenet' is for 3 channels"):
        build(replace(RECIPES["mnist-mlp"][1], normalization="imagenet"), num_classes=10)


def test_a_network_with_attention_at_another_size():
    settings = replace(
        RECIPES["cifar10-resnet"][1], network="resnet18", attention="se", image_size=40
    )
    run = build(settings, num_classes=10)
    assert run.input_shape == (40, 40, 3) and settings.title == "resnet18 with se"
    images = jnp.zeros((1, *run.input_shape))
    state = jax.eval_shape(lambda: init_state(run.model, run.tx, jax.random.key(0), images))
    assert set(state.params["layer4.1"]["se"]) == {"fc1", "fc2"}
    batch = {
        "images": jax.ShapeDtypeStruct((4, 32, 32, 3), jnp.uint8),
        "labels": jax.ShapeDtypeStruct((4,), jnp.int32),
    }
    key = jax.eval_shape(lambda: jax.random.key(0))
    assert jax.eval_shape(run.train_step, state, batch, key)[0] == state


def test_images_are_loaded_at_the_size_of_the_settings(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    for split in ("train", "test"):
        for name in "ab":
            (tmp_path / split / name).mkdir(parents=True)
            Image.fromarray(pixels).save(tmp_path / split / name / "0.png")
    settings = Settings("resnet18", f"folder:{tmp_path}", 1, 2, 0.1, image_size=16)
    dataset = load_data(settings, cache_dir=tmp_path / "cache")
    assert dataset.train.images.shape == (2, 16, 16, 3)


def test_a_stored_size_is_for_image_files():
    with pytest.raises(ValueError, match="stored_size=40: the images of digits .* 8x8; expected"):
        load_data(settings_of_digits(stored_size=40))
    with pytest.raises(ValueError, match="stored_size=20: expected at least .* 28x28"):
        load_data(settings_of_digits(stored_size=20))


@pytest.mark.parametrize(
    ("network", "changes", "message"),
    [
        ("alexnet", {"attention": "se"}, "attention='se': alexnet has no .* resnet101, .* have"),
        ("resnet18", {"image_size": 0}, "image_size must be at least 1, got 0"),
        ("alexnet_cifar", {"image_size": 64}, "image_size=64: alexnet_cifar is .* 32x32 images"),
    ],
)
def test_bad_network_settings(network, changes, message):
    with pytest.raises(ValueError, match=message):
        build(Settings(network, "cifar10", 1, 64, 0.1, **changes), num_classes=10)


def test_square_images_are_resized_without_padding():
    """The Keras recipe is documented with resize_with_pad; torch's bilinear is TensorFlow's."""
    import torch

    image = np.random.default_rng(0).integers(0, 256, (1, 28, 28, 1), dtype=np.uint8)
    pixels = torch.from_numpy(image).permute(0, 3, 1, 2).to(torch.float32)
    want = torch.nn.functional.interpolate(pixels, (224, 224), mode="bilinear") / 127.5 - 1
    got = data.make_preprocess(models.input_shape("resnet18_keras"))(jnp.asarray(image))
    np.testing.assert_allclose(got, want.permute(0, 2, 3, 1), atol=1e-5)


def settings_of_digits(**changes):
    return Settings("mlp_mnist", "digits", 1, 64, 0.1, **changes)


def test_data_are_divided_as_settings_say():
    whole = load_data(settings_of_digits())
    assert whole.validation is None and len(whole.train) == 1438
    assert whole.watched == ("test", whole.test)
    divided = load_data(settings_of_digits(validation=0.25, examples=200))
    assert divided.watched == ("validation", divided.validation)
    assert len(divided.train) == 200 and 355 <= len(divided.validation) <= 364
    np.testing.assert_array_equal(divided.test.images, whole.test.images)
    images = {
        name: {image.tobytes() for image in split.images}
        for name, split in (("train", divided.train), ("validation", divided.validation))
    }
    assert not images["train"] & images["validation"]
    assert images["train"] | images["validation"] < {i.tobytes() for i in whole.train.images}
    np.testing.assert_array_equal(np.bincount(divided.train.labels), [20] * 10)
    again = load_data(settings_of_digits(validation=0.25, examples=200, seed=9))
    np.testing.assert_array_equal(again.train.images, divided.train.images)
    other = load_data(settings_of_digits(validation=0.25, examples=200, split_seed=1))
    assert not np.array_equal(other.train.images, divided.train.images)


def unbalanced():
    """Labels 0, 1, 2: 2, 5 and 33 of them, in no order; an image holds its own number."""
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [2, 5, 33]))
    images = np.arange(40, dtype=np.uint8).reshape(40, 1, 1, 1)
    return Arrays(images, labels.astype(np.int32))


@pytest.mark.parametrize(
    ("examples", "counts"), [(3, [1, 1, 1]), (6, [2, 2, 2]), (12, [2, 5, 5]), (40, [2, 5, 33])]
)
def test_examples_are_drawn_evenly_as_far_as_there_are_any(examples, counts):
    split = unbalanced()
    drawn = draw("s", split, "abc", seed=0, examples=examples)
    np.testing.assert_array_equal(np.bincount(drawn.labels), counts)
    numbers = drawn.images.ravel()
    assert (np.diff(numbers.astype(int)) > 0).all(), "not the source's order"
    np.testing.assert_array_equal(drawn.labels, split.labels[numbers])
    larger = draw("s", split, "abc", seed=0, examples=min(examples + 3, 40))
    assert set(numbers) <= set(larger.images.ravel())


def test_files_are_divided_like_arrays():
    arrays = small_dataset().train
    files = Files(tuple(f"{i}.png" for i in range(50)), arrays.labels, (8, 8, 1))
    numbered = Arrays(np.arange(50, dtype=np.uint8).reshape(50, 1, 1, 1), arrays.labels)
    options = {"seed": 3, "validation": 0.3, "examples": 12}
    a, b = (
        divide(Dataset("s", ("a", "b", "c"), split, split), **options)
        for split in (numbered, files)
    )
    for of_arrays, of_files in ((a.train, b.train), (a.validation, b.validation)):
        assert of_files.paths == tuple(f"{i}.png" for i in of_arrays.images.ravel())
        np.testing.assert_array_equal(of_files.labels, of_arrays.labels)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validation": 1.0}, "validation=1.0: expected at least 0 and below 1"),
        ({"validation": -0.1}, "validation=-0.1: expected"),
        ({"examples": 9}, r"examples=9: expected 10 \(one of each class\) to 1438"),
        ({"examples": 1439}, "examples=1439: .* to 1438"),
        ({"examples": 1200, "validation": 0.2}, "examples=1200: .* to 11"),
    ],
)
def test_errors_name_the_setting(changes, message):
    with pytest.raises(DataError, match=message):
        load_data(settings_of_digits(**changes))


def test_a_class_too_small_to_divide_is_named():
    with pytest.raises(DataError, match="'b' has 1 .* train and validation takes 2"):
        labels = np.array([0, 0, 1], np.int32)
        split = Arrays(np.zeros((3, 1, 1, 1), np.uint8), labels)
        hold_out("s", split, "ab", seed=0, holdout=0.5, purpose="validation")

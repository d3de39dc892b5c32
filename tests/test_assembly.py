"""What settings become: penalties beside torch, dropout, normalisation, augmentation."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxcnn import data, optim, train, weights
from jaxcnn.assembly import build, make_penalty
from jaxcnn.losses import cross_entropy
from jaxcnn.parameters import by_path
from jaxcnn.settings import Settings
from parity import harness
from parity.pair import arrays


def settings_of(network="mlp_mnist", **changes):
    return Settings(network, "digits", 1, 8, 0.1, **changes)


@pytest.mark.parametrize(
    "changes",
    [{"l1": 1e-3}, {"l2": 1e-3, "penalized": "fc1"}, {"l1": 1e-3, "l2": 2e-3, "penalized": ""}],
)
def test_penalised_and_smoothed_steps_are_torchs(changes, float64):
    pair = harness.pair("mlp_mnist")
    names = tuple(by_path(pair.variables["params"]))
    settings = settings_of(**changes)
    tx = optim.create("sgd", 0.1, momentum=0.9)
    step = train.make_train_step(
        pair,
        tx,
        partial(cross_entropy, label_smoothing=0.1),
        penalty=make_penalty(settings, names),
    )
    state = train.state_from(jax.tree.map(jnp.copy, pair.variables), tx)
    module = pair.twin(train=True)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    criterion = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
    keys = dict(module.named_parameters())
    chosen = {
        "kernel$": [w for key, w in keys.items() if key.endswith("weight")],
        "fc1": [w for key, w in keys.items() if key.startswith("fc1")],
        "": list(keys.values()),
    }[settings.penalized]
    for i in range(4):
        images, labels = pair.batch(i)
        batch = {"images": jnp.asarray(images), "labels": jnp.asarray(labels)}
        state, metrics = step(state, batch, pair.key())
        logits = module(torch.from_numpy(images.transpose(0, 3, 1, 2)))
        loss = criterion(logits, torch.from_numpy(labels).long())
        penalty = settings.l1 * sum(w.abs().sum() for w in chosen)
        penalty = penalty + settings.l2 * sum(w.square().sum() for w in chosen)
        optimizer.zero_grad()
        (loss + penalty).backward()
        optimizer.step()
        np.testing.assert_allclose(metrics["loss"], loss.item(), rtol=1e-12)
    harness.assert_close(weights.to_torch({"params": state.params}), arrays(keys, pair), rtol=1e-12)


@pytest.mark.parametrize(
    ("network", "changes", "want"),
    [
        ("squeezenet1_1", {"dropout": 0.25}, ("dropout", 0.25)),
        ("densenet121", {"dropout": 0.25}, ("drop_rate", 0.25)),
        ("alexnet_cifar", {"dropout": 0.25}, ("dropout", 0.25)),
        ("alexnet_cifar", {"dropout2d": 0.1}, ("dropout2d", 0.1)),
        ("vgg11", {"dropout": 0.0}, ("dropout", 0.0)),
        ("vgg11", {}, ("dropout", 0.5)),
    ],
)
def test_dropout_reaches_the_network(network, changes, want):
    model = build(settings_of(network, **changes), num_classes=3).model
    assert getattr(model, want[0]) == want[1]


def test_augmentation_comes_before_normalisation_and_in_training_only():
    """A brightness of 0 makes every training image black; [-1, 1] makes black -1."""
    settings = settings_of(augment="color_jitter(brightness=(0.0, 0.0))")
    run = build(settings, num_classes=10)
    state = train.init_state(run.model, run.tx, jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
    batch = {
        "images": np.full((4, 28, 28, 1), 255, np.uint8),
        "labels": np.arange(4, dtype=np.int32),
        "mask": np.ones(4, bool),
    }
    logits = {
        value: run.model.apply(
            {"params": state.params}, jnp.full((4, 28, 28, 1), value), train=False
        )
        for value in (-1.0, 1.0)
    }
    seen = run.eval_step(state, batch)["loss"]
    np.testing.assert_allclose(seen, cross_entropy(logits[1.0], batch["labels"]), rtol=1e-5)
    _, metrics = run.train_step(state, batch, jax.random.key(0))
    want = jnp.mean(cross_entropy(logits[-1.0], batch["labels"]))
    np.testing.assert_allclose(metrics["loss"], want, rtol=1e-5)


def test_norms_are_told_the_parts():
    """A batch of another size than the settings' does not fall into them."""
    run = build(settings_of("cnn_mnist", norm_parts=4), num_classes=10)
    images = jnp.zeros((6, *run.input_shape))
    state = jax.eval_shape(partial(train.init_state, run.model, run.tx), jax.random.key(0), images)
    images = images.astype(jnp.uint8)
    batch = {"images": images, "labels": jnp.zeros(6, jnp.int32)}
    with pytest.raises(ValueError, match="expected 4 equal parts, got 6 images"):
        jax.eval_shape(run.train_step, state, batch, jax.random.key(0))


def test_pixels_of_the_data_normalise():
    settings = settings_of(normalization="dataset")
    run = build(settings, num_classes=10, pixels=[[0.2], [0.5]])
    images = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 1), dtype=np.uint8)
    np.testing.assert_allclose(run.preprocess(images), (images / 255 - 0.2) / 0.5, atol=1e-6)
    with pytest.raises(ValueError, match="expected pixels"):
        build(settings, num_classes=10)


def test_stored_images_are_cropped_to_their_centre():
    settings = replace(settings_of("resnet18"), image_size=32, stored_size=40)
    run = build(settings, num_classes=2)
    images = np.random.default_rng(0).integers(0, 256, (2, 40, 40, 3), dtype=np.uint8)
    want = data.standardize(jnp.asarray(images[:, 4:36, 4:36]))
    np.testing.assert_array_equal(run.preprocess(images), want)


@pytest.mark.parametrize(
    ("network", "changes", "message"),
    [
        ("resnet_cifar", {"dropout": 0.5}, "dropout=0.5: resnet_cifar has no place for it; .*vgg"),
        ("vgg11", {"dropout2d": 0.5}, "dropout2d=0.5: vgg11 has no place for it; alexnet_cifar"),
        ("mlp_mnist", {"l1": -1.0}, "l1 must be finite and at least 0, got -1.0"),
        ("mlp_mnist", {"l2": float("nan")}, "l2 must be finite and at least 0, got nan"),
        ("mlp_mnist", {"l1": 1.0, "penalized": "nothing"}, "penalized='nothing' matches none of"),
        ("mlp_mnist", {"l1": 1.0, "penalized": "("}, r"penalized='\('"),
        ("mlp_mnist", {"penalized": "fc"}, "penalized='fc': expected l1 or l2 with it"),
        ("mlp_mnist", {"label_smoothing": 1.5}, r"label_smoothing must be in \[0, 1\], got 1.5"),
        ("mlp_mnist", {"augment": "sharpen"}, "augment.*sharpen"),
        ("mlp_mnist", {"norm_parts": 3}, "norm_parts=3: expected a divisor of batch_size=8"),
        ("mlp_mnist", {"norm_parts": 0}, "norm_parts=0: expected a divisor of batch_size=8"),
    ],
)
def test_bad_settings(network, changes, message):
    with pytest.raises(ValueError, match=message):
        build(settings_of(network, **changes), num_classes=10)

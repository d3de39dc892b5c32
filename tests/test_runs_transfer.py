"""Runs of transfer learning in their folders: what is kept, cached, thawed, resumed, refused."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from run_folders import random_weights, rows, settings_of, train

from jaxcnn import log, runs, weights

HEAD = {"init": "some.npz", "replace_head": 10, "freeze": "all-but-head"}


def params_of(workdir):
    return weights.to_torch({"params": runs.load(workdir, "latest").state.params})


def test_only_a_replaced_head_is_trained(tmp_path, capsys):
    initial = random_weights("cnn_mnist", num_classes=3)
    result = train(settings_of("cnn_mnist", **HEAD), tmp_path, initial=initial)
    assert np.isfinite(result["loss"])
    for key, value in params_of(tmp_path).items():
        if not key.startswith("fc."):
            np.testing.assert_array_equal(value, initial[key])
    assert params_of(tmp_path)["fc.weight"].shape == (10, 1568)
    said = capsys.readouterr().err
    assert "starts from some.npz: 14 arrays, 13,344 parameters" in said
    table = [line.split() for line in said.splitlines() if "loaded" in line or "drawn" in line]
    assert [row[0] for row in table] == ["fc", "layer1", "layer2"]
    assert [row[4] for row in table] == ["yes", "no", "no"]


@pytest.mark.parametrize("freeze_norms", [False, True])
def test_frozen_norms_keep_their_statistics_if_asked(freeze_norms, tmp_path):
    initial = random_weights("cnn_mnist", num_classes=10)
    settings = settings_of("cnn_mnist", **HEAD, freeze_norms=freeze_norms)
    train(settings, tmp_path, initial=initial)
    stats = weights.to_torch({"batch_stats": runs.load(tmp_path, "latest").state.batch_stats})
    same = [np.array_equal(value, initial[key]) for key, value in stats.items()]
    assert all(same) if freeze_norms else not any(same)


def test_cached_features_train_the_head_as_the_whole_network_does(tmp_path, capsys):
    """The perceptron has neither norms nor dropout: its modes are one."""
    initial = random_weights("mlp_mnist")
    settings = settings_of("mlp_mnist", **HEAD, learning_rate=0.5)
    whole = train(settings, tmp_path / "whole", initial=initial)
    settings = replace(settings, cache_features=True)
    places = {"initial": initial, "cache_dir": tmp_path / "cache"}
    head = train(settings, tmp_path / "head", **places)
    np.testing.assert_allclose(head["loss"], whole["loss"], rtol=1e-5)
    ours, theirs = params_of(tmp_path / "head"), params_of(tmp_path / "whole")
    for key, value in ours.items():
        np.testing.assert_allclose(value, theirs[key], rtol=1e-4, atol=1e-6)
    train(settings, tmp_path / "again", **places)
    assert capsys.readouterr().err.count("read from") == 2
    assert rows(tmp_path / "again") == rows(tmp_path / "head")


@pytest.mark.parametrize(
    "changes",
    [
        {"unfreeze_at": 1, "freeze_norms": True, "lr_head": 0.2, "optimizer": "adam"},
        {
            "cache_features": True,
            "freeze_norms": True,
            "normalization": "dataset",
            "early_stopping": 3,
        },
        {
            "freeze": "",
            "augment": "random_crop(padding=1), color_jitter(brightness=0.3)",
            "dropout": 0.3,
            "l1": 1e-4,
            "label_smoothing": 0.1,
        },
        {
            "freeze": "",
            "freeze_later": "layer1",
            "freeze_at": 1,
            "lr_factors": ".*bias=2",
            "lookahead": "every=3, decay=0.9, power=1, epochs=2",
            "views": "mirrored",
        },
    ],
    ids=["unfreeze_at", "cache_features", "augment", "freeze_at"],
)
def test_resume_to_the_bit(changes, tmp_path):
    settings = settings_of("cnn_mnist", **HEAD | changes)
    initial = random_weights("cnn_mnist")
    places = {"cache_dir": tmp_path / "cache"}
    train(replace(settings, epochs=2), tmp_path / "whole", initial=initial, **places)
    train(settings, tmp_path / "parts", initial=initial, **places)
    train(replace(settings, epochs=2), tmp_path / "parts", resume=True, **places)
    assert rows(tmp_path / "whole") == rows(tmp_path / "parts")
    states = [runs.load(tmp_path / folder, "latest").state for folder in ("whole", "parts")]
    jax.tree.map(np.testing.assert_array_equal, *states)


def test_what_thaws_is_trained_from_then_on(tmp_path):
    initial = random_weights("cnn_mnist")
    settings = settings_of("cnn_mnist", **HEAD, unfreeze_at=1)
    for epochs, changed in ((1, False), (2, True)):
        folder = tmp_path / str(epochs)
        train(replace(settings, epochs=epochs), folder, initial=initial)
        # Biases in front of a norm have no gradient.
        kernels = {k: v for k, v in params_of(folder).items() if k.endswith(".0.weight")}
        assert len(kernels) == 2
        assert {not np.array_equal(v, initial[k]) for k, v in kernels.items()} == {changed}


def test_what_is_frozen_later_is_trained_until_then(tmp_path):
    settings = settings_of(freeze_later="fc1", freeze_at=1)
    train(settings, tmp_path)
    first = params_of(tmp_path)
    train(replace(settings, epochs=2), tmp_path, resume=True)
    same = {key for key, value in params_of(tmp_path).items() if np.array_equal(value, first[key])}
    assert same == {"fc1.weight", "fc1.bias"}


def test_the_pixels_of_the_data_are_recorded(tmp_path):
    settings = settings_of(normalization="dataset")
    train(settings, tmp_path, cache_dir=tmp_path / "cache")
    mean, std = log.read_config(tmp_path)["settings"]["pixels"]
    images = np.zeros((1, 8, 8, 1), np.uint8)
    found = runs.load(tmp_path).run.preprocess(images)
    np.testing.assert_allclose(found, -mean[0] / std[0], rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"replace_head": 3}, "replace_head=3: the data have 10 classes"),
        ({"replace_head": None}, "replace_head=10 draws that layer anew"),
        ({"early_stopping": -1}, "patience.*-1"),
        ({"min_delta": 0.1}, "min_delta=0.1: expected early_stopping with it"),
    ],
)
def test_errors_leave_nothing_behind(changes, message, tmp_path):
    settings = settings_of("cnn_mnist", **HEAD | changes)
    with pytest.raises(ValueError, match=message):
        train(settings, tmp_path / "run", initial=random_weights("cnn_mnist", num_classes=3))
    assert not (tmp_path / "run").exists()

"""Run folders in this process; tests/test_scripts.py has them through the command line."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest
from run_folders import random_weights, rows, settings_of, train

from jaxcnn import log, runs, weights
from jaxcnn.evaluate import evaluate
from jaxcnn.recipes import load_data
from parity import reference

NEW = (
    "normalization",
    "init",
    "validation",
    "examples",
    "attention",
    "image_size",
    "optimizer_args",
    "schedule_args",
)


def forget(workdir, *names):
    """Take settings out of a config, as if the run had been made before they existed."""
    path = workdir / "config.json"
    config = json.loads(path.read_text())
    for name in names:
        del config["settings"][name]
    path.write_text(json.dumps(config))


def test_a_run_from_before_new_settings_loads_and_resumes(tmp_path):
    old = settings_of(examples=None, batch_size=512)
    for folder in ("old", "new"):
        train(old, tmp_path / folder)
    forget(tmp_path / "old", *NEW)
    loaded = runs.load(tmp_path / "old")
    assert loaded.settings == old
    for folder in ("old", "new"):
        train(replace(old, epochs=2), tmp_path / folder, resume=True)
    assert rows(tmp_path / "old") == rows(tmp_path / "new")
    (resume,) = log.read_config(tmp_path / "old")["resumes"]
    assert resume["changed_settings"] == {"epochs": 2}
    with pytest.raises(ValueError, match=r"differ:\n  validation: 0\.0 -> 0\.25$"):
        train(replace(old, epochs=2, validation=0.25), tmp_path / "old", resume=True)


def test_a_config_without_a_setting_that_always_was_is_refused(tmp_path):
    train(settings_of(), tmp_path)
    forget(tmp_path, "epochs", "network", "examples")
    with pytest.raises(ValueError, match="config.json: settings lack epochs, network$"):
        runs.load(tmp_path)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_a_run_starts_from_given_weights_in_float32(dtype, tmp_path, capsys):
    initial = random_weights("cnn_mnist", dtype)
    settings = settings_of("cnn_mnist", init="some.npz", learning_rate=0.0, batch_size=128)
    train(settings, tmp_path, initial=initial)
    state = runs.load(tmp_path, "latest").state
    assert int(state.step) == 1
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {np.dtype(np.float32)}
    found = weights.to_torch({"params": state.params, "batch_stats": state.batch_stats})
    for key, value in initial.items():
        if "running" not in key and "tracked" not in key:
            np.testing.assert_array_equal(found[key], value.astype(np.float32))
    # One batch of statistics at momentum 0.1: nine tenths are still the file's.
    old, new = initial["layer1.1.running_var"], found["layer1.1.running_var"]
    assert (new >= 0.9 * old.astype(np.float32) * (1 - 1e-6)).all()
    assert found["layer1.1.num_batches_tracked"] == 1
    assert log.read_config(tmp_path)["settings"]["init"] == "some.npz"
    assert "starts from some.npz: 16 arrays, 29,034 parameters" in capsys.readouterr().err


def mismatches():
    fits = random_weights("cnn_mnist")
    five = random_weights("cnn_mnist", num_classes=5)
    several = {key: value for key, value in five.items() if key != "layer1.0.bias"}
    return {
        "classes": (five, r"^f\.npz: the file has 5 classes, the data 10 \(fc\.bias, fc\.weight\)"),
        "all": (
            several | {"extra": np.zeros(1)},
            r"^f\.npz: .*\n  missing: layer1\.0\.bias\n  unexpected: extra\n  wrong shape: fc\.bi"
            r"as is \(5,\), expected \(10,\)\n  wrong shape: fc\.weight is",
        ),
        "dtype": (
            fits | {"fc.bias": np.zeros(10, np.int32)},
            r"^f\.npz: .*\n  wrong dtype: fc\.bias is int32, expected float32$",
        ),
        "none": (None, r"^init='f\.npz': initial is None"),
    }


@pytest.mark.parametrize("case", ["classes", "all", "dtype", "none"])
def test_weights_that_do_not_fit_are_refused_and_nothing_is_written(case, tmp_path):
    initial, message = mismatches()[case]
    with pytest.raises(ValueError, match=message):
        train(settings_of("cnn_mnist", init="f.npz"), tmp_path / "run", initial=initial)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("changes", [{"validation": 0.2}, {"examples": 127}])
def test_data_that_are_not_divided_as_settings_say_are_refused(changes, tmp_path):
    dataset = load_data(settings_of())
    with pytest.raises(ValueError, match="128 training images and no validation split"):
        runs.train(settings_of(**changes), dataset, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_training_with_a_validation_split_never_looks_at_the_test_set(tmp_path):
    settings = settings_of(validation=0.3, epochs=2)
    dataset = replace(load_data(settings), test=None)
    result = runs.train(settings, dataset, tmp_path)
    assert result["split"] == "validation"
    assert json.loads((tmp_path / "results.json").read_text())["split"] == "validation"
    evaluated = [row for row in rows(tmp_path) if row["kind"] == "eval"]
    assert [row["split"] for row in evaluated] == ["validation"] * 2
    best = runs.load(tmp_path)
    found = evaluate(best.run.eval_step, best.state, dataset.validation, 500)
    assert found["accuracy"] == result["best_accuracy"]


def test_without_one_the_test_set_is_named(tmp_path, capsys):
    assert train(settings_of(), tmp_path)["split"] == "test"
    assert "test accuracy" in capsys.readouterr().err
    assert {row.get("split") for row in rows(tmp_path) if row["kind"] == "eval"} == {"test"}


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"validation": 0.2}, marks=pytest.mark.slow),
        pytest.param({"examples": 192}, marks=pytest.mark.slow),
        {"init": "gone.pth", "network": "cnn_mnist"},
        {
            "optimizer": "nadam",
            "schedule": "cyclic",
            "schedule_args": "max_lr=0.1, step_size_up=1",
            "decay_every": "step",
        },
        {
            "optimizer": "adamw",
            "norm_decay": False,
            "schedule": "plateau",
            "schedule_args": "mode='max', patience=0, threshold=0.5, factor=0.5",
        },
        pytest.param(
            {"normalization": "imagenet", "network": "alexnet_cifar", "examples": 64},
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_resume_with_each_new_setting_to_the_bit(changes, tmp_path):
    settings = settings_of(**changes)
    initial = random_weights(settings.network) if settings.init else None
    train(replace(settings, epochs=2), tmp_path / "whole", initial=initial)
    train(settings, tmp_path / "parts", initial=initial)
    train(replace(settings, epochs=2), tmp_path / "parts", resume=True)
    assert rows(tmp_path / "whole") == rows(tmp_path / "parts")
    states = [runs.load(tmp_path / folder, "latest").state for folder in ("whole", "parts")]
    jax.tree.map(np.testing.assert_array_equal, *states)


def test_a_broken_off_run_is_not_mixed_into_the_next(tmp_path):
    """A kill before the first checkpoint leaves a config and rows."""
    train(settings_of(), tmp_path / "whole")
    (tmp_path / "run").mkdir()
    log.write_config(tmp_path / "run", {"network": "another"})
    log.append_metrics(tmp_path / "run", {"kind": "step", "step": 1})
    train(settings_of(), tmp_path / "run")
    assert rows(tmp_path / "run") == rows(tmp_path / "whole")
    assert log.read_config(tmp_path / "run")["settings"]["network"] == "mlp_mnist"


def test_the_twins_state_dict_is_taken_as_it_is(tmp_path):
    """Tensors too, as a program that has PyTorch would hand them over."""
    twin = reference.create("cnn_mnist")
    settings = settings_of("cnn_mnist", init="twin", learning_rate=0.0)
    train(settings, tmp_path, initial=twin.state_dict())
    found = runs.load(tmp_path).state.params["fc"]["kernel"]
    np.testing.assert_array_equal(found, twin.fc.weight.detach().numpy().T)

"""The scripts as a user calls them: whole processes, their output and their exit status."""

import csv
import json
import shutil
import signal
import time

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from processes import call, start
from sklearn.datasets import load_digits

from jaxcnn import checkpoint, log, runs, weights
from parity import reference

PICTURE = ROOT / "parity/results/alexnet_cifar.png"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run of the embedded recipe."""
    workdir = tmp_path_factory.mktemp("run") / "digits"
    out = call("train", "digits-cnn", "--epochs", 3, "--workdir", workdir)
    return workdir, out


def test_train_leaves_a_whole_run_folder(trained):
    workdir, out = trained
    assert {path.name for path in workdir.iterdir()} == {
        "best.safetensors",
        "calibration.png",
        "checkpoints",
        "config.json",
        "confusion.png",
        "curves.png",
        "evaluation.json",
        "metrics.jsonl",
        "mistakes.png",
        "results.json",
    }
    results = json.loads((workdir / "results.json").read_text())
    assert results["best_accuracy"] > 0.9
    assert f"{100 * results['best_accuracy']:.2f} %" in out
    assert log.read_config(workdir)["settings"]["epochs"] == 3
    for name in ("calibration", "confusion", "curves", "mistakes"):
        with Image.open(workdir / f"{name}.png") as picture:
            assert min(picture.size) > 300


def test_evaluate_agrees_with_training(trained, tmp_path):
    workdir, _ = trained
    out = call("evaluate", workdir, "--out", tmp_path, "--top", 3, "--bins", 4)
    best = json.loads((workdir / "results.json").read_text())["best_accuracy"]
    found = json.loads((tmp_path / "evaluation.json").read_text())
    assert found["accuracy"] == best and len(found["calibration"]["bins"]) == 4
    lines = out.splitlines()
    assert lines[0].split() == ["class", "images", "precision", "recall", "F1"]
    for line, (name, measures) in zip(lines[2:12], found["classes"].items(), strict=True):
        support, *shares = measures.values()
        assert line.replace(" %", "").split() == [name, str(support), *map(percent, shares)]
    shares = [found[f"macro_{name}"] for name in ("precision", "recall", "f1")]
    assert lines[13].replace(" %", "").split() == ["all,", "mean", "359", *map(percent, shares)]
    assert (
        f"359 test images, loss {found['loss']:.4f}, accuracy {percent(best)} %, "
        f"top-3 accuracy {percent(found['top_k']['3'])} %, "
        f"ECE {percent(found['calibration']['ece'])} %; written to {tmp_path}"
    ) in lines[14]


def percent(share):
    return f"{100 * share:.2f}"


def test_predict_names_digits(trained, tmp_path):
    digits = load_digits()
    folder = tmp_path / "digits"
    for i in range(20):
        path = folder / f"{i // 10}/{i % 10}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.round(digits.images[i] * 255 / 16).astype(np.uint8)).save(path)
    (folder / "broken.png").write_bytes(b"")
    options = ["--top", 2, "--batch-size", 8, "--recursive", "--skip-corrupt"]
    out = call("predict", trained[0], folder, *options, "--csv", tmp_path / "digits.csv")
    *lines, left_out = out.splitlines()
    named = [line.split(": ")[1].split(" ")[0] for line in lines]
    assert len(lines) == 20 and lines[0].count("%") == 2
    assert np.mean([int(n) == t for n, t in zip(named, digits.target[:20], strict=True)]) > 0.8
    assert left_out.startswith(f"left out: {folder / 'broken.png'}: not an image")
    with (tmp_path / "digits.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == named
    assert rows[19]["image"] == str(folder / "1/9.png") and float(rows[0]["probability"]) > 0.5


def test_ctrl_c_then_resume(tmp_path, trained):
    workdir = tmp_path / "run"
    arguments = ["digits-cnn", "--epochs", 3, "--workdir", workdir]
    process = start("train", *arguments, "--checkpoint-every", 5, "--batch-size", 64)
    deadline = time.monotonic() + 120
    while checkpoint.saved_step(workdir / "checkpoints/latest") is None:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "continue with --resume" in err and "Traceback" not in err
    call("train", *arguments, "--resume")
    rows = [[r for r in log.read_metrics(w) if r["kind"] == "eval"] for w in (workdir, trained[0])]
    assert rows[0] == rows[1], "the resumed run differs from the uninterrupted one"


@pytest.mark.slow
def test_several_seeds_report_mean_and_deviation(tmp_path):
    workdir = tmp_path / "runs"
    options = ["--epochs", 1, "--seeds", 2, "--seed", 5, "--workdir", workdir]
    out = call("train", "digits-cnn", *options, "--network", "mlp_mnist")
    found = [
        100 * json.loads((workdir / f"seed-{seed}/results.json").read_text())["best_accuracy"]
        for seed in (5, 6)
    ]
    assert found[0] != found[1]
    assert f"{np.mean(found):.2f} % +- {np.std(found, ddof=1):.2f}" in out
    assert "1 epoch" not in call("plot", *workdir.iterdir(), "--out", tmp_path / "both.png")
    assert (tmp_path / "both.png").stat().st_size > 5000


def test_list_names_everything():
    out = call("train", "--list")
    for name in ("digits-cnn", "cifar10-vgg", "alexnet_cifar", "idx:DIR", "sgd", "exponential"):
        assert name in out
    lines = [line.split(maxsplit=1) for line in out.splitlines() if line.startswith("  ")]
    texts = {name: text.strip() for name, *rest in lines for text in rest}
    assert texts["densenet_cifar"] == "input (96, 96, 3)"
    assert texts["resnet18_keras"] == "input (224, 224, 1)"
    assert "80 % after 20 epochs" in texts["cifar10-resnet"]


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("train", ["digits-cnn", "--network", "nope"], "unknown network 'nope'"),
        ("train", ["digits-cnn", "--data", "idx:/nowhere"], "/nowhere"),
        ("train", ["digits-cnn", "--epochs", "0"], "epochs must be at least 1, got 0"),
        ("train", ["digits-cnn", "--gamma", "0.5"], "'constant' takes no arguments; got gamma"),
        ("train", ["digits-cnn", "--seeds", "0"], "--seeds must be at least 1, got 0"),
        ("train", ["digits-cnn", "--resume"], "no run of digits-cnn in runs/"),
        ("train", ["digits-cnn", "--epochs", "many"], "invalid literal for int"),
        ("train", ["digits-rnn"], "digits-cnn"),
        ("train", ["digits-cnn", "--normalization", "max"], "invalid choice 'max'"),
        ("evaluate", ["nowhere"], "nowhere/config.json: no such file"),
        ("evaluate", ["nowhere", "--bins", "0"], "--bins must be at least 1, got 0"),
        ("predict", ["nowhere", PICTURE], "nowhere/config.json: no such file"),
        ("plot", ["nowhere", "--out", "a.png"], "nowhere"),
    ],
)
def test_mistakes_get_one_clear_line(script, arguments, message, tmp_path):
    assert message in call(script, *arguments, status=2, cwd=tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--validation", 1.5], "error: validation=1.5: expected at least 0 and below 1"),
        (["--examples", 5], "error: examples=5: expected 10"),
        (["--normalization", "imagenet"], "error: normalization 'imagenet' is for 3 channels"),
        (["--init", "none.npz"], "error: none.npz: no such file"),
        (["--init", "a.txt"], "error: a.txt: expected a weight file"),
    ],
)
def test_wrong_values_leave_no_folder(arguments, message, tmp_path):
    out = call("train", "digits-cnn", *arguments, status=2, cwd=tmp_path)
    assert out.splitlines()[-1].startswith(message) and out.count("error") == 1
    assert not list(tmp_path.iterdir())


def test_a_run_is_not_overwritten_nor_resumed_with_other_settings(trained):
    workdir, _ = trained
    before = {p: p.read_bytes() for p in workdir.iterdir() if p.is_file()}
    out = call("train", "digits-cnn", "--workdir", workdir, status=2)
    assert "already holds a run" in out
    options = ["--epochs", 5, "--momentum", 0.5, "--batch-size", 32]
    out = call("train", "digits-cnn", "--workdir", workdir, "--resume", *options, status=2)
    assert "batch_size: 64 -> 32" in out and "momentum: 0.9 -> 0.5" in out
    assert "epochs" not in out.split("differ")[1]
    assert {p: p.read_bytes() for p in workdir.iterdir() if p.is_file()} == before


def test_a_diverging_run_says_so(tmp_path):
    workdir = tmp_path / "run"
    options = ["--learning-rate", 1e30, "--workdir", workdir]
    out = call("train", "digits-cnn", *options, status=1)
    assert "training loss is nan at step" in out
    # Nothing was worth keeping, so the folder may be used again.
    call("train", "digits-cnn", "--epochs", 1, "--workdir", workdir)


def test_wrong_options_of_a_run_are_named(trained, tmp_path):
    path = tmp_path / "broken.png"
    path.write_bytes(b"\x89PNG not really")
    assert "broken.png" in call("predict", trained[0], path, status=2)
    out = call("evaluate", trained[0], "--top", 11, "--out", tmp_path / "new", status=2)
    assert out == "error: --top must be at least 1 and at most 10, the classes, got 11\n"
    assert not (tmp_path / "new").exists()


def test_a_best_checkpoint_alone_is_not_mixed_into_another_run(trained, tmp_path):
    """A kill between the first two checkpoints leaves the best one and nothing to resume."""
    workdir = tmp_path / "run"
    shutil.copytree(trained[0], workdir)
    shutil.rmtree(workdir / "checkpoints/latest")
    assert "already holds a run" in call("train", "digits-cnn", "--workdir", workdir, status=2)
    arguments = ["digits-cnn", "--epochs", 3, "--workdir", workdir, "--resume"]
    assert "another --workdir" in call("train", *arguments, status=2)
    assert checkpoint.saved_step(workdir / "checkpoints/best") is not None


def state_dict_file(workdir, path):
    """Write a run's best weights to a file of the kind that the path's suffix names."""
    state = runs.load(workdir).state
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    if path.suffix != ".pth":
        weights.save(path, variables)
        return
    import torch

    twin = reference.create("cnn_mnist")
    tensors = {key: torch.from_numpy(value) for key, value in weights.to_torch(variables).items()}
    twin.load_state_dict(tensors)
    torch.save(twin.state_dict(), path)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".pth"])
def test_a_run_starts_from_a_file(suffix, trained, tmp_path):
    """A step at a small rate leaves what was loaded; without the file it is guesswork."""
    path, workdir = tmp_path / f"weights{suffix}", tmp_path / "run"
    state_dict_file(trained[0], path)
    options = ["--epochs", 1, "--examples", 64, "--learning-rate", 1e-3, "--workdir", workdir]
    out = call("train", "digits-cnn", "--init", path, *options)
    assert f"starts from {path}: 16 arrays, 29,034 parameters" in out
    results = json.loads((workdir / "results.json").read_text())
    assert results["best_accuracy"] > 0.8
    assert log.read_config(workdir)["settings"]["init"] == str(path)
    path.unlink()
    again = call("train", "digits-cnn", "--init", path, *options, "--resume", "--epochs", 2)
    assert "epoch 2/2" in again and "starts from" not in again


def test_weights_of_another_network_leave_no_folder(trained, tmp_path):
    workdir = tmp_path / "run"
    options = ["--network", "mlp_mnist", "--init", trained[0] / "best.safetensors"]
    out = call("train", "digits-cnn", *options, "--workdir", workdir, status=2)
    assert "best.safetensors: state_dict does not fit the network" in out
    assert "missing: fc1.weight" in out and "unexpected: layer1.0.weight" in out
    assert not workdir.exists()


@pytest.mark.slow
def test_validation_chooses_and_the_test_set_is_used_once(tmp_path):
    workdir = tmp_path / "run"
    options = ["--validation", 0.25, "--examples", 300, "--epochs", 2, "--workdir", workdir]
    out = call("train", "digits-cnn", *options)
    results, tested = (
        json.loads((workdir / f"{name}.json").read_text()) for name in ("results", "evaluation")
    )
    assert results["split"] == "validation" and tested["split"] == "test"
    assert tested["examples"] == 359
    assert "300 training (a part, drawn evenly), 359 validation and 359 test images" in out
    first, last = (
        next(line for line in out.splitlines() if key in line) for key in ("epoch 1/2:", "seed 0")
    )
    assert "validation accuracy" in first and "test" not in first
    assert "300 training (a part, drawn evenly) images" in last
    assert f"validation accuracy {100 * results['best_accuracy']:.2f} % (best, epoch" in last
    assert f"test accuracy {100 * tested['accuracy']:.2f} % (of the best)" in last
    settings = log.read_config(workdir)["settings"]
    assert (settings["validation"], settings["examples"]) == (0.25, 300)
    out = call("evaluate", workdir)
    assert f"359 test images, loss {tested['loss']:.4f}" in out


def test_worker_processes_decode_streamed_files(tree, tmp_path):
    options = ("--data", f"folder:{tree}", "--stream", "True", "--workers", 1, "--epochs", 1)
    out = call("train", "digits-cnn", *options, "--workdir", tmp_path / "run", "--batch-size", 4)
    assert "epoch 1/1: train loss" in out


def test_seeds_in_one_program_and_their_summary(tmp_path):
    seeds = ("--seeds", 2, "--together", "--epochs", 1, "--examples", 200)
    out = call("train", "digits-overfit", *seeds, "--workdir", tmp_path)
    summary = json.loads((tmp_path / "results.json").read_text())
    accuracies = summary["seeds"]
    assert accuracies.keys() == {"0", "1"}
    np.testing.assert_allclose(summary["mean"], np.mean(list(accuracies.values())))
    np.testing.assert_allclose(summary["deviation"], np.std(list(accuracies.values()), ddof=1))
    assert f"over 2 seeds: {100 * summary['mean']:.2f} %" in out
    assert all((tmp_path / f"seed-{seed}/mistakes.png").exists() for seed in (0, 1))

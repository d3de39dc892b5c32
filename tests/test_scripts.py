"""The scripts as a user calls them: whole processes, their output and their exit status."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from sklearn.datasets import load_digits

from jaxcnn import checkpoint, log


def start(script, *arguments, cwd=ROOT):
    command = [sys.executable, str(ROOT / f"scripts/{script}.py"), *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=cwd, stdout=pipe, stderr=pipe, text=True, env=os.environ)


def call(script, *arguments, status=0, **options):
    process = start(script, *arguments, **options)
    out, err = process.communicate(timeout=300)
    assert process.returncode == status, out + err
    assert "Traceback" not in err
    return out + err


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
    for name in ("confusion", "curves", "mistakes"):
        with Image.open(workdir / f"{name}.png") as picture:
            assert min(picture.size) > 300


def test_evaluate_agrees_with_training(trained):
    workdir, _ = trained
    out = call("evaluate", workdir)
    best = json.loads((workdir / "results.json").read_text())["best_accuracy"]
    assert f"accuracy {100 * best:.2f} %" in out
    assert json.loads((workdir / "evaluation.json").read_text())["accuracy"] == best


def test_predict_names_digits(trained, tmp_path):
    digits = load_digits()
    paths = []
    for i in range(20):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(np.round(digits.images[i] * 255 / 16).astype(np.uint8)).save(paths[-1])
    lines = call("predict", trained[0], *paths, "--top", 2, "--batch-size", 8).splitlines()
    named = [line.split(": ")[1].split(" ")[0] for line in lines]
    assert len(lines) == 20 and lines[0].count("%") == 2
    assert np.mean([int(n) == t for n, t in zip(named, digits.target[:20], strict=True)]) > 0.8


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
        ("evaluate", ["nowhere"], "nowhere/config.json: no such file"),
        ("predict", ["nowhere", "a.png"], "nowhere/config.json: no such file"),
        ("plot", ["nowhere", "--out", "a.png"], "nowhere"),
    ],
)
def test_mistakes_get_one_clear_line(script, arguments, message, tmp_path):
    assert message in call(script, *arguments, status=2, cwd=tmp_path)


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


def test_corrupt_images_are_named(trained, tmp_path):
    path = tmp_path / "broken.png"
    path.write_bytes(b"\x89PNG not really")
    assert "broken.png" in call("predict", trained[0], path, status=2)
    assert "missing.png" in call("predict", trained[0], tmp_path / "missing.png", status=2)


def test_a_best_checkpoint_alone_is_not_mixed_into_another_run(trained, tmp_path):
    """A kill between the first two checkpoints leaves the best one and nothing to resume."""
    workdir = tmp_path / "run"
    shutil.copytree(trained[0], workdir)
    shutil.rmtree(workdir / "checkpoints/latest")
    assert "already holds a run" in call("train", "digits-cnn", "--workdir", workdir, status=2)
    arguments = ["digits-cnn", "--epochs", 3, "--workdir", workdir, "--resume"]
    assert "another --workdir" in call("train", *arguments, status=2)
    assert checkpoint.saved_step(workdir / "checkpoints/best") is not None

"""scripts/documented_runs.sh as a user calls it, on a few digits in MNIST's own format."""

import json

import numpy as np
import pytest
from processes import call
from sklearn.datasets import load_digits


@pytest.fixture
def idx_data(tmp_path):
    """DATA of the documented runs with MNIST's four files, made of the digits at 28x28."""
    folder = tmp_path / "data/mnist"
    folder.mkdir(parents=True)
    digits = load_digits()
    images = np.repeat(np.repeat(digits.images * 15.9, 3, axis=1), 3, axis=2)
    images = np.pad(images.astype(np.uint8), [(0, 0), (2, 2), (2, 2)])
    for name, part in (("train", slice(300)), ("t10k", slice(300, 400))):
        for kind, array in (("images-idx3", images[part]), ("labels-idx1", digits.target[part])):
            header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
            data = header + array.astype(np.uint8).tobytes()
            (folder / f"{name}-{kind}-ubyte").write_bytes(data)
    return folder.parent


@pytest.mark.slow
def test_documented_runs_train_skip_and_resume(idx_data, tmp_path):
    out = tmp_path / "out"
    command = ["documented_runs.sh", idx_data, out, "--recipe", "mnist-mlp", "--seeds", 2, "--"]
    command += ["--epochs", 2, "--examples", 200]
    first = call(*command)
    table = (out / "table.md").read_text()
    assert table in first
    accuracies = [
        json.loads((out / f"mnist-mlp/seed-{seed}/results.json").read_text())["best_accuracy"]
        for seed in (0, 1)
    ]
    row = f"| mnist-mlp, 200 training images | 2 | {100 * np.mean(accuracies):.2f} % +- "
    assert row in table and "2 of 2 seeds" in table
    results = out / "mnist-mlp/seed-1/results.json"
    results.write_text(results.read_text().replace("false", "true"))  # as if it was interrupted
    second = call(*command)
    assert "mnist-mlp, seed 0: finished, skipped" in second
    assert "seed 1: finished" not in second and "already holds" not in second
    assert row in second and ">= " in second, "a resumed run's seconds are a lower bound"
    other = call(*command[:-1], 100, status=2)
    assert "holds runs of other data or options" in other


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected DATA [OUT], got 0 arguments"),
        (["a", "b", "c"], "expected DATA [OUT], got 3 arguments"),
        (["."], "mnist-mlp: no ./mnist"),
        ([".", "--recipe", "cifar10-vgg"], "cifar10-vgg: no ./cifar10-jpeg.tar.xz"),
        ([".", "--recipe", "cifar10-lenet"], "unknown recipe 'cifar10-lenet'; known: mnist-mlp"),
        ([".", "--recipe"], "--recipe: expected a value"),
        ([".", "--seeds", "0"], "--seeds must be at least 1, got '0'"),
        ([".", "--epochs", "1"], "unknown option --epochs"),
    ],
)
def test_documented_runs_refuse_wrong_arguments(arguments, message, tmp_path):
    out = call("documented_runs.sh", *arguments, status=2, cwd=tmp_path)
    assert out.startswith("error: ") and message in out and len(out.splitlines()) == 1
    assert not list(tmp_path.iterdir())

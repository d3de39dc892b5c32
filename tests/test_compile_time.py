"""scripts/compile_time.py: what it measures, as whole processes on the smallest networks."""

import json
import re
import subprocess
import sys

import pytest
from conftest import ROOT


def call(*arguments, status=0):
    command = [sys.executable, str(ROOT / "scripts/compile_time.py"), *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1200)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout if status == 0 else done.stderr


def test_measures_every_stage(tmp_path):
    out = tmp_path / "new/found.json"
    options = ["--runs", 2, "--batch-size", 4, "--format", "json", "--out", out, "--no-torch"]
    assert call("mlp_mnist", *options, "--input", "1x14x12", "--remat") == ""
    found = json.loads(out.read_text())
    (row,) = found["rows"]
    assert found["runs"] == 2 and len(found["machine"]["load average"]) == 2
    assert row["network"] == "mlp_mnist" and row["input_shape"] == [14, 12, 1]
    assert row["remat"] is False, "the network has nothing to recompute"
    for stage in ("trace", "lower", "compile", "cpu"):
        assert len(row[stage]) == 2 and all(0 < seconds < 100 for seconds in row[stage])
    # Two products forward, three backward; the activations are 4 x 500 values.
    assert 10 < row["instructions"] < 500 and 8000 < row["temporary_bytes"] < 1e6
    assert "torch.compile" not in row


@pytest.mark.parametrize("form", ["text", "markdown"])
def test_table_of_one_run_and_the_limit_of_torch(form):
    options = ["--runs", 1, "--batch-size", 4, "--format", form, "--torch-limit", 0.1]
    lines = call("mlp_mnist", *options).splitlines()
    split = r" \| " if form == "markdown" else r"  +"
    heading, row = (re.split(split, lines[i].strip("| ")) for i in (0, 2))
    cells = dict(zip(map(str.strip, heading), map(str.strip, row), strict=True))
    assert cells["network"] == "mlp_mnist" and cells["input"] == "1x28x28"
    assert all(re.fullmatch(r"\d+\.\d\d", cells[f"{s}, s"]) for s in ("trace", "lower", "compile"))
    assert cells["torch.compile, s"] == "> 0.1 s"
    assert lines[-1].startswith("cpus ") and "load average" in lines[-1]


@pytest.mark.slow
def test_torch_compile_and_recomputation(tmp_path):
    out = tmp_path / "found.json"
    options = ["--runs", 1, "--batch-size", 2, "--input", "3x32x32", "--format", "json"]
    call("resnet18", *options, "--no-torch", "--remat", "--out", out)
    (row,) = json.loads(out.read_text())["rows"]
    assert row["remat"] is True
    call("cnn_mnist", *options[:4], "--format", "json", "--out", out)
    (row,) = json.loads(out.read_text())["rows"]
    assert len(row["torch.compile"]) == 1 and row["torch.compile"][0] > 1
    # The twin's Linear has one size; the network is initialised for any.
    call("cnn_mnist", *options[:4], "--input", "1x20x20", "--format", "json", "--out", out)
    (row,) = json.loads(out.read_text())["rows"]
    assert row["torch.compile"] == "failed" and row["compile"][0] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resnet_mars"], "error: unknown network 'resnet_mars'; known: airbench94"),
        ([], "error: name at least one network"),
        (["mlp_mnist", "--runs", "0"], "error: --runs must be above 0, got 0"),
        (["mlp_mnist", "--batch-size", "-1"], "error: --batch-size must be above 0, got -1"),
        (["mlp_mnist", "--input", "28x28"], "error: an input is given as CxHxW"),
        (["mlp_mnist", "--dtype", "float16"], "float16"),
        (["cnn_mnist", "--input", "1x2x2"], "error: cnn_mnist: max_pool2d: kernel (2, 2)"),
    ],
)
def test_mistakes_get_one_clear_line(arguments, message):
    err = call(*arguments, status=2)
    assert message in err
    if message.startswith("error"):
        assert len(err.splitlines()) == 1

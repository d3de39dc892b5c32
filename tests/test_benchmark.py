"""scripts/benchmark.py: both sides' processes, the check before them, the chart, and mistakes."""

import json
import os
import re
import shutil

import pytest
from conftest import ROOT
from pictures import pixels
from processes import call

SHORT = ["--batch", "4", "--rounds", "3", "--calls", "1", "--forms", "nchw"]


def test_times_all_sides_in_turn(tmp_path):
    out, chart = tmp_path / "new/found.json", tmp_path / "chart.png"
    options = ["--forms", "nchw", "channels_last", "--format", "json"]
    said = call("benchmark", "cnn_mnist", *SHORT[:6], *options, "--out", out, "--chart", chart)
    assert re.fullmatch(r"cnn_mnist: forward \d+\.\d\d, train \d+\.\d\d of PyTorch's time\n", said)
    found = json.loads(out.read_text())
    assert found["device"] == "cpu" and found["rounds"] == 3
    assert [row["pass"] for row in found["rows"]] == ["forward", "train"]
    for row in found["rows"]:
        assert row["network"] == "cnn_mnist" and row["input_shape"] == [28, 28, 1]
        assert row["torch_form"] in ("nchw", "channels_last")
        assert len(row[f"torch:channels_last {row['pass']}, ms"]) == 3
        ratios = sorted(a / b for a, b in zip(row["jax"], row["torch"], strict=True))
        assert row["ratio"][1] == pytest.approx(ratios[1])
        assert all(0 < share < 1.5 for share in row["share"])
        assert all(seconds > 0 for seconds in row["first_s"])
        assert all(size >= 0 for size in row["peak_bytes"]) and row["peak_bytes"][0] > 0
        assert row["matrix_product_gflops"] > 1
    assert min(pixels(chart).shape[:2]) > 100


def test_table():
    options = ["--what", "forward", "--format", "markdown"]
    lines = call("benchmark", "cnn_mnist", *SHORT, *options).splitlines()
    heading, rule, row, _, facts = (n for n in lines if not n.endswith("of PyTorch's time"))
    headings, cells = ([n.strip() for n in line.strip("|").split("|")] for line in (heading, row))
    assert headings[:3] == ["network", "batch", "input"] and set(rule) <= set("|-: ")
    assert cells[:4] == ["cnn_mnist", "4", "1x28x28", "forward"] and cells[6] == "nchw"
    assert re.fullmatch(r"\d+\.\d\d \(\d+\.\d\d-\d+\.\d\d\)", cells[7])
    assert facts.startswith("device cpu, dtype float32")


def test_an_epoch_in_bfloat16():
    options = ["--what", "epoch", "--epoch-steps", "3", "--dtype", "bfloat16", "--format", "json"]
    found, _ = json.JSONDecoder().raw_decode(call("benchmark", "cnn_mnist", *SHORT, *options))
    (row,) = found["rows"]
    assert row["pass"] == "epoch" and row["images"] == 12 and found["dtype"] == "bfloat16"
    assert len(row["jax"]) == len(row["torch"]) == 3 and min(row["jax"] + row["torch"]) > 0


def test_the_first_call_beside_torch_compiles():
    options = ["--what", "compile", "forward", "--forms", "compile", "--format", "json"]
    found, _ = json.JSONDecoder().raw_decode(call("benchmark", "cnn_mnist", *SHORT[:6], *options))
    forward, compiled = found["rows"]
    assert forward["pass"] == "forward" and compiled["pass"] == compiled["torch_form"] == "compile"
    assert [[1e3 * s] for s in compiled["first_s"]] == [compiled["jax"], compiled["torch"]]
    assert compiled["ratio"][1] == pytest.approx(compiled["jax"][0] / compiled["torch"][0])
    assert min(compiled["first_s"]) > 0.1


@pytest.mark.parametrize(
    ("form", "right", "wrong", "told"),
    [
        (
            "nchw",
            "weight_decay=shared.WEIGHT_DECAY,",
            "weight_decay=2 * shared.WEIGHT_DECAY,",
            r"what a step changes in torch nchw float64 differs from ours by \d\.\de-0\d of its "
            "length, more than 1e-09",
        ),
        (
            "compile",
            "torch.compile(module)",
            "(lambda x: 1.1 * module(x))",
            r"the logits in torch compile float32 differs from ours by 9\.\de-02 of its length, "
            "more than 1e-02",
        ),
    ],
    ids=["eager", "compiled"],
)
def test_sides_that_differ_are_not_timed(tmp_path, form, right, wrong, told):
    """A copy of the script whose PyTorch side computes something else."""
    for path in (ROOT / "scripts").glob("*.py"):
        if path.name.startswith(("_", "benchmark.")):
            shutil.copy(path, tmp_path)
    changed = tmp_path / "_benchmark_torch.py"
    text = changed.read_text()
    assert text.count(right) == 1
    changed.write_text(text.replace(right, wrong))
    script = os.path.relpath(tmp_path / "benchmark", ROOT / "scripts")
    err = call(script, "cnn_mnist", *SHORT[:6], "--forms", form, status=2)
    assert re.search(rf"error: cnn_mnist is not timed: {told}\n$", err)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lenet"], "error: unknown network 'lenet'; known: airbench94"),
        (["--batch", "0"], "error: --batch must be above 0, got 0"),
        (["--rounds", "-1"], "error: --rounds must be above 0, got -1"),
        (["--what"], "error: --what must name at least one"),
        (["--input", "28x28"], "error: an input is given as CxHxW"),
        (["--forms", "jit"], "jit"),
        (["--forms", "cuda_graphs"], "error: --forms cuda_graphs: expected --device gpu with it"),
        (
            ["--what", "compile", "--forms", "nchw"],
            "error: --what compile: expected compile among --forms, got nchw",
        ),
        (["--epoch-steps", "0"], "error: --epoch-steps must be above 0, got 0"),
    ],
)
def test_mistakes(arguments, message):
    err = call("benchmark", *arguments, status=2)
    assert message in err and "Traceback" not in err

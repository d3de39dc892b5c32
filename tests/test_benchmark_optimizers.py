"""scripts/benchmark_optimizers.py: both sides' processes, the check before them, and mistakes."""

import json
import os
import re
import shutil

import pytest
from conftest import ROOT
from processes import call

from jaxcnn import optim

SHORT = ["--network", "cnn_mnist", "--rounds", "3", "--calls", "1"]


@pytest.mark.slow
def test_times_both_sides_in_turn(tmp_path):
    out = tmp_path / "new/found.json"
    said = call(
        "benchmark_optimizers", "adagrad", "nadam", *SHORT, "--format", "json", "--out", out
    )
    assert re.fullmatch(r"(\w+: \d+\.\d\d of PyTorch's time\n){2}", said)
    found = json.loads(out.read_text())
    assert found["network"] == "cnn_mnist" and found["dtype"] == "float32"
    assert found["rounds"] == 3 and len(found["machine"]["load average"]) == 2
    assert [row["optimizer"] for row in found["rows"]] == ["adagrad", "nadam"]
    forms = {"adagrad": ("for-loop", "foreach", "fused"), "nadam": ("for-loop", "foreach")}
    for row, slots in zip(found["rows"], (1, 2), strict=True):
        assert row["torch_form"] in forms[row["optimizer"]]
        # Parameters and gradients read, parameters written, each slot both; a few scalars.
        least = 4 * (3 + 2 * slots) * found["parameters"]
        assert least <= row["bytes"] <= least + 8 + 8 * found["arrays"]
        assert len(row["jax"]) == len(row["torch"]) == 3
        ratios = sorted(a / b for a, b in zip(row["jax"], row["torch"], strict=True))
        low, median, high = row["ratio"]
        assert median == pytest.approx(ratios[1]) and 0 < low <= median <= high
        assert all(0 < ms < 60_000 for ms in row["jax"] + row["torch"])


@pytest.mark.slow
def test_table_of_every_optimizer_in_float64():
    lines = call("benchmark_optimizers", *SHORT, "--dtype", "float64").splitlines()
    lines = [line for line in lines if not line.endswith("of PyTorch's time")]
    heading, rule, *rows, _, facts = lines
    assert heading.split("  ")[0] == "optimizer" and set(rule) == {"-", " "}
    names = [row.split()[0] for row in rows]
    assert names == sorted(set(optim.OPTIMIZERS) - {"lbfgs", "sparse_adam"})
    for row in rows:
        assert re.fullmatch(r"\d+\.\d\d \(\d+\.\d\d-\d+\.\d\d\)", re.split(r"  +", row)[-1])
    assert facts.startswith("network cnn_mnist, parameters ") and "dtype float64" in facts


def test_sides_that_differ_are_not_timed(tmp_path):
    """A copy of the script whose PyTorch side takes a slightly larger learning rate."""
    for name in ("_cli.py", "_turns.py"):
        shutil.copy(ROOT / "scripts" / name, tmp_path)
    text = (ROOT / "scripts/benchmark_optimizers.py").read_text()
    rate = "lr=case.learning_rate"
    assert text.count(rate) == 1
    wrong = tmp_path / "wrong.py"
    wrong.write_text(text.replace(rate, f"{rate} * 1.01"))
    script = os.path.relpath(wrong.with_suffix(""), ROOT / "scripts")
    err = call(script, "adam", *SHORT, status=2)
    assert re.fullmatch(
        r"error: adam is not timed: after 8 steps ours is \d\.\de-0\d from PyTorch's for-loop, "
        r"more than \d\.\de-06\n",
        err,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sdg"], "error: unknown optimizer 'sdg'; known: adadelta, adagrad, "),
        (["sparse_adam"], "error: sparse_adam is left out: PyTorch's takes sparse gradients only"),
        (["lbfgs"], "error: lbfgs is left out: its time is that of the losses it evaluates"),
        (["--rounds", "0"], "error: --rounds must be above 0, got 0"),
        (["--calls", "-1"], "error: --calls must be above 0, got -1"),
        (["--network", "resnet_mars"], "error: unknown network 'resnet_mars'; known: airbench94"),
    ],
)
def test_mistakes_get_one_clear_line(arguments, message):
    err = call("benchmark_optimizers", *arguments, status=2)
    assert err.startswith(message) and len(err.splitlines()) == 1

"""scripts/benchmark_convolutions.py: both sides' processes, the table, and mistakes."""

import json
import re
import subprocess
import sys

import pytest
from conftest import ROOT


def call(*arguments, status=0):
    command = [sys.executable, str(ROOT / "scripts/benchmark_convolutions.py"), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout if status == 0 else done.stderr


SHORT = ["--batch-size", "1", "--layers", "2", "--rounds", "3", "--calls", "1"]


def test_times_both_sides_in_turn(tmp_path):
    out = tmp_path / "new/found.json"
    names = ["depthwise-28-stride2"]
    assert call(*names, *SHORT, "--format", "json", "--out", str(out)) == ""
    found = json.loads(out.read_text())
    assert found["rounds"] == 3 and found["dtype"] == "float32"
    assert len(found["machine"]["load average"]) == 2
    order = [(row["case"], row["pass"]) for row in found["rows"]]
    assert order == [(name, part) for name in names for part in ("forward", "training")]
    for row in found["rows"]:
        assert row["torch_layout"] in ("contiguous_format", "channels_last")
        assert len(row["jax"]) == len(row["torch"]) == 3
        ratios = sorted(a / b for a, b in zip(row["jax"], row["torch"], strict=True))
        low, median, high = row["ratio"]
        assert median == pytest.approx(ratios[1]) and 0 < low <= median <= high
        assert all(0 < ms < 60_000 for ms in row["jax"] + row["torch"])


@pytest.mark.slow
def test_table_in_float64():
    heading, rule, *rows, _, machine = call(
        "multiplier-28", *SHORT, "--dtype", "float64"
    ).splitlines()
    assert heading.split("  ")[0] == "layer" and set(rule) == {"-", " "}
    assert len(rows) == 2
    for row, part in zip(rows, ("forward", "training"), strict=True):
        cells = re.split(r"  +", row)
        assert cells[:2] == ["multiplier-28", part]
        assert re.fullmatch(r"\d+\.\d\d \(\d+\.\d\d-\d+\.\d\d\)", cells[-1])
    assert machine.startswith("batch_size 1, layers 2, dtype float64") and "load average" in machine


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["depthwise-9"], "error: unknown case 'depthwise-9'; known: depthwise-56, "),
        (["--rounds", "0"], "error: --rounds must be above 0, got 0"),
        (["--calls", "-1"], "error: --calls must be above 0, got -1"),
        (["--batch-size", "0"], "error: --batch-size must be above 0, got 0"),
    ],
)
def test_mistakes_get_one_clear_line(arguments, message):
    err = call(*arguments, status=2)
    assert err.startswith(message) and len(err.splitlines()) == 1

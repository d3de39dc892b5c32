"""Planted faults are named; tables hold what they should; the script says it by its exit status."""

import json
import os
import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from test_parity_pairs import dropout_pair

from jaxcnn import schedules
from parity import harness, report

ROOT = Path(__file__).resolve().parents[1]
ROW = report.Row("net", "output, training", 1e-15, 1e-12, "fc", 2e-7, 1e-7, (4, 5, 6, 3))


@pytest.mark.parametrize("layer", ["layer1.0", "layer1.1", "layer1.2", "layer2.3", "fc"])
def test_a_planted_forward_fault_is_named(layer):
    pair = harness.pair("cnn_mnist")
    module = pair.torch_module.get_submodule(layer)
    module.register_forward_hook(lambda _module, _inputs, out: out * (1 + 1e-6))
    found = report.first_divergence(pair, steps=0)
    assert found
    assert found.forward.name == layer
    assert found.forward.error == pytest.approx(1e-6, rel=1e-3)
    assert f"forward: {layer} (error 1.0e-06)" in str(found)


@pytest.mark.parametrize(
    ("layer", "parameter"),
    [("layer2.2", "layer2.1.weight"), ("layer2.1", "layer2.0.weight"), ("layer1.0", "input")],
)
def test_a_planted_backward_fault_is_named(layer, parameter):
    pair = harness.pair("cnn_mnist")
    module = pair.torch_module.get_submodule(layer)
    # The gradient that leaves the layer towards the input is wrong; its output is right.
    module.register_full_backward_hook(lambda _module, into, _out: (into[0] * 1.01,))
    found = report.first_divergence(pair, steps=0)
    assert found.forward is None
    assert found.backward.name == parameter


def test_a_planted_statistics_fault_is_named():
    pair = harness.pair("cnn_mnist")
    pair.torch_module.layer2[1].momentum = 0.2
    found = report.first_divergence(pair, steps=2)
    assert (found.forward, found.backward) == (None, None)
    assert (found.training.step, found.training.name) == (0, "layer2.1.running_mean")


def test_a_planted_schedule_fault_is_named(monkeypatch):
    real = schedules.exponential

    def late(learning_rate, steps_per_epoch, *, gamma):
        schedule = real(learning_rate, steps_per_epoch, gamma=gamma)
        return lambda step: schedule(jnp.maximum(step - 1, 0))

    monkeypatch.setitem(schedules.SCHEDULES, "exponential", late)
    found = report.first_divergence(harness.pair("mlp_mnist"), steps=6, steps_per_epoch=4)
    assert (found.forward, found.backward) == (None, None)
    assert (found.training.step, found.training.name) == (4, "fc1.weight")
    assert "training: step 4, fc1.weight (error " in str(found)


def test_a_fault_in_evaluation_mode_only():
    pair = harness.pair("cnn_mnist")
    pair.torch_module.layer1[1].running_var += 1
    assert report.first_divergence(pair, steps=0, train=True).forward is None
    assert report.first_divergence(pair, steps=0, train=False).forward.name == "layer1.1"


def test_rows_of_a_pair(monkeypatch):
    some = ["output, training", "statistics, 1 batch", "10 steps, decay per epoch"]
    monkeypatch.setattr(harness, "COMPARISONS", {n: harness.COMPARISONS[n] for n in some})
    table = report.rows(dropout_pair)
    assert [row.comparison for row in table] == some
    assert all(row.passed and row.float64 <= row.budget < row.rounding for row in table)
    for row in table:
        # The same numbers and the same masks in both dtypes: what is left is rounding.
        assert max(row.float32, row.rounding) < 1e-2
    only = report.rows(lambda dtype: harness.pair("mlp_mnist", dtype=dtype), ["float64"])
    assert [row.comparison for row in only] == [some[0], some[2]], "no statistics"
    assert all(row.float32 is None and row.rounding is None for row in only)
    assert {row.images for row in table} == {(4, 9, 14, 3)}


def test_rows_hold_no_side_longer_than_it_is_needed(monkeypatch):
    """A large network's arrays take gigabytes; two comparisons' at once would not fit."""
    held = {}

    def compare(pair):
        alive = {name for name, array in held.items() if array() is not None}
        # PyTorch's float64 numbers alone are needed again, for its float32's rounding.
        assert alive == ({"want float64"} if pair.dtype == "float32" else set())
        got, want = {"fc": np.ones(3)}, {"fc": np.ones(3)}
        held[f"got {pair.dtype}"] = weakref.ref(got["fc"])
        held[f"want {pair.dtype}"] = weakref.ref(want["fc"])
        return got, want

    comparison = harness.Comparison(compare, 1e-12)
    monkeypatch.setattr(harness, "COMPARISONS", {"first": comparison, "second": comparison})
    assert [row.comparison for row in report.rows(dropout_pair)] == ["first", "second"]


def test_a_row_over_its_budget_fails():
    assert ROW.passed
    assert not replace(ROW, float64=1e-11).passed
    assert not replace(ROW, float64=float("inf")).passed
    assert not replace(ROW, float64=float("nan")).passed
    assert replace(ROW, float64=None).passed


def test_formats():
    table = [ROW, replace(ROW, float64=float("inf"), float32=None)]
    lines = report.as_text(table).splitlines()
    assert len(lines) == 4
    shown = "net 4x5x6x3 output, training 1.0e-15 1.0e-12 ok fc 2.0e-07 1.0e-07"
    assert lines[2].split() == shown.split()
    assert "FAIL" in lines[3] and " - " in lines[3]
    markdown = report.as_markdown(table).splitlines()
    assert {line.count("|") for line in markdown} == {10}
    assert markdown[1] == "|" + " --- |" * 9
    short = report.as_markdown(table, omit=("network", "images")).splitlines()
    assert short[2] == "| output, training | 1.0e-15 | 1.0e-12 | ok | fc | 2.0e-07 | 1.0e-07 |"
    document = json.loads(report.as_json(table, seed=3))
    assert document["settings"] == {"seed": 3}
    assert {"jax", "flax", "optax", "torch", "numpy", "python"} == set(document["versions"])
    assert document["machine"]["cpus"] == os.cpu_count()
    assert [row["passed"] for row in document["rows"]] == [True, False]
    assert document["rows"][0]["float64"] == 1e-15
    assert document["rows"][0]["images"] == [4, 5, 6, 3]
    assert document["rows"][1]["float64"] is None


def script(*arguments, cwd=ROOT):
    command = [sys.executable, str(ROOT / "scripts/parity.py"), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


PAIR = """
import torch
from flax import linen as nn
from jaxcnn.layers import Conv2d


class Net(nn.Module):
    @nn.compact
    def __call__(self, images):
        return Conv2d(3, 3, padding=2, name="0")(images)


def good():
    return torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3, padding=2)), Net(), (5, 6, 2)


def bad():
    twin = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3, padding=2, padding_mode="circular"))
    return twin, Net(), (5, 6, 2)
"""


def test_script_compares_a_user_pair(tmp_path):
    (tmp_path / "mine.py").write_text(PAIR)
    out = tmp_path / "table" / "parity.json"
    done = script("--pair", "mine:good", "--format", "json", "--out", out, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = json.loads(out.read_text())["rows"]
    assert max(row["float32"] for row in rows) < 1e-5
    assert len(rows) == 6 and all(row["passed"] for row in rows)
    done = script("--pair", "mine:bad", "--dtype", "float64", "--where", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "FAIL" in done.stdout and "forward: 0 (error" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lenet"], "unknown network lenet; known: airbench94"),
        (["--pair", "mine"], "--pair must be module:function, got 'mine'"),
        (["--pair", "nowhere_to_be_found:f"], "No module named 'nowhere_to_be_found'"),
        (["--pair", "json:nothing"], "json has no function 'nothing'"),
        (["mlp_mnist", "--pair", "a:b"], "not both"),
        (["mlp_mnist", "--render"], "--render compares nothing"),
    ],
)
def test_script_names_the_users_mistake(arguments, message):
    done = script(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and message in done.stderr
    assert "Traceback" not in done.stderr

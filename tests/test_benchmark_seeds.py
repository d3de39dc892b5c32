"""scripts/benchmark_seeds.py: what its sides compute, its table, and mistakes."""

import json
import re
import sys

import jax
import numpy as np
import pytest
from conftest import ROOT
from processes import call

from jaxcnn import start
from jaxcnn.data import to_device
from jaxcnn.recipes import load_data
from jaxcnn.settings import Settings


@pytest.fixture
def script(monkeypatch):
    """Import the script."""
    monkeypatch.syspath_prepend(ROOT / "scripts")
    monkeypatch.setattr(sys, "path", list(sys.path))  # `_cli` takes the scripts' folder out again
    import benchmark_seeds

    return benchmark_seeds


def test_sides_train_the_same_seeds_and_take_turns(script, monkeypatch):
    settings = Settings("mlp_mnist", "digits", 1, 16, 0.05, examples=64)
    dataset = load_data(settings)
    made, states = start.build(settings, dataset, None), {}

    def recorded(state):
        states.setdefault(np.ndim(state.step), []).append(jax.device_get(state))

    monkeypatch.setattr(script.jax, "block_until_ready", recorded)
    sides = script.blocks(settings, made, to_device(dataset.train), 2, 3)
    called = []
    timed = {name: lambda name=name: called.append(name) or sides[name]() for name in sides}
    images = {name: 48 for name in sides}
    found = script.measure(timed, images, 2)
    alone, after, together = script.SIDES
    assert called == [alone, after, together, after, together, alone]
    assert all(len(speeds) == 2 and min(speeds) > 0 for speeds in found.values())
    # Of the first round: alone seed 0, then seeds 0 and 1, then both.
    single, both = states[0], states[1][0]
    jax.tree.map(np.testing.assert_array_equal, single[0], single[1])
    for i in range(2):
        own = jax.tree.map(lambda leaf, i=i: leaf[i], both)
        assert int(own.step) == 3
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), single[1 + i], own
        )


@pytest.mark.slow
def test_the_table_of_a_recipe(tmp_path):
    out = tmp_path / "new/found.json"
    options = ["--seeds", "2", "--rounds", "3", "--steps", "2"]
    said = call("benchmark_seeds", "digits-overfit", *options, "--format", "json", "--out", out)
    assert re.search(r"^digits-overfit: 2 seeds together at \d+\.\d\d times the speed$", said, re.M)
    found = json.loads(out.read_text())
    assert (found["seeds"], found["rounds"], found["steps"]) == (2, 3, 2)
    alone, after, together = found["rows"]
    assert after["ratio"] == [1, 1, 1]
    ratios = np.divide(together["images_per_second"], after["images_per_second"])
    assert together["ratio"][1] == pytest.approx(np.median(ratios))
    assert alone["training"] == "one seed alone" and len(alone["images_per_second"]) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digits"], "error: unknown recipe 'digits'; known: digits-cnn, "),
        (["digits-cnn", "--seeds", "0"], "error: --seeds must be above 0, got 0"),
        pytest.param(
            ["digits-cnn", "--batch-size", "5000"],
            "error: --batch-size 5000: no full batch of 1",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_mistakes_get_one_clear_line(arguments, message):
    err = call("benchmark_seeds", *arguments, status=2)
    assert err.startswith(message) and len(err.splitlines()) == 1

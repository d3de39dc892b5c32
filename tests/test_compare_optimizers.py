"""Optimizers and schedules beside PyTorch's: training in lockstep, loops, the script's pictures."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from processes import call

from jaxcnn import optim, schedules
from jaxcnn.recipes import RECIPES, load_data
from parity import closure, harness, schedule_loops, trajectory

SMALL = ["--recipe", "mnist-mlp", "--data", "digits", "--examples", 60, "--epochs", 2]


@pytest.fixture(scope="module")
def pair():
    return harness.pair("mlp_mnist")


@pytest.mark.parametrize(
    ("optimizer", "slots", "run"),
    [
        ("asgd", {"ax", "eta", "mu"}, {"learning_rate": 0.05, "t0": 2.0, "gamma": 0.9}),
        (
            "rmsprop",
            {"momentum", "square_avg", "grad_avg"},
            # Divided by its own size, a gradient near 0 would keep rounding alone: eps holds it.
            {
                "learning_rate": 1e-3,
                "momentum": 0.9,
                "centered": True,
                "eps": 1e-3,
                "foreach": True,
            },
        ),
        (
            "adam",
            {"exp_avg", "exp_avg_sq"},
            {"learning_rate": 1e-3, "schedule": ("one_cycle", {"total_steps": 8})},
        ),
        (
            "sgd",
            {"momentum"},
            {
                "learning_rate": 0.01,
                "schedule": ("cyclic", {"max_lr": 0.05, "step_size_up": 2}),
                "steps_per_epoch": 2,
                "quick": False,
            },
        ),
    ],
)
def test_every_step_is_torchs(pair, optimizer, slots, run):
    got, want = harness.trajectory(pair, steps=6, optimizer=optimizer, **run)
    harness.assert_close(got, want, rtol=1e-11)
    assert {name.split(" of ")[0] for name in want if " of " in name} == slots
    losses = want[harness.LOSS]
    assert losses.shape == (6,) and len(set(losses)) == 6
    constant, _ = harness.trajectory(
        pair, steps=6, optimizer=optimizer, learning_rate=run["learning_rate"]
    )
    assert not np.allclose(constant["fc1.weight"], want["fc1.weight"], rtol=1e-6), "no arguments"


@pytest.mark.parametrize("line_search_fn", [None, "strong_wolfe"])
def test_every_step_of_lbfgs_is_torchs(line_search_fn):
    """With batch norm, whose statistics change at every evaluation; few steps, see the script."""
    pair = harness.pair("cnn_mnist")
    advance, snapshot = closure.training(
        pair, learning_rate=0.5, max_iter=2, history_size=2, line_search_fn=line_search_fn
    )
    losses = [advance(i) for i in range(3)]
    np.testing.assert_allclose(*zip(*losses, strict=True), rtol=1e-11)
    got, want = snapshot()
    harness.assert_close(got, want, rtol=1e-11)
    start = pair.twin(train=True).state_dict()
    for name in ("layer1.0.weight", "layer2.1.weight", "fc.bias", "layer1.1.running_var"):
        assert not np.allclose(start[name], want[name], rtol=1e-6), name


def test_lbfgs_is_not_compared_with_dropout():
    with pytest.raises(ValueError, match="squeezenet1_1: L-BFGS is compared without dropout only"):
        closure.training(harness.pair("squeezenet1_1"), learning_rate=1.0)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ({"optimizer": "sparse_adam"}, "one of adadelta, .*, got 'sparse_adam'"),
        ({"optimizer": "adam", "momentum": 0.9}, "'adam' takes betas.*; got momentum"),
        ({"schedule": ("plateau", {})}, "schedule must follow the step, got 'plateau'"),
        (
            {"optimizer": "adagrad", "schedule": ("one_cycle", {"total_steps": 9})},
            "cycles the momentum, which optimizer 'adagrad' has not",
        ),
    ],
)
def test_what_cannot_be_compared_is_an_error(pair, run, message):
    with pytest.raises(ValueError, match=message):
        harness.training(pair, **run)


def test_a_recipes_batches_end_with_a_smaller_one():
    settings = replace(RECIPES["mnist-mlp"][1], data="digits", examples=50, batch_size=20)
    pair, steps = trajectory.recipe_pair(settings, load_data(settings), epochs=2, seed=3)
    assert steps == 3
    sizes, losses = [], []
    advance, _ = harness.training(pair, optimizer="adagrad", learning_rate=0.01)
    for i in range(2 * steps):
        losses.append(advance(i))
        sizes.append(len(pair.batch(i)[1]))
    assert sizes == [20, 20, 10, 20, 20, 10]
    np.testing.assert_allclose(*zip(*losses, strict=True), rtol=1e-12)


def test_no_optimizer_and_no_schedule_is_left_out():
    assert set(trajectory.OPTIMIZERS) == set(optim.OPTIMIZERS) - {"sparse_adam"}
    functions = {"lambda_lr", "plateau", "sequential", "chained"}
    assert set(schedule_loops.NAMES) == set(schedules.SCHEDULES) | functions


@pytest.mark.parametrize("name", schedule_loops.NAMES)
def test_loops_set_what_schedules_say(name):
    loop = schedule_loops.loop(name)
    # The digits that PyTorch's cosine loses when it multiplies along.
    assert loop.difference <= (1e-13 if name == "cosine_annealing" else 2e-15)
    assert len(loop.rates[0]) == 300 and (np.ptp(loop.rates[0]) > 0.02 or name == "constant")
    assert (loop.momenta is not None) == (name in ("cyclic", "one_cycle"))
    if loop.momenta is not None:
        assert np.ptp(loop.momenta[0]) > 0.09


def test_the_script_draws_both_and_keeps_the_losses(tmp_path):
    names = ["nadam", "cyclic", "plateau"]
    out = call(
        "compare_optimizers", *SMALL, "--batch-size", 20, "--only", *names, "--out", tmp_path
    )
    assert all(f"\n{name} " in f"\n{out}" for name in names)
    for picture in ("optimizers", "schedules"):
        with Image.open(tmp_path / f"{picture}.png") as image:
            assert min(image.size) > 300
    (found,) = json.loads((tmp_path / "optimizers.json").read_text())["optimizers"]
    assert found["name"] == "nadam" and found["arguments"]["lr"] > 0
    torchs, ours = found["losses"]
    assert len(torchs) == len(ours) == 6 and torchs[-1] < torchs[0]
    np.testing.assert_allclose(ours, torchs, rtol=1e-11)
    assert set(found["errors"]) >= {"fc1.weight"} and max(found["errors"].values()) < 1e-10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "lion", "step"], "error: --only: no lion in optimizers and schedules; known"),
        (["--what", "schedules", "--only", "adam"], "error: --only: no adam in schedules; known"),
        (["--batch-size", 0], "error: --batch-size must be at least 1, got 0"),
    ],
)
def test_mistakes_get_one_clear_line(arguments, message, tmp_path):
    out = call("compare_optimizers", *arguments, "--out", tmp_path / "new", status=2)
    assert out.startswith(message) and not (tmp_path / "new").exists()

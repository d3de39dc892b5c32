"""The loop under a plateau: which metric it hears, what it logs, and that it resumes to the bit."""

import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import SmallNet, small_dataset

from jaxcnn import checkpoint, log, optim, schedules
from jaxcnn.data import standardize
from jaxcnn.fit import fit
from jaxcnn.train import init_state, make_eval_step, make_train_step

STEPS = 7  # an epoch: 50 examples in batches of 8


def run(workdir, plateau, *, epochs, stop_at=None, resume=False):
    tx = optim.create("sgd", plateau, momentum=0.9)
    state = init_state(SmallNet(), tx, jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    train_step = make_train_step(SmallNet(), tx, preprocess=standardize)

    def stopped(state, batch, key):
        state, metrics = train_step(state, batch, key)
        if int(state.step) == stop_at:
            os.kill(os.getpid(), signal.SIGINT)
        return state, metrics

    eval_step = make_eval_step(SmallNet(), preprocess=standardize)
    options = {"epochs": epochs, "batch_size": 8, "seed": 3, "log_every": 2, "resume": resume}
    options["steps_per_call"] = 1
    return fit(state, stopped, eval_step, small_dataset(), workdir, schedule=plateau, **options)


def rates_of(workdir, kind):
    rows = [row for row in log.read_metrics(workdir) if row["kind"] == kind]
    return [row["learning_rate"] for row in rows]


@pytest.mark.parametrize(("mode", "metric"), [("min", "loss"), ("max", "accuracy")])
def test_the_rate_follows_the_evaluations_metric(mode, metric, tmp_path, capsys):
    # Only a change by more than 10 counts as better, so every epoch after the first is bad.
    plateau = schedules.plateau(
        0.1, mode=mode, factor=0.5, patience=0, threshold=10.0, threshold_mode="abs"
    )
    run(tmp_path, plateau, epochs=4)
    np.testing.assert_allclose(rates_of(tmp_path, "train"), [0.1, 0.1, 0.05, 0.025], rtol=1e-6)
    want = [0.1] * 7 + [0.05] * 3 + [0.025] * 4  # rows of the steps 2, 4, ..., 28
    np.testing.assert_allclose(rates_of(tmp_path, "step"), want, rtol=1e-6)
    assert f"the {metric} no longer improves: learning rate 0.1 -> 0.05" in capsys.readouterr().err
    # The state holds the metrics themselves: the first one is the best.
    rows = [row for row in log.read_metrics(tmp_path) if row["kind"] == "eval"]
    tx = optim.create("sgd", plateau, momentum=0.9)
    template = init_state(SmallNet(), tx, jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    state, _ = checkpoint.restore(tmp_path / "checkpoints/latest", template)
    np.testing.assert_allclose(state.opt_state.rate.best, rows[0][metric], rtol=1e-6)


@pytest.mark.parametrize("stop_at", [3, 2 * STEPS, 2 * STEPS + 4])
def test_interrupted_and_resumed_to_the_bit(stop_at, tmp_path):
    """Also in the first epoch, where the plateau has seen no metric and its best is infinite."""
    plateau = schedules.plateau(
        0.1, factor=0.5, patience=0, threshold=10.0, threshold_mode="abs", cooldown=1
    )
    run(tmp_path / "whole", plateau, epochs=4)
    assert run(tmp_path / "parts", plateau, epochs=4, stop_at=stop_at)["interrupted"]
    run(tmp_path / "parts", plateau, epochs=4, resume=True)
    tx = optim.create("sgd", plateau, momentum=0.9)
    template = init_state(SmallNet(), tx, jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    states = [
        checkpoint.restore(tmp_path / folder / "checkpoints/latest", template)[0]
        for folder in ("whole", "parts")
    ]
    jax.tree.map(np.testing.assert_array_equal, *states)
    assert rates_of(tmp_path / "whole", "train") == rates_of(tmp_path / "parts", "train")
    assert len(set(rates_of(tmp_path / "whole", "train"))) == 2

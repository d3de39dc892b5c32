import json
import os
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import SmallNet, small_dataset

from jaxcnn import checkpoint, log, optim, schedules
from jaxcnn.data import standardize
from jaxcnn.evaluate import evaluate
from jaxcnn.fit import fit
from jaxcnn.metrics import confusion
from jaxcnn.train import init_state, make_eval_step, make_train_step

EPOCHS, BATCH = 3, 8  # 50 examples: 7 steps an epoch, the last with 2


@cache  # compiled once for all tests
def steps():
    schedule = schedules.create("exponential", 0.1, gamma=0.9, steps_per_epoch=7)
    tx = optim.create("sgd", schedule, momentum=0.9, weight_decay=1e-3)
    train_step = make_train_step(SmallNet(), tx, preprocess=standardize)
    return tx, schedule, train_step, make_eval_step(SmallNet(), preprocess=standardize)


@cache
def initial():
    state = init_state(SmallNet(), steps()[0], jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    return jax.device_get(state)


def fresh():
    """Copy the initial state: a run donates its own."""
    return jax.tree.map(jnp.array, initial())


def run(workdir, *, around=lambda step: step, **options):
    """Fit with `around` wrapped about the train step."""
    _, schedule, train_step, eval_step = steps()
    arguments = {"epochs": EPOCHS, "batch_size": BATCH, "seed": 3, "eval_batch_size": 5}
    arguments |= {"log_every": 2, "checkpoint_every": 4, "schedule": schedule}
    arguments |= {"steps_per_call": 1} | options
    return fit(fresh(), around(train_step), eval_step, small_dataset(), workdir, **arguments)


def at_step(number, action):
    """Wrap a train step so that `action(state, metrics)` replaces step `number`'s result."""

    def wrap(train_step):
        def wrapped(state, batch, key):
            state, metrics = train_step(state, batch, key)
            return action(state, metrics) if int(state.step) == number else (state, metrics)

        return wrapped

    return wrap


def latest(workdir):
    return checkpoint.restore(workdir / "checkpoints/latest", fresh())


def rows(workdir):
    times = ("seconds", "images_per_second", "waited")
    return [{k: v for k, v in r.items() if k not in times} for r in log.read_metrics(workdir)]


def assert_same_run(a, b):
    """Every array of the final state, the record and every row of metrics, to the bit."""
    (state_a, record_a), (state_b, record_b) = latest(a), latest(b)
    for x, y in zip(jax.tree.leaves(state_a), jax.tree.leaves(state_b), strict=True):
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()
    assert record_a == record_b
    assert rows(a) == rows(b)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run."""
    workdir = tmp_path_factory.mktemp("whole")
    return workdir, run(workdir)


def test_rows_and_result(whole):
    workdir, result = whole
    found = rows(workdir)
    assert [r["step"] for r in found if r["kind"] == "train"] == [7, 14, 21]
    assert [r["step"] for r in found if r["kind"] == "eval"] == [7, 14, 21]
    assert [r["step"] for r in found if r["kind"] == "step"] == list(range(2, 22, 2))
    rates = [r["learning_rate"] for r in found if r["kind"] == "train"]
    np.testing.assert_allclose(rates, [0.1, 0.09, 0.081], rtol=1e-6)
    accuracies = [r["accuracy"] for r in found if r["kind"] == "eval"]
    assert result["best_accuracy"] == max(accuracies)
    assert result["best_epoch"] == accuracies.index(max(accuracies)) + 1
    assert result["accuracy"] == accuracies[-1]
    assert (result["step"], result["epoch"], result["interrupted"]) == (21, 3, False)
    assert checkpoint.saved_step(workdir / "checkpoints/latest") == 21
    assert checkpoint.saved_step(workdir / "checkpoints/best") == 7 * result["best_epoch"]


def test_same_settings_same_bits(whole, tmp_path):
    run(tmp_path)
    assert_same_run(tmp_path, whole[0])
    run(tmp_path / "other", seed=4)
    assert rows(tmp_path / "other") != rows(whole[0])


@pytest.mark.parametrize("number", [3, 7, 8, 12, 21])
def test_ctrl_c_saves_and_resume_continues_to_the_bit(number, whole, tmp_path):
    def interrupt(state, metrics):
        signal.raise_signal(signal.SIGINT)
        return state, metrics

    result = run(tmp_path, around=at_step(number, interrupt))
    assert result["interrupted"] == (number < 21)
    assert result["step"] == number == checkpoint.saved_step(tmp_path / "checkpoints/latest")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    resumed = run(tmp_path, resume=True)
    assert not resumed["interrupted"]
    assert_same_run(tmp_path, whole[0])


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_fit

def kill(state, metrics):
    os.kill(os.getpid(), signal.SIGKILL)

test_fit.run(Path(sys.argv[2]), around=test_fit.at_step(int(sys.argv[3]), kill))
"""


@pytest.mark.parametrize("number", [6, 13])
def test_kill_in_mid_epoch_then_resume_to_the_bit(number, whole, tmp_path):
    """The process dies without a chance; rows and steps after the checkpoint are done again."""
    here = str(Path(__file__).parent)
    environment = os.environ | {"JAX_NUMPY_DTYPE_PROMOTION": "strict"}
    command = [sys.executable, "-c", KILLED, here, str(tmp_path), str(number)]
    done = subprocess.run(command, env=environment, capture_output=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert checkpoint.saved_step(tmp_path / "checkpoints/latest") == number // 4 * 4
    run(tmp_path, resume=True)
    assert_same_run(tmp_path, whole[0])


def test_more_epochs_may_follow(whole, tmp_path):
    run(tmp_path, epochs=2)
    run(tmp_path, resume=True)
    assert_same_run(tmp_path, whole[0])
    assert steps()[2]._cache_size() == 1, "a resumed state compiles the step again"
    again = run(tmp_path, resume=True)  # nothing left to do
    assert again["step"] == 21 and again["accuracy"] == whole[1]["accuracy"]
    assert_same_run(tmp_path, whole[0])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_broken_loss_stops_and_keeps_the_last_good_checkpoint(value, tmp_path):
    def break_loss(state, metrics):
        return state, metrics | {"loss": jnp.asarray(value, jnp.float32)}

    with pytest.raises(FloatingPointError, match=r"(nan|inf) at step 11 \(epoch 2\).*step 8 in"):
        run(tmp_path, around=at_step(11, break_loss))
    assert checkpoint.saved_step(tmp_path / "checkpoints/latest") == 8
    assert checkpoint.non_finite(latest(tmp_path)[0]) == []


def test_broken_weights_are_never_saved(tmp_path):
    """The loss of a step can be finite while its update is not."""

    def break_weights(state, metrics):
        return state.replace(params=jax.tree.map(lambda p: p * np.inf, state.params)), metrics

    with pytest.raises(FloatingPointError, match=r"step 12: NaN or infinity in \.params"):
        run(tmp_path, around=at_step(12, break_weights))
    assert checkpoint.saved_step(tmp_path / "checkpoints/latest") == 8


def test_drop_last_leaves_the_partial_batch_out(tmp_path):
    sizes = []

    def count(train_step):
        def wrapped(state, batch, key):
            sizes.append(int(np.sum(batch.get("mask", batch["labels"] >= 0))))
            return train_step(state, batch, key)

        return wrapped

    assert run(tmp_path / "a", epochs=1, drop_last=True, around=count)["step"] == 6
    assert run(tmp_path / "b", epochs=1, drop_last=False, around=count)["step"] == 7
    assert sizes == [8] * 6 + [8] * 6 + [2]


def test_evaluation_covers_every_example_once():
    state, eval_step = fresh(), steps()[3]
    test = small_dataset().test
    by_five, at_once = evaluate(eval_step, state, test, 5), evaluate(eval_step, state, test, 17)
    assert len(by_five["labels"]) == 17
    np.testing.assert_array_equal(by_five["labels"], test.labels)
    np.testing.assert_allclose(by_five["probabilities"], at_once["probabilities"], rtol=1e-5)
    assert by_five["accuracy"] == np.mean(by_five["labels"] == by_five["predictions"])
    matrix = confusion(by_five["labels"], by_five["predictions"], 3)
    assert matrix.sum() == 17 and np.trace(matrix) / 17 == by_five["accuracy"]
    assert matrix[2, 1] == np.sum((test.labels == 2) & (by_five["predictions"] == 1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"batch_size": -2}, "batch_size must be at least 1, got -2"),
        ({"log_every": 0}, "log_every must be at least 1"),
        ({"batch_size": 64, "drop_last": True}, "batch_size 64 with drop_last leaves no batch"),
    ],
)
def test_errors_name_the_argument(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        run(tmp_path, **options)


def test_resume_needs_a_sound_checkpoint(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint in"):
        run(tmp_path, resume=True)
    run(tmp_path, epochs=1)
    for file in (tmp_path / "checkpoints/latest").rglob("*"):
        if file.is_file() and "state" in file.parts:
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(ValueError, match="is damaged or of another network"):
        run(tmp_path, resume=True)


def test_checkpoint_of_another_network_is_refused(tmp_path):
    run(tmp_path, epochs=1)
    tx = optim.create("sgd", 0.1)
    other = init_state(SmallNet(num_classes=5), tx, jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    with pytest.raises(ValueError, match="of another network or optimizer"):
        checkpoint.restore(tmp_path / "checkpoints/latest", other)


def test_metrics_are_strict_json(whole):
    for line in (whole[0] / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))

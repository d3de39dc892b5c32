"""Early stopping beside Keras' own callback, driven by hand; its state through JSON."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

from jaxcnn.early_stopping import EarlyStopping

MODES = {"accuracy": "max", "loss": "min"}


@pytest.fixture(scope="module")
def keras(tmp_path_factory):
    """Import Keras on torch, on the CPU, with its settings in a folder of the test's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "torch")
        patch.setenv("KERAS_TORCH_DEVICE", "cpu")
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
        return pytest.importorskip("keras", minversion="3.8")


def keras_run(keras, values, *, metric, **options):
    """Return the state after every epoch and the epoch that stops, or None, as Keras has them."""
    callback = keras.callbacks.EarlyStopping(monitor=metric, mode=MODES[metric], **options)
    callback.set_model(SimpleNamespace(stop_training=False))
    callback.on_train_begin()
    states = []
    for epoch, value in enumerate(values):
        callback.on_epoch_end(epoch, {metric: value})
        found = callback.best is not None
        states.append(
            {
                "epoch": epoch + 1,
                "best": callback.best,
                "best_epoch": callback.best_epoch + 1 if found else None,
                "wait": callback.wait,
            }
        )
        if callback.model.stop_training:
            return states, epoch + 1
    return states, None


def our_run(values, **options):
    """Return the same, and the epochs said to be the best."""
    stopping = EarlyStopping(**options)
    state, states, improved = stopping.start(), [], []
    for value in values:
        before = dict(state)
        after, stop, best = stopping.observe(json.loads(json.dumps(state)), value)
        assert state == before, "observe changed its argument"
        state = after
        states.append(state)
        if best:
            improved.append(state["epoch"])
        if stop:
            return states, state["epoch"], improved
    return states, None, improved


def random_values(rng, metric):
    """Return up to 25 values that improve more often than not, in float32's exact quarters.

    Keras compares in float32, and values that are better by exactly `min_delta` must be among them.
    """
    sign = 1 if metric == "accuracy" else -1
    steps = rng.integers(-3, 5, size=rng.integers(1, 26))
    return [float(v) for v in sign * np.cumsum(steps) / 4]


@pytest.mark.parametrize("metric", MODES)
def test_every_epoch_is_as_in_keras(metric, keras):
    rng = np.random.default_rng(5)
    stopped, warm, ties = 0, 0, 0
    for _ in range(300):
        values = random_values(rng, metric)
        options = {
            "patience": int(rng.integers(0, 6)),
            "min_delta": float(rng.integers(0, 4)) / 4,
            "start_from_epoch": int(rng.choice([0, 0, 1, 4])),
        }
        want, want_stop = keras_run(keras, values, metric=metric, **options)
        got, got_stop, improved = our_run(values, metric=metric, **options)
        assert got == want, (values, options)
        assert got_stop == want_stop, (values, options)
        bests = [s["best_epoch"] for s in want if s["best_epoch"] is not None]
        assert improved == sorted(set(bests))
        stopped += got_stop is not None
        warm += options["start_from_epoch"] > 0 and got[-1]["best"] is None
        ties += len(set(values)) < len(values)
    assert stopped > 100 and 300 - stopped > 30 and warm > 5 and ties > 100


@pytest.mark.parametrize("metric", MODES)
def test_nan_and_infinity_behind_the_first_value_are_as_in_keras(metric, keras):
    rng = np.random.default_rng(6)
    for _ in range(50):
        values = np.array(random_values(rng, metric))
        values[1:] = np.where(rng.random(len(values) - 1) < 0.3, math.nan, values[1:])
        values[-1:] = -math.inf if metric == "accuracy" else math.inf
        options = {"metric": metric, "patience": int(rng.integers(0, 5))}
        want = keras_run(keras, values.tolist(), **options)
        assert our_run(values.tolist(), **options)[:2] == want


def test_nan_is_never_an_improvement_not_even_at_first():
    states, stop, improved = our_run([math.nan, 0.5, math.nan, 0.6], patience=2)
    assert [s["best"] for s in states] == [None, 0.5, 0.5, 0.6]
    assert stop is None and improved == [2, 4]
    states, stop, improved = our_run([math.nan] * 5, patience=3, metric="loss")
    assert stop == 3 and improved == [] and states[-1]["best_epoch"] is None


@pytest.mark.parametrize("patience", [0, 1])
def test_the_first_epoch_without_improvement_stops(patience):
    assert our_run([0.1, 0.2, 0.2, 0.9], patience=patience)[1] == 3


def test_patience_counts_from_the_last_improvement_and_min_delta_asks_for_more():
    accuracies = [0.5, 0.6, 0.61, 0.62, 0.63, 0.8, 0.7, 0.7, 0.7]
    assert our_run(accuracies, patience=3)[1:] == (9, [1, 2, 3, 4, 5, 6])
    assert our_run(accuracies, patience=3, min_delta=0.05)[1:] == (5, [1, 2])
    assert our_run(accuracies, patience=3, metric="loss")[1:] == (4, [1])
    assert our_run(accuracies, patience=3, metric="loss", start_from_epoch=6)[1] is None


def test_it_takes_numpys_numbers_and_keeps_pythons():
    state, _, best = EarlyStopping(np.int64(2)).observe(EarlyStopping(2).start(), np.float32(0.25))
    assert best and type(state["best"]) is float and json.loads(json.dumps(state)) == state


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patience": -1}, "patience must be an integer >= 0, got -1"),
        ({"patience": 1.5}, "patience must be an integer >= 0, got 1.5"),
        ({"patience": True}, "patience must be an integer >= 0, got True"),
        ({"patience": 1, "metric": "acc"}, "metric must be 'accuracy' or 'loss', got 'acc'"),
        ({"patience": 1, "min_delta": -0.1}, "min_delta must be finite and >= 0, got -0.1"),
        ({"patience": 1, "min_delta": math.nan}, "min_delta must be finite and >= 0, got nan"),
        ({"patience": 1, "min_delta": math.inf}, "min_delta must be finite and >= 0, got inf"),
        ({"patience": 1, "start_from_epoch": -2}, "start_from_epoch must be an integer >= 0"),
    ],
)
def test_errors_name_the_argument(options, message):
    with pytest.raises(ValueError, match=f"^EarlyStopping: {message}"):
        EarlyStopping(**options)


def test_a_state_of_something_else_is_an_error():
    with pytest.raises(ValueError, match="EarlyStopping: state lacks best_epoch, wait$"):
        EarlyStopping(1).observe({"epoch": 1, "best": 0.5}, 0.5)

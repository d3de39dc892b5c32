"""Early stopping in the loop: when it ends a run, what it records, and that it resumes."""

import shutil

import jax
import jax.numpy as jnp
import pytest
from small import SmallNet, small_dataset

from jaxcnn import checkpoint, log, optim
from jaxcnn.data import standardize
from jaxcnn.early_stopping import EarlyStopping
from jaxcnn.fit import fit
from jaxcnn.train import init_state, make_eval_step, make_train_step

TX = optim.create("sgd", 0.0)  # nothing is learned, so nothing improves after the first epoch


def run(workdir, *, epochs, patience, metric="accuracy", resume=False, later=None):
    state = init_state(SmallNet(), TX, jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    return fit(
        state,
        make_train_step(SmallNet(), TX, preprocess=standardize),
        make_eval_step(SmallNet(), preprocess=standardize),
        small_dataset(),
        workdir,
        epochs=epochs,
        batch_size=25,
        seed=0,
        early_stopping=EarlyStopping(patience, metric),
        later=later,
        steps_per_call=None if later is None else 1,
        resume=resume,
    )


def test_a_run_ends_after_its_patience(tmp_path, capsys):
    result = run(tmp_path, epochs=9, patience=2)
    assert (result["epoch"], result["stopped_early"], result["interrupted"]) == (3, True, False)
    assert result["best_epoch"] == 1
    assert "stops early: the accuracy was best after epoch 1, not 3" in capsys.readouterr().err


def test_a_stopped_run_stays_stopped_when_resumed(tmp_path):
    first = run(tmp_path, epochs=9, patience=2)
    again = run(tmp_path, epochs=20, patience=2, resume=True)
    assert again["step"] == first["step"] and again["stopped_early"]
    assert again["best_accuracy"] == first["best_accuracy"]


def test_a_resumed_run_remembers_what_it_waited(tmp_path):
    whole = run(tmp_path / "whole", epochs=9, patience=3)
    assert not run(tmp_path / "parts", epochs=2, patience=3)["stopped_early"]
    parts = run(tmp_path / "parts", epochs=9, patience=3, resume=True)
    assert parts["epoch"] == whole["epoch"] == 4
    rows = [row for row in log.read_metrics(tmp_path / "parts") if row["kind"] == "eval"]
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]


def test_a_checkpoint_of_a_run_without_it_can_be_resumed(tmp_path):
    """Records of earlier versions know nothing of it."""
    run(tmp_path, epochs=1, patience=2)
    template = init_state(SmallNet(), TX, jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    latest = tmp_path / "checkpoints/latest"
    state, record = checkpoint.restore(latest, template)
    for name in ("early_stopping", "stopped_early"):
        del record[name]
    shutil.rmtree(latest)
    checkpoint.save(latest, state, record)
    assert run(tmp_path, epochs=3, patience=9, resume=True)["epoch"] == 3


@pytest.mark.parametrize("after", [1, 2])
def test_another_step_trains_later(tmp_path, after):
    used = []
    real = make_train_step(SmallNet(), TX, preprocess=standardize)

    def later(state, batch, key):
        used.append(int(state.step))
        return real(state, batch, key)

    result = run(tmp_path, epochs=3, patience=9, later=(after, later))
    steps = result["step"] // 3
    assert used == list(range(after * steps, 3 * steps))

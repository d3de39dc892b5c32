"""The training loop: epochs, evaluation, best and latest checkpoint, resume.

It knows data, steps and a run folder; networks and optimizers are behind the step functions. What
a run computes is a function of its settings alone: the order of an epoch follows from (seed,
epoch), the step's key from (seed, step), so a run that is resumed from a checkpoint at any step
continues bit for bit as the uninterrupted one.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from jaxcnn import checkpoint, log, optim, schedules
from jaxcnn.data import Arrays, Dataset, Files, num_batches, to_device, train_batches
from jaxcnn.evaluate import evaluate
from jaxcnn.schedules import Plateau
from jaxcnn.train import Batch, Metrics, TrainState

TrainStep = Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]]
EvalStep = Callable[[TrainState, Batch], Metrics]

# Steps whose metrics may stay unread while the loop goes on, so that the device never waits.
_AHEAD = 2


def fit(
    state: TrainState,
    train_step: TrainStep,
    eval_step: EvalStep,
    dataset: Dataset,
    workdir: Path,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    drop_last: bool = False,
    eval_batch_size: int = 500,
    log_every: int = 50,
    checkpoint_every: int = 1000,
    schedule: optax.Schedule | Plateau | None = None,
    workers: int = 0,
    resume: bool = False,
) -> dict[str, Any]:
    """Train to the given number of epochs, evaluating a whole split after each.

    That split is the validation split where the data set has one, else the test split. Writes
    `metrics.jsonl` and `checkpoints/{latest,best}` into the run folder. Ctrl-C or SIGTERM saves a
    checkpoint after the step in flight and returns; a second one interrupts at once.

    Args:
        state: the state at step 0; donated. With `resume` only its structure matters.
        train_step: from `jaxcnn.train.make_train_step`.
        eval_step: from `jaxcnn.train.make_eval_step`.
        dataset: from `jaxcnn.data.load`, perhaps divided by `jaxcnn.data.dataset.divide`.
        workdir: the run folder.
        epochs: passes over the training set in all, at least 1.
        batch_size: examples a step.
        seed: decides the order of the examples and the steps' keys.
        drop_last: leave out the last partial batch of an epoch.
        eval_batch_size: examples an evaluation step.
        log_every: steps between two rows of kind "step", and between two reads of the metrics.
        checkpoint_every: steps between two checkpoints within an epoch; one follows each epoch.
        schedule: what the optimizer was built with: step -> learning rate, for the log; or a
            plateau, which is told the loss (mode "min") or the accuracy ("max") of every
            evaluation.
        workers: worker processes that decode files.
        resume: continue from `checkpoints/latest`.

    Returns:
        `step`, `epoch` (finished ones), `interrupted`, `best_accuracy`, `best_epoch` (None before
        the first evaluation), `accuracy` and `loss` of the last evaluation, `split` (the name of
        the split that was evaluated), `seconds` and `train_seconds` of this call.

    Raises:
        ValueError: a number below 1, or a training set smaller than one batch with `drop_last`.
        FileNotFoundError: `resume` without a checkpoint.
        FloatingPointError: a NaN or infinite loss; the last good checkpoint stays.
    """
    for name, value in {
        "epochs": epochs,
        "batch_size": batch_size,
        "eval_batch_size": eval_batch_size,
        "log_every": log_every,
        "checkpoint_every": checkpoint_every,
    }.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    epoch_steps = num_batches(len(dataset.train), batch_size, drop_last)
    if epoch_steps == 0:
        raise ValueError(
            f"batch_size {batch_size} with drop_last leaves no batch of {len(dataset.train)}"
        )
    started = time.perf_counter()
    latest, best = workdir / "checkpoints/latest", workdir / "checkpoints/best"
    record: dict[str, Any] = dict.fromkeys(("best_accuracy", "best_epoch", "accuracy", "loss"))
    record |= _empty_sums()
    if resume:
        state, record = checkpoint.restore(latest, state)
        log.truncate_metrics(workdir, int(state.step))
    step, last_step = int(state.step), epochs * epoch_steps
    # Folded, so that no step shares its key with the initialisation, which has the bare one.
    key = jax.random.fold_in(jax.random.key(seed), 1)
    split, held = dataset.watched
    train, held = _placed(dataset.train), _placed(held)
    train_seconds = 0.0
    pending: list[tuple[int, Metrics]] = []

    def read(keep: int = 0) -> None:
        """Read the metrics of all but the last `keep` steps and write their rows."""
        while len(pending) > keep:
            done, metrics = pending.pop(0)
            loss = _add(record, jax.device_get(metrics))
            if not np.isfinite(loss):
                raise FloatingPointError(
                    f"the training loss is {loss} at step {done} "
                    f"(epoch {(done - 1) // epoch_steps + 1}); {_kept(latest)}"
                )
            if done % log_every == 0:
                row = {"kind": "step", "step": done, "epoch": done / epoch_steps, "loss": loss}
                log.append_metrics(workdir, row | _rate(rates, done - 1))

    with _stop_signals() as stop:
        while step < last_step and not stop.is_set():
            epoch, start = divmod(step, epoch_steps)
            rates = _rates(schedule, state)
            batches = train_batches(
                train,
                batch_size,
                seed=seed,
                epoch=epoch,
                start=start,
                drop_last=drop_last,
                workers=workers,
            )
            bar = log.progress(
                epoch_steps, epoch=epoch + 1, epochs=epochs, batch_size=batch_size, initial=start
            )
            clock = time.perf_counter()
            with contextlib.closing(batches), bar:
                for batch in batches:
                    state, metrics = train_step(state, batch, key)
                    step += 1
                    pending.append((step, metrics))
                    if step % log_every == 0:
                        read(keep=_AHEAD)
                    bar.update(1, **_shown(record))
                    if stop.is_set() or step % checkpoint_every == 0:
                        read()
                        if step % epoch_steps:  # the epoch's own checkpoint follows evaluation
                            checkpoint.save(latest, state, record)
                    if stop.is_set():
                        break
                read()
                bar.update(0, **_shown(record))
            seconds = time.perf_counter() - clock
            train_seconds += seconds
            if step % epoch_steps:
                break
            here = {"step": step, "epoch": epoch + 1}
            trained = {
                "loss": record["loss_sum"] / record["count"],
                "accuracy": record["correct"] / record["count"],
            }
            # The speed of what this call did: a resumed epoch counts from where it went on.
            examples = min(epoch_steps * batch_size, len(train)) - start * batch_size
            speed = examples / seconds
            timing = {"seconds": seconds, "images_per_second": speed}
            rate = _rate(rates, step - 1)
            log.append_metrics(workdir, {"kind": "train", **here, **trained, **timing, **rate})
            result = evaluate(eval_step, state, held, eval_batch_size, workers=workers)
            found = {name: result[name] for name in ("loss", "accuracy")}
            log.append_metrics(workdir, {"kind": "eval", **here, "split": split, **found})
            log.say(
                f"epoch {epoch + 1}/{epochs}: train loss {trained['loss']:.4f}, {split} loss "
                f"{found['loss']:.4f}, {split} accuracy {100 * found['accuracy']:.2f} %, "
                f"{speed:.0f} images/s"
            )
            record |= found | _empty_sums()
            if isinstance(schedule, Plateau):
                state = _observed(schedule, state, found)
            if record["best_accuracy"] is None or found["accuracy"] > record["best_accuracy"]:
                record |= {"best_accuracy": found["accuracy"], "best_epoch": epoch + 1}
                checkpoint.save(best, state, record)
            checkpoint.save(latest, state, record)
    return {
        "step": step,
        "epoch": step // epoch_steps,
        "interrupted": step < last_step,
        **{name: record[name] for name in ("best_accuracy", "best_epoch", "accuracy", "loss")},
        "split": split,
        "seconds": time.perf_counter() - started,
        "train_seconds": train_seconds,
    }


def _add(record: dict[str, Any], metrics: Metrics) -> float:
    """Add a step's metrics to the epoch's sums; return the step's loss."""
    loss, count = float(metrics["loss"]), int(metrics["count"])
    record["loss_sum"] += loss * count
    record["correct"] += int(metrics["correct"])
    record["count"] += count
    record["last_loss"] = loss
    return loss


def _placed(split: Arrays | Files) -> Arrays | Files:
    """Put a small set on the device once; files are decoded batch by batch."""
    return to_device(split) if isinstance(split, Arrays) else split


def _empty_sums() -> dict[str, Any]:
    """Return the sums of an epoch at its start; a checkpoint carries them across a resume."""
    return {"loss_sum": 0.0, "correct": 0, "count": 0, "last_loss": None}


def _shown(record: dict[str, Any]) -> dict[str, float]:
    return {} if record["last_loss"] is None else {"loss": record["last_loss"]}


def _rates(schedule: optax.Schedule | Plateau | None, state: TrainState) -> optax.Schedule | None:
    """Return the learning rates of the epoch that begins; a plateau's stays the same in it."""
    if isinstance(schedule, Plateau):
        return schedules.constant(optim.plateau_rate(state.opt_state), 1)
    return schedule


def _rate(rates: optax.Schedule | None, step: int) -> dict[str, float]:
    return {} if rates is None else {"learning_rate": float(np.asarray(rates(step)))}


def _observed(plateau: Plateau, state: TrainState, found: dict[str, float]) -> TrainState:
    """Return the state whose plateau has seen an evaluation; say so where the rate falls."""
    metric = "accuracy" if plateau.mode == "max" else "loss"
    opt_state = optim.observe(state.opt_state, found[metric])
    before, after = map(optim.plateau_rate, (state.opt_state, opt_state))
    if after < before:
        log.say(f"the {metric} no longer improves: learning rate {before:.4g} -> {after:.4g}")
    return state.replace(opt_state=opt_state)


def _kept(latest: Path) -> str:
    step = checkpoint.saved_step(latest)
    if step is None:
        return "no checkpoint had been saved yet"
    return f"the last good checkpoint is step {step} in {latest}"


@contextlib.contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """Turn the first SIGINT or SIGTERM into a flag, so that no step or file is torn."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # signals belong to the main thread
        return

    def on_signal(number, frame):
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        # Not through a Python stream: the signal may have come in the midst of a write to it.
        os.write(2, b"\nstopping after this step; again to stop at once\n")

    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)

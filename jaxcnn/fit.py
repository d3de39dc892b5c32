"""The training loop: epochs, evaluation, best and latest checkpoint, resume.

It knows data, steps and a run folder; networks and optimizers are behind the step functions. What
a run computes is a function of its settings alone: the order of an epoch follows from (seed,
epoch), the step's key from (seed, step), so a run that is resumed from a checkpoint at any step
continues bit for bit as the uninterrupted one.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from jaxcnn import devices, loop, processes
from jaxcnn.data import Arrays, Dataset, Files, epoch_order, to_device, train_batches
from jaxcnn.data.batches import filled, gather
from jaxcnn.data.readers import Workers, reading
from jaxcnn.early_stopping import EarlyStopping
from jaxcnn.evaluate import evaluate
from jaxcnn.record import Record
from jaxcnn.schedules import Plateau
from jaxcnn.steps import Advance, in_calls, one_by_one, repeated
from jaxcnn.train import Batch, Metrics, TrainState

TrainStep = Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]]
EvalStep = Callable[[TrainState, Batch], Metrics]


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
    later: tuple[int, TrainStep] | None = None,
    early_stopping: EarlyStopping | None = None,
    workers: Workers = None,
    steps_per_call: int | None = None,
    mesh: Mesh | None = None,
    resume: bool = False,
) -> dict[str, Any]:
    """Train to the given number of epochs, evaluating a whole split after each.

    That split is the validation split where the data set has one, else the test split. Writes
    `metrics.jsonl` and `checkpoints/{latest,best}` into the run folder. Ctrl-C or SIGTERM saves a
    checkpoint after the steps in flight and returns; a second one interrupts at once.

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
        eval_batch_size: examples an evaluation step; on a mesh the next multiple of its devices.
        log_every: steps between two rows of kind "step", and between two reads of the metrics.
        checkpoint_every: steps between two checkpoints within an epoch; one follows each epoch.
        schedule: what the optimizer was built with: step -> learning rate, for the log; or a
            plateau, which is told the loss (mode "min") or the accuracy ("max") of every
            evaluation.
        later: (epochs, step): the step that trains after so many epochs.
        early_stopping: ends the run where the evaluation no longer improves.
        workers: what decodes files: so many processes (0: threads of this one, None: a process a
            core), started once, or readers of `jaxcnn.data.readers`.
        steps_per_call: the most steps of one call of a compiled program, where the data are in
            memory; 1 calls `train_step` for each, None fills a third of a second.
        mesh: of `jaxcnn.devices.make_mesh`: the devices that every batch is divided over; None for
            the default device. A resumed run may have another.
        resume: continue from `checkpoints/latest`.

    Returns:
        `step`, `epoch` (finished ones), `interrupted`, `stopped_early`, `best_accuracy`,
        `best_epoch` (None before the first evaluation), `accuracy` and `loss` of the last
        evaluation, `split` (the name of the split that was evaluated), `seconds` and
        `train_seconds` of this call.

    Raises:
        ValueError: a number below 1, a training set smaller than one batch with `drop_last`, or
            batches that the devices do not divide evenly.
        FileNotFoundError: `resume` without a checkpoint.
        FloatingPointError: a NaN or infinite loss; the last good checkpoint stays.
    """
    epoch_steps = loop.steps_per_epoch(
        len(dataset.train),
        batch_size,
        drop_last,
        epochs=epochs,
        eval_batch_size=eval_batch_size,
        log_every=log_every,
        checkpoint_every=checkpoint_every,
        steps_per_call=steps_per_call,
    )
    devices.check_divisible(mesh, batch_size=batch_size)
    if mesh is not None:
        eval_batch_size += -eval_batch_size % mesh.size
    started = time.perf_counter()
    split, held = dataset.watched
    record = Record(
        workdir, epochs, epoch_steps, log_every, split, schedule, early_stopping=early_stopping
    )
    began = record.start(state, resume=resume)
    # Not every host rounds alike what it draws and computes first.
    state = devices.replicated(processes.from_first(lambda: began), mesh)
    key = run_key(seed)
    train, held = _placed(dataset.train, mesh), _placed(held, mesh)
    masked = not drop_last and len(train) % batch_size > 0
    if masked and len(train) % batch_size == 1:
        check_single(train_step, state, train, key)

    def steps(epoch: int, start: int) -> AbstractContextManager[Advance]:
        chosen = train_step if later is None or epoch < later[0] else later[1]
        if isinstance(train, Arrays) and steps_per_call != 1:
            order = epoch_order(len(train), seed=seed, epoch=epoch)[: epoch_steps * batch_size]
            rows, examples = jax.device_put(filled(order, batch_size)), np.int32(len(order))
            data = train.images, train.labels, rows, examples, key
            several = devices.within(mesh, _program(chosen, batch_size, masked))
            return in_calls(several, start, *data)
        batches = train_batches(
            train,
            batch_size,
            seed=seed,
            epoch=epoch,
            start=start,
            drop_last=drop_last,
            workers=readers,
            mesh=mesh,
        )
        one = devices.within(mesh, lambda state, batch: chosen(state, batch, key))
        return one_by_one(one, batches)

    evaluation = devices.within(mesh, eval_step)
    with reading(workers) as readers:  # of all epochs and evaluations
        loop.train(
            state,
            loop.Program(
                epoch=steps,
                evaluate=lambda state: [
                    evaluate(evaluation, state, held, eval_batch_size, workers=readers, mesh=mesh)
                ],
                apart=lambda state: [state],
                joined=lambda states: states[0],
            ),
            [record],
            examples=len(train),
            batch_size=batch_size,
            checkpoint_every=checkpoint_every,
            steps_per_call=steps_per_call,
        )
    return record.result(time.perf_counter() - started)


def run_key(seed: int) -> jax.Array:
    """Return the key of a run's steps, see `jaxcnn.train.step_keys`.

    It is folded, so that no step shares its key with the initialisation, which has the bare one.
    """
    return jax.random.fold_in(jax.random.key(seed), 1)


def _placed(split: Arrays | Files, mesh: Mesh | None) -> Arrays | Files:
    """Put a small set on every device once; files are decoded batch by batch."""
    if isinstance(split, Files):
        return split
    arrays = (split.images, split.labels)
    return to_device(Arrays(*devices.replicated(arrays, mesh)))


@lru_cache(maxsize=4)  # so that a run that goes on in the same process compiles nothing
def _program(train_step: TrainStep, batch_size: int, masked: bool) -> Callable:
    """Return the program of several steps, whose batches are gathered on the device."""

    def step(state, number, images, labels, order, examples, key):
        batch = gather(
            images, labels, order, number, examples, batch_size=batch_size, masked=masked
        )
        return train_step(state, batch, key)

    return repeated(step)


def check_single(
    train_step: TrainStep, state: TrainState, split: Arrays | Files, key: jax.Array
) -> None:
    """Raise what a step says of a batch of one example, as an epoch's last one may be.

    In its place a batch comes that is filled up: a batch norm sees only the example that counts,
    but cannot say so.
    """
    shape = split.images.shape[1:] if isinstance(split, Arrays) else split.image_shape
    dtype = split.images.dtype if isinstance(split, Arrays) else np.uint8
    batch = {
        "images": jax.ShapeDtypeStruct((1, *shape), dtype),
        "labels": jax.ShapeDtypeStruct((1,), np.int32),
    }
    jax.eval_shape(train_step, state, batch, key)

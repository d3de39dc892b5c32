"""The training loop of several seeds in one compiled program: `vmap` over their states.

The states are stacked leaf by leaf; a step gathers every seed's own batch on the device and maps
the train step over (state, batch, key), so that each seed computes what `jaxcnn.fit.fit` computes
for it alone, but for rounding, as XLA orders the sums of a stack otherwise.

A seed that has stopped early stays in the stack and keeps its state: leaving it out would compile
all programs anew for every other number of seeds, and would round the others' numbers otherwise,
so that a run resumed behind that epoch would not continue bit for bit.
"""

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcnn import loop
from jaxcnn.data import Arrays, Dataset, epoch_order, eval_batches, to_device
from jaxcnn.data.batches import gather
from jaxcnn.early_stopping import EarlyStopping
from jaxcnn.evaluate import evaluate
from jaxcnn.fit import EvalStep, TrainStep, run_key
from jaxcnn.record import Record
from jaxcnn.schedules import Plateau
from jaxcnn.train import Metrics, TrainState


class Selection(NamedTuple):
    """A batch of every seed, as what chooses it from the training set.

    Attributes:
        orders: (S, N) int32, every seed's order of the examples.
        first: the batch's first place in them.
        size: its examples, those of every seed.
        active: (S,) bool, whether a seed is still trained.
    """

    orders: jax.Array
    first: np.int32
    size: int
    active: np.ndarray


def fit_together(
    states: Sequence[TrainState],
    train_step: TrainStep,
    eval_step: EvalStep,
    datasets: Sequence[Dataset],
    workdirs: Mapping[int, Path],
    *,
    epochs: int,
    batch_size: int,
    drop_last: bool = False,
    eval_batch_size: int = 500,
    log_every: int = 50,
    checkpoint_every: int = 1000,
    schedule: optax.Schedule | Plateau | None = None,
    later: tuple[int, TrainStep] | None = None,
    early_stopping: EarlyStopping | None = None,
    resume: bool = False,
) -> dict[int, dict[str, Any]]:
    """Train a run a seed to the given number of epochs, all in one program.

    Arguments that are not named here, what is written into the run folders and what is returned of
    every seed are those of `jaxcnn.fit.fit`. Early stopping and plateaus decide for each seed.
    `seconds` are those of all seeds together, `images_per_second` of one.

    Args:
        states: a state at step 0 for each seed, of the same structure.
        train_step: from `jaxcnn.train.make_train_step`.
        eval_step: from `jaxcnn.train.make_eval_step`.
        datasets: a data set for each seed, held in memory. They may differ in the images, as where
            these are features of each seed's own network, in nothing else; one that all share is
            given so many times, and takes memory once.
        workdirs: seed -> run folder, in the order of the states.
        epochs: passes over the training set in all, at least 1.
        batch_size: examples a step and seed.
        drop_last: see `fit`, as the arguments that follow.
        eval_batch_size: see there.
        log_every: see there.
        checkpoint_every: see there.
        schedule: see there.
        later: see there.
        early_stopping: see there.
        resume: continue all seeds from their `checkpoints/latest`.

    Returns:
        Seed -> what `fit` returns.

    Raises:
        ValueError: a number below 1, a training set smaller than one batch with `drop_last`, data
            that are streamed, or, to resume, seeds that do not stand at the same step.
        FileNotFoundError: `resume` without a checkpoint of a seed.
        FloatingPointError: a NaN or infinite loss; names the seed and ends all, their last good
            checkpoints stay.
    """
    shared = all(dataset is datasets[0] for dataset in datasets)
    distinct = datasets[:1] if shared else datasets
    trains = [in_memory(dataset.train) for dataset in distinct]
    helds = [to_device(in_memory(dataset.watched[1])) for dataset in distinct]
    examples, split = len(trains[0]), datasets[0].watched[0]
    epoch_steps = loop.steps_per_epoch(
        examples,
        batch_size,
        drop_last,
        epochs=epochs,
        eval_batch_size=eval_batch_size,
        log_every=log_every,
        checkpoint_every=checkpoint_every,
    )
    started = time.perf_counter()
    records = [
        Record(workdir, epochs, epoch_steps, log_every, split, schedule, early_stopping, name)
        for workdir, name in ((workdir, f"seed {seed}: ") for seed, workdir in workdirs.items())
    ]
    pairs = zip(records, states, strict=True)
    states = [record.start(state, resume=resume) for record, state in pairs]
    _check_same_step(records)
    seeds, count = list(workdirs), len(workdirs)
    images = jax.device_put(trains[0].images) if shared else jnp.stack([t.images for t in trains])
    labels = jax.device_put(trains[0].labels)
    keys = jnp.stack([run_key(seed) for seed in seeds])
    steps = [mapped_step(train_step, shared)]
    if later is not None:
        steps.append(mapped_step(later[1], shared))

    def step(state: TrainState, batch: Selection, epoch: int) -> tuple[TrainState, Metrics]:
        chosen = steps[later is not None and epoch >= later[0]]
        return chosen(state, images, labels, keys, *batch)

    def batches(epoch: int, start: int) -> Generator[Selection, None, None]:
        active = np.array([not record.stopped_early for record in records])
        count = min(examples, epoch_steps * batch_size)
        return selections(seeds, examples, batch_size, epoch, start=start, end=count, active=active)

    program = loop.Program(
        step=step,
        batches=batches,
        evaluate=partial(
            _evaluate, _mapped_evaluation(eval_step, shared), records, helds, eval_batch_size
        ),
        apart=jax.jit(partial(_unstacked, count)),
        joined=jax.jit(stacked),
    )
    loop.train(
        program.joined(states),
        program,
        records,
        examples=examples,
        batch_size=batch_size,
        checkpoint_every=checkpoint_every,
    )
    seconds = time.perf_counter() - started
    return {seed: record.result(seconds) for seed, record in zip(seeds, records, strict=True)}


def stacked(states: Sequence[TrainState]) -> TrainState:
    """Stack states of the same structure leaf by leaf, along a new first axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


def selections(
    seeds: Sequence[int],
    examples: int,
    batch_size: int,
    epoch: int,
    *,
    start: int = 0,
    end: int | None = None,
    active: np.ndarray | None = None,
) -> Generator[Selection, None, None]:
    """Choose the batches of an epoch for every seed, those of `jaxcnn.data.train_batches`.

    Args:
        seeds: S of them.
        examples: of the training set.
        batch_size: examples a step and seed; the last batch may come short.
        epoch: which one, from 0.
        start: number of the first batch.
        end: examples of the epoch that are trained on; None for all.
        active: (S,) bool, whether a seed is trained; None for all.
    """
    orders = [epoch_order(examples, seed=seed, epoch=epoch) for seed in seeds]
    orders = jax.device_put(np.stack(orders))
    active = np.ones(len(seeds), bool) if active is None else active
    end = examples if end is None else end
    for first in range(start * batch_size, end, batch_size):
        yield Selection(orders, np.int32(first), min(batch_size, end - first), active)


def _unstacked(count: int, stack: TrainState) -> list[TrainState]:
    return [jax.tree.map(itemgetter(i), stack) for i in range(count)]


def mapped_step(
    train_step: TrainStep, shared: bool = True
) -> Callable[..., tuple[TrainState, Metrics]]:
    """Build the step of S seeds: (states, images, labels, keys, *`Selection`) -> (states, metrics).

    The states are donated, and metrics are (S,).

    Args:
        train_step: from `jaxcnn.train.make_train_step`.
        shared: whether images are (N, ...), those of all seeds, or (S, N, ...).
    """
    axis = None if shared else 0

    @partial(jax.jit, donate_argnums=0, static_argnames="size")
    def step(states, images, labels, keys, orders, first, size, active):
        choose = jax.vmap(partial(gather, batch_size=size), in_axes=(axis, None, 0, None))
        moved, metrics = jax.vmap(train_step)(states, choose(images, labels, orders, first), keys)

        def kept(new, old):
            return jnp.where(active.reshape(-1, *(1,) * (new.ndim - 1)), new, old)

        return jax.tree.map(kept, moved, states), metrics

    return step


def _mapped_evaluation(eval_step: EvalStep, shared: bool) -> Callable[..., Metrics]:
    """Map the evaluation step over states; their batch is shared, perhaps but for the images."""
    axes = {"images": None if shared else 0, "labels": None, "mask": None}
    return jax.jit(jax.vmap(eval_step, in_axes=(0, axes)))


def _evaluate(
    step: Callable[..., Metrics],
    records: Sequence[Record],
    splits: Sequence[Arrays],
    batch_size: int,
    states: TrainState,
) -> list[dict[str, Any]]:
    """Evaluate every seed on the split they share, or on its own."""
    outputs = []
    for batches in zip(*(eval_batches(split, batch_size) for split in splits), strict=True):
        batch = batches[0]
        if len(splits) > 1:
            batch = batch | {"images": jnp.stack([own["images"] for own in batches])}
        outputs.append(step(states, batch))
    outputs = jax.device_get(outputs)
    results = []
    for i, record in enumerate(records):
        # What has been computed for all seeds is handed out again, batch by batch.
        own = iter([{name: value[i] for name, value in output.items()} for output in outputs])
        split = splits[min(i, len(splits) - 1)]
        with record.naming():
            results.append(evaluate(lambda _, __, own=own: next(own), states, split, batch_size))
    return results


def _check_same_step(records: Sequence[Record]) -> None:
    """Raise a ValueError unless all seeds that have not stopped early are at the same step."""
    active = [record for record in records if not record.stopped_early]
    if len({record.step for record in active}) > 1:
        places = "\n  ".join(f"{record.workdir}: step {record.step}" for record in active)
        raise ValueError(
            "train_together: seeds go on together from the same step only, but they stand at\n  "
            f"{places}\nresume them one after the other"
        )


def in_memory(split: Any) -> Arrays:
    """Return a split that is held in memory as it is.

    Raises:
        ValueError: it is streamed.
    """
    if not isinstance(split, Arrays):
        raise ValueError(
            "train_together: these data are streamed from files, expected images held in memory "
            "(stream=False); or train the seeds one after the other"
        )
    return split

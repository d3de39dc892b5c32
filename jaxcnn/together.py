"""The training loop of several seeds in one compiled program: `vmap` over their states.

The states are stacked leaf by leaf; a step gathers every seed's own batch on the device and maps
the train step over (state, batch, key), so that each seed computes what `jaxcnn.fit.fit` computes
for it alone, but for rounding, as XLA orders the sums of a stack otherwise.

A seed that has stopped early stays in the stack and keeps its state: leaving it out would compile
all programs anew for every other number of seeds, and would round the others' numbers otherwise,
so that a run resumed behind that epoch would not continue bit for bit.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache, partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcnn import loop
from jaxcnn.data import Arrays, Dataset, epoch_order, eval_batches, to_device
from jaxcnn.data.batches import filled, gather
from jaxcnn.early_stopping import EarlyStopping
from jaxcnn.evaluate import evaluate
from jaxcnn.fit import EvalStep, TrainStep, check_single, run_key
from jaxcnn.record import Record
from jaxcnn.schedules import Plateau
from jaxcnn.steps import Advance, in_calls, repeated
from jaxcnn.train import Metrics, TrainState


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
    steps_per_call: int | None = None,
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
        steps_per_call: see there.
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
        steps_per_call=steps_per_call,
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
    trained = min(examples, epoch_steps * batch_size)  # an epoch's
    masked = trained % batch_size > 0
    if trained % batch_size == 1:
        check_single(train_step, states[0], trains[0], keys[0])

    def steps(epoch: int, start: int) -> AbstractContextManager[Advance]:
        chosen = train_step if later is None or epoch < later[0] else later[1]
        orders = epoch_orders(seeds, examples, batch_size, epoch, trained)
        active = np.array([not record.stopped_early for record in records])
        data = images, labels, keys, orders, np.int32(trained), active
        return in_calls(_program(chosen, batch_size, masked, shared), start, *data)

    apart, joined = jax.jit(partial(_unstacked, count)), jax.jit(stacked)
    loop.train(
        joined(states),
        loop.Program(
            epoch=steps,
            evaluate=partial(
                _evaluate, _mapped_evaluation(eval_step, shared), records, helds, eval_batch_size
            ),
            apart=apart,
            joined=joined,
        ),
        records,
        examples=examples,
        batch_size=batch_size,
        checkpoint_every=checkpoint_every,
        steps_per_call=steps_per_call,
    )
    seconds = time.perf_counter() - started
    return {seed: record.result(seconds) for seed, record in zip(seeds, records, strict=True)}


def stacked(states: Sequence[TrainState]) -> TrainState:
    """Stack states of the same structure leaf by leaf, along a new first axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


def epoch_orders(
    seeds: Sequence[int], examples: int, batch_size: int, epoch: int, trained: int | None = None
) -> jax.Array:
    """Return every seed's order of an epoch, filled up to whole batches: (S, N) int32.

    Args:
        seeds: S of them.
        examples: of the training set.
        batch_size: examples a step and seed.
        epoch: which one, from 0.
        trained: examples of the epoch that are trained on; None for all.
    """
    orders = np.stack([epoch_order(examples, seed=seed, epoch=epoch) for seed in seeds])
    return jax.device_put(filled(orders[:, :trained], batch_size))


@lru_cache(maxsize=4)
def _program(*arguments: Any) -> Callable[..., tuple[TrainState, Metrics]]:
    return repeated(mapped_step(*arguments))


def _unstacked(count: int, stack: TrainState) -> list[TrainState]:
    return [jax.tree.map(itemgetter(i), stack) for i in range(count)]


def mapped_step(
    train_step: TrainStep, batch_size: int, masked: bool = False, shared: bool = True
) -> Callable[..., tuple[TrainState, Metrics]]:
    """Return the step of S seeds, for `jaxcnn.steps.repeated`.

    It takes (states, number, images, labels, keys, orders, examples, active) and returns (states,
    metrics (S,)): number of the batch, `epoch_orders`, how many of their examples are no filling,
    and (S,) bool, whether a seed is trained.

    Args:
        train_step: from `jaxcnn.train.make_train_step`.
        batch_size: examples a step and seed.
        masked: whether the last batch is filled up.
        shared: whether images are (N, ...), those of all seeds, or (S, N, ...).
    """
    take = partial(gather, batch_size=batch_size, masked=masked)
    choose = jax.vmap(take, in_axes=(None if shared else 0, None, 0, None, None))

    def step(states, number, images, labels, keys, orders, examples, active):
        batches = choose(images, labels, orders, number, examples)
        moved, metrics = jax.vmap(train_step)(states, batches, keys)

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

"""The loop of training, of one run or of several whose states are stacked.

What is computed is a `Program`'s matter, what is written down a `jaxcnn.record.Record`'s, one a
run. All runs are at the same step; one that has stopped early is left as it is.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxcnn import checkpoint, log, processes
from jaxcnn.data import num_batches
from jaxcnn.record import Record
from jaxcnn.signals import stop_signals
from jaxcnn.steps import Advance, Pace
from jaxcnn.train import Metrics, TrainState

# Calls whose metrics may stay unread while the loop goes on, so that the device never waits.
_AHEAD = 1


class Program(NamedTuple):
    """What the loop computes with; a state is one run's or the stack of all runs'.

    Attributes:
        epoch: (epoch, number of the first step in it), both from 0 -> the steps to its end, a
            context of `jaxcnn.steps`; the metrics are those of `jaxcnn.train.make_train_step`, a
            row a step, (S,) each for S runs.
        evaluate: state -> what `jaxcnn.evaluate.evaluate` returns, for every run.
        apart: state -> the states of the runs.
        joined: its inverse.
    """

    epoch: Callable[[int, int], AbstractContextManager[Advance]]
    evaluate: Callable[[TrainState], Sequence[dict[str, Any]]]
    apart: Callable[[TrainState], list[TrainState]]
    joined: Callable[[list[TrainState]], TrainState]


def steps_per_epoch(examples: int, batch_size: int, drop_last: bool, **numbers: int | None) -> int:
    """Return the steps of an epoch, once the loop's numbers have been checked.

    Args:
        examples: of the training set.
        batch_size: examples a step.
        drop_last: leave out the last partial batch.
        numbers: other arguments of the loop, by name; None is no number.

    Raises:
        ValueError: a number below 1, or a training set smaller than one batch with `drop_last`.
    """
    for name, value in {"batch_size": batch_size, **numbers}.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    steps = num_batches(examples, batch_size, drop_last)
    if steps == 0:
        raise ValueError(f"batch_size {batch_size} with drop_last leaves no batch of {examples}")
    return steps


def train(
    state: TrainState,
    program: Program,
    records: Sequence[Record],
    *,
    examples: int,
    batch_size: int,
    checkpoint_every: int,
    steps_per_call: int | None = None,
) -> None:
    """Train to the end of the records' last epoch, or until all runs have stopped early.

    Ctrl-C or SIGTERM saves checkpoints after the steps in flight and returns; a second one
    interrupts at once.

    Args:
        state: where the runs stand; donated.
        program: what to compute.
        records: one a run, started; the runs that have not stopped early are at the same step.
        examples: of a training set.
        batch_size: examples a step and run.
        checkpoint_every: steps between two checkpoints within an epoch; one follows each epoch.
        steps_per_call: the most steps of a call of the program; None lets a call last a third of a
            second.

    Raises:
        FloatingPointError: a NaN or infinite loss or state; what was saved before it stays, and
            no run saves what is behind it.
    """
    epochs, epoch_steps = records[0].epochs, records[0].epoch_steps
    log_every = records[0].log_every
    active = [i for i, record in enumerate(records) if not record.stopped_early]
    step = records[active[0]].step if active else 0
    pending: list[tuple[int, int, Metrics]] = []
    pace = Pace(steps_per_call)

    def read(keep: int = 0) -> None:
        """Read the metrics of all but the last `keep` calls and write their rows."""
        counts = []
        while len(pending) > keep:
            done, count, metrics = pending.pop(0)
            found = {
                name: np.reshape(value, (-1, len(records)))
                for name, value in jax.device_get(metrics).items()
            }
            counts.append(count)
            for i in active:
                with records[i].naming():
                    for row in range(count):
                        values = {name: value[row, i] for name, value in found.items()}
                        records[i].add(done + row + 1, values)
        pace.read(counts)

    def save(states: list[TrainState]) -> None:
        # A broken state first: its error comes before any run is ahead of the others.
        for i in sorted(active, key=lambda i: not checkpoint.non_finite(states[i])):
            with records[i].naming():
                records[i].save(states[i])

    def agreed() -> tuple[bool, int]:
        """Return whether to stop, and the steps of the next call, alike in all processes."""
        return processes.agreed(stop.is_set(), pace.steps)

    with stop_signals() as stop:
        stopping, planned = agreed()
        while active and step < epochs * epoch_steps and not stopping:
            epoch, start = divmod(step, epoch_steps)
            end = step + epoch_steps - start
            bar = log.progress(
                epoch_steps,
                epoch=epoch + 1,
                epochs=epochs,
                batch_size=batch_size * len(active),
                initial=start,
            )
            pace.rest()
            clock, waited = time.perf_counter(), 0.0
            with program.epoch(epoch, start) as advance, bar:
                while step < end and not stopping:
                    most = min(planned, end - step, checkpoint_every - step % checkpoint_every)
                    state, metrics, count, late = advance(state, most)
                    waited += late
                    pending.append((step, count, metrics))
                    logs = step // log_every < (step + count) // log_every
                    step += count
                    if logs or pace.measures:
                        read(keep=_AHEAD)
                    stopping, planned = agreed()
                    bar.update(count, **_shown(records, active))
                    if stopping or step % checkpoint_every == 0:
                        read()
                        if step < end:  # the epoch's own checkpoint follows evaluation
                            save(program.apart(state))
                read()
                bar.update(0, **_shown(records, active))
            seconds = time.perf_counter() - clock
            for i in active:
                records[i].train_seconds += seconds
            if step % epoch_steps:
                break
            # The speed of what this call did: a resumed epoch counts from where it went on.
            trained = min(epoch_steps * batch_size, examples) - start * batch_size
            for i in active:
                records[i].trained(examples=trained, seconds=seconds, waited=waited)
            results = program.evaluate(state)
            states = program.apart(state)
            seen = [
                record.evaluated(results[i], states[i], speed=trained / seconds)
                if i in active
                else states[i]
                for i, record in enumerate(records)
            ]
            save(seen)
            if any(new is not old for new, old in zip(seen, states, strict=True)):
                state = program.joined(seen)
            active = [i for i in active if not records[i].stopped_early]
            stopping, planned = agreed()


def _shown(records: Sequence[Record], active: Sequence[int]) -> dict[str, float]:
    """Return what the progress shows: the mean of the runs' losses."""
    losses = [records[i].shown["loss"] for i in active if records[i].shown]
    return {"loss": sum(losses) / len(losses)} if losses else {}

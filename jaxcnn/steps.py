"""Many steps in one compiled program, and how long such a call should last.

Small networks wait for Python between their steps; a program of many steps, which gathers its
batches on the device, does not. The number of steps is an argument of the program, so that one
serves all calls, and which calls an epoch is divided into does not change what is computed.
"""

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.data.prefetch import Prefetched, awaited
from jaxcnn.train import Metrics, TrainState

Advance = Callable[[TrainState, int], tuple[TrainState, Metrics, int, float]]
"""(state, most steps) -> state, metrics whose first axis is the steps, how many steps were done,
seconds that they waited for a batch."""

MOST = 1024  # steps a call, for the memory of their metrics

# A GPU's loop asks the host after each round whether there is another, unless their number is
# written in the program: so it takes steps in blocks, of which the last one may stop early.
_BLOCK = {"cpu": 1}
_BLOCK_ELSEWHERE = 8


def block_size() -> int:
    """Return how many steps the default device takes at a time: other counts waste some."""
    return _BLOCK.get(jax.default_backend(), _BLOCK_ELSEWHERE)


def repeated(
    step: Callable[..., tuple[TrainState, Metrics]], most: int = MOST
) -> Callable[..., tuple[TrainState, Metrics]]:
    """Build the jitted `(state, first, count, *data) -> (state, metrics)` of several steps in turn.

    Args:
        step: (state, number, *data) -> (state, metrics), jittable; the number counts from `first`.
        most: the largest `count`.

    Returns:
        The program; the state is donated. Its metrics have a first axis of at least `count`; what
        is behind the first `count` entries means nothing.
    """

    @partial(jax.jit, donate_argnums=0)
    def steps(state, first, count, *data):
        block = block_size()

        def one(i, carry):
            state, kept = carry
            moved, metrics = step(state, first + i, *data)
            kept = jax.tree.map(lambda all, new: all.at[i].set(new), kept, metrics)
            if block > 1:
                moved = jax.tree.map(partial(jnp.where, i < count), moved, state)
            return moved, kept

        def some(round, carry):
            return jax.lax.fori_loop(
                0, block, lambda i, carry: one(round * block + i, carry), carry
            )

        shapes = jax.eval_shape(step, state, first, *data)[1]
        size = -(-most // block) * block
        kept = jax.tree.map(lambda x: jnp.zeros((size, *x.shape), x.dtype), shapes)
        rounds = (count + (block - 1)) // block
        return jax.lax.fori_loop(0, rounds, one if block == 1 else some, (state, kept))

    return steps


@contextmanager
def in_calls(
    program: Callable[..., tuple[TrainState, Metrics]], start: int, *data: Any
) -> Generator[Advance, None, None]:
    """Yield what trains on through an epoch by a program of `repeated`.

    Args:
        program: of several steps.
        start: number of the first step in the epoch.
        data: further arguments of the program.
    """
    number = start

    def advance(state: TrainState, most: int) -> tuple[TrainState, Metrics, int, float]:
        nonlocal number
        count = min(most, MOST)
        state, metrics = program(state, np.int32(number), np.int32(count), *data)
        number += count
        return state, metrics, count, 0.0

    yield advance


@contextmanager
def one_by_one(
    step: Callable[[TrainState, Any], tuple[TrainState, Metrics]],
    batches: Generator[Any, None, None] | Prefetched,
) -> Generator[Advance, None, None]:
    """Yield what trains on through an epoch by single steps; closes the batches at the end.

    Args:
        step: (state, batch) -> (state, metrics).
        batches: of the epoch.
    """
    metrics: Metrics = {}

    def advance(state: TrainState, most: int) -> tuple[TrainState, Metrics, int, float]:
        nonlocal metrics
        batch, seconds = awaited(batches, metrics)
        state, metrics = step(state, batch)
        return state, metrics, 1, seconds

    try:
        yield advance
    finally:
        batches.close()


class Pace:
    """Decides how many steps a call takes: a given number, or as many as fill some time.

    Calls follow each other before the one in front is read; so a call lasts from one reading to
    the next.
    """

    _SECONDS = 0.3  # a call's time: long beside what Python takes, short for who presses Ctrl-C

    def __init__(self, steps: int | None) -> None:
        """Begin with the given number of steps, or to measure."""
        self._fixed = steps
        self._next = 1
        self._read: float | None = None

    @property
    def steps(self) -> int:
        """How many steps the next call should take."""
        return self._fixed or self._next

    @property
    def measures(self) -> bool:
        """Whether it wants to know of every call."""
        return self._fixed is None

    def rest(self) -> None:
        """Forget when calls were read last: other work came in between."""
        self._read = None

    def read(self, counts: Sequence[int]) -> None:
        """Learn that calls of so many steps have been read, one after the other."""
        if not counts:
            return
        now = time.perf_counter()
        if self._read is not None:
            seconds = max(now - self._read, 1e-6) / sum(counts)  # of a step
            steps = int(np.clip(self._SECONDS / seconds, 1, min(4 * self._next, MOST)))
            self._next = steps - steps % block_size() if steps > block_size() else steps
        self._read = now

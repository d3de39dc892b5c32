"""Batches put on the device ahead of the loop, by a thread, and how long a loop waits for them.

While a step runs, the thread takes the next batches from where they come from and begins to
transfer them: the step after it finds its batch on the device. Order and contents stay what they
are; an error comes where its batch would have come.
"""

import contextlib
import queue
import threading
import time
from collections.abc import Generator, Iterator
from typing import Any

import jax

AHEAD = 2  # batches on the device beside the one in use

_END = object()


class Prefetched:
    """An iterator over batches that a thread puts on the device ahead of time.

    The thread starts with the first batch that is asked for. Closing or dropping the iterator ends
    it and closes the generator.

    Args:
        batches: yields pytrees of arrays; nothing else may use it.
        ahead: how many may wait on the device, at least 1.
        device: what `jax.device_put` takes; None is the default device of the thread that calls.

    Raises:
        ValueError: `ahead` is below 1.
    """

    def __init__(
        self, batches: Generator[Any, None, None], ahead: int = AHEAD, device: Any = None
    ) -> None:
        """Start nothing yet."""
        if ahead < 1:
            raise ValueError(f"ahead must be at least 1, got {ahead}")
        self._ready: queue.SimpleQueue = queue.SimpleQueue()
        # It does not know this object, which can be dropped while the thread runs.
        self._batches = _taken(batches, self._ready, threading.Semaphore(ahead), device)

    def ready(self) -> bool:
        """Return whether the next batch, the end or an error is there already."""
        return not self._ready.empty()

    def close(self) -> None:
        """End the thread and close the generator."""
        self._batches.close()

    def __iter__(self) -> "Prefetched":
        return self

    def __next__(self) -> Any:
        return next(self._batches)


def awaited(batches: Iterator[Any], running: Any) -> tuple[Any, float]:
    """Return the next batch, and for how many seconds the device had nothing to do for want of it.

    Args:
        batches: what gives it; of others than `Prefetched` none is waited for.
        running: arrays that are there once the device has done all that it was told. What it still
            computes when a batch is late is no waiting.

    Raises:
        StopIteration: there is none.
    """
    if not isinstance(batches, Prefetched) or batches.ready():
        return next(batches), 0.0
    jax.block_until_ready(running)
    began = time.perf_counter()
    return next(batches), time.perf_counter() - began


def _taken(
    batches: Generator[Any, None, None],
    ready: queue.SimpleQueue,
    room: threading.Semaphore,
    device: Any,
) -> Generator[Any, None, None]:
    """Run the thread, and yield what it puts into `ready`."""
    stop = threading.Event()
    # Of this thread: the other one's may be another.
    default = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]

    def put(array: Any) -> jax.Array:
        # What several processes hold together is where it belongs, and cannot be moved.
        there = device is None and isinstance(array, jax.Array)
        return array if there else jax.device_put(array, device)

    def fill() -> None:
        try:
            with contextlib.closing(batches), jax.default_device(default):
                room.acquire()
                for batch in batches:
                    if stop.is_set():
                        return
                    ready.put((jax.tree.map(put, batch), None))
                    room.acquire()
        except BaseException as error:  # the loop raises it
            ready.put((None, error))
        else:
            ready.put((_END, None))

    thread = threading.Thread(target=fill, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            batch, error = ready.get()
            if error is not None:
                raise error
            if batch is _END:
                return
            room.release()
            yield batch
    finally:
        stop.set()
        room.release()
        thread.join()

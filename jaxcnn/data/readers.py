"""Threads or worker processes that decode image files, one set of them for all of a run's epochs.

A process is a bare Python that imports NumPy and Pillow (`jaxcnn.data.worker`), neither JAX nor the
script that runs. It starts in a fifth of a second, when the first image is asked of it.
"""

import io
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress

import numpy as np

from jaxcnn.data import worker
from jaxcnn.data.dataset import DataError
from jaxcnn.data.decode import read_image

PART = 16  # images that one thread or process decodes at a time
_MOST = 32  # processes where the number is left to us


class Readers:
    """Threads that decode image files, each by itself or by a process of its own.

    They start when they are first needed; `close`, or leaving a `with` block, ends them.

    Args:
        workers: processes; 0 takes as many threads of this process as it has processor cores, None
            as many processes, at most 32.

    Raises:
        DataError: `workers` is negative.
    """

    def __init__(self, workers: int | None = None) -> None:
        """Start nothing yet."""
        if workers is not None and workers < 0:
            raise DataError(f"workers={workers}: expected 0 or more")
        if workers is None:
            workers = min(_cores(), _MOST)
        self._in_processes = workers > 0
        self.parallel = workers or _cores()
        self._own = threading.local()
        self._processes: list[subprocess.Popen] = []
        self._lock = threading.Lock()
        self._closed = False
        self._threads = ThreadPoolExecutor(self.parallel, thread_name_prefix="image-reader")

    def read(
        self, paths: Sequence[str], image_shape: tuple[int, int, int], images: np.ndarray
    ) -> Future[None]:
        """Begin to decode files, as `jaxcnn.data.read_image` does.

        Args:
            paths: N file names, some `PART` of them.
            image_shape: (H, W, C).
            images: (N, H, W, C) uint8, contiguous, into which they are decoded.

        Returns:
            What is done when all images are there; its `result` raises what the first file that
            cannot be read met: `DataError`, or FileNotFoundError.
        """
        return self._threads.submit(self._read, paths, image_shape, images)

    def close(self) -> None:
        """End the threads and the processes; what has not been decoded yet never will be."""
        with self._lock:
            self._closed = True
            for process in self._processes:
                process.kill()
        self._threads.shutdown(cancel_futures=True)
        for process in self._processes:
            # Closes its pipes, one with half a request in it perhaps, and waits for it.
            with suppress(BrokenPipeError), process:
                pass

    def __enter__(self) -> "Readers":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(
        self, paths: Sequence[str], image_shape: tuple[int, int, int], images: np.ndarray
    ) -> None:
        if not self._in_processes:
            for path, image in zip(paths, images, strict=True):
                image[...] = read_image(path, image_shape)
            return
        process = self._process()
        assert process.stdin is not None and isinstance(process.stdout, io.BufferedReader)
        try:
            pickle.dump((list(paths), image_shape), process.stdin)
            process.stdin.flush()
            error = pickle.load(process.stdout)
            if error is None and process.stdout.readinto(images.data.cast("B")) != images.nbytes:
                raise EOFError
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            raise DataError(
                f"a worker process ended with status {process.wait()} while it decoded {paths[0]} "
                f"or one of the {len(paths) - 1} files after it; threads decode with workers=0"
            ) from None
        if error is not None:
            raise error

    def _process(self) -> subprocess.Popen:
        """Return this thread's process, started where it has none that lives."""
        process = getattr(self._own, "process", None)
        if process is None or process.poll() is not None:
            with self._lock:
                if self._closed:
                    raise DataError("the readers are closed")
                pipe = subprocess.PIPE
                process = self._own.process = subprocess.Popen(
                    # -P: beside the worker stand modules with names of the standard library's.
                    [sys.executable, "-P", worker.__file__],
                    stdin=pipe,
                    stdout=pipe,
                    process_group=0,  # Ctrl-C is this process' matter
                )
                self._processes.append(process)
        return process


Workers = int | None | Readers
"""What decodes files: readers that are there, or what `Readers` takes."""


@contextmanager
def reading(workers: Workers) -> Iterator[Readers]:
    """Lend readers that are there already, or make some and close them.

    Args:
        workers: what `Readers` takes, or readers that their owner closes.

    Raises:
        DataError: as `Readers`.
    """
    if isinstance(workers, Readers):
        yield workers
        return
    with Readers(workers) as readers:
        yield readers


def _cores() -> int:
    """Return the processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

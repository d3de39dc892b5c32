"""Several processes, on one host or many, that train one run together.

All run the same program on the same data and hold the same state; their devices share each batch
(`jaxcnn.devices`). What one alone can know, others are told: the first process (number 0) reads and
writes the run folder, a signal may reach any of them. A process that ends or no longer answers ends
them all, `jaxcnn.lost_process` says which.
"""

import os
import pickle
import sys
import time
from collections.abc import Callable
from typing import NoReturn, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxcnn import lost_process

AUTO = "auto"
_Result = TypeVar("_Result")


def start(
    coordinator: str, count: int | None = None, number: int | None = None, *, timeout: int = 60
) -> None:
    """Join this process with the others, and wait until all are there.

    To be called before anything else asks JAX for a device. It stays joined until it ends. Where
    the others are not there within JAX's five minutes, it ends with one line and status 1.

    Args:
        coordinator: HOST:PORT of the first process, where the others can reach it; "auto" where JAX
            finds it and the numbers by itself, as under Slurm and Open MPI.
        count: processes in all; None with "auto" only.
        number: of this one, from 0; None with "auto" only.
        timeout: seconds without a sign of life after which a process counts as lost, at least 1.

    Raises:
        ValueError: numbers that do not go together.
        ConnectionError: JAX does not join them, for the reason it gives.
    """
    if coordinator == AUTO:
        where = {}
    elif count is None or number is None or not 0 <= number < count or ":" not in coordinator:
        raise ValueError(
            f"coordinator={coordinator!r}, processes={count}, process={number}: expected "
            "HOST:PORT, the number of processes and this one's, from 0"
        )
    else:
        where = {"coordinator_address": coordinator, "num_processes": count, "process_id": number}
    if timeout < 1:
        raise ValueError(f"process_timeout={timeout}: expected at least 1 second")
    # JAX's own service for SIGTERM would take the signal from the training loop.
    jax.config.update("jax_enable_preemption_service", False)
    lost_process.watch()
    try:
        jax.distributed.initialize(**where, heartbeat_timeout_seconds=timeout)
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise ConnectionError(f"coordinator={coordinator!r}: {reason}") from error
    lost_process.expect(jax.process_count(), timeout)


def several() -> bool:
    """Return whether there are other processes."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def first() -> bool:
    """Return whether this process is the one that reads and writes files, and speaks."""
    return not several() or jax.process_index() == 0


def from_first(function: Callable[[], _Result]) -> _Result:
    """Return in every process what a function returns in the first, or raise what it raises.

    Args:
        function: is called in the first process only; its result can be pickled.
    """
    if not several():
        return function()
    answer = b""
    if first():
        try:
            answer = pickle.dumps((True, function()))
        except (Exception, KeyboardInterrupt) as error:
            answer = pickle.dumps((False, error))
    # Two numbers: without x64 an int64 would be cut to 32 bits.
    sizes = np.array(divmod(len(answer), 2**30), np.int32)
    high, low = multihost_utils.broadcast_one_to_all(sizes).tolist()
    padded = np.zeros(high * 2**30 + low, np.uint8)
    padded[: len(answer)] = np.frombuffer(answer, np.uint8)
    good, found = pickle.loads(multihost_utils.broadcast_one_to_all(padded).tobytes())
    if not good:
        raise found
    return found


def agreed(stop: bool, number: int) -> tuple[bool, int]:
    """Return what all processes go by: whether any is to stop, and the first one's number."""
    if not several():
        return stop, number
    found = np.asarray(multihost_utils.process_allgather(np.array([stop, number], np.int32)))
    return bool(found[:, 0].any()), int(found[0, 1])


def leave(status: int) -> NoReturn:
    """End this process on an error, without waiting for the others as a good end does."""
    if not several():
        sys.exit(status)
    lost_process.forget()
    if first():
        time.sleep(1)  # the others, which may have found the same error, still have to say so
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def lost(error: Exception) -> NoReturn:
    """End this process after an error of the exchange with the others, and say which was lost.

    Args:
        error: of JAX.
    """
    lost_process.report(str(error).partition("\n")[0])

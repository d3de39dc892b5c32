"""A process of several that is lost: the others say which, and end.

JAX's coordination service notices it, writes pages about it and aborts every process, from a thread
that Python does not see. So what is written to standard error passes through a thread of ours,
which keeps that back, says one line in its place and ends the process with status 1.
"""

import atexit
import ctypes
import os
import re
import signal
import sys
import threading
import time
from typing import BinaryIO, NoReturn

# What XLA's coordination_service*.cc and client.h write, in this order.
_BEGINS = re.compile(rb"Use error polling to propagate|Polled an error from coordination service")
_FATAL = b"Terminating process because the JAX distributed service detected fatal errors"
_UNHEALTHY = b"The following tasks are unhealthy"
_GRACE = 5.0  # seconds beyond the time limit until the service has spoken

_expected = {"processes": 0, "timeout": 0}
_silent = threading.Event()


def watch() -> None:
    """Let standard error pass through the thread that knows JAX's last words."""
    kept = os.dup(2)
    reading, writing = os.pipe()
    os.dup2(writing, 2)
    os.close(writing)
    sys.stderr = os.fdopen(kept, "w", buffering=1, errors="backslashreplace")
    # abort() calls the handler in its own thread: sleep(SIGABRT) there are 6 seconds, in which the
    # line is said and the process ends; any other abort is late by so much.
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = ctypes.c_int, ctypes.c_void_p
    libc.signal.restype = ctypes.c_void_p
    libc.signal(signal.SIGABRT, ctypes.cast(libc.sleep, ctypes.c_void_p))
    thread = threading.Thread(target=_pass_on, args=(os.fdopen(reading, "rb"), kept), daemon=True)
    thread.start()

    def end() -> None:
        os.dup2(kept, 2)  # closes the pipe: what is in it comes out
        thread.join(1)

    atexit.register(end)


def expect(processes: int, timeout: int) -> None:
    """Note how many processes there are, and the seconds after which one counts as lost."""
    _expected.update(processes=processes, timeout=timeout)


def forget() -> None:
    """Say nothing of lost processes any more: this one ends for a reason of its own."""
    _silent.set()


def report(reason: str) -> NoReturn:
    """End the process because the exchange with another broke; name it where that becomes known.

    Args:
        reason: what was seen of it.
    """
    # Whoever found the service silent says so, and ends the process.
    time.sleep(_expected["timeout"] + _GRACE)
    _end(f"another process ended or was lost ({reason})")


def _end(what: str) -> NoReturn:
    count = _expected["processes"]
    how = (
        f"; the run goes on from its last checkpoint when all {count} processes are started again "
        "with --resume"
    )
    if not count:
        what, how = "the processes did not find each other in time", ""
    if not _silent.is_set():
        print(f"error: {what}{how}", file=sys.stderr, flush=True)
    os._exit(1)


def _pass_on(source: BinaryIO, kept: int) -> None:
    hidden = False
    for line in source:
        hidden = hidden or _BEGINS.search(line) is not None
        if _FATAL in line:
            _end(_named(line, source))
        if not hidden:
            os.write(kept, line)


def _named(line: bytes, source: BinaryIO) -> str:
    """Return what the service's last words say."""
    if _UNHEALTHY in line:
        numbers = ", ".join(re.findall(r"\d+", source.readline().decode()))
        return f"process {numbers} ended or was lost (no sign of life)"
    return "process 0 ended or was lost (it no longer answers)"

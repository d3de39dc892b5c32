"""A process of several that is lost: the others say which, and end.

JAX's coordination service notices it, writes pages about it and aborts every process, from a thread
that Python does not see. So what is written to standard error passes through a thread of ours,
which keeps that back, says one line in its place and ends the process with status 1.

Before the service does, the exchange itself may break in a thread of its own, by an exception of
C++ that nothing catches: that waits for the service's word.
"""

import atexit
import ctypes
import os
import re
import signal
import sys
import threading
import time
from typing import Any, BinaryIO, NoReturn

# What XLA's coordination_service*.cc and client.h write, in this order.
_BEGINS = re.compile(rb"Use error polling to propagate|Polled an error from coordination service")
_FATAL = b"Terminating process because the JAX distributed service detected fatal errors"
_UNHEALTHY = b"The following tasks are unhealthy"
_GRACE = 5.0  # seconds beyond the time limit until the service has spoken

_expected = {"processes": 0, "timeout": 0}
_silent = threading.Event()
_handlers: list[Any] = []


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
    _delay_terminate()
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


def _delay_terminate() -> None:
    """Let exceptions that nothing catches wait as `report` does, before they abort the process.

    Gloo throws one where what a device sends does not fit what another, whose exchange broke off
    when a process was lost, still waits for.
    """
    try:
        library = ctypes.CDLL("libstdc++.so.6")  # jaxlib's, on Linux
    except OSError:
        return
    set_terminate = library._ZSt13set_terminatePFvvE
    set_terminate.argtypes = (ctypes.c_void_p,)
    set_terminate.restype = ctypes.c_void_p
    handler = ctypes.CFUNCTYPE(None)

    def wait() -> None:
        time.sleep(_expected["timeout"] + _GRACE)
        before()  # says what it was, and aborts

    waiting = handler(wait)
    before = handler(set_terminate(ctypes.cast(waiting, ctypes.c_void_p)))
    _handlers.append(waiting)  # must live as long as the process


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

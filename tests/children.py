"""Processes and threads that this process has started, for tests that none is left over."""

import os
import threading
from pathlib import Path


def processes():
    """Return the numbers of the child processes; those not waited for are among them."""
    while True:
        try:
            tasks = [task.read_text() for task in Path("/proc/self/task").glob("*/children")]
        except (FileNotFoundError, ProcessLookupError):
            continue  # a thread ended: its children are another's now, maybe one's already read
        return [int(number) for task in tasks for number in task.split()]


def loading():
    """Return the child processes, and the names of the threads that load images."""
    names = [thread.name for thread in threading.enumerate()]
    return processes(), [n for n in names if n.startswith(("prefetch", "image-reader"))]


def running(number):
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True

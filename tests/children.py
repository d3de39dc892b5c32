"""Processes and threads that this process has started, for tests that none is left over."""

import os
import threading
from pathlib import Path


def processes():
    """Return the numbers of the child processes; those not waited for are among them."""
    tasks = Path("/proc/self/task").glob("*/children")
    return [int(number) for task in tasks for number in task.read_text().split()]


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

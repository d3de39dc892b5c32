"""How the process's memory is handed out."""

import ctypes
import sys

import jax

# Parameters of glibc's mallopt (malloc.h).
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_NEVER = 2**31 - 1


def keep_freed() -> bool:
    """Let the C library keep the memory that the program frees, for what it allocates next.

    XLA allocates what a step needs anew at every step on a CPU, and the C library gives large
    blocks back to the system each time: every page of them is then handed out again, and filled
    with zeros, at its first use. A train step of `resnet_cifar` on 16 images had 23,000 such pages
    and 78 ms of system time, and has none and 8 ms so (median of 14 steps, two cores). The process
    keeps its largest size.

    Only the main thread's memory can grow to that size, so programs for one device of a CPU run on
    the thread that calls them: a call returns when it is done. One memory for all threads would do
    as well, but they wait for one another there: XLA compiled a step of `densenet_cifar` in 26.7 s
    that takes 18.7 s, and steps took 4 to 9 % longer (medians of 9 to 25 pairs, four networks).

    It must be called before JAX has devices, in the main thread; the scripts do so first of all.
    Other allocations of the process are served from the same memory.

    Returns:
        Whether the C library is one that can do this (glibc).
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    wanted = {_TRIM_THRESHOLD: _NEVER, _MMAP_MAX: 0}
    return all(mallopt(parameter, value) for parameter, value in wanted.items())

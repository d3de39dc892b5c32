"""What both sides of `benchmark.py` share: a job's data, what they write down, their memory.

A job is a dict that JSON can hold: `network`, `num_classes`, `input_shape`, `batch_size`,
`precision`, `device`, `what` (passes), `first` (passes whose first call is timed), `epoch_steps`,
`folder` and, of PyTorch's sides, `form`.
"""

import ctypes
import gc
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.01, 0.9, 5e-4
WEIGHTS, LOGITS = "weights.npz", "logits of evaluation mode"
EXACT_BATCH = 4  # images in float64
PEAK_SIZE = 2048
Calls = dict[str, Callable[[], Any]]


def batch(job: dict[str, Any], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw images (size, H, W, C), float64, and labels (size,) int32."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(size, *job["input_shape"]))
    return images, rng.integers(0, job["num_classes"], size).astype(np.int32)


def compared(job: dict[str, Any]) -> tuple[tuple[str, int], ...]:
    """Return in which precisions both sides must agree, and on how many images."""
    timed = job["precision"], job["batch_size"]
    return (timed,) if timed[0] == "float64" else (("float64", EXACT_BATCH), timed)


def stored(precision: str) -> str:
    """Return the number type of images and parameters."""
    return "float64" if precision == "float64" else "float32"


def write(
    job: dict[str, Any], name: str, precision: str, logits: np.ndarray, state: dict[str, np.ndarray]
) -> None:
    """Write down what a side computed: logits, and parameters and statistics after a step."""
    path = Path(job["folder"]) / f"{name} {precision}.npz"
    np.savez(path, **{LOGITS: logits}, **{n: a for n, a in state.items() if a.dtype.kind == "f"})


def seconds(call: Callable[[], Any]) -> float:
    """Return the time of a call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def begin() -> int:
    """Start to watch the process's largest memory; return the bytes that it has now."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except (AttributeError, OSError):
        return largest()  # what was freed before counts as had
    return _status("VmRSS")


def largest() -> int:
    """Return the most bytes of memory that the process has had since `begin`."""
    if Path("/proc/self/status").exists():
        return _status("VmHWM")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    raise ValueError(f"/proc/self/status has no {name}")

"""The progress of an epoch: a bar on a terminal, plain lines in a pipe or a file."""

import io
import math
import os
import sys
import time
from datetime import timedelta
from types import TracebackType
from typing import Any, TextIO

import numpy as np
from tqdm import tqdm

from jaxcnn import processes

_BAR_SECONDS = 0.1  # between two drawings of the bar on a terminal
_LINE_SECONDS = 10.0  # between two lines where the output is a pipe or a file


def progress(
    total: int,
    *,
    epoch: int,
    epochs: int,
    batch_size: int,
    initial: int = 0,
    stream: TextIO | None = None,
) -> "Progress":
    """Show one epoch's progress: a bar on a terminal, else a plain line every 10 s and at the end.

    Of several processes (`jaxcnn.processes`) only the first one shows something.

    Args:
        total: steps of the epoch.
        epoch: which epoch, from 1.
        epochs: how many in all.
        batch_size: images a step, for the images per second.
        initial: steps of this epoch done before, where a run resumes inside it.
        stream: where to; standard error where None.

    Returns:
        A context manager: `with progress(...) as shown: shown.update(1, loss=loss)`.
    """
    label = f"epoch {epoch}/{epochs}"
    out = sys.stderr if stream is None else stream
    if not processes.first():
        out = io.StringIO()
    return Progress(label, total, batch_size, initial, out)


class Progress:
    """The progress of one epoch, to be used as a context manager; made by `progress`."""

    def __init__(self, label: str, total: int, batch_size: int, initial: int, stream: TextIO):
        self._label, self._total, self._batch_size = label, total, batch_size
        self._initial = self._done = initial
        self._stream = stream
        self._started = self._drawn_at = time.monotonic()
        self._clock: tuple[int, float] | None = None  # (steps done, time) after the first update
        self._metrics: dict[str, Any] = {}
        self._bar = None
        if stream.isatty():
            self._bar = tqdm(
                desc=label,
                total=total,
                initial=initial,
                file=stream,
                **_size(stream),
                bar_format="{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{postfix}",
            )

    def update(self, n_steps: int, **metrics: Any) -> None:
        """Count `n_steps` more steps as done and remember their metrics.

        Metrics are numbers or scalar arrays. They are read only when something is drawn, so that
        an array still being computed does not hold up the loop at every step.
        """
        self._done += n_steps
        self._metrics = metrics
        now = time.monotonic()
        self._clock = self._clock or (self._done, now)
        waited = now - self._drawn_at
        if waited >= (_LINE_SECONDS if self._bar is None else _BAR_SECONDS):
            if self._bar is not None or self._done < self._total:  # the last line is close's
                self._draw(now)

    def close(self, *, finished: bool = True) -> None:
        """Show the end of the epoch; where it was not `finished`, only leave the bar as it is."""
        if finished:
            self._draw(time.monotonic(), last=True)
        if self._bar is not None:
            self._bar.close()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(finished=kind is None)

    def _draw(self, now: float, *, last: bool = False) -> None:
        # The first update holds the compilation, which says nothing of the speed.
        steps, since = self._clock or (self._initial, self._started)
        if last and self._done == steps:  # but it is all there was
            steps, since = self._initial, self._started
        speed = (self._done - steps) / max(now - since, 1e-9)  # steps a second
        parts = [f"{name} {_short(value)}" for name, value in self._metrics.items()]
        if speed > 0:
            parts.append(f"{speed * self._batch_size:.0f} img/s")
        if last:
            parts.append(f"in {_hours(now - self._started)}")
        elif speed > 0:
            parts.append(f"{_hours((self._total - self._done) / speed)} left")
        if self._bar is not None:
            self._bar.n = self._done
            self._bar.set_postfix_str(", ".join(parts))  # draws
        else:
            counted = f"step {self._done}/{self._total}"
            print("  ".join([self._label, counted, *parts]), file=self._stream, flush=True)
        self._drawn_at = now


def say(message: str, stream: TextIO | None = None) -> None:
    """Print a line to `stream` (standard error where None) without breaking a bar that is there.

    Of several processes only the first one prints.
    """
    if not processes.first():
        return
    out = sys.stderr if stream is None else stream
    tqdm.write(message, file=out)
    out.flush()


def _size(stream: TextIO) -> dict[str, Any]:
    try:
        known = os.get_terminal_size(stream.fileno()).columns > 0
    except (OSError, ValueError, AttributeError):
        known = False
    # A terminal of 0 x 0, as some containers have, would show no bar at all.
    return {"dynamic_ncols": True} if known else {"ncols": 100, "nrows": 24}


def _hours(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def _short(value: Any) -> str:
    value = np.asarray(value).item()
    if not isinstance(value, float) or not math.isfinite(value):
        return str(value)
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e4 else f"{value:.2e}"

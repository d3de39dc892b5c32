"""Stop training when a metric no longer improves: plain numbers in, plain numbers out.

The rule is that of `keras.callbacks.EarlyStopping` (Keras 3) with `monitor`, `min_delta`,
`patience` and `start_from_epoch`. Deviation: NaN is never an improvement, in Keras it is one as the
first value and, compared with it, nothing afterwards. Keras compares in float32, this in Python's
floats.
"""

import math
from dataclasses import dataclass
from typing import Literal, TypedDict, get_args

from jaxcnn.schedules.counting import check_whole

Metric = Literal["accuracy", "loss"]


class EarlyStoppingState(TypedDict):
    """What early stopping remembers; JSON can hold it."""

    epoch: int
    """Epochs observed."""
    best: float | None
    """Best value so far; None before the first."""
    best_epoch: int | None
    """The epoch of the best value, counted from 1; None before the first."""
    wait: int
    """Epochs since the best one."""


@dataclass(frozen=True)
class EarlyStopping:
    """Stop after `patience` epochs in a row without an improvement of a metric.

    Attributes:
        patience: epochs in a row that may pass without improvement, the last of which stops; an
            integer >= 0, and 0 stops as early as 1 does.
        metric: "accuracy", which is better when higher, or "loss", when lower.
        min_delta: what a value must be better by than the best one to be an improvement; finite
            and >= 0. A value that is better by just so much is none.
        start_from_epoch: epochs at the beginning that are not looked at; an integer >= 0.

    Raises:
        ValueError: an argument outside its range.
    """

    patience: int
    metric: Metric = "accuracy"
    min_delta: float = 0.0
    start_from_epoch: int = 0

    def __post_init__(self) -> None:
        """Check the arguments."""
        for name in ("patience", "start_from_epoch"):
            check_whole("EarlyStopping", name, getattr(self, name), 0)
        if self.metric not in get_args(Metric):
            known = " or ".join(map(repr, get_args(Metric)))
            raise ValueError(f"EarlyStopping: metric must be {known}, got {self.metric!r}")
        if not 0 <= self.min_delta < math.inf:
            raise ValueError(
                f"EarlyStopping: min_delta must be finite and >= 0, got {self.min_delta!r}"
            )

    def start(self) -> EarlyStoppingState:
        """Return the state before the first epoch."""
        return {"epoch": 0, "best": None, "best_epoch": None, "wait": 0}

    def observe(
        self, state: EarlyStoppingState, value: float
    ) -> tuple[EarlyStoppingState, bool, bool]:
        """Return the state after an epoch, whether to stop, and whether the epoch is the best.

        Args:
            state: of `start` or of the last `observe`, perhaps by way of JSON; unchanged.
            value: the metric after the epoch; NaN is no improvement.

        Raises:
            ValueError: the state lacks an entry.
        """
        if missing := EarlyStoppingState.__annotations__.keys() - state.keys():
            raise ValueError(f"EarlyStopping: state lacks {', '.join(sorted(missing))}")
        epoch, value = state["epoch"] + 1, float(value)
        if epoch <= self.start_from_epoch:
            return {**state, "epoch": epoch}, False, False
        if self._better(value, state["best"]):
            return {"epoch": epoch, "best": value, "best_epoch": epoch, "wait": 0}, False, True
        wait = state["wait"] + 1
        return {**state, "epoch": epoch, "wait": wait}, wait >= self.patience, False

    def _better(self, value: float, best: float | None) -> bool:
        if best is None:
            return not math.isnan(value)
        if self.metric == "accuracy":
            return value - self.min_delta > best
        return value + self.min_delta < best

"""A learning rate that falls when a metric no longer improves: data and pure functions."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from jaxcnn.schedules.counting import check_whole

Mode = Literal["min", "max"]
ThresholdMode = Literal["rel", "abs"]


class PlateauState(NamedTuple):
    """What a plateau remembers; scalar arrays, to be saved with the run's state."""

    learning_rate: jax.Array
    """The one to train with until the next update; default float dtype."""
    best: jax.Array
    """Best metric so far; infinite, of the worse sign, before the first. Default float dtype."""
    bad_epochs: jax.Array
    """Updates since the best that were no better; int32."""
    cooldown: jax.Array
    """Updates left whose bad ones do not count; int32."""


@dataclass(frozen=True)
class Plateau:
    """`ReduceLROnPlateau`'s arguments, for its two pure functions; see `plateau`."""

    learning_rate: float
    mode: Mode
    factor: float
    patience: int
    threshold: float
    threshold_mode: ThresholdMode
    cooldown: int
    min_lr: float
    eps: float

    def init(self) -> PlateauState:
        """Return the state before the first metric."""
        dtype = jnp.result_type(float)
        return PlateauState(
            learning_rate=jnp.asarray(self.learning_rate, dtype),
            best=jnp.asarray(-jnp.inf if self.mode == "max" else jnp.inf, dtype),
            bad_epochs=jnp.zeros((), jnp.int32),
            cooldown=jnp.zeros((), jnp.int32),
        )

    def update(self, state: PlateauState, metric: jax.Array | float) -> PlateauState:
        """Return the state after an epoch's metric; jittable.

        Args:
            state: of `init` or of the last update.
            metric: a scalar. NaN is no improvement.
        """
        metric = jnp.asarray(metric).astype(state.best.dtype)
        better = self._better(metric, state.best)
        bad = jnp.where(better | (state.cooldown > 0), 0, state.bad_epochs + 1)
        cooldown = jnp.maximum(state.cooldown - 1, 0)
        tired = bad > self.patience
        old = state.learning_rate
        new = jnp.maximum(old * self.factor, self.min_lr)
        return PlateauState(
            learning_rate=jnp.where(tired & (old - new > self.eps), new, old),
            best=jnp.where(better, metric, state.best),
            bad_epochs=jnp.where(tired, 0, bad),
            cooldown=jnp.where(tired, self.cooldown, cooldown),
        )

    def to_torch(self, state: PlateauState) -> dict[str, Any]:
        """Turn a state into what `ReduceLROnPlateau.load_state_dict` takes.

        The optimizer's groups hold the learning rate itself, in PyTorch.
        """
        return {
            "best": float(state.best),
            "num_bad_epochs": int(state.bad_epochs),
            "cooldown_counter": int(state.cooldown),
            "_last_lr": [float(state.learning_rate)],
        }

    def from_torch(
        self, state_dict: Mapping[str, Any], learning_rate: float | None = None
    ) -> PlateauState:
        """Turn `ReduceLROnPlateau.state_dict()` into a state.

        Args:
            state_dict: of a scheduler with this one's arguments.
            learning_rate: that of the optimizer's group; None is the scheduler's own record of it.

        Raises:
            ValueError: a scheduler of several groups; arguments that are not this plateau's.
        """
        rates = state_dict["_last_lr"]
        if len(rates) != 1:
            raise ValueError(f"plateau: expected the scheduler of one group, got {len(rates)}")
        names = [field.name for field in fields(self)]
        other = [n for n in names if n in state_dict and state_dict[n] != getattr(self, n)]
        if other:
            raise ValueError(
                "plateau: the scheduler has "
                + ", ".join(f"{n}={state_dict[n]!r}" for n in other)
                + ", expected "
                + ", ".join(f"{n}={getattr(self, n)!r}" for n in other)
            )
        first = self.init()
        values = (
            rates[0] if learning_rate is None else learning_rate,
            state_dict["best"],
            state_dict["num_bad_epochs"],
            state_dict["cooldown_counter"],
        )
        return PlateauState(
            *(jnp.asarray(v, like.dtype) for v, like in zip(values, first, strict=True))
        )

    def _better(self, metric: jax.Array, best: jax.Array) -> jax.Array:
        sign = 1 if self.mode == "max" else -1
        if self.threshold_mode == "rel":
            level = best * (1.0 + sign * self.threshold)
        else:
            level = best + sign * self.threshold
        return metric > level if self.mode == "max" else metric < level


def plateau(
    learning_rate: float,
    steps_per_epoch: int = 1,
    *,
    mode: Mode = "min",
    factor: float = 0.1,
    patience: int = 10,
    threshold: float = 1e-4,
    threshold_mode: ThresholdMode = "rel",
    cooldown: int = 0,
    min_lr: float = 0.0,
    eps: float = 1e-8,
) -> Plateau:
    """Build `ReduceLROnPlateau`: multiply the learning rate when a metric stops improving.

    Args:
        learning_rate: the first one, >= 0.
        steps_per_epoch: taken as every schedule takes it, and of no effect: the metrics count.
        mode: whether the metric is to fall or to rise.
        factor: of a reduction, in [0, 1).
        patience: bad epochs that are let pass, >= 0; the next one reduces.
        threshold: how much better than the best a metric must be to count.
        threshold_mode: whether threshold is a share of the best, or an amount.
        cooldown: epochs after a reduction in which bad ones are not counted, >= 0.
        min_lr: the lowest learning rate, >= 0.
        eps: a reduction by less than or just so much is not made, >= 0.

    Raises:
        ValueError: a bad value.
    """
    del steps_per_epoch
    for argument, value, known in [
        ("mode", mode, get_args(Mode)),
        ("threshold_mode", threshold_mode, get_args(ThresholdMode)),
    ]:
        if value not in known:
            raise ValueError(
                f"plateau: {argument} must be one of {', '.join(known)}, got {value!r}"
            )
    if not 0 <= factor < 1:
        raise ValueError(f"plateau: factor must be in [0, 1), got {factor}")
    check_whole("plateau", "patience", patience, 0)
    check_whole("plateau", "cooldown", cooldown, 0)
    for argument, amount in [("learning_rate", learning_rate), ("min_lr", min_lr), ("eps", eps)]:
        if not amount >= 0:
            raise ValueError(f"plateau: {argument} must be >= 0, got {amount}")
    return Plateau(
        learning_rate, mode, factor, patience, threshold, threshold_mode, cooldown, min_lr, eps
    )

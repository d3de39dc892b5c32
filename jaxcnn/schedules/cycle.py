"""Learning rates that rise and fall, with a momentum that falls and rises.

Leslie N. Smith, "Cyclical Learning Rates for Training Neural Networks", 2015 (arXiv 1506.01186);
Leslie N. Smith and Nicholay Topin, "Super-Convergence", 2017 (arXiv 1708.07120). Arguments as in
`jaxcnn.schedules.decay`. PyTorch puts the momentum into the optimizer by itself; here the caller
hands `Cycle.momentum` to the optimizer, as its momentum or as Adam's beta1.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import optax

from jaxcnn.schedules.counting import as_float, check_whole, epoch_of, half_cosine, power

Mode = Literal["triangular", "triangular2", "exp_range"]
ScaleMode = Literal["cycle", "iterations"]
Anneal = Literal["cos", "linear"]


@dataclass(frozen=True)
class Cycle:
    """A schedule, called as every other, and the momentum that goes with it."""

    learning_rate: optax.Schedule
    """Step -> learning rate."""
    momentum: optax.Schedule | None
    """Step -> momentum (Adam's beta1); None where the momentum does not cycle."""

    def __call__(self, step):
        """Return the learning rate at a step."""
        return self.learning_rate(step)


def cyclic(
    learning_rate: float,
    steps_per_epoch: int,
    *,
    max_lr: float,
    step_size_up: int = 2000,
    step_size_down: int | None = None,
    mode: Mode = "triangular",
    gamma: float = 1.0,
    scale_fn: Callable[[jax.Array], jax.Array] | None = None,
    scale_mode: ScaleMode = "cycle",
    cycle_momentum: bool = True,
    base_momentum: float = 0.8,
    max_momentum: float = 0.9,
) -> Cycle:
    """Build `CyclicLR`: triangles between learning_rate (PyTorch's base_lr) and max_lr.

    The position in a cycle is an integer. PyTorch's is what is left of 1 + epoch / length without
    its whole part, whose rounding grows with the cycles passed: 1.2e-14 after 100.

    Args:
        learning_rate: the one at the feet of the triangles.
        steps_per_epoch: optimizer steps an epoch; PyTorch's loop has 1.
        max_lr: the one at the first peak.
        step_size_up: epochs from a foot to the peak, >= 1.
        step_size_down: epochs from the peak to a foot, >= 0; None is step_size_up.
        mode: all peaks equal, each half as high as the last, or gamma^epoch times as high.
        gamma: of exp_range, > 0.
        scale_fn: in place of a mode, a traceable factor of the height; it takes an integer array.
        scale_mode: what scale_fn takes: the cycle (1, 2, ...) or the epoch (0, 1, ...).
        cycle_momentum: whether the momentum goes from max_momentum to base_momentum and back.
        base_momentum: the one at the peaks of the learning rate.
        max_momentum: the one at its feet.

    Raises:
        ValueError: a bad step size, mode, scale mode or gamma.
    """
    down = step_size_up if step_size_down is None else step_size_down
    check_whole("cyclic", "step_size_up", step_size_up, 1)
    check_whole("cyclic", "step_size_down", down, 0)
    _check_choice("cyclic", "scale_mode", scale_mode, get_args(ScaleMode))
    if scale_fn is None:
        _check_choice("cyclic", "mode", mode, get_args(Mode))
    if not 0 < gamma < float("inf"):
        raise ValueError(f"cyclic: gamma must be above 0 and finite, got {gamma}")

    def height(step):
        epoch = epoch_of(step, steps_per_epoch)
        cycles, position = epoch // (step_size_up + down), epoch % (step_size_up + down)
        rise = as_float(position) / step_size_up
        # A cycle without a way down ends one epoch before the peak.
        fall = as_float(step_size_up + down - position) / max(down, 1)
        triangle = jnp.where(position <= step_size_up, rise, fall)
        if scale_fn is not None:
            scale = scale_fn(cycles + 1 if scale_mode == "cycle" else epoch)
            return triangle * jnp.asarray(scale, triangle.dtype)
        if mode == "triangular":
            return triangle
        return triangle * (power(0.5, cycles) if mode == "triangular2" else power(gamma, epoch))

    return Cycle(
        learning_rate=lambda step: learning_rate + (max_lr - learning_rate) * height(step),
        momentum=(lambda step: max_momentum - (max_momentum - base_momentum) * height(step))
        if cycle_momentum
        else None,
    )


def one_cycle(
    learning_rate: float,
    steps_per_epoch: int,
    *,
    total_steps: int | None = None,
    epochs: int | None = None,
    pct_start: float = 0.3,
    anneal_strategy: Anneal = "cos",
    cycle_momentum: bool = True,
    base_momentum: float = 0.85,
    max_momentum: float = 0.95,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
    three_phase: bool = False,
) -> Cycle:
    """Build `OneCycleLR`: up to learning_rate (PyTorch's max_lr), then down to almost nothing.

    From learning_rate / div_factor, whose momentum is max_momentum, to learning_rate with
    base_momentum, and to learning_rate / div_factor / final_div_factor with max_momentum; with
    three phases by the way of the first values. The last value, that of total_steps - 1, is held:
    PyTorch extrapolates it once at total_steps, which no run of total_steps uses.

    Args:
        learning_rate: the highest one.
        steps_per_epoch: with `total_steps`, optimizer steps between two `scheduler.step()`, as
            elsewhere. With `epochs`, PyTorch's argument: the schedule moves at every step.
        total_steps: `scheduler.step()`s of the cycle, >= 1.
        epochs: in place of total_steps, which are then epochs * steps_per_epoch.
        pct_start: share of the rise, in [0, 1].
        anneal_strategy: "cos" or "linear".
        cycle_momentum: whether the momentum cycles.
        base_momentum: the one at the highest learning rate.
        max_momentum: the one at the lowest.
        div_factor: highest over first learning rate, > 0.
        final_div_factor: first over last learning rate, > 0.
        three_phase: return to the first learning rate as slowly as it rose, then go down.

    Returns:
        The schedules; called with a Python int beyond the cycle, they raise ValueError, as
        PyTorch does. Traced steps hold the last value.

    Raises:
        ValueError: neither total_steps nor epochs, or a bad value; pct_start * total_steps = 1,
            a rise of no steps, by which PyTorch divides.
    """
    if total_steps is not None:
        check_whole("one_cycle", "total_steps", total_steps, 1)
        length, interval = total_steps, steps_per_epoch
    elif epochs is not None:
        check_whole("one_cycle", "epochs", epochs, 1)
        length, interval = epochs * steps_per_epoch, 1
    else:
        raise ValueError("one_cycle: needs total_steps or epochs, got neither")
    if not 0 <= pct_start <= 1:
        raise ValueError(f"one_cycle: pct_start must be in [0, 1], got {pct_start}")
    _check_choice("one_cycle", "anneal_strategy", anneal_strategy, get_args(Anneal))
    for argument, divisor in [("div_factor", div_factor), ("final_div_factor", final_div_factor)]:
        if not divisor > 0:
            raise ValueError(f"one_cycle: {argument} must be above 0, got {divisor}")
    rise = pct_start * length - 1
    if rise == 0:
        raise ValueError(
            f"one_cycle: pct_start * total_steps must not be 1, got {pct_start} * {length}"
        )
    ends = [rise, 2 * rise, length - 1] if three_phase else [rise, length - 1]

    def through(*values: float) -> optax.Schedule:
        """Return the schedule that goes through values, one more than the phases."""

        def schedule(step):
            if isinstance(step, int) and step // interval > length:
                raise ValueError(
                    f"one_cycle: step must be below {(length + 1) * interval}, got {step}"
                )
            epoch = as_float(jnp.minimum(epoch_of(step, interval), length - 1))
            phases = list(zip([0.0, *ends], ends, values, values[1:], strict=False))
            found = _anneal(epoch, *phases.pop(), anneal_strategy)
            for phase in reversed(phases):
                found = jnp.where(epoch <= phase[1], _anneal(epoch, *phase, anneal_strategy), found)
            return found

        return schedule

    first, last = learning_rate / div_factor, learning_rate / div_factor / final_div_factor
    if three_phase:
        rate = through(first, learning_rate, first, last)
        momentum = through(max_momentum, base_momentum, max_momentum, max_momentum)
    else:
        rate = through(first, learning_rate, last)
        momentum = through(max_momentum, base_momentum, max_momentum)
    return Cycle(rate, momentum if cycle_momentum else None)


def _anneal(
    at: jax.Array, start: float, end: float, first: float, last: float, strategy: Anneal
) -> jax.Array:
    """Return the value at a step of the phase that goes from first to last."""
    length = end - start or 1.0  # a phase of no steps is never chosen
    done, left = (at - start) / length, (end - at) / length
    if strategy == "cos":
        done, left = half_cosine(left, done), half_cosine(done, left)
    # A sum of two terms of one sign: the small last value keeps its digits.
    return first * left + last * done


def _check_choice(schedule: str, argument: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{schedule}: {argument} must be one of {', '.join(known)}, got {value!r}")

"""Learning rates that only fall, or warm up: constant, exponential, in steps, linear, polynomial.

Each is a function (learning_rate, steps_per_epoch, *, arguments) -> schedule; learning_rate >= 0 is
the optimizer's, epoch = step // steps_per_epoch. A schedule returns the default float dtype in its
step's shape.
"""

from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcnn.schedules.counting import as_float, check_whole, epoch_of, passed, power


def constant(learning_rate: float, steps_per_epoch: int) -> optax.Schedule:
    """Return the learning rate unchanged at every step."""
    del steps_per_epoch
    return optax.constant_schedule(learning_rate)


def exponential(learning_rate: float, steps_per_epoch: int, *, gamma: float) -> optax.Schedule:
    """Build `ExponentialLR`: learning_rate * gamma^epoch.

    Raises:
        ValueError: gamma <= 0.
    """
    _check_gamma("exponential", gamma)

    def schedule(step):
        return learning_rate * power(gamma, epoch_of(step, steps_per_epoch))

    return schedule


def step(
    learning_rate: float, steps_per_epoch: int, *, step_size: int, gamma: float = 0.1
) -> optax.Schedule:
    """Build `StepLR`: learning_rate * gamma^(epoch // step_size).

    Args:
        learning_rate: the first one.
        steps_per_epoch: optimizer steps an epoch.
        step_size: epochs between two decays, >= 1.
        gamma: factor of a decay, > 0.

    Raises:
        ValueError: a bad step_size or gamma.
    """
    check_whole("step", "step_size", step_size, 1)
    _check_gamma("step", gamma)

    def schedule(step):
        return learning_rate * power(gamma, epoch_of(step, steps_per_epoch) // step_size)

    return schedule


def multi_step(
    learning_rate: float, steps_per_epoch: int, *, milestones: Iterable[int], gamma: float = 0.1
) -> optax.Schedule:
    """Build `MultiStepLR`: learning_rate * gamma^(number of milestones <= epoch).

    Args:
        learning_rate: the one before the first milestone.
        steps_per_epoch: optimizer steps an epoch.
        milestones: epochs >= 0 of the decays, in any order; one given twice decays twice.
        gamma: factor of a decay, > 0.

    Raises:
        ValueError: a bad milestone or gamma.
    """
    milestones = list(milestones)
    for milestone in milestones:
        check_whole("multi_step", "every milestone", milestone, 0)
    _check_gamma("multi_step", gamma)
    # At most a few values, so each comes from double precision.
    rates = [learning_rate * gamma**count for count in range(len(milestones) + 1)]

    def schedule(step):
        epoch = epoch_of(step, steps_per_epoch)
        return jnp.asarray(rates, jnp.result_type(float))[passed(milestones, epoch)]

    return schedule


def lambda_lr(
    learning_rate: float, steps_per_epoch: int, *, lr_lambda: Callable[[jax.Array], jax.Array]
) -> optax.Schedule:
    """Build `LambdaLR`: learning_rate * lr_lambda(epoch).

    A function cannot be named on a command line, so `SCHEDULES` does not list this one.

    Args:
        learning_rate: what the function's factor multiplies.
        steps_per_epoch: optimizer steps an epoch.
        lr_lambda: traceable function of the epoch, an integer array of the step's shape.

    Raises:
        ValueError: lr_lambda is not callable.
    """
    if not callable(lr_lambda):
        raise ValueError(f"lambda_lr: lr_lambda must be a function of the epoch, got {lr_lambda!r}")

    def schedule(step):
        factor = lr_lambda(epoch_of(step, steps_per_epoch))
        return learning_rate * jnp.asarray(factor, jnp.result_type(float))

    return schedule


def constant_lr(
    learning_rate: float,
    steps_per_epoch: int,
    *,
    factor: float = 1 / 3,
    total_iters: int = 5,
) -> optax.Schedule:
    """Build `ConstantLR`: learning_rate * factor for total_iters epochs, learning_rate after.

    As PyTorch's loop, total_iters = 0 scales for ever; its closed form would never.

    Args:
        learning_rate: the one from epoch total_iters on.
        steps_per_epoch: optimizer steps an epoch.
        factor: in [0, 1]. PyTorch divides by it, and fails at 0 when the epochs are over.
        total_iters: epochs of the factor, >= 0.

    Raises:
        ValueError: a bad factor or total_iters.
    """
    _check_factor("constant_lr", "factor", factor)
    check_whole("constant_lr", "total_iters", total_iters, 0)

    def schedule(step):
        over = (epoch_of(step, steps_per_epoch) >= total_iters) & (total_iters > 0)
        rates = np.array([learning_rate, learning_rate * factor], jnp.result_type(float))
        return jnp.where(over, rates[0], rates[1])

    return schedule


def linear(
    learning_rate: float,
    steps_per_epoch: int,
    *,
    start_factor: float = 1 / 3,
    end_factor: float = 1.0,
    total_iters: int = 5,
) -> optax.Schedule:
    """Build `LinearLR`: a factor of learning_rate that goes in a line from start to end.

    As PyTorch's loop, total_iters = 0 stays at start_factor; its closed form would divide by 0.

    Args:
        learning_rate: what the factor multiplies.
        steps_per_epoch: optimizer steps an epoch.
        start_factor: factor at epoch 0, in (0, 1].
        end_factor: factor from epoch total_iters on, in [0, 1].
        total_iters: epochs from one to the other, >= 0.

    Raises:
        ValueError: a bad factor or total_iters.
    """
    _check_factor("linear", "start_factor", start_factor)
    if start_factor == 0:
        raise ValueError("linear: start_factor must be above 0, got 0")
    _check_factor("linear", "end_factor", end_factor)
    check_whole("linear", "total_iters", total_iters, 0)
    if total_iters == 0:
        end_factor = start_factor
    length = max(total_iters, 1)

    def schedule(step):
        epoch = jnp.minimum(epoch_of(step, steps_per_epoch), length)
        # Both terms are >= 0: the line's usual form loses the digits of a small end.
        factor = start_factor * as_float(length - epoch) + end_factor * as_float(epoch)
        return learning_rate * (factor / length)

    return schedule


def polynomial(
    learning_rate: float, steps_per_epoch: int, *, total_iters: int = 5, power: float = 1.0
) -> optax.Schedule:
    """Build `PolynomialLR`: learning_rate * (1 - epoch / total_iters)^power, then its last value.

    As PyTorch's loop, total_iters = 0 never decays; its closed form would divide by 0.

    Args:
        learning_rate: the first one.
        steps_per_epoch: optimizer steps an epoch.
        total_iters: epochs until 0 is reached, >= 0.
        power: >= 0.

    Raises:
        ValueError: a bad total_iters or power.
    """
    check_whole("polynomial", "total_iters", total_iters, 0)
    if not power >= 0:
        raise ValueError(f"polynomial: power must be >= 0, got {power}")
    if total_iters == 0:
        return constant(learning_rate, steps_per_epoch)

    def schedule(step):
        epoch = jnp.minimum(epoch_of(step, steps_per_epoch), total_iters)
        return learning_rate * jnp.power(as_float(total_iters - epoch) / total_iters, power)

    return schedule


def _check_gamma(schedule: str, gamma: float) -> None:
    if not 0 < gamma < float("inf"):
        raise ValueError(f"{schedule}: gamma must be above 0 and finite, got {gamma}")


def _check_factor(schedule: str, argument: str, factor: float) -> None:
    if not 0 <= factor <= 1:
        raise ValueError(f"{schedule}: {argument} must be in [0, 1], got {factor}")

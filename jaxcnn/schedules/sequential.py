"""Schedules made of schedules: one after another, or multiplied."""

import operator
from collections.abc import Sequence
from functools import reduce
from itertools import pairwise

import jax.numpy as jnp
import optax

from jaxcnn.schedules.counting import check_whole, epoch_of


def sequential(
    schedules: Sequence[optax.Schedule], milestones: Sequence[int], *, steps_per_epoch: int = 1
) -> optax.Schedule:
    """Run schedules one after another, each from its own step 0, as `SequentialLR`.

    A warm-up is `linear` before another schedule. The momentum of a `Cycle` is not taken along.

    Args:
        schedules: at least one, each built with the same steps_per_epoch.
        milestones: the epochs at which the second, third, ... begin, ascending and >= 0; one less
            than the schedules.
        steps_per_epoch: optimizer steps an epoch, of which the milestones count.

    Returns:
        A schedule; the parts are traced, also with a Python int, so that none raises at a step
        which is not its own.

    Raises:
        ValueError: no schedule, another number of milestones, or bad ones.
    """
    if not schedules:
        raise ValueError("sequential: needs at least one schedule, got none")
    if len(milestones) != len(schedules) - 1:
        raise ValueError(
            f"sequential: {len(schedules)} schedules need {len(schedules) - 1} milestones, "
            f"got {len(milestones)}"
        )
    check_whole("sequential", "steps_per_epoch", steps_per_epoch, 1)
    for milestone in milestones:
        check_whole("sequential", "every milestone", milestone, 0)
    if any(later < earlier for earlier, later in pairwise(milestones)):
        raise ValueError(f"sequential: milestones must ascend, got {list(milestones)}")

    def schedule(step):
        step = jnp.asarray(step)
        value = jnp.asarray(schedules[0](step), jnp.result_type(float))
        for part, milestone in zip(schedules[1:], milestones, strict=True):
            # Before its milestone a part is traced at its step 0, and not chosen.
            own = jnp.maximum(step - milestone * steps_per_epoch, 0)
            begun = epoch_of(step, steps_per_epoch) >= milestone
            value = jnp.where(begun, jnp.asarray(part(own), value.dtype), value)
        return value

    return schedule


def chained(schedules: Sequence[optax.Schedule]) -> optax.Schedule:
    """Multiply schedules, as `ChainedScheduler` does with those that scale the learning rate.

    These are exponential, step, multi_step, constant_lr, linear, polynomial, and cosine_annealing
    down to 0 until its T_max. (PyTorch's others set the learning rate, whatever came before.)

    Args:
        schedules: at least one; the first built with the learning rate, the others with 1.0.

    Raises:
        ValueError: no schedule.
    """
    if not schedules:
        raise ValueError("chained: needs at least one schedule, got none")

    def schedule(step):
        dtype = jnp.result_type(float)
        return reduce(operator.mul, (jnp.asarray(part(step), dtype) for part in schedules))

    return schedule

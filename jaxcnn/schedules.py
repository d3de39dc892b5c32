"""Learning rates by `torch.optim.lr_scheduler`'s names and values (PyTorch 2.13).

A schedule is a pure function step -> learning rate, traced into the train step; the step counts
the optimizer steps done, so the first one uses `schedule(0)`. Where PyTorch's loop calls
`scheduler.step()` once an epoch, `steps_per_epoch` says how many steps that is; per step it is 1.
"""

from collections.abc import Callable

import jax.numpy as jnp
import optax

from jaxcnn import named


def constant(learning_rate: float, steps_per_epoch: int) -> optax.Schedule:
    """Return the learning rate unchanged at every step."""
    del steps_per_epoch
    return optax.constant_schedule(learning_rate)


def exponential(learning_rate: float, steps_per_epoch: int, *, gamma: float) -> optax.Schedule:
    """Build `ExponentialLR`: learning_rate * gamma^epoch, epoch = step // steps_per_epoch.

    Raises:
        ValueError: gamma outside (0, 1].
    """
    if not 0 < gamma <= 1:
        raise ValueError(f"exponential: gamma must be in (0, 1], got {gamma}")

    def schedule(step):
        epoch = (jnp.asarray(step) // steps_per_epoch).astype(jnp.result_type(float))
        return learning_rate * jnp.power(gamma, epoch)

    return schedule


SCHEDULES: dict[str, Callable[..., optax.Schedule]] = {
    "constant": constant,
    "exponential": exponential,
}


def create(
    name: str, learning_rate: float, *, steps_per_epoch: int = 1, **arguments
) -> optax.Schedule:
    """Build a schedule by name.

    Args:
        name: a key of `SCHEDULES`.
        learning_rate: the initial one, >= 0.
        steps_per_epoch: optimizer steps between two `scheduler.step()`; 1 decays at every step.
        **arguments: the schedule's own, by PyTorch's names.

    Raises:
        ValueError: unknown name, an argument that the schedule does not take or lacks, or a bad
            value.
    """
    if steps_per_epoch < 1:
        raise ValueError(f"steps_per_epoch must be at least 1, got {steps_per_epoch}")
    if learning_rate < 0:
        raise ValueError(f"learning_rate must be >= 0, got {learning_rate}")
    return named.build("schedule", SCHEDULES, name, learning_rate, steps_per_epoch, **arguments)

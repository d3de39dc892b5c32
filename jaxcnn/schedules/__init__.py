"""Learning rates by `torch.optim.lr_scheduler`'s names and values (PyTorch 2.13).

A schedule is a pure function step -> learning rate, traced into the train step; the step counts
the optimizer steps done, so the first one uses `schedule(0)`. It takes an integer or an integer
array of any shape. Where PyTorch's loop calls `scheduler.step()` once an epoch, `steps_per_epoch`
says how many steps that is; per step it is 1. "Epochs" below are these calls.

PyTorch multiplies most learning rates along from call to call; here every one is computed from its
step alone, so that it can be jitted, mapped and resumed at any step. `cyclic` and `one_cycle`
return a `Cycle`, which has a momentum too; `plateau` follows a metric, not the step, and is a
`Plateau` of pure functions.
"""

from collections.abc import Callable

import optax

from jaxcnn import named
from jaxcnn.schedules.cosine import cosine_annealing, cosine_annealing_warm_restarts
from jaxcnn.schedules.cycle import Cycle, cyclic, one_cycle
from jaxcnn.schedules.decay import (
    constant,
    constant_lr,
    exponential,
    lambda_lr,
    linear,
    multi_step,
    polynomial,
    step,
)
from jaxcnn.schedules.plateau import Plateau, PlateauState, plateau
from jaxcnn.schedules.sequential import chained, sequential

__all__ = [
    "SCHEDULES",
    "Cycle",
    "Plateau",
    "PlateauState",
    "chained",
    "constant",
    "constant_lr",
    "cosine_annealing",
    "cosine_annealing_warm_restarts",
    "create",
    "cyclic",
    "exponential",
    "lambda_lr",
    "linear",
    "multi_step",
    "one_cycle",
    "plateau",
    "polynomial",
    "sequential",
    "step",
]

SCHEDULES: dict[str, Callable[..., optax.Schedule | Plateau]] = {
    "constant": constant,
    "exponential": exponential,
    "step": step,
    "multi_step": multi_step,
    "constant_lr": constant_lr,
    "linear": linear,
    "polynomial": polynomial,
    "cosine_annealing": cosine_annealing,
    "cosine_annealing_warm_restarts": cosine_annealing_warm_restarts,
    "cyclic": cyclic,
    "one_cycle": one_cycle,
    "plateau": plateau,
}


def create(
    name: str, learning_rate: float, *, steps_per_epoch: int = 1, **arguments
) -> optax.Schedule | Plateau:
    """Build a schedule by name.

    Args:
        name: a key of `SCHEDULES`.
        learning_rate: the optimizer's, >= 0; of `cyclic` the base_lr, of `one_cycle` the max_lr.
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

"""Half cosines: one after the other up and down, or down with warm restarts.

Ilya Loshchilov and Frank Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2016
(arXiv 1608.03983). Arguments as in `jaxcnn.schedules.decay`; T_max, T_0, T_mult are PyTorch's
spelling.
"""

import jax.numpy as jnp
import optax

from jaxcnn.schedules.counting import (
    MAX_COUNT,
    as_float,
    check_whole,
    epoch_of,
    half_cosine,
    passed,
)


def cosine_annealing(
    learning_rate: float, steps_per_epoch: int, *, T_max: int, eta_min: float = 0.0
) -> optax.Schedule:
    """Build `CosineAnnealingLR`: from learning_rate to eta_min in T_max epochs, and back, for ever.

    eta_min + (learning_rate - eta_min) (1 + cos(pi epoch / T_max)) / 2. PyTorch multiplies this
    along, and after T_max starts again from 1 - cos(pi / T_max), which has lost digits: 5e-14 of
    the learning rate where T_max is 37.

    Args:
        learning_rate: the one at epochs 0, 2 T_max, ...
        steps_per_epoch: optimizer steps an epoch.
        T_max: epochs of a half period, >= 1.
        eta_min: the one at epochs T_max, 3 T_max, ..., >= 0.

    Raises:
        ValueError: a bad T_max or eta_min.
    """
    check_whole("cosine_annealing", "T_max", T_max, 1)
    _check_eta_min("cosine_annealing", eta_min)

    def schedule(step):
        phase = epoch_of(step, steps_per_epoch) % (2 * T_max)
        done = jnp.minimum(phase, 2 * T_max - phase)
        share = half_cosine(as_float(done) / T_max, as_float(T_max - done) / T_max)
        return eta_min + (learning_rate - eta_min) * share

    return schedule


def cosine_annealing_warm_restarts(
    learning_rate: float, steps_per_epoch: int, *, T_0: int, T_mult: int = 1, eta_min: float = 0.0
) -> optax.Schedule:
    """Build `CosineAnnealingWarmRestarts`: half cosines down to eta_min, each T_mult times longer.

    Args:
        learning_rate: the one that every restart begins with.
        steps_per_epoch: optimizer steps an epoch.
        T_0: epochs of the first half cosine, >= 1; with T_0 = T_mult = 1 nothing decays.
        T_mult: how many times longer the next one is, >= 1.
        eta_min: what the cosines fall to, >= 0; the restart comes in the epoch that would reach it.

    Raises:
        ValueError: a bad T_0, T_mult or eta_min.
    """
    name = "cosine_annealing_warm_restarts"
    check_whole(name, "T_0", T_0, 1)
    check_whole(name, "T_mult", T_mult, 1)
    _check_eta_min(name, eta_min)
    starts, lengths = [0], [T_0]
    while T_mult > 1 and starts[-1] + lengths[-1] <= MAX_COUNT:
        starts.append(starts[-1] + lengths[-1])
        lengths.append(min(lengths[-1] * T_mult, MAX_COUNT))

    def schedule(step):
        epoch = epoch_of(step, steps_per_epoch)
        cycle = passed(starts, epoch) - 1
        length = jnp.asarray(lengths, epoch.dtype)[cycle]
        done = (epoch - jnp.asarray(starts, epoch.dtype)[cycle]) % length
        share = half_cosine(
            as_float(done) / as_float(length), as_float(length - done) / as_float(length)
        )
        return eta_min + (learning_rate - eta_min) * share

    return schedule


def _check_eta_min(schedule: str, eta_min: float) -> None:
    if not eta_min >= 0:
        raise ValueError(f"{schedule}: eta_min must be >= 0, got {eta_min}")

"""Schedules against PyTorch's schedulers, which set learning rate and momentum in a loop."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch.optim import lr_scheduler

from jaxcnn import schedules
from parity.compilation import precision

SCHEDULERS: dict[str, Callable[..., lr_scheduler.LRScheduler]] = {
    "constant": lr_scheduler.ConstantLR,
    "exponential": lr_scheduler.ExponentialLR,
    "step": lr_scheduler.StepLR,
    "multi_step": lr_scheduler.MultiStepLR,
    "constant_lr": lr_scheduler.ConstantLR,
    "linear": lr_scheduler.LinearLR,
    "polynomial": lr_scheduler.PolynomialLR,
    "cosine_annealing": lr_scheduler.CosineAnnealingLR,
    "cosine_annealing_warm_restarts": lr_scheduler.CosineAnnealingWarmRestarts,
    "cyclic": lr_scheduler.CyclicLR,
    "one_cycle": lr_scheduler.OneCycleLR,
}
"""PyTorch's schedulers by our names."""

STEPS, RATE, MOMENTUM = 300, 0.1, 0.9
"""Of the loops: their steps, and the optimizer's learning rate and momentum."""

# What `plateau` follows, one value a step: it falls for 80 steps, then it stays.
_METRIC = np.maximum(0.2, np.exp(-np.arange(STEPS) / 50))
_PLATEAU: dict[str, Any] = {"factor": 0.5, "patience": 30}
_WARM_UP = ("linear", {"start_factor": 0.1, "total_iters": 30})
_COSINE = ("cosine_annealing", {"T_max": 270})
_STAIRS = ("multi_step", {"milestones": [100, 200], "gamma": 0.3})
_ARGUMENTS: dict[str, dict[str, Any]] = {
    "constant": {},
    "exponential": {"gamma": 0.99},
    "step": {"step_size": 60, "gamma": 0.5},
    "multi_step": _STAIRS[1],
    "constant_lr": {"factor": 0.25, "total_iters": 60},
    "linear": {"start_factor": 0.1, "total_iters": 100},
    "polynomial": {"total_iters": 250, "power": 2.0},
    "cosine_annealing": {"T_max": 100, "eta_min": 0.01},
    "cosine_annealing_warm_restarts": {"T_0": 40, "T_mult": 2},
    "cyclic": {"max_lr": 0.5, "step_size_up": 30, "mode": "triangular2"},
    "one_cycle": {"total_steps": STEPS},
}
NAMES = (*_ARGUMENTS, "lambda_lr", "plateau", "sequential", "chained")
"""Every schedule of `jaxcnn.schedules`."""


class Loop(NamedTuple):
    """What one schedule set at every step, on both sides in float64.

    Attributes:
        said: the schedule's arguments.
        rates: learning rates, (PyTorch's, jaxcnn's), (STEPS,) each.
        momenta: momenta in the same way; None where the schedule cycles none.
    """

    said: str
    rates: tuple[np.ndarray, np.ndarray]
    momenta: tuple[np.ndarray, np.ndarray] | None

    @property
    def difference(self) -> float:
        """The largest difference of rates or momenta, relative to the highest."""
        both = [self.rates, *([] if self.momenta is None else [self.momenta])]
        return max(float(np.max(np.abs(got - want)) / np.max(want)) for want, got in both)


def loop(name: str) -> Loop:
    """Run a schedule of `NAMES`, and PyTorch's scheduler in a loop, for `STEPS` steps."""
    said, schedule, build = _both(name)
    rates, momenta = _driven(build)
    with precision("float64"):
        steps = jnp.arange(STEPS)
        got = np.broadcast_to(schedule(steps), STEPS)
        if not isinstance(schedule, schedules.Cycle) or schedule.momentum is None:
            return Loop(said, (rates, got), None)
        return Loop(said, (rates, got), (momenta, np.asarray(schedule.momentum(steps))))


def torch_scheduler(
    name: str, optimizer: torch.optim.Optimizer, **arguments
) -> lr_scheduler.LRScheduler:
    """Build PyTorch's scheduler of a name of `SCHEDULERS` on the optimizer's own learning rate."""
    rate = optimizer.param_groups[0]["lr"]
    own = {
        "constant": {"factor": 1.0},
        "cyclic": {"base_lr": rate},
        "one_cycle": {"max_lr": rate},
    }
    return SCHEDULERS[name](optimizer, **own.get(name, {}), **arguments)


def said(arguments: dict[str, Any]) -> str:
    """Write arguments as in a call."""
    return ", ".join(f"{name}={value}" for name, value in arguments.items())


def _both(name: str) -> tuple[str, Callable, Callable]:
    """Return what is said of a schedule, the schedule, and what builds PyTorch's scheduler."""
    if name == "lambda_lr":
        return (
            "lr_lambda=1 / (1 + epoch / 50)",
            schedules.lambda_lr(RATE, 1, lr_lambda=_hyperbola),
            partial(lr_scheduler.LambdaLR, lr_lambda=_hyperbola),
        )
    if name == "plateau":
        return (
            f"{said(_PLATEAU)}, a metric that falls for 80 steps",
            _follow_metric,
            partial(lr_scheduler.ReduceLROnPlateau, **_PLATEAU),
        )
    if name == "sequential":
        return (
            "linear, from step 30 on cosine_annealing",
            schedules.sequential([_part(RATE, *_WARM_UP), _part(RATE, *_COSINE)], [30]),
            lambda o: lr_scheduler.SequentialLR(o, _schedulers(o, _WARM_UP, _COSINE), [30]),
        )
    if name == "chained":
        return (
            "linear times multi_step",
            schedules.chained([_part(RATE, *_WARM_UP), _part(1.0, *_STAIRS)]),
            lambda o: lr_scheduler.ChainedScheduler(_schedulers(o, _WARM_UP, _STAIRS)),
        )
    arguments = _ARGUMENTS[name]
    return (
        said(arguments),
        _part(RATE, name, arguments),
        lambda o: torch_scheduler(name, o, **arguments),
    )


def _part(rate: float, name: str, arguments: dict[str, Any]) -> Callable:
    return schedules.create(name, rate, **arguments)


def _schedulers(optimizer: torch.optim.Optimizer, *parts: tuple[str, dict[str, Any]]) -> list:
    return [torch_scheduler(name, optimizer, **arguments) for name, arguments in parts]


def _hyperbola(epoch: Any) -> Any:
    return 1 / (1 + epoch / 50)


def _follow_metric(steps: jax.Array) -> jax.Array:
    """Return the learning rates of a plateau that has seen the metrics of all steps before."""
    plateau = schedules.plateau(RATE, **_PLATEAU)

    def follow(state, metric):
        return plateau.update(state, metric), state.learning_rate

    return jax.lax.scan(follow, plateau.init(), jnp.asarray(_METRIC)[steps])[1]


def _driven(
    build: Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler],
) -> Sequence[np.ndarray]:
    """Return the learning rate and the momentum of every step under PyTorch's scheduler."""
    parameter = torch.nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.SGD([parameter], RATE, momentum=MOMENTUM)
    scheduler = build(optimizer)
    (group,) = optimizer.param_groups
    found = []
    for step in range(STEPS):
        if step:
            metric = [float(_METRIC[step - 1])]
            plateau = isinstance(scheduler, lr_scheduler.ReduceLROnPlateau)
            scheduler.step(*(metric if plateau else []))
        found.append((group["lr"], group["momentum"]))
        optimizer.step()
    return np.array(found).T

"""What the optimizers share: state arrays under torch's names, stepped parameter by parameter.

Optax's ready-made optimizers keep other arrays, under other names, and differ from PyTorch in the
places that the optimizers' docstrings name; one form of state for all makes it data that can be
compared with and converted to PyTorch's.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxcnn.optim import stepping

Value = float | optax.Schedule
"""A number, or a function of the optimizer steps done, traced."""


class State(NamedTuple):
    """An optimizer's state.

    Attributes:
        step: () int32, optimizer steps done.
        slots: torch's name of a state array ("exp_avg") -> a tree of arrays like the parameters'.
    """

    step: jax.Array
    slots: dict[str, Any]


class Now(NamedTuple):
    """What a rule knows of the step besides the parameter.

    Attributes:
        t: (), the step's number, 1 for the first, in the parameter's dtype.
        lr: the learning rate of the step.
        momentum: the momentum or beta1 of the step.
    """

    t: jax.Array
    lr: float | jax.Array
    momentum: float | jax.Array


Slot = Callable[[jax.Array, float | jax.Array], jax.Array]
"""(parameter, learning rate of the first step) -> the first value of one of its state arrays."""

Rule = Callable[
    [jax.Array, jax.Array, Mapping[str, jax.Array], Now],
    tuple[jax.Array, dict[str, jax.Array]],
]
"""(gradient, parameter, its state arrays, now) -> what is added to the parameter, new arrays."""


def zeros(parameter: jax.Array, learning_rate: float | jax.Array) -> jax.Array:
    """Start a state array at 0, in the parameter's shape and dtype."""
    del learning_rate
    return jnp.zeros_like(parameter)


def elementwise(
    name: str,
    learning_rate: Value,
    slots: Mapping[str, Slot],
    rule: Rule,
    *,
    momentum: Value = 0.0,
    weight_decay: float = 0.0,
    decoupled: bool = False,
    maximize: bool = False,
    own: tuple[str, Mapping[str, float | bool]] | None = None,
) -> optax.GradientTransformation:
    """Build the transformation that applies a rule to every parameter by itself.

    Args:
        name: the optimizer's, for errors.
        learning_rate: a number or a schedule; the first step takes `schedule(0)`.
        slots: torch's name of a state array -> its first value.
        rule: one step of one parameter.
        momentum: a number or a schedule, handed on to the rule.
        weight_decay: wd, >= 0; coupled: g + wd w replaces the gradient g.
        decoupled: take lr wd w from the parameter instead.
        maximize: step along the gradient: -g replaces g, before the weight decay.
        own: a function of `jaxcnn.native` that does the same on a CPU, and its attributes.

    Raises:
        ValueError: by the transformation's `update`, if it is not given the parameters.
    """

    def init(params: Any) -> State:
        step = jnp.zeros((), jnp.int32)
        lr = _at(learning_rate, step)
        trees = {
            slot: jax.tree.map(lambda w, first=first: first(w, _cast(lr, w.dtype)), params)
            for slot, first in slots.items()
        }
        return State(step, trees)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, State]:
        if params is None:
            raise ValueError(f"{name}: update needs the parameters, got None")
        lr, beta = _at(learning_rate, state.step), _at(momentum, state.step)
        structure = jax.tree.structure(updates)
        trees = (updates, params, *(state.slots[slot] for slot in slots))
        rows = zip(*(structure.flatten_up_to(tree) for tree in trees), strict=True)
        done = []
        for g, w, *row in rows:
            now = Now((state.step + 1).astype(w.dtype), _cast(lr, w.dtype), _cast(beta, w.dtype))
            done.append(advance(g, w, row, now))
        new = {
            slot: structure.unflatten(arrays[i] for _, arrays in done)
            for i, slot in enumerate(slots)
        }
        deltas = structure.unflatten(delta for delta, _ in done)
        return deltas, State(jnp.asarray(optax.safe_increment(state.step)), new)

    def advance(g, w, row, now):
        if maximize:
            g = -g
        if weight_decay and not decoupled:
            g = g + weight_decay * w
        delta, arrays = rule(g, w, dict(zip(slots, row, strict=True)), now)
        if weight_decay and decoupled:
            delta = delta - now.lr * weight_decay * w
        return delta, [arrays[slot] for slot in slots]

    def plain(g, w, row, numbers):
        lr, beta, t = numbers
        return advance(g, w, row, Now(t, lr, beta))

    def whole(gradients: Any, state: Any, params: Any) -> tuple[Any, State] | None:
        kept = [state.slots[slot] for slot in slots]
        if own is None or not stepping.own(params, gradients, *kept):
            return None
        numbers = (
            _at(learning_rate, state.step),
            _at(momentum, state.step),
            state.step + 1,
        )
        function, settings = own
        params, new = stepping.take(function, settings, plain, numbers, gradients, params, kept)
        done = State(
            jnp.asarray(optax.safe_increment(state.step)), dict(zip(slots, new, strict=True))
        )
        return params, done

    made = optax.GradientTransformation(init, update)
    return made if own is None else stepping.Stepping(*made, whole)


def lerp(start: jax.Array, end: jax.Array, weight: float | jax.Array) -> jax.Array:
    """Move `start` towards `end` by a weight in [0, 1]."""
    return start + weight * (end - start)


def bias_correction(beta: float | jax.Array, t: jax.Array) -> jax.Array:
    """Return 1 - beta^t, as torch computes it in float64 whatever the parameter's dtype.

    In float32, 1 - 0.999^t loses up to four digits to the rounding of 0.999.
    """
    if isinstance(beta, jax.Array):
        log = jnp.log(beta)
    else:
        log = math.log(beta) if beta > 0 else -math.inf
    return -jnp.expm1(t * log)


def check_not_negative(name: str, **values: Value) -> None:
    """Raise a ValueError that names the optimizer and the first argument below 0.

    Schedules are not looked into.
    """
    for argument, value in values.items():
        if not callable(value) and not value >= 0:
            raise ValueError(f"{name}: {argument} must be >= 0, got {value}")


def check_betas(name: str, betas: tuple[Value, float]) -> None:
    """Raise a ValueError unless betas are two numbers in [0, 1), the first maybe a schedule."""
    if len(betas) != 2:
        raise ValueError(f"{name}: betas must be two, got {betas}")
    for index, beta in enumerate(betas):
        if callable(beta) and index == 0:
            continue
        if callable(beta) or not 0 <= beta < 1:
            raise ValueError(f"{name}: betas[{index}] must be in [0, 1), got {beta}")


def _at(value: Value, step: jax.Array) -> float | jax.Array:
    return jnp.asarray(value(step)) if callable(value) else value


def _cast(value: float | jax.Array, dtype: Any) -> float | jax.Array:
    """Give a schedule's value the parameter's dtype; a Python number has none."""
    return value.astype(dtype) if isinstance(value, jax.Array) else value

"""Optimizers whose learning rate falls when a metric no longer improves.

The learning rate and what the plateau remembers are arrays of the optimizer's state: a compiled
step reads them, a checkpoint holds them, and `observe` changes them between two steps.
"""

from collections.abc import Callable
from typing import Any

import jax
import optax
from flax import struct

from jaxcnn.optim.stepping import Stepping, step
from jaxcnn.schedules import Plateau, PlateauState


class OnPlateau(struct.PyTreeNode):
    """An optimizer's state under a plateau.

    Attributes:
        rate: the learning rate, and what decides when it falls.
        optimizer: the optimizer's own state.
        plateau: the arguments; no arrays.
    """

    rate: PlateauState
    optimizer: Any
    plateau: Plateau = struct.field(pytree_node=False)


def on_plateau(
    plateau: Plateau, make: Callable[[optax.Schedule], optax.GradientTransformation]
) -> optax.GradientTransformation:
    """Let an optimizer step with a plateau's learning rate, as under `ReduceLROnPlateau`.

    Args:
        plateau: from `jaxcnn.schedules.plateau`.
        make: builds the optimizer from its schedule, whose value at any step is the plateau's.

    Returns:
        A transformation whose state is an `OnPlateau`.
    """

    def init(params: Any) -> Any:
        rate = plateau.init()
        return OnPlateau(rate, make(lambda step: rate.learning_rate).init(params), plateau)

    def at(state: OnPlateau) -> optax.GradientTransformation:
        return make(lambda count: state.rate.learning_rate)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        updates, inner = at(state).update(updates, state.optimizer, params)
        return updates, state.replace(optimizer=inner)

    def whole(gradients: Any, state: Any, params: Any) -> tuple[Any, Any]:
        params, inner = step(at(state), gradients, state.optimizer, params)
        return params, state.replace(optimizer=inner)

    return Stepping(init, update, whole)


def observe(opt_state: Any, metric: jax.Array | float) -> Any:
    """Return an optimizer's state after an epoch's metric, as `scheduler.step(metric)` leaves it.

    Args:
        opt_state: of an optimizer built with a `Plateau`, or of `groups` with several.
        metric: a scalar, the same for every group.

    Raises:
        ValueError: the state is of an optimizer without a plateau.
    """
    _states(opt_state)

    def advance(node: Any) -> Any:
        if not isinstance(node, OnPlateau):
            return node
        return node.replace(rate=node.plateau.update(node.rate, metric))

    return jax.tree.map(advance, opt_state, is_leaf=_is_state)


def plateau_rate(opt_state: Any) -> float:
    """Return the learning rate of the next step, of groups the first group's.

    Raises:
        ValueError: the state is of an optimizer without a plateau.
    """
    return float(_states(opt_state)[0].rate.learning_rate)


def _states(opt_state: Any) -> list[OnPlateau]:
    nodes = jax.tree.leaves(opt_state, is_leaf=_is_state)
    found = [node for node in nodes if isinstance(node, OnPlateau)]
    if not found:
        raise ValueError("opt_state: no plateau in it; build the optimizer with a Plateau")
    return found


def _is_state(node: Any) -> bool:
    return isinstance(node, OnPlateau)

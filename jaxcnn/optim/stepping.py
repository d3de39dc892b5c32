"""Whole steps: parameters and optimizer's state replaced at once."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from jaxcnn.layers import forms
from jaxcnn.native.hold import hold
from jaxcnn.native.primitive import call, differentiate_plainly, map_plainly, primitive

Whole = Callable[[Any, Any, Any], tuple[Any, Any] | None]
"""(gradients, state, params) -> new params and state; None where only `update` will do."""

Advance = Callable[[jax.Array, jax.Array, Sequence[jax.Array], Sequence[Any]], tuple[Any, Any]]
"""(gradient, parameter, its state arrays, numbers) -> what is added to the parameter, new arrays;
the numbers are the learning rate, the momentum or first beta, and the step's number from 1."""

_FLAGS = ("nesterov", "maximize", "decoupled")


class Stepping(optax.GradientTransformation):
    """A transformation that also takes whole steps, see `step`.

    Attributes:
        whole: such a step, with the values of `update` and `optax.apply_updates` up to rounding, or
            None.
    """

    # Without, as `_replace` and `jax.tree.map` make it, it is as any other transformation.
    whole: Whole | None = None

    def __new__(cls, init: Any, update: Any, whole: Whole | None = None) -> "Stepping":
        """Add whole steps to a transformation's functions."""
        made = super().__new__(cls, init, update)
        made.whole = whole
        return made

    def __getnewargs__(self) -> Any:
        """Return what a copy is made of."""
        return *self, self.whole


def step(
    tx: optax.GradientTransformation, gradients: Any, state: Any, params: Any
) -> tuple[Any, Any]:
    """Return parameters and state after a step: `tx.update` and `optax.apply_updates`, or at once.

    Args:
        tx: the optimizer.
        gradients: a tree like the parameters'.
        state: the optimizer's.
        params: the parameters.
    """
    whole = tx.whole if isinstance(tx, Stepping) else None
    if whole is not None and (done := whole(gradients, state, params)) is not None:
        return done
    updates, state = tx.update(gradients, state, params)
    return optax.apply_updates(params, updates), state


def own(params: Any, *others: Any) -> bool:
    """Return whether there is our own CPU code for trees: of the same arrays, of one number type.

    Outside of a traced function there is none: it would be compiled for every optimizer anew.

    Args:
        params: a tree of arrays.
        *others: trees like it, if they are to be stepped.
    """
    leaves, tree = jax.tree.flatten(params)
    rows, trees = [leaves], {tree}
    for other in others:
        row, found = jax.tree.flatten(other)
        rows.append(row)
        trees.add(found)
    arrays = [leaf for row in rows for leaf in row]
    if not any(isinstance(leaf, Tracer) for leaf in arrays) or len(trees) > 1:
        return False
    if not all(isinstance(leaf, jax.Array | np.ndarray) for leaf in arrays):
        return False
    shapes = {tuple(leaf.shape for leaf in row) for row in rows}
    return len(shapes) == 1 and forms.native_for(*arrays)


def take(
    function: str,
    settings: Mapping[str, Any],
    advance: Advance,
    numbers: tuple[float | jax.Array, float | jax.Array, float | jax.Array],
    gradients: Any,
    params: Any,
    slots: Sequence[Any],
) -> tuple[Any, list[Any]]:
    """Take a step by our own CPU code (`jaxcnn.native`): one call, one pass over all arrays.

    XLA makes a kernel for every new array of every parameter, each to compile and to start, and
    copies parameters that it replaces too early (see `jaxcnn.optim.held`).

    Args:
        function: of the library.
        settings: its attributes, numbers and flags.
        advance: what it computes of a parameter, for `vmap` and derivatives of the step.
        numbers: learning rate, momentum or first beta, and the step's number from 1. A momentum
            that is no array keeps its digits in float32 too: 1 - 0.999 has four of them there.
        gradients: a tree like the parameters'.
        params: arrays for which, with gradients and slots, there is such code (`own`).
        slots: trees like the parameters'.

    Returns:
        The new parameters and the new slots.
    """
    momentum = math.nan if isinstance(numbers[1], jax.Array) else float(numbers[1])
    given = [(name, (bool if name in _FLAGS else float)(x)) for name, x in settings.items()]
    tree = jax.tree.structure(params)
    leaves = [leaf for each in (gradients, params, *slots) for leaf in tree.flatten_up_to(each)]
    found = _step.bind(
        jnp.stack([jnp.asarray(number, leaves[0].dtype) for number in numbers]),
        *leaves,
        count=tree.num_leaves,
        function=function,
        settings=(("momentum", momentum), *given),
        advance=advance,
    )
    new, *kept = (tree.unflatten(part) for part in _groups(found, tree.num_leaves))
    return new, kept


def _groups(leaves, count):
    return [leaves[at : at + count] for at in range(0, len(leaves), count)]


def _plain(numbers, *leaves, count, settings, advance, **_):
    groups, (rate, momentum, number) = _groups(leaves, count), numbers
    fixed = dict(settings)["momentum"]
    numbers = rate, momentum if math.isnan(fixed) else fixed, number
    done = [advance(g, w, slots, numbers) for g, w, *slots in zip(*groups, strict=True)]
    new = [w + delta for w, (delta, _) in zip(groups[1], done, strict=True)]
    return [*new, *(slots[i] for i in range(len(groups) - 2) for _, slots in done)]


def _held(numbers, *leaves, count, **parameters):
    """Compute `_plain` when all gradients are there, see `jaxcnn.optim.held`."""
    gradients = hold(leaves[:count])
    return _plain(numbers, *gradients, *leaves[count:], count=count, **parameters)


def _lower(ctx, *operands, count, function, settings, advance):
    del count, advance
    typed = {name: x if isinstance(x, bool) else np.float64(x) for name, x in settings}
    arrays = (ctx.avals_in, ctx.avals_out)
    return call(ctx, function, operands, *arrays, in_place=True, **typed)


def _shapes(numbers, *leaves, count, **_):
    del numbers
    return [leaf.update(weak_type=False) for leaf in leaves[count:]]


_STATIC = ("count", "function", "settings", "advance")
_step = primitive("step", _lower, _shapes, several=True, static=_STATIC)
map_plainly(_step, _held)
differentiate_plainly(_step, _plain)

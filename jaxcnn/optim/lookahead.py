"""Lookahead: slow weights that follow the optimizer's, which go on from there."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxcnn.schedules.counting import as_float

Decay = float | optax.Schedule


class Lookahead(NamedTuple):
    """The state of an optimizer with lookahead.

    Attributes:
        step: () int32, optimizer steps done.
        slow: the slow weights, as the parameters.
        optimizer: the optimizer's own state.
    """

    step: jax.Array
    slow: Any
    optimizer: Any


def lookahead(
    tx: optax.GradientTransformation, *, every: int, decay: Decay, last: int | None = None
) -> optax.GradientTransformation:
    """Pull an optimizer's weights back to a running average of them, every so many steps.

    Zhang et al., 2019, arXiv:1907.08610: slow += (1 - decay) (w - slow), and w = slow. There the
    decay is one number (1 - their alpha); one that grows with training moves fast at first and
    averages at last (Keller Jordan, 2024, arXiv:2404.00498, section 3.4). What the optimizer
    remembers, as its momentum, stays as it is. `optax.lookahead` keeps the two weights in one tree
    of pairs, which a network's parameters are not.

    Args:
        tx: the optimizer.
        every: steps from one pull to the next, at least 1.
        decay: share of the slow weights that is kept, in [0, 1], or a function of the steps done,
            traced.
        last: the step at whose end the slow weights take the others' place whole; None for no such
            step.

    Returns:
        A transformation whose state is a `Lookahead`. A weight that the optimizer leaves as it is
        keeps its bits.

    Raises:
        ValueError: a bad number; by the transformation's `update`, if it is not given the
            parameters.
    """
    if every < 1:
        raise ValueError(f"lookahead: every must be at least 1, got {every}")
    if not callable(decay) and not 0 <= decay <= 1:
        raise ValueError(f"lookahead: decay must be in [0, 1], got {decay}")

    def init(params: Any) -> Lookahead:
        # A copy: arrays of the parameters themselves could not be donated with the state.
        slow = jax.tree.map(lambda w: jnp.array(w, copy=True), params)
        return Lookahead(jnp.zeros((), jnp.int32), slow, tx.init(params))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Lookahead]:
        if params is None:
            raise ValueError("lookahead: update needs the parameters, got None")
        updates, optimizer = tx.update(updates, state.optimizer, params)
        step = state.step + 1
        pull = step % every == 0
        keep = jnp.asarray(decay(step) if callable(decay) else decay)
        if last is not None:
            pull, keep = pull | (step == last), jnp.where(step == last, 1.0, keep)

        def followed(slow: jax.Array, w: jax.Array, change: jax.Array) -> jax.Array:
            share = 1 - jnp.asarray(keep, w.dtype)
            return jnp.where(pull, slow + share * (w + change - slow), slow)

        slow = jax.tree.map(followed, state.slow, params, updates)
        updates = jax.tree.map(
            lambda change, new, w: jnp.where(pull, new - w, change), updates, slow, params
        )
        return updates, Lookahead(step, slow, optimizer)

    return optax.GradientTransformation(init, update)


def growing_decay(decay: float, steps: int, power: float = 3.0) -> optax.Schedule:
    """Return the decay of slow weights that average the more the longer training goes on.

    Args:
        decay: share of the slow weights that a pull keeps at last, in [0, 1].
        steps: step from which on it no longer grows, at least 1.
        power: before, `decay` is multiplied by (step / steps)^power; at least 0.

    Raises:
        ValueError: a number out of range.
    """
    if not 0 <= decay <= 1:
        raise ValueError(f"lookahead: decay must be in [0, 1], got {decay}")
    for name, value, least in (("steps", steps, 1), ("power", power, 0)):
        if not value >= least:
            raise ValueError(f"lookahead: {name} must be at least {least}, got {value}")
    return lambda step: decay * jnp.minimum(as_float(jnp.asarray(step)) / steps, 1.0) ** power

"""Losses of networks with auxiliary heads."""

from collections.abc import Callable

import jax

Loss = Callable[[jax.Array, jax.Array], jax.Array]

AUXILIARY_WEIGHT = 0.3
"""What an auxiliary head's loss counts for: Szegedy et al. 2014, arXiv:1409.4842, section 5."""


def with_auxiliary(
    loss: Loss,
    outputs: jax.Array | tuple[jax.Array, ...],
    labels: jax.Array,
    weight: float = AUXILIARY_WEIGHT,
) -> jax.Array:
    """Return the loss of every example, that of auxiliary heads added with a weight.

    Args:
        loss: (logits (B, K), labels (B,)) -> (B,).
        outputs: logits (B, K), or a tuple of logits, the main head's first.
        labels: (B,), integers in [0, K).
        weight: factor of each auxiliary head's loss.

    Returns:
        (B,), of the logits' dtype.
    """
    value = loss(main_logits(outputs), labels)
    if isinstance(outputs, tuple):
        for logits in outputs[1:]:
            value = value + weight * loss(logits, labels)
    return value


def main_logits(outputs: jax.Array | tuple[jax.Array, ...]) -> jax.Array:
    """Return the logits (B, K) that predictions follow from: the first of several heads'."""
    return outputs[0] if isinstance(outputs, tuple) else outputs

"""Losses with the values of `torch.nn.functional` (PyTorch 2.13), one value an example."""

import jax
import optax


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Return -log softmax(logits)[label] of every example.

    `torch.nn.functional.cross_entropy(logits, labels, reduction="none")`; Optax's is exact. The
    mean over the batch belongs to the caller, who may have to mask.

    Args:
        logits: (B, K), floating.
        labels: (B,), integers in [0, K).

    Returns:
        (B,), of the logits' dtype.
    """
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)

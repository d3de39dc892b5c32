"""From a loss of every element to what is asked for: `reduction`, as in `torch.nn.functional`."""

from typing import Literal, get_args

import jax
import jax.numpy as jnp

Reduction = Literal["none", "mean", "sum"]


def check_reduction(loss: str, reduction: str) -> None:
    """Raise ValueError, which lists the known ones, at an unknown reduction."""
    known = get_args(Reduction)
    if reduction not in known:
        raise ValueError(f"{loss}: reduction must be one of {', '.join(known)}, got {reduction!r}")


def reduced(
    values: jax.Array, reduction: Reduction, count: jax.Array | int | None = None
) -> jax.Array:
    """Return the values, their sum, or their sum over a count.

    Args:
        values: a loss of every element, of any shape.
        reduction: a known one, see `check_reduction`.
        count: what the mean divides by, by default the number of values; 0 gives NaN, as PyTorch.
    """
    if reduction == "none":
        return values
    if reduction == "sum":
        return jnp.sum(values)
    if count is None:
        return jnp.mean(values)
    return jnp.sum(values) / jnp.asarray(count, values.dtype)


def check_same_shape(loss: str, inputs: jax.Array, targets: jax.Array) -> None:
    """Raise ValueError unless both are floating, of one shape and one dtype.

    PyTorch would broadcast (with a warning), which turns (B, 1) against (B,) into B * B losses.
    """
    if inputs.shape != targets.shape:
        raise ValueError(
            f"{loss}: inputs and targets must have one shape, got {inputs.shape} and "
            f"{targets.shape}"
        )
    if inputs.dtype != targets.dtype or not jnp.issubdtype(inputs.dtype, jnp.floating):
        raise ValueError(
            f"{loss}: inputs and targets must have one floating dtype, got {inputs.dtype} and "
            f"{targets.dtype}"
        )

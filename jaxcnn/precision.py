"""The precision that a step computes in: float32, TF32 or bfloat16.

Parameters, batch statistics, the optimizer's state and the loss are float32 in all of them. On a
GPU a matrix product or convolution of float32 numbers rounds its factors to TF32 (10 bits of
mantissa) unless it is told not to: "float32" tells it, "tf32" lets it. "bfloat16" rounds images,
activations and, where they are used, parameters to 8 bits of mantissa, and halves the memory.
On a CPU "tf32" is "float32", and bfloat16 saves memory, not time.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp

Precision = Literal["float32", "tf32", "bfloat16"]

_PRODUCTS = {"float32": "float32", "tf32": "tensorfloat32", "bfloat16": "default"}


def check(precision: Precision | None) -> None:
    """Raise a ValueError unless a precision is one, or None."""
    if precision is not None and precision not in get_args(Precision):
        known = ", ".join(get_args(Precision))
        raise ValueError(f"precision={precision!r}: expected one of {known}")


def products(precision: Precision | None) -> AbstractContextManager[Any]:
    """Return a context in which products and convolutions are traced with a precision.

    Args:
        precision: None leaves it to `jax.default_matmul_precision`, as a CPU's always is.
    """
    if precision is None or jax.default_backend() == "cpu":
        return nullcontext()
    return jax.default_matmul_precision(_PRODUCTS[precision])


def inputs(images: jax.Array, precision: Precision | None) -> jax.Array:
    """Return images of the number type that the network is to compute in."""
    return images.astype(jnp.bfloat16) if precision == "bfloat16" else images


def outputs(logits: Any, precision: Precision | None) -> Any:
    """Return logits, one head's or all heads', of the number type that the loss is computed in."""
    if precision != "bfloat16":
        return logits
    return jax.tree.map(lambda head: head.astype(jnp.float32), logits)

"""Networks in bfloat16: a network computes in its images' number type.

Where that has less than 32 bits, parameters and batch statistics stay float32: layers round their
parameters as they use them, batch norm computes in float32 (`jaxcnn.layers.norm`), and the loss is
the train step's matter. Micikevicius et al., 2018, arXiv:1710.03740; bfloat16 has float32's range,
so that no loss has to be scaled.
"""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike


def is_half(dtype: DTypeLike) -> bool:
    """Return whether a floating number type has less than 32 bits."""
    return jnp.finfo(dtype).bits < 32


def kept(dtype: DTypeLike) -> DTypeLike:
    """Return the number type of parameters and statistics for inputs of a floating type."""
    return jnp.float32 if is_half(dtype) else dtype


def rounded(parameter: jax.Array, dtype: DTypeLike) -> jax.Array:
    """Round a parameter to its layer's inputs' number type where that is a half one.

    Any other type is left as it is: that it differs is the caller's mistake, which JAX's strict
    promotion tells.
    """
    return parameter.astype(dtype) if is_half(dtype) else parameter

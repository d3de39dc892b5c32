"""What schedules count with: whole epochs, their powers and shares, accurate in float32 too."""

from collections.abc import Sequence
from numbers import Integral

import jax
import jax.numpy as jnp
import numpy as np

MAX_COUNT = 2**31 - 1
"""The largest count of an int32, which steps are."""


def epoch_of(step, steps_per_epoch: int) -> jax.Array:
    """Return step // steps_per_epoch, of the step's shape and integer dtype."""
    return jnp.asarray(step) // steps_per_epoch


def as_float(count: jax.Array) -> jax.Array:
    """Return a count in the default float dtype; float32 is exact up to 2^24."""
    return count.astype(jnp.result_type(float))


def power(base: float, count: jax.Array) -> jax.Array:
    """Return base^count to a few ulps in any precision.

    In float32, `jnp.power(0.95, 300)` is 150 ulps off, for the rounding of 0.95 alone. Here
    base^1, base^2, base^4, ... come from double precision, and those of the count's bits are
    multiplied.

    Args:
        base: >= 0.
        count: integers in [0, 2^31), of any shape.

    Returns:
        The count's shape in the default float dtype.
    """
    bits = np.arange(31)
    dtype = jnp.result_type(float)
    with np.errstate(over="ignore", under="ignore"):
        factors = np.power(np.float64(base), 2.0**bits).astype(dtype)
    present = (count[..., None] >> jnp.asarray(bits, count.dtype)) & 1
    return jnp.prod(jnp.where(present == 1, factors, np.ones((), dtype)), axis=-1)


def passed(milestones: Sequence[int], count: jax.Array) -> jax.Array:
    """Return how many of the milestones are <= the count, an int of its shape."""
    return jnp.sum(np.array(milestones, count.dtype) <= count[..., None], axis=-1)


def half_cosine(done: jax.Array, left: jax.Array) -> jax.Array:
    """Return (1 + cos(pi done)) / 2 for shares done + left = 1 in [0, 1], without cancellation.

    It is cos^2(pi/2 done) = sin^2(pi/2 left); the smaller of both angles is the accurate one.
    """
    cosine, sine = jnp.cos(np.pi / 2 * done), jnp.sin(np.pi / 2 * left)
    return jnp.square(jnp.where(done <= left, cosine, sine))


def check_whole(schedule: str, argument: str, value, least: int) -> None:
    """Raise ValueError unless a value is an integer of at least so much."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{schedule}: {argument} must be an integer >= {least}, got {value!r}")

"""Arrays held back until all are there."""

from collections.abc import Sequence

import jax
from jax.interpreters import ad, batching

from jaxcnn.native.primitive import library_call


def hold(arrays: Sequence[jax.Array]) -> list[jax.Array]:
    """Return arrays as they are, by a call of the library that XLA cannot look into.

    What is computed of the results comes after all arrays, and none of them is computed anew where
    it is read, as XLA does with what it can join with other operations (also across
    `jax.lax.optimization_barrier`, which it takes away first). Linear, of any order.

    Args:
        arrays: of one number type that `jaxcnn.native.available` is true for.
    """
    return _hold.bind(*arrays)


_hold = library_call("hold", lambda *arrays: list(arrays), several=True, in_place=True)
batching.primitive_batchers[_hold] = lambda arrays, axes: (_hold.bind(*arrays), axes)
ad.deflinear2(_hold, lambda cotangents, *arrays: list(cotangents))

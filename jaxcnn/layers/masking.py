"""Which examples of a batch count: the last batch of an epoch is filled up and masked.

So that one compiled program serves every batch, whatever the size of the last one. What mixes
examples has to leave the filling out: `jaxcnn.layers.norm` does, and the loss of a train step.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import jax

_mask: ContextVar[jax.Array | None] = ContextVar("mask", default=None)


@contextmanager
def counting(mask: jax.Array | None) -> Iterator[None]:
    """Let only some of the examples count in what is traced or computed inside.

    Args:
        mask: (B,) bool, False for examples that fill the batch up; None if all count.
    """
    token = _mask.set(mask)
    try:
        yield
    finally:
        _mask.reset(token)


def mask() -> jax.Array | None:
    """Return the mask that `counting` set, None if all examples count."""
    return _mask.get()

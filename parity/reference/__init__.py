"""The PyTorch twins of `jaxcnn.models`, by the same names: `names()`, `create()`.

A family is one file with the name of its counterpart in `jaxcnn/models/` and a dict `VARIANTS`:
name -> constructor. The twins are plain PyTorch, written from the networks' documentation and not
from the Flax code, every activation and pool a module of its own so that hooks see it.
"""

import sys
from collections.abc import Callable
from functools import cache

from torch import nn

from jaxcnn import named


@cache
def _variants() -> dict[str, Callable[..., nn.Module]]:
    return named.variants(sys.modules[__name__])


def names() -> list[str]:
    """Return the names of all twins, sorted."""
    return sorted(_variants())


def create(name: str, num_classes: int = 10, **options) -> nn.Module:
    """Build a twin by the name of its network, float32, as PyTorch initialises it.

    Raises:
        ValueError: unknown name (the known ones are listed).
        TypeError: an option that the twin does not have.
    """
    if name not in _variants():
        raise ValueError(f"network {name!r} has no twin; known: {', '.join(names())}")
    return _variants()[name](num_classes=num_classes, **options)

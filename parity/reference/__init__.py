"""The PyTorch twins of `jaxcnn.models`, by the same names: `names()`, `create()`.

A family is one file with the name of its counterpart in `jaxcnn/models/` and a dict `VARIANTS`:
name -> (constructor, (H, W) of the images that the suite compares on: small, and not square where
the network allows). The twins are plain PyTorch, written from the networks' documentation and not
from the Flax code, every activation and pool a module of its own so that hooks see it.
"""

import sys
from collections.abc import Callable
from functools import cache

from torch import nn

from jaxcnn import named


@cache
def _variants() -> dict[str, tuple[Callable[..., nn.Module], tuple[int, int]]]:
    return named.variants(sys.modules[__name__])


def names() -> list[str]:
    """Return the names of all twins, sorted."""
    return sorted(_variants())


def create(name: str, num_classes: int | None = None, **options) -> nn.Module:
    """Build a twin by the name of its network, float32, as PyTorch initialises its layers.

    Args:
        name: one of `names()`.
        num_classes: outputs of the last layer, by default the twin's own.
        **options: the twin's other arguments.

    Raises:
        ValueError: unknown name (the known ones are listed).
        TypeError: an option that the twin does not have.
    """
    if num_classes is not None:
        options["num_classes"] = num_classes
    return _variant(name)[0](**options)


def comparison_size(name: str) -> tuple[int, int]:
    """Return (H, W) of the images that the suite compares a network on.

    Raises:
        ValueError: unknown name.
    """
    return _variant(name)[1]


def _variant(name: str):
    if name not in _variants():
        raise ValueError(f"network {name!r} has no twin; known: {', '.join(names())}")
    return _variants()[name]

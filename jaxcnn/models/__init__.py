"""Every network by name: `names()`, `create()`, `input_shape()`.

A family is one file of this package with a dict `VARIANTS`: name -> (constructor, input shape
(H, W, C)). A new network is a new entry or a new file; there is no other registry.
"""

import sys
from collections.abc import Callable
from functools import cache

from flax import linen as nn

from jaxcnn import named


@cache
def _variants() -> dict[str, tuple[Callable[..., nn.Module], tuple[int, int, int]]]:
    return named.variants(sys.modules[__name__])


def names() -> list[str]:
    """Return the names of all networks, sorted."""
    return sorted(_variants())


def create(name: str, *, num_classes: int | None = None, **options) -> nn.Module:
    """Build a network by name.

    `model.init(key, images, train=False)` draws its variables, `model.apply(variables, images,
    train=...)` returns logits (B, num_classes); networks with auxiliary classifiers return in
    training a NamedTuple of logits, the main ones first.

    Args:
        name: one of `names()`.
        num_classes: outputs of the last layer, at least 1; by default the network's own, 10 for the
            documented networks and ImageNet's 1,000 for the standard families.
        **options: the network's own attributes, as its file documents them.

    Raises:
        ValueError: unknown name (the known ones are listed) or num_classes below 1.
        TypeError: an option that the network does not have.
    """
    if num_classes is not None:
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {num_classes}")
        options["num_classes"] = num_classes
    return _variant(name)[0](**options)


def input_shape(name: str) -> tuple[int, int, int]:
    """Return the documented input shape (H, W, C) of a network.

    Raises:
        ValueError: unknown name.
    """
    return _variant(name)[1]


def _variant(name: str):
    try:
        return _variants()[name]
    except KeyError:
        raise ValueError(f"unknown network {name!r}; known: {', '.join(names())}") from None

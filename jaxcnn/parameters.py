"""Parameters by the paths that name them: a tree's keys joined with dots ("layer1.0.bn1.scale")."""

from collections.abc import Callable, Mapping
from typing import Any

import jax


def dotted(path: tuple[Any, ...]) -> str:
    """Join the keys of a leaf's path in nested dicts, as `jax.tree_util` gives it."""
    return ".".join(str(entry.key) for entry in path)


def by_path(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the leaves of nested dicts by their dotted paths, in the tree's order."""
    return {dotted(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}


def map_by_path(function: Callable[[str, Any], Any], params: Any) -> Any:
    """Return the tree of `function(dotted path, leaf)`."""
    return jax.tree_util.tree_map_with_path(lambda path, leaf: function(dotted(path), leaf), params)


def module(path: str) -> str:
    """Return the path of the layer that a parameter, or a key of a `state_dict`, belongs to."""
    return path.rpartition(".")[0]

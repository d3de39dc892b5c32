"""Other settings for some of the parameters, as `torch.optim`'s parameter groups."""

import re
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxcnn.optim.by_name import create
from jaxcnn.optim.transform import Value
from jaxcnn.parameters import map_by_path
from jaxcnn.schedules import Plateau

NORMS_AND_BIASES = r"(.*\.)?(scale|bias)"
"""Matches the parameters that are often left without weight decay: norms' and all biases."""

_REST = "rest"


def groups(
    name: str,
    learning_rate: Value | Plateau,
    patterns: Sequence[tuple[str, Mapping[str, Any]]],
    **arguments,
) -> optax.GradientTransformation:
    """Build an optimizer with other settings for the parameters that a pattern matches.

    Args:
        name: a key of `OPTIMIZERS`.
        learning_rate: a number >= 0, a schedule or a `Plateau`; a group with a learning rate of
            its own follows the metric only if that is a `Plateau` too.
        patterns: pairs of a regular expression and of the settings that it changes, `arguments` by
            PyTorch's names, `learning_rate`, or `frozen`: True leaves the parameters and the state
            of the group as they are, as `requires_grad=False` does; the state has the same form as
            without, so that an optimizer built with `frozen=False` goes on with it. The expression
            must match the whole path of a parameter, its keys joined with dots
            ("layer1.0.conv1.kernel", "bn1.scale"); the first that matches decides.
        **arguments: the settings of all other parameters, and of the groups where they change
            nothing.

    Returns:
        A transformation whose state holds every group's own, by the pattern's index and "rest".

    Raises:
        ValueError: what `create` raises; a bad regular expression; by the transformation's `init`,
            if a pattern decides about no parameter.
    """
    members: dict[Hashable, optax.GradientTransformation] = {
        _REST: create(name, learning_rate, **arguments)
    }
    expressions = []
    for index, (pattern, changes) in enumerate(patterns):
        settings = {"learning_rate": learning_rate, **arguments, **changes}
        frozen = settings.pop("frozen", False)
        member = create(name, **settings)
        members[str(index)] = _unchanging(member) if frozen else member
        try:
            expressions.append(re.compile(pattern))
        except re.error as error:
            raise ValueError(f"{name}: bad pattern {pattern!r}: {error}") from error

    def labels(params: Any) -> Any:
        def label(path: str, _) -> str:
            matches = (i for i, found in enumerate(expressions) if found.fullmatch(path))
            return str(next(matches, _REST))

        tree = map_by_path(label, params)
        used = set(jax.tree.leaves(tree))
        idle = [patterns[i][0] for i in range(len(patterns)) if str(i) not in used]
        if idle:
            raise ValueError(
                f"{name}: no parameter is left for the patterns {', '.join(map(repr, idle))}; "
                "a pattern must match a whole path such as 'conv1.kernel'"
            )
        return tree

    return optax.partition(members, labels)


def _unchanging(tx: optax.GradientTransformation) -> optax.GradientTransformation:
    """Return a transformation that changes neither the parameters nor the state that `tx` made."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        return jax.tree.map(jnp.zeros_like, updates), state

    return optax.GradientTransformation(tx.init, update)

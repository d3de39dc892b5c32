"""L1 and L2 penalties on chosen parameters, to be added to a loss."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxcnn.losses.elementwise import absolute
from jaxcnn.parameters import by_path

Select = str | Callable[[str], bool]


def l1_penalty(params: Mapping[str, Any], select: Select = "") -> jax.Array:
    """Return the sum of |w| over the chosen parameters.

    The factor, documented as 0.001, belongs to the caller:
    `jnp.mean(losses) + 0.001 * l1_penalty(params, r"kernel$")`.

    Args:
        params: nested dict of floating arrays.
        select: which ones count, by their path joined with dots (`layer1.0.conv1.kernel`): a
            regular expression searched in it, or a function of it; by default all.

    Returns:
        (), of the parameters' dtype; its gradient is sign(w), 0 at 0 as PyTorch's.

    Raises:
        ValueError: nothing chosen.
    """
    chosen = _chosen("l1_penalty", params, select)
    return jnp.sum(jnp.stack([jnp.sum(absolute(w)) for w in chosen]))


def l2_penalty(params: Mapping[str, Any], select: Select = "") -> jax.Array:
    """Return the sum of w^2 over the chosen parameters, without a root and without a half.

    Its gradient is 2 w: with SGD, `factor * l2_penalty(params)` is a `weight_decay` of 2 * factor.

    Args:
        params: nested dict of floating arrays.
        select: which ones count, as in `l1_penalty`.

    Returns:
        (), of the parameters' dtype.

    Raises:
        ValueError: nothing chosen.
    """
    chosen = _chosen("l2_penalty", params, select)
    return jnp.sum(jnp.stack([jnp.sum(jnp.square(w)) for w in chosen]))


def _chosen(penalty: str, params: Mapping[str, Any], select: Select) -> list[jax.Array]:
    matches = re.compile(select).search if isinstance(select, str) else select
    names = by_path(params)
    chosen = [leaf for name, leaf in names.items() if matches(name)]
    if not chosen:
        raise ValueError(f"{penalty}: select={select!r} chooses none of {', '.join(names)}")
    return chosen

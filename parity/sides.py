"""What both sides return, under the same names and in the same layout."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import torch
from torch.nn.functional import cross_entropy

from jaxcnn.losses import AUXILIARY_WEIGHT

OUTPUT = "output"
Arrays = dict[str, np.ndarray]
Sides = tuple[Arrays, Arrays]


def heads(out: Any) -> dict[str, Any]:
    """Return what a network returned as name -> tensor: `output`, and of a tuple the others too.

    The fields of a NamedTuple give their names (`output.aux_logits1`), else their places do.
    """
    if not isinstance(out, tuple):
        return {OUTPUT: out}
    fields = getattr(out, "_fields", range(len(out)))
    names = [OUTPUT, *(f"{OUTPUT}.{field}" for field in fields[1:])]
    return dict(zip(names, out, strict=True))


def training_loss(out: Any, labels: np.ndarray | torch.Tensor) -> torch.Tensor:
    """Return PyTorch's side of what `jaxcnn.train` minimises: the mean cross-entropy.

    Of several heads, the auxiliary ones' is added with the weight that the paper gives them.
    """
    labels = torch.as_tensor(labels).long()
    losses = [cross_entropy(o, labels) for o in heads(out).values()]
    return losses[0] + sum(AUXILIARY_WEIGHT * auxiliary for auxiliary in losses[1:])


def named(tree: Mapping[str, Any], leaf: str) -> dict[str, tuple]:
    """Return module path joined with dots -> what the modules stored under `leaf`, as tuples."""
    found = {}
    for name, value in tree.items():
        if name == leaf:
            found[""] = value
        elif isinstance(value, Mapping):
            for path, stored in named(value, leaf).items():
                found[f"{name}.{path}" if path else name] = stored
    return found


def to_nchw(array: Any) -> np.ndarray:
    """Return an array as NumPy's, a 4-d one turned from NHWC into PyTorch's NCHW.

    NumPy has no bfloat16: such an array becomes float32.
    """
    array = np.asarray(array)
    if array.dtype == jnp.bfloat16:
        array = array.astype(np.float32)
    return np.ascontiguousarray(array.transpose(0, 3, 1, 2)) if array.ndim == 4 else array


def to_nhwc(array: np.ndarray) -> np.ndarray:
    """Return an array, a 4-d one turned from PyTorch's NCHW into NHWC."""
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array

"""Images side by side in their channels, by `jaxcnn.native` on a CPU.

Where the features of many layers are joined one after the other, as in a DenseNet, XLA does not
write down the gradients of the joined features: it computes every layer's share of a feature's
gradient where that is added up. A block of 24 layers has kernels of up to 150 arrays then, whose
code grows with the square of the layers, to compile and to run. Here a gradient of joined images
is written down once, and each layer adds to it.
"""

from collections.abc import Sequence
from itertools import accumulate

import jax
import jax.numpy as jnp
from jax.interpreters import ad

from jaxcnn.layers import forms
from jaxcnn.native.hold import hold
from jaxcnn.native.primitive import library_call, map_plainly


def join(images: Sequence[jax.Array]) -> jax.Array:
    """Return images side by side in their channels, `torch.cat(images, dim=1)` in PyTorch's layout.

    Args:
        images: (B, H, W, C_i) each, of one number type.

    Returns:
        (B, H, W, C_1 + C_2 + ...).
    """
    # Others are promoted, or refused, by JAX's own rules.
    alike = images[0].ndim == 4 and len({part.shape[:-1] for part in images}) == 1
    own = len(images) > 1 and alike and forms.native_for(*images)
    return _join.bind(*images) if own else _plain_join(*images)


def join_so_far(images: Sequence[jax.Array]) -> list[jax.Array]:
    """Return images that others will be joined with: one array if `join` writes it down, or as is.

    XLA computes joins anew where they are read, and compiles a long chain of them in twice the time
    of as many flat ones.

    Args:
        images: (B, H, W, C_i) each, of one number type.
    """
    return [join(images)] if forms.native_for(*images) else list(images)


def _plain_join(*images):
    return jnp.concatenate(images, axis=-1)


def _joined_shape(*images):
    channels = sum(part.shape[-1] for part in images)
    return images[0].update(shape=(*images[0].shape[:-1], channels), weak_type=False)


def _join_transpose(cotangent, *images):
    (held,) = hold([cotangent])
    ends = [*accumulate(part.aval.shape[-1] for part in images)]
    starts = [0, *ends]
    return [held[..., start:end] for start, end in zip(starts, ends, strict=False)]


_join = library_call("join", _joined_shape)

map_plainly(_join, _plain_join)
ad.deflinear2(_join, _join_transpose)

"""Convolutions by `jaxcnn.native`, on a CPU.

Three functions, each linear in both of its arguments, and each the derivative of the other two:
outputs of images and kernel, the images' gradient, the kernel's gradient. They are primitives of
JAX, so that derivatives of any order, forward and reverse, are made of the same three. Images of
`vmap` are one larger batch; kernels of `vmap` take turns.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching

from jaxcnn import devices
from jaxcnn.native.primitive import library_call


class Window(NamedTuple):
    """A convolution's numbers; (h, w) each.

    Attributes:
        images: size of the images.
        kernel: size of the kernel.
        outputs: size of the outputs.
        stride: step of the window.
        dilation: distance of the kernel's taps.
        before: zeros in front of the images; behind them as many as the outputs need.
        groups: the channels fall into so many independent groups.
    """

    images: tuple[int, int]
    kernel: tuple[int, int]
    outputs: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    before: tuple[int, int]
    groups: int


def able(kernel: jax.Array, groups: int) -> bool:
    """Return whether the library has fast code for these.

    Its vectors hold the channels of a group, or one channel of each of as many groups. Groups of
    two or three channels, and several features a channel, leave them almost empty.
    """
    per_group = min(kernel.shape[2], kernel.shape[3] // groups)
    return groups == 1 or per_group >= 4 or kernel.shape[2] == kernel.shape[3] // groups == 1


def convolve(
    images: jax.Array, kernel: jax.Array, bias: jax.Array | None, window: Window
) -> jax.Array:
    """Return the outputs of a convolution.

    Args:
        images: (N, H, W, C), float32 or float64; on a mesh (`jaxcnn.devices`) the devices must
            divide N evenly, here as in `transposed`.
        kernel: (kh, kw, C / groups, F), of their dtype.
        bias: (F,), of their dtype, or None.
        window: what they are convolved with.

    Returns:
        (N, OH, OW, F), of their dtype.
    """
    if bias is None:
        return devices.each(_outputs.bind, True, False, window=window)(images, kernel)
    return devices.each(_biased.bind, True, False, False, window=window)(images, kernel, bias)


def transposed(images: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """Return the outputs of a transposed convolution, which is a convolution's images' gradient.

    Args:
        images: (N, OH, OW, F), float32 or float64; the window's `outputs`.
        kernel: (kh, kw, C / groups, F), of their dtype.
        window: of the convolution.

    Returns:
        (N, H, W, C), the window's `images`, of their dtype.
    """
    return devices.each(_images.bind, True, False, window=window)(images, kernel)


def _outputs_shape(images, kernel, window: Window) -> tuple[int, ...]:
    return images.shape[0], *window.outputs, kernel.shape[3]


def _images_shape(outputs, kernel, window: Window) -> tuple[int, ...]:
    return outputs.shape[0], *window.images, kernel.shape[2] * window.groups


def _kernel_shape(images, outputs, window: Window) -> tuple[int, ...]:
    return *window.kernel, images.shape[3] // window.groups, outputs.shape[3]


def _numbers(*, window: Window) -> dict[str, Any]:
    numbers = [*window.stride, *window.dilation, *window.before, window.groups]
    return {"window": np.array(numbers, np.int64)}


def _primitive(function: str, shape_of: Callable[..., Any], name: str | None = None) -> Primitive:
    """Make a primitive of two arrays and a window; `outputs` takes a bias too."""

    def shape(a, b, *bias, window):
        return a.update(shape=shape_of(a, b, window), weak_type=False)

    return library_call(function, shape, name=name, static=["window"], attributes=_numbers)


_outputs = _primitive("outputs", _outputs_shape)
_biased = _primitive("outputs", _outputs_shape, "biased_outputs")
_images = _primitive("images", _images_shape)
_kernel = _primitive("kernel", _kernel_shape)
# The rules are given the cotangent, and one of the arguments.
ad.defbilinear(
    _outputs,
    lambda g, images, kernel, window: _images.bind(g, kernel, window=window),
    lambda g, images, kernel, window: _kernel.bind(images, g, window=window),
)
ad.defbilinear(
    _images,
    lambda g, outputs, kernel, window: _outputs.bind(g, kernel, window=window),
    lambda g, outputs, kernel, window: _kernel.bind(g, outputs, window=window),
)
ad.defbilinear(
    _kernel,
    lambda g, images, outputs, window: _images.bind(outputs, g, window=window),
    lambda g, images, outputs, window: _outputs.bind(images, g, window=window),
)
ad.defjvp(
    _biased,
    lambda t, images, kernel, bias, window: _outputs.bind(t, kernel, window=window),
    lambda t, images, kernel, bias, window: _outputs.bind(images, t, window=window),
    lambda t, images, kernel, bias, window: jnp.broadcast_to(
        t, _outputs_shape(images, kernel, window)
    ),
)


def _batched(
    primitive: Primitive, together: bool, arrays: tuple[Any, ...], axes: Any, *, window: Window
) -> tuple[Any, int]:
    """Map a primitive; `together` says that the first array alone may carry more of a batch."""
    pairs = list(zip(arrays, axes, strict=True))
    moved = [a if at is None else jnp.moveaxis(a, at, 0) for a, at in pairs]
    if together and all(at is None for at in axes[1:]):
        count, batch = moved[0].shape[:2]
        folded = moved[0].reshape(count * batch, *moved[0].shape[2:])
        out = primitive.bind(folded, *moved[1:], window=window)
        return out.reshape(count, batch, *out.shape[1:]), 0
    mapped = [a for a, (_, at) in zip(moved, pairs, strict=True) if at is not None]

    def one(parts):
        rest = iter(parts)
        full = [a if at is None else next(rest) for a, (_, at) in zip(moved, pairs, strict=True)]
        return primitive.bind(*full, window=window)

    return jax.lax.map(one, mapped), 0


for _mapped, _together in ((_outputs, True), (_biased, True), (_images, True), (_kernel, False)):
    batching.primitive_batchers[_mapped] = partial(_batched, _mapped, _together)

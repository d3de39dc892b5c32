"""Grouped and depthwise convolutions by `jaxcnn.native`, on a CPU.

Three functions, each linear in both of its arguments, and each the derivative of the other two:
outputs of images and kernel, the images' gradient, the kernel's gradient. So gradients of any order
are made of the same three. There is no forward-mode derivative.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn import native


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


def able(images: jax.Array, kernel: jax.Array, groups: int) -> bool:
    """Return whether the library is at hand and has fast code for these.

    Its vectors hold the channels of a group, or one channel of each of as many groups. Two or three
    channels a group, and several features a channel, leave them almost empty.
    """
    per_group = min(kernel.shape[2], kernel.shape[3] // groups)
    fits = per_group >= 4 or kernel.shape[2] == kernel.shape[3] // groups == 1
    return fits and images.dtype.name in native.DTYPES and native.available()


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve(images: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """Return the outputs (N, OH, OW, F) of images (N, H, W, C), kernel (kh, kw, C / groups, F)."""
    shape = images.shape[0], *window.outputs, kernel.shape[3]
    return _call("outputs", images, kernel, window, shape)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def images_gradient(outputs: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """Return (N, H, W, C): what gradients (N, OH, OW, F) of the outputs say of the images."""
    shape = outputs.shape[0], *window.images, kernel.shape[2] * window.groups
    return _call("images", outputs, kernel, window, shape)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def kernel_gradient(images: jax.Array, outputs: jax.Array, window: Window) -> jax.Array:
    """Return (kh, kw, C / groups, F): what gradients of the outputs say of the kernel."""
    shape = *window.kernel, images.shape[3] // window.groups, outputs.shape[3]
    return _call("kernel", images, outputs, window, shape)


def _call(
    function: str, a: jax.Array, b: jax.Array, window: Window, shape: tuple[int, ...]
) -> jax.Array:
    call = jax.ffi.ffi_call(
        f"jaxcnn_{function}_{a.dtype.name}",
        jax.ShapeDtypeStruct(shape, a.dtype),
        vmap_method="sequential",
    )
    numbers = [*window.stride, *window.dilation, *window.before, window.groups]
    return jnp.asarray(call(a, b, window=np.array(numbers, np.int64)))


def _saved(function):
    """Return a rule that runs a function and keeps its two arguments."""
    return lambda a, b, window: (function(a, b, window), (a, b))


convolve.defvjp(
    _saved(convolve),
    lambda window, saved, g: (
        images_gradient(g, saved[1], window),
        kernel_gradient(saved[0], g, window),
    ),
)
images_gradient.defvjp(
    _saved(images_gradient),
    lambda window, saved, g: (
        convolve(g, saved[1], window),
        kernel_gradient(g, saved[0], window),
    ),
)
kernel_gradient.defvjp(
    _saved(kernel_gradient),
    lambda window, saved, g: (
        images_gradient(saved[1], g, window),
        convolve(saved[0], g, window),
    ),
)

"""2-d convolution with the conventions of `torch.nn.Conv2d` (PyTorch 2.13) on NHWC images.

A cross-correlation; padding is symmetric zeros unless 'same', whose odd pixel goes to the end;
sizes round down. Five forms compute it, chosen by `jaxcnn.layers.forms`; they differ in rounding
only. (The depthwise form has gradients of gradients, but no forward-mode derivative.)
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from jaxcnn.layers import direct, forms, half
from jaxcnn.layers.initializers import Initializer, kernel_and_bias
from jaxcnn.layers.taps import Windows, taps, weighted_taps
from jaxcnn.layers.window import Pair, check_groups, check_images, output_size, pair

_Pads = tuple[tuple[int, int], tuple[int, int]]
Padding = str | Pair | _Pads


def conv2d(
    images: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None = None,
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> jax.Array:
    """Convolve images with a kernel as `torch.nn.functional.conv2d` does.

    Args:
        images: (B, H, W, C), floating.
        kernel: (kh, kw, C / groups, features), of the images' dtype.
        bias: (features,) or None.
        stride: step of the window, int or (h, w).
        padding: zeros on each side, int or (h, w), or 'valid' (none), or 'same' (output as large as
            the input; stride 1 only; where the total is odd the extra zero goes to the end), or
            ((top, bottom), (left, right)).
        dilation: distance of the kernel's taps, int or (h, w).
        groups: the channels fall into so many independent groups.

    Returns:
        (B, H', W', features) with H' = floor((H + 2 p - d (k - 1) - 1) / s) + 1.

    Raises:
        ValueError: wrong rank, channels or groups that do not fit, a bad stride, padding or
            dilation, or a kernel larger than the padded input.
    """
    check_images("conv2d", images.shape)
    if kernel.ndim != 4:
        raise ValueError(
            f"conv2d: kernel must be (kh, kw, in / groups, out), got shape {kernel.shape}"
        )
    channels, features = images.shape[3], kernel.shape[3]
    check_groups("conv2d", channels, features, groups)
    if kernel.shape[2] * groups != channels:
        raise ValueError(
            f"conv2d: images have {channels} channels, but kernel {kernel.shape} with "
            f"groups={groups} expects {kernel.shape[2] * groups}"
        )
    stride = pair("conv2d: stride", stride, least=1)
    dilation = pair("conv2d: dilation", dilation, least=1)
    _, height, width, _ = images.shape
    kh, kw, _, _ = kernel.shape
    pads = _pads(padding, (kh, kw), stride, dilation)
    output_size("conv2d", (height, width), (kh, kw), stride, pads, dilation)
    if half.is_half(images.dtype) and forms.widened():
        wide, kernel = images.astype(jnp.float32), kernel.astype(jnp.float32)
        bias = None if bias is None else bias.astype(jnp.float32)
        return _computed(wide, kernel, bias, stride, pads, dilation, groups).astype(images.dtype)
    return _computed(images, kernel, bias, stride, pads, dilation, groups)


def _computed(images, kernel, bias, stride, pads, dilation, groups) -> jax.Array:
    form = forms.conv(images, kernel, groups)
    if form == "direct":
        return _direct(images, kernel, bias, stride, pads, dilation, groups)
    out = _OF_XLA[form](images, kernel, stride, pads, dilation, groups)
    return out if bias is None else out + bias


class Conv2d(nn.Module):
    """`torch.nn.Conv2d` on (B, H, W, C) images; see `conv2d` for the arguments and errors.

    Parameters `kernel` (kh, kw, C / groups, features) and `bias` (features,), of the images' dtype,
    both drawn from U(+-1/sqrt(fan_in)), fan_in = C / groups * kh * kw, unless `kernel_init` and
    `bias_init` give other distributions.
    """

    features: int
    kernel_size: Pair
    stride: Pair = 1
    padding: Padding = 0
    dilation: Pair = 1
    groups: int = 1
    bias: bool = True
    kernel_init: Initializer | None = None
    bias_init: Initializer | None = None

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Map (B, H, W, C) to (B, H', W', features)."""
        layer = f"Conv2d {self.name!r}"
        check_images(layer, images.shape)
        kh, kw = pair(f"{layer}: kernel_size", self.kernel_size, least=1)
        channels = images.shape[3]
        check_groups(layer, channels, self.features, self.groups)
        shape = (kh, kw, channels // self.groups, self.features)
        fan_in = kh * kw * channels // self.groups
        kernel, bias = kernel_and_bias(self, shape, fan_in, images.dtype)
        return conv2d(
            images,
            kernel,
            bias,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
        )


def _pads(
    padding: Padding, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> _Pads:
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding == "same":
        if tuple(stride) != (1, 1):
            raise ValueError(f"conv2d: padding='same' needs stride 1, got stride {stride}")
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return (total[0] // 2, total[0] - total[0] // 2), (total[1] // 2, total[1] - total[1] // 2)
    if isinstance(padding, str):
        raise ValueError(f"conv2d: padding must be ints, 'same' or 'valid', got {padding!r}")
    sides: list[Any] = [padding, padding] if isinstance(padding, int) else list(padding)
    if all(isinstance(side, int) for side in sides):
        sides = [(side, side) for side in sides]
    if len(sides) != 2:
        raise ValueError(f"conv2d: padding must be an int, two ints or two pairs, got {padding!r}")
    top_bottom, left_right = (pair("conv2d: padding", side, least=0) for side in sides)
    return top_bottom, left_right


def _convolution(images, kernel, stride, pads, dilation, groups):
    return lax.conv_general_dilated(
        images,
        kernel,
        stride,
        pads,
        rhs_dilation=dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def _matrix_product(images, kernel, stride, pads, dilation, groups):
    """im2col: gather the taps of every window side by side, then one matrix product."""
    assert groups == 1, "grouped convolutions have no im2col form here"
    kh, kw, channels, features = kernel.shape
    seen = taps(images, (kh, kw), stride, pads, dilation)
    columns = jnp.concatenate(seen, axis=-1).reshape(-1, kh * kw * channels)
    out = columns @ kernel.reshape(kh * kw * channels, features)
    return out.reshape(*seen[0].shape[:3], features)


def _direct(images, kernel, bias, stride, pads, dilation, groups) -> Any:
    size, kernel_size = images.shape[1:3], kernel.shape[:2]
    features = kernel.shape[3]
    if groups > 1 and kernel.shape[2] == 1:  # several features a channel: a channel for each
        images, groups = jnp.repeat(images, features // groups, axis=3), features
    outputs = output_size("conv2d", size, kernel_size, stride, pads, dilation)
    before = (pads[0][0], pads[1][0])
    window = direct.Window(size, kernel_size, outputs, stride, dilation, before, groups)
    return direct.convolve(images, kernel, bias, window)


def _split(images, kernel, stride, pads, dilation, groups):
    """One convolution a group. A block-diagonal kernel would let a NaN out of its group."""
    parts = zip(jnp.split(images, groups, 3), jnp.split(kernel, groups, 3), strict=True)
    options: dict[str, Any] = {"stride": stride, "padding": pads, "dilation": dilation}
    return jnp.concatenate([conv2d(x, k, **options) for x, k in parts], axis=3)


def _depthwise(images, kernel, stride, pads, dilation, groups) -> Any:
    """Each channel by itself: shifted images times one number a channel, added up."""
    images = jnp.repeat(images, kernel.shape[3] // groups, axis=3)
    (_, height, width, _), (kh, kw, *_) = images.shape, kernel.shape
    size = output_size("conv2d", (height, width), (kh, kw), stride, pads, dilation)
    axes = zip(size, (kh, kw), stride, dilation, (before for before, _ in pads), strict=True)
    rows, columns = (Windows(*axis) for axis in axes)
    return weighted_taps(images, kernel[:, :, 0], rows, columns)


_OF_XLA: dict[str, Callable[..., jax.Array]] = {
    "convolution": _convolution,
    "matrix_product": _matrix_product,
    "depthwise": _depthwise,
    "split": _split,
}

"""Transposed 2-d convolution with the conventions of `torch.nn.ConvTranspose2d` (PyTorch 2.13).

The gradient of `conv2d` with respect to its images, as a layer (Zeiler et al., 2010; Dumoulin and
Visin, 2016, arXiv:1603.07285): a convolution of the images, `stride` apart and padded by
d (k - 1) - p, with the flipped kernel. (B, H, W, C) -> (B, H', W', features).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from jaxcnn.layers import direct, forms
from jaxcnn.layers.conv import conv2d
from jaxcnn.layers.initializers import Initializer, kernel_and_bias
from jaxcnn.layers.window import Pair, check_groups, check_images, pair


def conv_transpose2d(
    images: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None = None,
    *,
    stride: Pair = 1,
    padding: Pair = 0,
    output_padding: Pair = 0,
    groups: int = 1,
    dilation: Pair = 1,
    output_size: Sequence[int] | None = None,
) -> jax.Array:
    """Convolve transposed as `torch.nn.functional.conv_transpose2d` does.

    Args:
        images: (B, H, W, C), floating.
        kernel: (kh, kw, features / groups, C), of the images' dtype; PyTorch's weight
            (C, features / groups, kh, kw) transposed.
        bias: (features,) or None.
        stride: distance of the images' pixels in the result, int or (h, w).
        padding: rows and columns cut off each side of the result, int or (h, w).
        output_padding: rows and columns more at the result's end, int or (h, w); less than the
            stride or the dilation.
        groups: the channels fall into so many independent groups.
        dilation: distance of the kernel's taps, int or (h, w).
        output_size: (H', W') in place of `output_padding`: one of the `stride` sizes that a
            convolution of these arguments maps to (H, W).

    Returns:
        (B, H', W', features) with H' = (H - 1) s - 2 p + d (k - 1) + output_padding + 1.

    Raises:
        ValueError: wrong rank, channels or groups that do not fit, a bad stride, padding,
            dilation, output padding or output size, or a result without a pixel.
    """
    name = "conv_transpose2d"
    check_images(name, images.shape)
    if kernel.ndim != 4:
        raise ValueError(
            f"{name}: kernel must be (kh, kw, out / groups, in), got shape {kernel.shape}"
        )
    kh, kw, _, inputs = kernel.shape
    if inputs != images.shape[3]:
        raise ValueError(
            f"{name}: images have {images.shape[3]} channels, but kernel {kernel.shape} expects "
            f"{inputs}"
        )
    if groups < 1 or inputs % groups:
        raise ValueError(f"{name}: groups={groups} must divide the {inputs} input channels")
    stride = pair(f"{name}: stride", stride, least=1)
    dilation = pair(f"{name}: dilation", dilation, least=1)
    padding = pair(f"{name}: padding", padding, least=0)
    reach = dilation[0] * (kh - 1), dilation[1] * (kw - 1)
    smallest = [
        (n - 1) * s - 2 * p + r + 1
        for n, s, p, r in zip(images.shape[1:3], stride, padding, reach, strict=True)
    ]
    if output_size is None:
        extra = pair(f"{name}: output_padding", output_padding, least=0)
        if any(e >= s and e >= d for e, s, d in zip(extra, stride, dilation, strict=True)):
            raise ValueError(
                f"{name}: output_padding {extra} must be smaller than stride {stride} or "
                f"dilation {dilation}"
            )
    else:
        extra = _output_padding(name, output_size, smallest, stride)
    if any(n + e < 1 for n, e in zip(smallest, extra, strict=True)):
        found = tuple(n + e for n, e in zip(smallest, extra, strict=True))
        raise ValueError(
            f"{name}: padding {padding} leaves nothing of images {images.shape}: the output would "
            f"be {found}"
        )
    if direct.able(kernel, groups) and forms.native(images.dtype.name, images.shape[0]):
        size = smallest[0] + extra[0], smallest[1] + extra[1]
        taken = (images.shape[1], images.shape[2])
        window = direct.Window(size, (kh, kw), taken, stride, dilation, padding, groups)
        out = direct.transposed(images, kernel, window)
    else:
        pads = [(r - p, r - p + e) for r, p, e in zip(reach, padding, extra, strict=True)]
        out = _convolve(images, _as_convolution(kernel, groups), stride, pads, dilation, groups)
    return out if bias is None else out + bias


class ConvTranspose2d(nn.Module):
    """`torch.nn.ConvTranspose2d` on (B, H, W, C) images; see `conv_transpose2d`.

    Parameters `kernel` (kh, kw, features / groups, C) and `bias` (features,), of the images' dtype,
    both drawn from U(+-1/sqrt(fan_in)) with PyTorch's fan_in = features / groups * kh * kw, unless
    `kernel_init` and `bias_init` give other distributions.
    """

    features: int
    kernel_size: Pair
    stride: Pair = 1
    padding: Pair = 0
    output_padding: Pair = 0
    groups: int = 1
    bias: bool = True
    dilation: Pair = 1
    kernel_init: Initializer | None = None
    bias_init: Initializer | None = None

    @nn.compact
    def __call__(self, images: jax.Array, output_size: Sequence[int] | None = None) -> jax.Array:
        """Map (B, H, W, C) to (B, H', W', features), (H', W') = `output_size` if given."""
        layer = f"ConvTranspose2d {self.name!r}"
        check_images(layer, images.shape)
        kh, kw = pair(f"{layer}: kernel_size", self.kernel_size, least=1)
        channels = images.shape[3]
        check_groups(layer, channels, self.features, self.groups)
        shape = (kh, kw, self.features // self.groups, channels)
        fan_in = kh * kw * self.features // self.groups
        kernel, bias = kernel_and_bias(self, shape, fan_in, images.dtype)
        return conv_transpose2d(
            images,
            kernel,
            bias,
            stride=self.stride,
            padding=self.padding,
            output_padding=self.output_padding,
            groups=self.groups,
            dilation=self.dilation,
            output_size=output_size,
        )


def _output_padding(name, output_size, smallest, stride):
    """Return what the smallest size lacks of the wanted one, as PyTorch's layer does."""
    wanted = pair(f"{name}: output_size", output_size, least=1)
    extra = tuple(n - least for n, least in zip(wanted, smallest, strict=True))
    if not all(0 <= e < s for e, s in zip(extra, stride, strict=True)):
        largest = tuple(least + s - 1 for least, s in zip(smallest, stride, strict=True))
        raise ValueError(
            f"{name}: output_size {wanted} must be between {tuple(smallest)} and {largest}"
        )
    return extra


def _as_convolution(kernel, groups):
    """Flip (kh, kw, out / groups, in) and turn it to (kh, kw, in / groups, out)."""
    kh, kw, outs, inputs = kernel.shape
    grouped = kernel[::-1, ::-1].reshape(kh, kw, outs, groups, inputs // groups)
    return grouped.transpose(0, 1, 4, 3, 2).reshape(kh, kw, inputs // groups, groups * outs)


def _convolve(images, kernel, stride, pads, dilation, groups):
    """Convolve with stride 1, the images' pixels `stride` apart."""
    if forms.conv(images, kernel, groups) == "convolution":
        return lax.conv_general_dilated(
            images,
            kernel,
            (1, 1),
            pads,
            lhs_dilation=stride,
            rhs_dilation=dilation,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )
    around = [(*sides, step - 1) for sides, step in zip(pads, stride, strict=True)]
    zero = jnp.zeros((), images.dtype)
    images = lax.pad(images, zero, [(0, 0, 0), *around, (0, 0, 0)])
    return conv2d(images, kernel, dilation=dilation, groups=groups)

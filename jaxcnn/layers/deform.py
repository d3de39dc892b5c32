"""Deformable 2-d convolution with the conventions of `torchvision.ops.deform_conv2d` (0.28).

Each tap of the kernel samples the images at a place of its own, moved by an offset that another
layer computes: Dai et al., 2017, arXiv:1703.06211 (v1); Zhu et al., 2018, arXiv:1811.11168 weigh
the samples by a mask (v2). Samples are bilinear; the images are zero outside, so that a sample
between the border and one pixel beyond it fades out. (B, H, W, C) -> (B, H', W', features).
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxcnn.layers.initializers import Initializer, kernel_and_bias
from jaxcnn.layers.window import Pair, check_groups, check_images, output_size, pair


def deform_conv2d(
    images: jax.Array,
    offset: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None = None,
    *,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    mask: jax.Array | None = None,
) -> jax.Array:
    """Convolve with moved taps as `torchvision.ops.deform_conv2d` does.

    Both numbers of groups follow from the shapes: the channels fall into C / kernel.shape[2] groups
    of the kernel, and into as many consecutive groups that share offsets as `offset` has channels
    for.

    Args:
        images: (B, H, W, C), floating.
        offset: (B, H', W', 2 * offset groups * kh * kw) in pixels, of the images' dtype; the
            channels are offset group, tap (rows first), then (y, x).
        kernel: (kh, kw, C / groups, features), of the images' dtype.
        bias: (features,) or None.
        stride: step of the window, int or (h, w).
        padding: zeros on each side, int or (h, w).
        dilation: distance of the kernel's taps before they move, int or (h, w).
        mask: (B, H', W', offset groups * kh * kw), the weight of each sample, or None for ones.

    Returns:
        (B, H', W', features), sizes as of `conv2d`.

    Raises:
        ValueError: wrong rank, channels that do not fit, an offset or mask of another shape, a bad
            stride, padding or dilation, or a kernel larger than the padded input.
    """
    name = "deform_conv2d"
    check_images(name, images.shape)
    if kernel.ndim != 4:
        raise ValueError(
            f"{name}: kernel must be (kh, kw, in / groups, out), got shape {kernel.shape}"
        )
    batch, height, width, channels = images.shape
    kh, kw, per_group, features = kernel.shape
    if channels % per_group or features % (channels // per_group):
        raise ValueError(
            f"{name}: kernel {kernel.shape} does not divide {channels} channels into groups that "
            "divide its features"
        )
    stride = pair(f"{name}: stride", stride, least=1)
    padding = pair(f"{name}: padding", padding, least=0)
    dilation = pair(f"{name}: dilation", dilation, least=1)
    pads = ((padding[0], padding[0]), (padding[1], padding[1]))
    size = output_size(name, (height, width), (kh, kw), stride, pads, dilation)
    taps = kh * kw
    moved = offset.shape[3] // (2 * taps) if offset.ndim == 4 else 0
    if not moved or channels % moved or offset.shape != (batch, *size, 2 * moved * taps):
        raise ValueError(
            f"{name}: offset must be (B, H', W', 2 n kh kw) = ({batch}, {size[0]}, {size[1]}, "
            f"{2 * taps} n), n a divisor of the {channels} channels, got shape {offset.shape}"
        )
    if mask is not None and mask.shape != (batch, *size, moved * taps):
        raise ValueError(
            f"{name}: mask must be {(batch, *size, moved * taps)}, half of offset's channels, got "
            f"shape {mask.shape}"
        )
    offset = offset.reshape(batch, *size, moved, taps, 2)
    rows = _places(size[0], kh, stride[0], padding[0], dilation[0])
    columns = _places(size[1], kw, stride[1], padding[1], dilation[1])
    y = jnp.asarray(np.repeat(rows, kw, axis=1), images.dtype)[:, None, None] + offset[..., 0]
    x = jnp.asarray(np.tile(columns, kh), images.dtype)[:, None] + offset[..., 1]
    samples = _samples(images, y, x)  # (B, H', W', offset groups, taps, C / offset groups)
    if mask is not None:
        samples = samples * mask.reshape(batch, *size, moved, taps, 1)
    samples = samples.swapaxes(3, 4).reshape(-1, taps, channels)
    groups = channels // per_group
    parts = [
        sampled.reshape(-1, taps * per_group) @ part.reshape(taps * per_group, -1)
        for sampled, part in zip(
            jnp.split(samples, groups, axis=2), jnp.split(kernel, groups, axis=3), strict=True
        )
    ]
    out = jnp.concatenate(parts, axis=1).reshape(batch, *size, features)
    return out if bias is None else out + bias


class DeformConv2d(nn.Module):
    """`torchvision.ops.DeformConv2d` on (B, H, W, C) images; see `deform_conv2d`.

    Parameters `kernel` (kh, kw, C / groups, features) and `bias` (features,), of the images' dtype,
    both drawn from U(+-1/sqrt(fan_in)), fan_in = C / groups * kh * kw, unless `kernel_init` and
    `bias_init` give other distributions.
    """

    features: int
    kernel_size: Pair
    stride: Pair = 1
    padding: Pair = 0
    dilation: Pair = 1
    groups: int = 1
    bias: bool = True
    kernel_init: Initializer | None = None
    bias_init: Initializer | None = None

    @nn.compact
    def __call__(
        self, images: jax.Array, offset: jax.Array, mask: jax.Array | None = None
    ) -> jax.Array:
        """Map (B, H, W, C), its offsets and mask to (B, H', W', features)."""
        layer = f"DeformConv2d {self.name!r}"
        check_images(layer, images.shape)
        kh, kw = pair(f"{layer}: kernel_size", self.kernel_size, least=1)
        channels = images.shape[3]
        check_groups(layer, channels, self.features, self.groups)
        shape = (kh, kw, channels // self.groups, self.features)
        fan_in = kh * kw * channels // self.groups
        kernel, bias = kernel_and_bias(self, shape, fan_in, images.dtype)
        return deform_conv2d(
            images,
            offset,
            kernel,
            bias,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            mask=mask,
        )


def _places(count: int, kernel: int, stride: int, padding: int, dilation: int) -> np.ndarray:
    """Return where on one axis the taps of every output lie before they move: (count, kernel)."""
    return (np.arange(count) * stride - padding)[:, None] + np.arange(kernel) * dilation


def _samples(images: jax.Array, y: jax.Array, x: jax.Array) -> jax.Array:
    """Return bilinear samples at (y, x) (B, H', W', groups, taps), C / groups channels each."""
    batch, height, width, channels = images.shape
    groups = y.shape[3]
    flat = images.reshape(batch, height * width, groups, channels // groups)
    take = jax.vmap(jax.vmap(lambda image, at: image[at], (1, 2), 2))
    low_y, low_x = jnp.floor(y), jnp.floor(x)
    total = jnp.zeros((), images.dtype)
    for row, by_row in ((low_y, 1 - (y - low_y)), (low_y + 1, y - low_y)):
        for column, by_column in ((low_x, 1 - (x - low_x)), (low_x + 1, x - low_x)):
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            weight = jnp.where(inside, by_row * by_column, jnp.zeros((), images.dtype))
            # Clipped before they are integers: an offset may be larger than those.
            at_row = jnp.clip(row, 0, height - 1).astype(jnp.int32)
            at = at_row * width + jnp.clip(column, 0, width - 1).astype(jnp.int32)
            total = total + weight[..., None] * take(flat, at)
    return total

"""Depthwise separable convolution: every channel by itself, then a 1x1 convolution across them.

Chollet, 2017, arXiv:1610.02357; Howard et al., 2017, arXiv:1704.04861. Nothing stands between the
two, as in Chollet's; Howard's put batch norm and ReLU behind each. (B, H, W, C) ->
(B, H', W', features) with C (k^2 + features) weights instead of C k^2 features.
"""

import jax
from flax import linen as nn

from jaxcnn.layers.conv import Conv2d, Padding
from jaxcnn.layers.window import Pair, check_images


class DepthwiseSeparableConv2d(nn.Module):
    """Convolve each channel with its own kernel (`depthwise`), then mix them (`pointwise`).

    Two `Conv2d` whose arguments and errors are `conv2d`'s: `depthwise` has C * `multiplier`
    features, kernel, stride, padding and dilation, `pointwise` is 1x1; `bias` is for both.
    """

    features: int
    kernel_size: Pair
    stride: Pair = 1
    padding: Padding = 0
    dilation: Pair = 1
    multiplier: int = 1
    bias: bool = True

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Map (B, H, W, C) to (B, H', W', features).

        Raises:
            ValueError: wrong rank, a multiplier below 1, or a bad argument of `conv2d`.
        """
        layer = f"DepthwiseSeparableConv2d {self.name!r}"
        check_images(layer, images.shape)
        if self.multiplier < 1:
            raise ValueError(f"{layer}: multiplier must be at least 1, got {self.multiplier}")
        channels = images.shape[3]
        images = Conv2d(
            channels * self.multiplier,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            groups=channels,
            bias=self.bias,
            name="depthwise",
        )(images)
        return Conv2d(self.features, 1, bias=self.bias, name="pointwise")(images)

"""Linear and flatten with the conventions of `torch.nn` (PyTorch 2.13)."""

import jax
from flax import linen as nn

from jaxcnn.layers import direct, forms
from jaxcnn.layers.initializers import Initializer, kernel_and_bias
from jaxcnn.layers.window import check_images


class Linear(nn.Module):
    """`torch.nn.Linear`: x @ kernel + bias on (..., in) -> (..., features).

    Parameters `kernel` (in, features), PyTorch's weight transposed, and `bias` (features,), of the
    input's dtype, both drawn from U(+-1/sqrt(in)) unless `kernel_init` and `bias_init` give other
    distributions.
    """

    features: int
    bias: bool = True
    kernel_init: Initializer | None = None
    bias_init: Initializer | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map (..., in) to (..., features)."""
        shape = (x.shape[-1], self.features)
        kernel, bias = kernel_and_bias(self, shape, x.shape[-1], x.dtype)
        if forms.linear(x, kernel) == "direct":
            return _direct(x, kernel, bias)
        return x @ kernel if bias is None else x @ kernel + bias


def _direct(x: jax.Array, kernel: jax.Array, bias: jax.Array | None) -> jax.Array:
    """A convolution of images of one pixel."""
    once, images = (1, 1), x.reshape(-1, 1, 1, x.shape[-1])
    window = direct.Window(once, once, once, once, once, (0, 0), 1)
    out = direct.convolve(images, kernel[None, None], bias, window)
    return out.reshape(*x.shape[:-1], -1)


def flatten(images: jax.Array) -> jax.Array:
    """Flatten (B, H, W, C) to (B, C*H*W) in PyTorch's order, channels first.

    `torch.flatten(x, 1)` walks an NCHW tensor, so a Linear behind it keeps PyTorch's rows.

    Raises:
        ValueError: if images is not (B, H, W, C).
    """
    check_images("flatten", images.shape)
    return images.transpose(0, 3, 1, 2).reshape(images.shape[0], -1)

"""SqueezeNet 1.1: Fires of 1x1 and 3x3 convolutions, and a convolution as classifier.

Iandola et al., 2016, arXiv:1602.07360, in the cheaper form of its authors' version 1.1, with
torchvision's architecture, keys and initialisation (`torchvision.models.squeezenet1_1`).
(B, 224, 224, 3) -> (B, num_classes); 1,235,496 parameters at 1,000 classes; images from 17x17 on.
"""

import jax
from flax import linen as nn

from jaxcnn.layers import AdaptiveAvgPool2d, Conv2d, Dropout, MaxPool2d, ReLU, flatten, join

# kaiming_uniform_ with a = 0.
_KERNEL, _FINAL_KERNEL = nn.initializers.he_uniform(), nn.initializers.normal(0.01)
_BIAS = nn.initializers.zeros

# features.2 to features.12: the squeezed channels of a Fire, which expands them eightfold, or a
# pool.
_FEATURES = "pool", 16, 16, "pool", 32, 32, "pool", 48, 48, 64, 64


class Fire(nn.Module):
    """Squeeze by a 1x1 convolution, then expand by a 1x1 and a 3x3 one beside each other.

    (B, H, W, C) -> (B, H, W, expand1x1 + expand3x3), a ReLU behind every convolution.
    """

    squeeze: int
    expand1x1: int
    expand3x3: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map (B, H, W, C) to (B, H, W, expand1x1 + expand3x3)."""

        def conv(x: jax.Array, features: int, size: int, name: str) -> jax.Array:
            inits = {"kernel_init": _KERNEL, "bias_init": _BIAS}
            x = Conv2d(features, size, padding=size // 2, name=name, **inits)(x)
            return ReLU(name=f"{name}_activation")(x)

        x = conv(x, self.squeeze, 1, "squeeze")
        return join(
            (conv(x, self.expand1x1, 1, "expand1x1"), conv(x, self.expand3x3, 3, "expand3x3"))
        )


class SqueezeNet(nn.Module):
    """A convolution, eight Fires with pools that round up, and a 1x1 convolution as classifier.

    Attributes:
        num_classes: outputs.
        dropout: probability of the dropout in front of the classifier.
    """

    num_classes: int = 1000
    dropout: float = 0.5

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Map images (B, H, W, C) to logits (B, num_classes), none of them negative."""
        x = Conv2d(64, 3, 2, kernel_init=_KERNEL, bias_init=_BIAS, name="features.0")(images)
        x = ReLU(name="features.1")(x)  # (B, 111, 111, 64)
        for i, squeeze in enumerate(_FEATURES, 2):
            name = f"features.{i}"
            if isinstance(squeeze, str):
                x = MaxPool2d(3, 2, ceil_mode=True, name=name)(x)  # 55x55, 27x27, 13x13
            else:
                x = Fire(squeeze, 4 * squeeze, 4 * squeeze, name=name)(x)
        x = Dropout(self.dropout, name="classifier.0")(x, train=train)  # (B, 13, 13, 512)
        inits = {"kernel_init": _FINAL_KERNEL, "bias_init": _BIAS}
        x = Conv2d(self.num_classes, 1, name="classifier.1", **inits)(x)
        x = ReLU(name="classifier.2")(x)
        return flatten(AdaptiveAvgPool2d(1, name="classifier.3")(x))


VARIANTS = {"squeezenet1_1": (SqueezeNet, (224, 224, 3))}

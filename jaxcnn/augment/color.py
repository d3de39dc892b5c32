"""Brightness, contrast, saturation and hue of images, each with a factor of its own.

Documented by torchvision.transforms.functional (0.28), of which these are the formulas on floating
images in [0, 1]. Images of one channel have no saturation and no hue, and stay as they are. Its
hue is computed in float32 whatever the dtype; ours in the images' own. (B, H, W, C) -> the same.
"""

import jax
import jax.numpy as jnp

from jaxcnn.augment.arguments import check_images, per_image

# ITU-R 601 with torchvision's digits.
_LUMA = (0.2989, 0.587, 0.114)


def to_grayscale(images: jax.Array) -> jax.Array:
    """Replace every pixel by its gray in all channels, as `rgb_to_grayscale`.

    Args:
        images: (B, H, W, 1 or 3), floating.

    Returns:
        Images of the same shape and dtype; those of one channel as they are.

    Raises:
        ValueError: images not floating, or of other channels.
    """
    check_images("to_grayscale", images, channels=(1, 3))
    return jnp.broadcast_to(_gray(images), images.shape)


def adjust_brightness(images: jax.Array, factors: jax.Array) -> jax.Array:
    """Multiply every image, as `adjust_brightness`.

    Args:
        images: (B, H, W, 1 or 3), floating, in [0, 1].
        factors: (B,), >= 0: 0 is black, 1 the image.

    Returns:
        Images of the same shape and dtype, in [0, 1].

    Raises:
        ValueError: images not floating or of other channels, factors of another shape.
    """
    factors = _factors("adjust_brightness", images, factors)
    return jnp.clip(factors * images, 0, 1)


def adjust_contrast(images: jax.Array, factors: jax.Array) -> jax.Array:
    """Move every image from or to the mean of its gray, as `adjust_contrast`.

    Args:
        images: (B, H, W, 1 or 3), floating, in [0, 1].
        factors: (B,), >= 0: 0 is a plain gray, 1 the image.

    Returns:
        Images of the same shape and dtype, in [0, 1].

    Raises:
        ValueError: as `adjust_brightness`.
    """
    factors = _factors("adjust_contrast", images, factors)
    mean = _gray(images).mean(axis=(1, 2, 3), keepdims=True)
    return _blend(images, mean, factors)


def adjust_saturation(images: jax.Array, factors: jax.Array) -> jax.Array:
    """Move every pixel from or to its gray, as `adjust_saturation`.

    Args:
        images: (B, H, W, 1 or 3), floating, in [0, 1].
        factors: (B,), >= 0: 0 is gray, 1 the image.

    Returns:
        Images of the same shape and dtype, in [0, 1].

    Raises:
        ValueError: as `adjust_brightness`.
    """
    factors = _factors("adjust_saturation", images, factors)
    return images if images.shape[3] == 1 else _blend(images, _gray(images), factors)


def adjust_hue(images: jax.Array, factors: jax.Array) -> jax.Array:
    """Turn the colours of every image round the circle of hues, as `adjust_hue`.

    Args:
        images: (B, H, W, 1 or 3), floating, in [0, 1].
        factors: (B,), in [-0.5, 0.5]: turns; 0 is the image to rounding, both ends are the opposite
            colours.

    Returns:
        Images of the same shape and dtype, in [0, 1].

    Raises:
        ValueError: as `adjust_brightness`.
    """
    factors = _factors("adjust_hue", images, factors)
    if images.shape[3] == 1:
        return images
    sixths, chroma, value = _hue(images)
    sixths = sixths + 6 * factors[..., 0]
    # Each channel falls from the value by the chroma and rises again within four sixths of a turn,
    # a third of a turn after the other: the closed form of the six cases of HSV to RGB.
    channels = []
    for start in (5, 3, 1):
        place = jnp.mod(sixths + start, 6)
        channels.append(value - chroma * jnp.clip(jnp.minimum(place, 4 - place), 0, 1))
    return jnp.stack(channels, axis=-1)


def _hue(images: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return hue in sixths of a turn, chroma (saturation times value) and value, each (B, H, W)."""
    red, green, blue = jnp.moveaxis(images, -1, 0)
    value = images.max(axis=-1)
    chroma = value - images.min(axis=-1)
    divisor = jnp.where(chroma == 0, 1, chroma)
    # The largest channel is found among the channels, not by `value`: compiled into two loops, a
    # channel may be rounded in two ways, and then `value` equals none of them.
    hue = jnp.where(
        (red >= green) & (red >= blue),
        (green - blue) / divisor,
        jnp.where(green >= blue, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    return hue, chroma, value


def _gray(images: jax.Array) -> jax.Array:
    """Return (B, H, W, 1)."""
    if images.shape[3] == 1:
        return images
    red, green, blue = _LUMA
    gray = red * images[..., 0] + green * images[..., 1] + blue * images[..., 2]
    return gray[..., None]


def _blend(images: jax.Array, others: jax.Array, factors: jax.Array) -> jax.Array:
    return jnp.clip(factors * images + (1 - factors) * others, 0, 1)


def _factors(function: str, images: jax.Array, factors: jax.Array) -> jax.Array:
    """Check both and return the factors as (B, 1, 1, 1)."""
    check_images(function, images, channels=(1, 3))
    return per_image(function, "factors", factors, images)[:, None, None, None]

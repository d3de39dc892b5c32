"""Random colours, by torchvision's names, arguments and defaults.

Documented by torchvision.transforms (0.28): ColorJitter and RandomGrayscale, with factors of its
own for every image. Deviation: ColorJitter draws the order of its four changes anew for every
image, here it is one for the batch and drawn anew at every step; an order an image would compute
every change at every place.
"""

import jax

from jaxcnn.augment import color
from jaxcnn.augment.arguments import Interval, interval
from jaxcnn.augment.transform import Numbers, Shape, Transform, sometimes, uniform


def color_jitter(
    *,
    brightness: Interval = 0,
    contrast: Interval = 0,
    saturation: Interval = 0,
    hue: Interval = 0,
    p: float = 1,
) -> Transform:
    """Change brightness, contrast, saturation and hue at random, as `ColorJitter`.

    What is drawn holds the factors of the changes that are on, (B,) each, by their names, and
    `order`: the turn of these changes among themselves, counted as they are listed here.

    Args:
        brightness: d for factors in [max(0, 1 - d), 1 + d], or (lowest, highest), >= 0.
        contrast: as `brightness`.
        saturation: as `brightness`.
        hue: d <= 0.5 for turns in [-d, d], or (lowest, highest) within [-0.5, 0.5].
        p: probability that an image is changed.

    Raises:
        ValueError: a bad argument.
    """
    name = "color_jitter"
    factors = {
        key: interval(name, key, value, around=1, least=0)
        for key, value in (
            ("brightness", brightness),
            ("contrast", contrast),
            ("saturation", saturation),
        )
    }
    factors = {key: ends for key, ends in factors.items() if ends != (1, 1)}
    turns = interval(name, "hue", hue, around=0, least=-0.5, most=0.5)
    if turns != (0, 0):
        factors["hue"] = turns
    adjust = {
        "brightness": color.adjust_brightness,
        "contrast": color.adjust_contrast,
        "saturation": color.adjust_saturation,
        "hue": color.adjust_hue,
    }

    def draw(key: jax.Array, shape: Shape) -> Numbers:
        keys = jax.random.split(key, len(factors) + 1)
        drawn = {
            change: uniform(k, ends, shape[:1])
            for k, (change, ends) in zip(keys[1:], factors.items(), strict=True)
        }
        return {"order": jax.random.permutation(keys[0], len(factors)), **drawn}

    def apply(images: jax.Array, numbers: Numbers) -> jax.Array:
        changes = [
            lambda images, change=change: adjust[change](images, numbers[change])
            for change in factors
        ]
        for place in range(len(changes)):
            images = jax.lax.switch(numbers["order"][place], changes, images)
        return images

    return sometimes(name, p, draw, apply)


def random_grayscale(*, p: float = 0.1) -> Transform:
    """Replace the colours of images by their gray, as `RandomGrayscale`.

    Args:
        p: probability that an image is changed.

    Raises:
        ValueError: p is no probability.
    """

    def draw(key: jax.Array, shape: Shape) -> Numbers:
        return {}

    def apply(images: jax.Array, numbers: Numbers) -> jax.Array:
        return color.to_grayscale(images)

    return sometimes("random_grayscale", p, draw, apply)

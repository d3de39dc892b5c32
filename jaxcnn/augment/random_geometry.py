"""Random flips, rotations, scales and affine maps, by torchvision's names, arguments and defaults.

Documented by torchvision.transforms (0.28). Every image has numbers of its own. `expand` and
`center` are left out: a batch has one size, and its images turn about their centres. Every
transform takes `p` in addition, the probability that an image is transformed.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxcnn.augment import warp
from jaxcnn.augment.arguments import Fill, Interval, are_numbers, colours, interval, probability
from jaxcnn.augment.flips_and_crops import flip_horizontal, flip_vertical
from jaxcnn.augment.transform import Numbers, Shape, Transform, choose, sometimes, uniform


def random_horizontal_flip(*, p: float = 0.5) -> Transform:
    """Mirror images left to right, as `RandomHorizontalFlip`.

    Args:
        p: probability that an image is mirrored.

    Raises:
        ValueError: p is no probability.
    """
    p = probability("random_horizontal_flip", p)
    return Transform(
        lambda key, shape: {"chosen": choose(key, p, shape)},
        lambda images, numbers: flip_horizontal(images, numbers["chosen"]),
    )


def random_vertical_flip(*, p: float = 0.5) -> Transform:
    """Mirror images top to bottom, as `RandomVerticalFlip`.

    Args:
        p: probability that an image is mirrored.

    Raises:
        ValueError: p is no probability.
    """
    p = probability("random_vertical_flip", p)
    return Transform(
        lambda key, shape: {"chosen": choose(key, p, shape)},
        lambda images, numbers: flip_vertical(images, numbers["chosen"]),
    )


def random_rotation(
    *, degrees: Interval, interpolation: str = "nearest", fill: Fill = 0, p: float = 1
) -> Transform:
    """Turn images by a random angle, as `RandomRotation`.

    Args:
        degrees: d for [-d, d], or (lowest, highest), counter-clockwise.
        interpolation: nearest or bilinear.
        fill: what lies outside of an image: a number or one a channel.
        p: probability that an image is turned.

    Raises:
        ValueError: a bad argument.
    """
    name = "random_rotation"
    angles = interval(name, "degrees", degrees, around=0)
    warp.check_interpolation(name, interpolation)
    colours(name, fill)

    def draw(key: jax.Array, shape: Shape) -> Numbers:
        return {"angle": uniform(key, angles, shape[:1])}

    def apply(images: jax.Array, numbers: Numbers) -> jax.Array:
        return warp.rotate(images, numbers["angle"], interpolation=interpolation, fill=fill)

    return sometimes(name, p, draw, apply)


def random_scale(
    *,
    scale: Sequence[float] = (0.8, 1.2),
    interpolation: str = "bilinear",
    fill: Fill = 0,
    p: float = 1,
) -> Transform:
    """Enlarge or shrink images about their centre, as `RandomAffine` with nothing but a scale.

    Args:
        scale: (lowest, highest), > 0; above 1 enlarges.
        interpolation: nearest or bilinear.
        fill: what lies outside of an image: a number or one a channel.
        p: probability that an image is scaled.

    Raises:
        ValueError: a bad argument.
    """
    name = "random_scale"
    factors = _scales(name, scale)
    warp.check_interpolation(name, interpolation)
    colours(name, fill)

    def draw(key: jax.Array, shape: Shape) -> Numbers:
        return {"factors": uniform(key, factors, shape[:1])}

    def apply(images: jax.Array, numbers: Numbers) -> jax.Array:
        return warp.scale(images, numbers["factors"], interpolation=interpolation, fill=fill)

    return sometimes(name, p, draw, apply)


def random_affine(
    *,
    degrees: Interval,
    translate: Sequence[float] | None = None,
    scale: Sequence[float] | None = None,
    shear: Interval | None = None,
    interpolation: str = "nearest",
    fill: Fill = 0,
    p: float = 1,
) -> Transform:
    """Rotate, shift, scale and shear images at random, as `RandomAffine`.

    Args:
        degrees: d for [-d, d], or (lowest, highest), clockwise; 0 for none.
        translate: (a, b): shifts of whole pixels within a times the width and b times the height,
            both in [0, 1]; None for none.
        scale: (lowest, highest), > 0; None for none.
        shear: degrees: d for [-d, d] along x, (lowest, highest) along x, or four numbers, a pair
            along x and one along y; None for none.
        interpolation: nearest or bilinear.
        fill: what lies outside of an image: a number or one a channel.
        p: probability that an image is transformed.

    Raises:
        ValueError: a bad argument.
    """
    name = "random_affine"
    angles = interval(name, "degrees", degrees, around=0)
    shares = _shares(name, translate)
    scales = (1.0, 1.0) if scale is None else _scales(name, scale)
    shear_x, shear_y = _shears(name, shear)
    warp.check_interpolation(name, interpolation)
    colours(name, fill)

    def draw(key: jax.Array, shape: Shape) -> Numbers:
        keys = jax.random.split(key, 6)
        one = shape[:1]
        most = (shares[0] * shape[2], shares[1] * shape[1])  # pixels along x, along y
        shifts = [jnp.round(uniform(k, (-m, m), one)) for k, m in zip(keys[:2], most, strict=True)]
        shears = [uniform(keys[2], shear_x, one), uniform(keys[3], shear_y, one)]
        return {
            "angle": uniform(keys[4], angles, one),
            "translate": jnp.stack(shifts, axis=1),
            "scale": uniform(keys[5], scales, one),
            "shear": jnp.stack(shears, axis=1),
        }

    def apply(images: jax.Array, numbers: Numbers) -> jax.Array:
        names = ("angle", "translate", "scale", "shear")
        arguments = [numbers[key] for key in names]
        return warp.affine(images, *arguments, interpolation=interpolation, fill=fill)

    return sometimes(name, p, draw, apply)


def _scales(name: str, scale: object) -> tuple[float, float]:
    low, high = interval(name, "scale", scale, least=0)
    if low == 0:
        raise ValueError(f"{name}: scale must be above 0, got {scale!r}")
    return low, high


def _shares(name: str, translate: Sequence[float] | None) -> tuple[float, float]:
    if translate is None:
        return 0.0, 0.0
    if not are_numbers(translate, 2) or not all(0 <= share <= 1 for share in translate):
        raise ValueError(f"{name}: translate must be a pair of shares in [0, 1], got {translate!r}")
    return translate[0], translate[1]


def _shears(name: str, shear: Interval | None) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the intervals along x and along y."""
    if shear is None:
        return (0.0, 0.0), (0.0, 0.0)
    if isinstance(shear, Sequence) and len(shear) == 4:
        pairs = (shear[:2], shear[2:])
        along_x, along_y = (interval(name, "shear", pair) for pair in pairs)
        return along_x, along_y
    return interval(name, "shear", shear, around=0), (0.0, 0.0)

"""Random crops, by torchvision's names, arguments and defaults.

Documented by torchvision.transforms (0.28): RandomCrop and RandomResizedCrop, with a place of its
own for every image. `size` None is the images' own size; `create` puts the network's in its place.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxcnn.augment.arguments import Size, interval, pair_of_sizes
from jaxcnn.augment.flips_and_crops import Padding, check_crop, check_padding, crop, pad
from jaxcnn.augment.resample import resized_crop
from jaxcnn.augment.transform import Numbers, Shape, Transform, sometimes, uniform

# Candidates that RandomResizedCrop draws before it falls back to the centre.
_CANDIDATES = 10


def random_crop(
    *,
    size: Size | None = None,
    padding: Padding = 0,
    pad_if_needed: bool = False,
    fill: float = 0,
    padding_mode: str = "constant",
    p: float = 1,
) -> Transform:
    """Pad images and cut out a window at a random place, as `RandomCrop`.

    Args:
        size: of the window, int or (h, w); None for the images' own.
        padding: pixels on every side; or (left and right, top and bottom); or (left, top, right,
            bottom).
        pad_if_needed: whether an image smaller than the window is padded by what it lacks, on
            either side.
        fill: what constant pads with.
        padding_mode: constant, edge, reflect or symmetric.
        p: probability that an image is cropped; 0 or 1 where the size changes.

    Raises:
        ValueError: a bad argument; while tracing, a window larger than the padded images.
    """
    name = "random_crop"
    window = None if size is None else pair_of_sizes(name, size)
    sides = check_padding(name, padding, padding_mode, fill)
    if not isinstance(pad_if_needed, bool):
        raise ValueError(f"{name}: pad_if_needed must be True or False, got {pad_if_needed!r}")

    def target(shape: Shape) -> tuple[int, int]:
        return (shape[1], shape[2]) if window is None else window

    def paddings(shape: Shape) -> list[tuple[int, int, int, int]]:
        """Return what is padded in turn, each (left, top, right, bottom)."""
        left, top, right, bottom = sides
        turns = [sides]
        lacking_y = target(shape)[0] - (top + shape[1] + bottom)
        lacking_x = target(shape)[1] - (left + shape[2] + right)
        if pad_if_needed and lacking_x > 0:
            turns.append((lacking_x, 0, lacking_x, 0))
        if pad_if_needed and lacking_y > 0:
            turns.append((0, lacking_y, 0, lacking_y))
        return [turn for turn in turns if any(turn)]

    def draw(key: jax.Array, shape: Shape) -> Numbers:
        turns = paddings(shape)
        height = shape[1] + sum(top + bottom for _, top, _, bottom in turns)
        width = shape[2] + sum(left + right for left, _, right, _ in turns)
        h, w = check_crop(name, target(shape), (shape[0], height, width, shape[3]))
        keys = jax.random.split(key)
        return {
            "top": jax.random.randint(keys[0], shape[:1], 0, height - h + 1, jnp.int32),
            "left": jax.random.randint(keys[1], shape[:1], 0, width - w + 1, jnp.int32),
        }

    def apply(images: jax.Array, numbers: Numbers) -> jax.Array:
        cut = target(images.shape)
        for turn in paddings(images.shape):
            images = pad(images, turn, padding_mode, fill)
        return crop(images, numbers["top"], numbers["left"], cut)

    return sometimes(name, p, draw, apply)


def random_resized_crop(
    *,
    size: Size | None = None,
    scale: Sequence[float] = (0.08, 1.0),
    ratio: Sequence[float] = (3 / 4, 4 / 3),
    antialias: bool = True,
    p: float = 1,
) -> Transform:
    """Cut out a window of random area and shape and resize it bilinearly, as `RandomResizedCrop`.

    The first of ten candidates that fits into the image; where none does, the largest central
    window of an allowed shape.

    Args:
        size: of the result, int or (h, w); None for the images' own.
        scale: (lowest, highest) share of the image's area.
        ratio: (lowest, highest) width over height, > 0; its logarithm is drawn uniformly.
        antialias: whether every pixel counts where a window shrinks.
        p: probability that an image is cropped; 0 or 1 where the size changes.

    Raises:
        ValueError: a bad argument.
    """
    name = "random_resized_crop"
    target = None if size is None else pair_of_sizes(name, size)
    shares = interval(name, "scale", scale, least=0)
    low, high = interval(name, "ratio", ratio, least=0)
    if low == 0:
        raise ValueError(f"{name}: ratio must be above 0, got {ratio!r}")
    logarithms = (math.log(low), math.log(high))
    if not isinstance(antialias, bool):
        raise ValueError(f"{name}: antialias must be True or False, got {antialias!r}")

    def draw(key: jax.Array, shape: Shape) -> Numbers:
        batch, height, width, _ = shape
        keys = jax.random.split(key, 4)
        area = height * width * uniform(keys[0], shares, (batch, _CANDIDATES))
        aspect = jnp.exp(uniform(keys[1], logarithms, (batch, _CANDIDATES)))
        h = jnp.round(jnp.sqrt(area / aspect)).astype(jnp.int32)
        w = jnp.round(jnp.sqrt(area * aspect)).astype(jnp.int32)
        fits = (h > 0) & (h <= height) & (w > 0) & (w <= width)
        first = jnp.argmax(fits, axis=1)[:, None]
        found = fits.any(axis=1)
        central_h, central_w = _central(height, width, low, high)
        h = jnp.where(found, jnp.take_along_axis(h, first, axis=1)[:, 0], central_h)
        w = jnp.where(found, jnp.take_along_axis(w, first, axis=1)[:, 0], central_w)
        top = jax.random.randint(keys[2], (batch,), 0, height - h + 1, jnp.int32)
        left = jax.random.randint(keys[3], (batch,), 0, width - w + 1, jnp.int32)
        top = jnp.where(found, top, (height - central_h) // 2)
        left = jnp.where(found, left, (width - central_w) // 2)
        return {"top": top, "left": left, "height": h, "width": w}

    def apply(images: jax.Array, numbers: Numbers) -> jax.Array:
        top, left, height, width = (numbers[key] for key in ("top", "left", "height", "width"))
        result = images.shape[1:3] if target is None else target
        return resized_crop(images, top, left, height, width, result, antialias=antialias)

    return sometimes(name, p, draw, apply)


def _central(height: int, width: int, low: float, high: float) -> tuple[int, int]:
    """Return the largest (h, w) whose width over height is in [low, high].

    torchvision's own rounding, but at least a pixel, where torchvision's would be empty.
    """
    if width / height < low:
        return max(round(width / low), 1), width
    if width / height > high:
        return height, max(round(height * high), 1)
    return height, width

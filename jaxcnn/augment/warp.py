"""Affine maps of images, each with an angle, shift, scale and shear of its own, about the centre.

Documented by torchvision.transforms.functional's affine and rotate of tensors (0.28), which sample
with `torch.nn.functional.grid_sample(align_corners=False)`; there 'nearest' takes the pixel whose
centre is nearest, the even one of two. Only where rounding decides between two equally near ones,
as at a quarter turn of an odd by even image, may ours be the other. (B, H, W, C) -> the same.
"""

import jax
import jax.numpy as jnp

from jaxcnn.augment.arguments import Fill, check_images, colours, per_image

INTERPOLATIONS = ("nearest", "bilinear")


def affine(
    images: jax.Array,
    angle: jax.Array,
    translate: jax.Array,
    scale: jax.Array,
    shear: jax.Array,
    *,
    interpolation: str = "nearest",
    fill: Fill | None = None,
) -> jax.Array:
    """Rotate, scale, shear and shift every image about its centre, as `affine`.

    Args:
        images: (B, H, W, C), floating.
        angle: (B,), degrees, clockwise.
        translate: (B, 2), pixels to the right and down, after the rest.
        scale: (B,), > 0; above 1 enlarges.
        shear: (B, 2), degrees, along x and along y.
        interpolation: nearest or bilinear.
        fill: what lies outside of an image: a number or one a channel. None is 0; it is not the
            same as 0 for bilinear, for which torchvision weighs pixels at the edge twice with what
            of them lies inside when there is a fill, and once without one.

    Returns:
        Images of the same shape and dtype.

    Raises:
        ValueError: images not floating, values of another shape, an unknown interpolation, or as
            many fills as there are not channels.
    """
    name = "affine"
    check_images(name, images)
    angle = per_image(name, "angle", angle, images)
    translate = per_image(name, "translate", translate, images, 2)
    scale = per_image(name, "scale", scale, images)
    shear = per_image(name, "shear", shear, images, 2)
    return _sample(name, images, _inverse(angle, translate, scale, shear), interpolation, fill)


def rotate(
    images: jax.Array,
    angle: jax.Array,
    *,
    interpolation: str = "nearest",
    fill: Fill | None = None,
) -> jax.Array:
    """Turn every image about its centre, as `rotate` without `expand`.

    Args:
        images: (B, H, W, C), floating.
        angle: (B,), degrees, counter-clockwise (`affine` turns clockwise).
        interpolation: as in `affine`.
        fill: as in `affine`.

    Returns:
        Images of the same shape and dtype.

    Raises:
        ValueError: as `affine`.
    """
    name = "rotate"
    check_images(name, images)
    angle = per_image(name, "angle", angle, images)
    still, same = jnp.zeros((len(images), 2), images.dtype), jnp.ones_like(angle)
    return _sample(name, images, _inverse(-angle, still, same, still), interpolation, fill)


def scale(
    images: jax.Array,
    factors: jax.Array,
    *,
    interpolation: str = "bilinear",
    fill: Fill | None = None,
) -> jax.Array:
    """Enlarge or shrink every image about its centre, as `affine` with nothing but a scale.

    Args:
        images: (B, H, W, C), floating.
        factors: (B,), > 0; above 1 enlarges.
        interpolation: as in `affine`.
        fill: as in `affine`.

    Returns:
        Images of the same shape and dtype: of an enlarged one the centre.

    Raises:
        ValueError: as `affine`.
    """
    name = "scale"
    check_images(name, images)
    factors = per_image(name, "factors", factors, images)
    still = jnp.zeros((len(images), 2), images.dtype)
    inverse = _inverse(jnp.zeros_like(factors), still, factors, still)
    return _sample(name, images, inverse, interpolation, fill)


def check_interpolation(function: str, interpolation: object) -> None:
    """Raise a ValueError unless it is one of `INTERPOLATIONS`."""
    if interpolation not in INTERPOLATIONS:
        known = ", ".join(INTERPOLATIONS)
        raise ValueError(f"{function}: interpolation must be one of {known}, got {interpolation!r}")


def _inverse(
    angle: jax.Array, translate: jax.Array, scale: jax.Array, shear: jax.Array
) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:
    """Return what maps a place of the result to its source: (xx, xy, x0), (yx, yy, y0), each (B,).

    Both are measured from the centre. The map is translate * rotate * scale * shear_y * shear_x.
    """
    turn = jnp.deg2rad(angle)
    shear_x, shear_y = jnp.deg2rad(shear[:, 0]), jnp.deg2rad(shear[:, 1])
    cos, sin = (f(turn - shear_y) / jnp.cos(shear_y) for f in (jnp.cos, jnp.sin))
    # The determinant of rotation and shears is 1, so that the inverse is the adjugate.
    xx = (jnp.cos(turn) - sin * jnp.tan(shear_x)) / scale
    xy = (jnp.sin(turn) + cos * jnp.tan(shear_x)) / scale
    yx, yy = -sin / scale, cos / scale
    right, down = translate[:, 0], translate[:, 1]
    return (xx, xy, -xx * right - xy * down), (yx, yy, -yx * right - yy * down)


def _sample(
    function: str,
    images: jax.Array,
    inverse: tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]],
    interpolation: str,
    fill: Fill | None,
) -> jax.Array:
    """Return every pixel from its source, `fill` where that lies outside."""
    check_interpolation(function, interpolation)
    background = colours(function, 0 if fill is None else fill, images.shape[3])
    height, width = images.shape[1:3]
    dtype = images.dtype
    x = jnp.arange(width, dtype=dtype) - (width - 1) / 2
    y = jnp.arange(height, dtype=dtype)[:, None] - (height - 1) / 2
    (xx, xy, x0), (yx, yy, y0) = ([entry[:, None, None] for entry in row] for row in inverse)
    columns = xx * x + xy * y + x0 + (width - 1) / 2  # (B, H, W)
    rows = yx * x + yy * y + y0 + (height - 1) / 2
    if interpolation == "nearest":
        sampled, inside = _pixels(images, jnp.round(rows), jnp.round(columns))
        return jnp.where(inside, sampled, jnp.asarray(background, dtype))
    low_y, low_x = jnp.floor(rows), jnp.floor(columns)
    share_y, share_x = rows - low_y, columns - low_x
    sampled = jnp.zeros_like(images)
    covered = jnp.zeros((*images.shape[:3], 1), dtype)
    for row, weight_y in ((low_y, 1 - share_y), (low_y + 1, share_y)):
        for column, weight_x in ((low_x, 1 - share_x), (low_x + 1, share_x)):
            pixels, inside = _pixels(images, row, column)
            weight = jnp.where(inside, (weight_y * weight_x)[..., None], 0)
            sampled, covered = sampled + weight * pixels, covered + weight
    if fill is None:
        return sampled
    return sampled * covered + (1 - covered) * jnp.asarray(background, dtype)


def _pixels(images: jax.Array, rows: jax.Array, columns: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the pixels (B, H, W, C) at whole places (B, H, W), and whether each is one (..., 1).

    Outside of the image it is some pixel of the edge.
    """
    batch, height, width, channels = images.shape
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    row = jnp.clip(rows, 0, height - 1).astype(jnp.int32)
    column = jnp.clip(columns, 0, width - 1).astype(jnp.int32)
    flat = images.reshape(batch, height * width, channels)
    pick = jax.vmap(lambda image, places: image.at[places].get(mode="promise_in_bounds"))
    return pick(flat, row * width + column), inside[..., None]

"""A window of every image, resized: torchvision's `resized_crop`, a window of its own an image.

Bilinear interpolation is separable: every row of the result is a weighted sum of rows, every column
one of columns. The windows differ from image to image, so that the weights are two matrices an
image, and the result two batched matrix products, which every device does fast.

Documented by torchvision.transforms.functional.resized_crop (0.28): a crop, then
`torch.nn.functional.interpolate` of it. (B, H, W, C) -> (B, H', W', C).
"""

import jax
import jax.numpy as jnp

from jaxcnn.augment.arguments import Size, check_images, pair_of_sizes, per_image


def resized_crop(
    images: jax.Array,
    top: jax.Array,
    left: jax.Array,
    height: jax.Array,
    width: jax.Array,
    size: Size,
    *,
    antialias: bool = True,
) -> jax.Array:
    """Cut a window out of every image and resize it bilinearly, as `resized_crop`.

    Nothing outside of a window is seen: its own edge pixels go on beyond it.

    Args:
        images: (B, H, W, C), floating.
        top: (B,) integers, first row of each window.
        left: (B,) integers, first column of each window.
        height: (B,) integers >= 1, rows of each window, with top in [0, H].
        width: (B,) integers >= 1, columns of each window, with left in [0, W].
        size: H', W' of the result.
        antialias: whether the filter is widened where a window shrinks, so that every pixel counts.

    Returns:
        (B, H', W', C) of the images' dtype.

    Raises:
        ValueError: images not floating, or values of another shape.
    """
    name = "resized_crop"
    check_images(name, images)
    rows, columns = pair_of_sizes(name, size)
    given = {"top": top, "left": left, "height": height, "width": width}
    start_y, start_x, length_y, length_x = (
        per_image(name, key, value, images) for key, value in given.items()
    )
    of_rows = _weights(start_y, length_y, images.shape[1], rows, antialias)
    of_columns = _weights(start_x, length_x, images.shape[2], columns, antialias)
    # A GPU would round float32 to 10 bits (TF32) otherwise.
    exact = jax.lax.Precision.HIGHEST
    images = jnp.einsum("boh,bhwc->bowc", of_rows, images, precision=exact)
    return jnp.einsum("bpw,bowc->bopc", of_columns, images, precision=exact)


def _weights(
    start: jax.Array, length: jax.Array, inputs: int, outputs: int, antialias: bool
) -> jax.Array:
    """Return the weight of every input for every output along one axis.

    Args:
        start: (B,) floating, first input of each window.
        length: (B,) floating, inputs in each window.
        inputs: of the image.
        outputs: of the result.
        antialias: as in `resized_crop`.

    Returns:
        (B, outputs, inputs).
    """
    dtype = start.dtype
    length = length[:, None, None]
    places = jnp.arange(inputs, dtype=dtype) - start[:, None, None]  # (B, 1, inputs)
    step = length / outputs
    centers = step * (jnp.arange(outputs, dtype=dtype)[:, None] + 0.5) - 0.5  # (B, outputs, 1)
    if antialias:
        # A triangle as wide as two steps, cut off at the window's edges and weighed anew.
        hat = _triangle((places - centers) / jnp.maximum(step, 1))
        hat = jnp.where((places >= 0) & (places < length), hat, 0)
        return hat / hat.sum(axis=2, keepdims=True)
    return _triangle(places - jnp.clip(centers, 0, length - 1))


def _triangle(distances: jax.Array) -> jax.Array:
    return jnp.maximum(1 - jnp.abs(distances), 0)

"""What a batch norm sums over pixels, by `jaxcnn.native` on a CPU.

XLA computes a mean, writes down the images less the mean, and reads that again for the variance;
for the gradient it writes down a product for every sum. These read the images twice for both
moments, and once with the gradient for its sums, and write nothing. They are primitives of JAX,
each of whose derivatives is made of the same three: derivatives of any order, forward and reverse,
take as few passes.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.mlir.dialects import stablehlo as hlo
from jax.interpreters import ad

from jaxcnn.native.primitive import library_call, map_plainly, primitive

_PIXELS = (0, 1, 2)


def values(images: jax.Array, mask: jax.Array | None = None) -> int | jax.Array:
    """Return how many values a channel has, a number or an array ().

    Args:
        images: (B, H, W, C), floating.
        mask: (B,) bool, the images that count; None if all do.
    """
    batch, height, width, _ = images.shape
    return (batch if mask is None else jnp.sum(mask, dtype=images.dtype)) * (height * width)


def moments(images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the mean and the biased variance of every channel, each (C,).

    Args:
        images: (B, H, W, C), float32 or float64. Sums of them are kept in float64.
    """
    mean, variance = _moments.bind(images)
    return mean, variance


def counted(images: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return mean and biased variance, (C,), of some of the images, and their values a channel, ().

    By XLA.

    Args:
        images: (B, H, W, C), floating.
        mask: (B,) bool, the images that count.
    """
    counts = mask[:, None, None, None]
    n = jnp.asarray(values(images, mask))
    mean = jnp.sum(images, _PIXELS, where=counts) / n
    return mean, jnp.sum(jnp.square(images - mean), _PIXELS, where=counts) / n, n


def products(
    numbers: jax.Array, images: jax.Array, centre: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return the sums of `numbers` and of numbers * (images - centre) of every channel, each (C,).

    Args:
        numbers: (B, H, W, C), float32 or float64.
        images: the same.
        centre: (C,), of their dtype.
    """
    total, product = _products.bind(numbers, images, centre)
    return total, product


def scaled(images: jax.Array, centre: jax.Array, factor: jax.Array, bias: jax.Array) -> jax.Array:
    """Return (images - centre) * factor + bias.

    Args:
        images: (B, H, W, C), float32 or float64.
        centre: (C,), of their dtype.
        factor: the same.
        bias: the same.
    """
    return _scaled.bind(bias, factor, images, centre)


def plain(images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Compute `moments` by XLA."""
    mean = jnp.mean(images, _PIXELS)
    return mean, jnp.mean(jnp.square(images - mean), _PIXELS)


def _plain_products(numbers, images, centre):
    return jnp.sum(numbers, _PIXELS), jnp.sum(numbers * (images - centre), _PIXELS)


def _plain_scaled(bias, factor, images, centre):
    return (images - centre) * factor + bias


def spread(values: Any, images: Any) -> Any:
    """Lower a channel's value, (C,), to that at every pixel of images, (B, H, W, C)."""
    return hlo.broadcast_in_dim(images.type, values, [3])


def affine(images: Any, centre: Any, factor: Any, bias: Any) -> Any:
    """Lower (images - centre) * factor + bias, see `scaled`."""
    centred = hlo.subtract(images, spread(centre, images))
    return hlo.add(hlo.multiply(centred, spread(factor, images)), spread(bias, images))


def check(images: Any, *, like: Any = (), channels: Any = (), mask: Any = ()) -> None:
    """Raise a ValueError where the library would read what is not there.

    Args:
        images: abstract array, (B, H, W, C).
        like: abstract arrays that must have its shape and number type.
        channels: those that must be (C,), of its number type.
        mask: those that must be (B,) bool.
    """
    wanted = [(array, images.shape, images.dtype) for array in like]
    wanted += [(array, images.shape[3:], images.dtype) for array in channels]
    wanted += [(array, images.shape[:1], np.dtype(bool)) for array in mask]
    if images.ndim != 4:
        raise ValueError(f"images: expected (B, H, W, C), got {images.shape}")
    for array, shape, dtype in wanted:
        if array.shape != shape or array.dtype != dtype:
            raise ValueError(
                f"images of {images.shape}, {images.dtype}: expected {shape}, {dtype} with them, "
                f"got {array.shape}, {array.dtype}"
            )


def _moments_shapes(images):
    check(images)
    return 2 * [images.update(shape=images.shape[3:], weak_type=False)]


def _products_shapes(numbers, images, centre):
    check(images, like=[numbers], channels=[centre])
    return _moments_shapes(images)


def _scaled_shape(bias, factor, images, centre):
    check(images, channels=[bias, factor, centre])
    return images.update(weak_type=False)


def _lower_scaled(ctx, bias, factor, images, centre):
    del ctx
    return [affine(images, centre, factor, bias)]


_moments = library_call("moments", _moments_shapes, several=True)
_products = library_call("products", _products_shapes, several=True)
_scaled = primitive("scaled", _lower_scaled, _scaled_shape, plain=_plain_scaled)

map_plainly(_moments, plain)
map_plainly(_products, _plain_products)
map_plainly(_scaled, _plain_scaled)


def _moments_jvp(primals, tangents):
    (images,), (t,) = primals, tangents
    mean, variance = _moments.bind(images)
    n = values(images)
    total, product = _products.bind(ad.instantiate_zeros(t), images, mean)
    return (mean, variance), (total * (1 / n), product * (2 / n))


def _products_jvp(primals, tangents):
    numbers, images, centre = primals
    of_numbers, of_images, of_centre = tangents
    found = _products.bind(*primals)
    tangent = 2 * [jnp.zeros_like(centre)]
    if not isinstance(of_numbers, ad.Zero):
        tangent = _products.bind(of_numbers, images, centre)
    if not isinstance(of_images, ad.Zero):
        tangent[1] += _products.bind(numbers, of_images, jnp.zeros_like(centre))[1]
    if not isinstance(of_centre, ad.Zero):
        tangent[1] -= of_centre * found[0]
    return found, tangent


def _scaled_jvp(primals, tangents):
    bias, factor, images, centre = primals
    of_bias, of_factor, of_images, of_centre = tangents
    moved = ad.instantiate_zeros(of_bias)
    if not isinstance(of_centre, ad.Zero):  # a bias: one sum less in the transposed map
        moved -= of_centre * factor
    tangent = _scaled.bind(moved, ad.instantiate_zeros(of_factor), images, centre)
    if not isinstance(of_images, ad.Zero):
        tangent += of_images * factor
    return _scaled.bind(*primals), tangent


def _products_transpose(cotangents, numbers, images, centre):
    """Of the numbers or, the centre being nought and the first sum left out, of the images."""
    total, product = (ad.instantiate_zeros(cotangent) for cotangent in cotangents)
    if ad.is_undefined_primal(numbers):
        return _scaled.bind(total, product, images, centre), None, None
    return None, numbers * product, None


def _scaled_transpose(cotangent, bias, factor, images, centre):
    found = _products.bind(cotangent, images, centre)
    wanted = (ad.is_undefined_primal(bias), ad.is_undefined_primal(factor))
    return *(x if want else None for x, want in zip(found, wanted, strict=True)), None, None


ad.primitive_jvps[_moments] = _moments_jvp
ad.primitive_jvps[_products] = _products_jvp
ad.primitive_jvps[_scaled] = _scaled_jvp
ad.primitive_transposes[_products] = _products_transpose
ad.primitive_transposes[_scaled] = _scaled_transpose

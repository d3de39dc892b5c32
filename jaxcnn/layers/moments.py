"""What a batch norm sums over pixels, by `jaxcnn.native` on a CPU.

XLA computes a mean, writes down the images less the mean, and reads that again for the variance;
for the gradient it writes down a product for every sum. These read the images twice for both
moments, and once with the gradient for its sums, and write nothing. They are primitives of JAX,
each of whose derivatives is made of the same three: derivatives of any order, forward and reverse,
take as few passes.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

_PIXELS = (0, 1, 2)


def moments(images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the mean and the biased variance of every channel, each (C,).

    Args:
        images: (B, H, W, C), float32 or float64. Sums of them are kept in float64.
    """
    mean, variance = _moments.bind(images)
    return mean, variance


def scaled(images: jax.Array, centre: jax.Array, factor: jax.Array, bias: jax.Array) -> jax.Array:
    """Return (images - centre) * factor + bias.

    Args:
        images: (B, H, W, C), float32 or float64.
        centre: (C,), of their dtype.
        factor: the same.
        bias: the same.
    """
    return _scaled.bind(bias, factor, images, centre)


def _of_channels(function: str, *arrays: jax.Array) -> Any:
    found = jax.ShapeDtypeStruct((arrays[0].shape[3],), arrays[0].dtype)
    return jax.ffi.ffi_call(f"jaxcnn_{function}_{found.dtype.name}", (found, found))(*arrays)


def _moments_impl(images):
    return _of_channels("moments", images)


def _products_impl(numbers, images, centre):
    return _of_channels("products", numbers, images, centre)


def _plain_moments(images):
    mean = jnp.mean(images, _PIXELS)
    return mean, jnp.mean(jnp.square(images - mean), _PIXELS)


def _plain_products(numbers, images, centre):
    return jnp.sum(numbers, _PIXELS), jnp.sum(numbers * (images - centre), _PIXELS)


def _plain_scaled(bias, factor, images, centre):
    return (images - centre) * factor + bias


def _primitive(name: str, compute: Callable, plain: Callable, shapes: Callable, axes) -> Primitive:
    """Make a primitive; what `vmap` maps is the plain computation, results along `axes`."""
    primitive = Primitive(f"jaxcnn_{name}")
    primitive.multiple_results = isinstance(axes, tuple)
    primitive.def_impl(jax.jit(compute))
    primitive.def_abstract_eval(shapes)
    lowering = mlir.lower_fun(compute, multiple_results=primitive.multiple_results)
    mlir.register_lowering(primitive, lowering)
    batching.primitive_batchers[primitive] = lambda arrays, mapped: (
        jax.vmap(plain, mapped)(*arrays),
        axes,
    )
    return primitive


def _two_of_channels(images, *_others):
    return 2 * [images.update(shape=images.shape[3:], weak_type=False)]


def _of_images(bias, factor, images, centre):
    return images.update(weak_type=False)


_moments = _primitive("moments", _moments_impl, _plain_moments, _two_of_channels, (0, 0))
_products = _primitive("products", _products_impl, _plain_products, _two_of_channels, (0, 0))
_scaled = _primitive("scaled", _plain_scaled, _plain_scaled, _of_images, 0)


def _moments_jvp(primals, tangents):
    (images,), (t,) = primals, tangents
    mean, variance = _moments.bind(images)
    n = images.size // images.shape[3]
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

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
    return _scaled.bind(jnp.stack([bias, factor]), images, centre)


def _of_channels(function: str, *arrays: jax.Array) -> Any:
    found = jax.ShapeDtypeStruct((2, arrays[0].shape[3]), arrays[0].dtype)
    return jax.ffi.ffi_call(f"jaxcnn_{function}_{found.dtype.name}", found)(*arrays)


def _plain_moments(images):
    mean = jnp.mean(images, _PIXELS)
    return jnp.stack([mean, jnp.mean(jnp.square(images - mean), _PIXELS)])


def _plain_products(numbers, images, centre):
    return jnp.stack([jnp.sum(numbers, _PIXELS), jnp.sum(numbers * (images - centre), _PIXELS)])


def _plain_scaled(weights, images, centre):
    bias, factor = weights
    return (images - centre) * factor + bias


def _primitive(name: str, shape_of: Callable, compute: Callable, plain: Callable) -> Primitive:
    """Make a primitive; what `vmap` maps is the plain computation."""
    primitive = Primitive(f"jaxcnn_{name}")
    primitive.def_impl(jax.jit(compute))
    primitive.def_abstract_eval(lambda *a: a[0].update(shape=shape_of(*a), weak_type=False))
    mlir.register_lowering(primitive, mlir.lower_fun(compute, multiple_results=False))
    batching.primitive_batchers[primitive] = lambda arrays, axes: (
        jax.vmap(plain, axes)(*arrays),
        0,
    )
    return primitive


def _two(images, *_others):
    return 2, images.shape[3]


def _moments_impl(images):
    return _of_channels("moments", images)


def _products_impl(numbers, images, centre):
    return _of_channels("products", numbers, images, centre)


_moments = _primitive("moments", _two, _moments_impl, _plain_moments)
_products = _primitive("products", _two, _products_impl, _plain_products)
_scaled = _primitive(
    "scaled", lambda weights, images, centre: images.shape, _plain_scaled, _plain_scaled
)


def _moments_jvp(primals, tangents):
    (images,), (t,) = primals, tangents
    found = _moments.bind(images)
    n = images.size // images.shape[3]
    share = jnp.asarray([[1 / n], [2 / n]], images.dtype)
    return found, _products.bind(ad.instantiate_zeros(t), images, found[0]) * share


def _products_jvp(primals, tangents):
    numbers, images, centre = primals
    of_numbers, of_images, of_centre = tangents
    found, tangent = _products.bind(*primals), jnp.zeros((2, centre.size), centre.dtype)
    if not isinstance(of_numbers, ad.Zero):
        tangent += _products.bind(of_numbers, images, centre)
    if not isinstance(of_images, ad.Zero):
        by_images = _products.bind(numbers, of_images, jnp.zeros_like(centre))
        tangent = tangent.at[1].add(by_images[1])
    if not isinstance(of_centre, ad.Zero):
        tangent = tangent.at[1].add(-of_centre * found[0])
    return found, tangent


def _scaled_jvp(primals, tangents):
    weights, images, centre = primals
    of_weights, of_images, of_centre = tangents
    # A centre that moves is a bias: one sum less in the transposed map.
    moved = ad.instantiate_zeros(of_weights)
    if not isinstance(of_centre, ad.Zero):
        moved = moved.at[0].add(-of_centre * weights[1])
    tangent = _scaled.bind(moved, images, centre)
    if not isinstance(of_images, ad.Zero):
        tangent += of_images * weights[1]
    return _scaled.bind(*primals), tangent


def _products_transpose(cotangent, numbers, images, centre):
    """Of the numbers or, the centre being nought and the first sum left out, of the images."""
    if ad.is_undefined_primal(numbers):
        return _scaled.bind(cotangent, images, centre), None, None
    return None, numbers * cotangent[1], None


def _scaled_transpose(cotangent, weights, images, centre):
    return _products.bind(cotangent, images, centre), None, None


ad.primitive_jvps[_moments] = _moments_jvp
ad.primitive_jvps[_products] = _products_jvp
ad.primitive_jvps[_scaled] = _scaled_jvp
ad.primitive_transposes[_products] = _products_transpose
ad.primitive_transposes[_scaled] = _scaled_transpose

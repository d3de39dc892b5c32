"""A batch norm in training by `jaxcnn.native` on a CPU: a call forward, and one backward.

Beside the sums of a channel (`jaxcnn.layers.moments`) a call computes what follows from them for
the channel: one operation of XLA each, that would be a kernel to compile and to start for every
norm. What is computed of every value is left to XLA, which puts it together with what comes before
and after. Primitives of JAX with derivatives of any order, forward and reverse.
"""

import jax
import numpy as np
from jax import lax
from jax.extend.mlir.dialects import stablehlo as hlo
from jax.interpreters import ad

from jaxcnn.layers import moments
from jaxcnn.native.primitive import (
    call,
    composed,
    differentiate_plainly,
    library_call,
    map_plainly,
    primitive,
)


def normalised(
    images: jax.Array, scale: jax.Array, bias: jax.Array, eps: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return (images - mean) / sqrt(variance + eps) * scale + bias, the mean and the variance.

    The mean and the biased variance of every channel, (C,), are constants to derivatives: they are
    for running statistics.

    Args:
        images: (B, H, W, C), float32 or float64. Sums of them are kept in float64.
        scale: (C,), of their dtype.
        bias: the same.
        eps: added to the variance.
    """
    out, mean, variance, _, _ = _norm.bind(images, scale, bias, eps=eps)
    return out, mean, variance


def moved(
    running: tuple[jax.Array, jax.Array],
    batch: tuple[jax.Array, jax.Array],
    weight: float,
    ratio: float,
) -> tuple[jax.Array, jax.Array]:
    """Return running + weight (batch - running) of means and variances, each (C,).

    Args:
        running: mean and variance, (C,) each, float32 or float64.
        batch: the same, of a batch.
        weight: of the batch, in [0, 1].
        ratio: what the batch's variance is multiplied by before.
    """
    mean, variance = _running.bind(*batch, *running, weight=weight, ratio=ratio)
    return mean, variance


def _of_images(images, *_others, eps=0.0):
    return images.update(weak_type=False)


def _count(images):
    return images.size // images.shape[3]


# (images - mean) factor + bias, mean, variance, inverse = 1 / sqrt(variance + eps), and
# factor = scale inverse
def _lower_norm(ctx, images, scale, bias, *, eps):
    arrays, found = ctx.avals_in[:2], ctx.avals_out[1:]
    normal = call(ctx, "normal", (images, scale), arrays, found, eps=np.float64(eps))
    mean, _, _, factor = normal
    return [moments.affine(images, mean, factor, bias), *normal]


def _plain_normal(images, scale, eps):
    mean, variance = moments.moments(images)
    inverse = lax.rsqrt(variance + eps)
    return mean, variance, inverse, scale * inverse


def _norm_plain(images, scale, bias, *, eps):
    mean, variance, inverse, factor = _plain_normal(images, scale, eps)
    return moments.scaled(images, mean, factor, bias), mean, variance, inverse, factor


def _norm_shapes(images, scale, bias, *, eps):
    return [_of_images(images), *(4 * [_of_images(scale)])]


def _norm_jvp(primals, tangents, *, eps):
    images, scale, _ = primals
    found = _norm.bind(*primals, eps=eps)
    _, mean, _, inverse, factor = found
    moving = (ad.instantiate_zeros(tangent) for tangent in tangents)
    tangent = _tangent.bind(*moving, images, scale, mean, inverse, factor, eps=eps)
    return found, [tangent, *(ad.Zero(jax.typeof(x).to_tangent_aval()) for x in found[1:])]


# The tangent of the first result by images, scale and bias. Derivatives by what follows from
# images and scale are among those by images and scale, here as in the gradient.
def _tangent_found(of_images, of_scale, of_bias, images, _scale, mean, inverse, factor, *, eps=0.0):
    total, product = moments.products(of_images, images, mean)
    slope = inverse * of_scale - factor * inverse * inverse * (product / _count(images))
    offset = of_bias - factor * (total / _count(images))
    return of_images * factor + moments.scaled(images, mean, slope, offset)


def _tangent_plain(of_images, of_scale, of_bias, images, scale, *_found, eps):
    mean, _, *found = _plain_normal(images, scale, eps)
    return _tangent_found(of_images, of_scale, of_bias, images, scale, mean, *found)


def _tangent_transpose(cotangent, of_images, of_scale, of_bias, *fixed, eps):
    found = _gradient.bind(cotangent, *fixed, eps=eps)
    moving = (of_images, of_scale, of_bias)
    wanted = [ad.is_undefined_primal(value) for value in moving]
    return *(x if want else None for x, want in zip(found, wanted, strict=True)), *(5 * [None])


# The gradient by images, scale and bias, of that by the first result.
def _lower_gradient(ctx, numbers, images, _scale, mean, inverse, factor, *, eps):
    del eps
    of_numbers, of_images, of_channels, *_ = ctx.avals_in
    operands, results = (numbers, images, mean, inverse, factor), 4 * [of_channels]
    arrays = (of_numbers, of_images, *(3 * [of_channels]))
    by_bias, by_scale, slope, offset = call(ctx, "norm_gradient", operands, arrays, results)
    scaled = hlo.multiply(numbers, moments.spread(factor, images))
    return hlo.add(scaled, moments.affine(images, mean, slope, offset)), by_scale, by_bias


def _gradient_plain(numbers, images, scale, *_found, eps):
    mean, _, inverse, factor = _plain_normal(images, scale, eps)
    total, product = moments.products(numbers, images, mean)
    slope = -factor * inverse * inverse * (product / _count(images))
    offset = -factor * (total / _count(images))
    by_images = numbers * factor + moments.scaled(images, mean, slope, offset)
    return by_images, product * inverse, total


def _gradient_shapes(numbers, images, scale, *_found, eps):
    return [_of_images(images), _of_images(scale), _of_images(scale)]


def _running_plain(batch_mean, batch_variance, mean, variance, *, weight, ratio):
    kept = 1 - weight
    return kept * mean + weight * batch_mean, kept * variance + weight * (ratio * batch_variance)


def _running_shapes(*arrays, weight, ratio):
    return [_of_images(array) for array in arrays[2:]]


def _float64(**numbers: float) -> dict[str, np.float64]:
    return {name: np.float64(number) for name, number in numbers.items()}


_running = library_call(
    "running",
    _running_shapes,
    several=True,
    static=["weight", "ratio"],
    attributes=_float64,
    in_place=True,
)
_norm = primitive("norm", _lower_norm, _norm_shapes, several=True, static=["eps"])
_tangent = composed("norm_tangent", _tangent_found, _of_images, static=["eps"])
_gradient = primitive(
    "norm_gradient", _lower_gradient, _gradient_shapes, several=True, static=["eps"]
)

map_plainly(_norm, _norm_plain)
map_plainly(_tangent, _tangent_plain)
map_plainly(_gradient, _gradient_plain)
map_plainly(_running, _running_plain)

ad.primitive_jvps[_norm] = _norm_jvp
ad.primitive_transposes[_tangent] = _tangent_transpose
differentiate_plainly(_tangent, _tangent_plain)
differentiate_plainly(_gradient, _gradient_plain)
differentiate_plainly(_running, _running_plain)

"""A batch norm in training by `jaxcnn.native` on a CPU: a call forward, and one backward.

Beside the sums of a channel (`jaxcnn.layers.moments`) a call computes what follows from them for
the channel: one operation of XLA each, that would be a kernel to compile and to start for every
norm. What is computed of every value is left to XLA, which puts it together with what comes before
and after. Primitives of JAX with derivatives of any order, forward and reverse.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.mlir import ir
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
    images: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    eps: float,
    mask: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return (images - mean) / sqrt(variance + eps) * scale + bias, the mean and the variance.

    The mean and the biased variance of every channel, (C,), are constants to derivatives: they are
    for running statistics.

    Args:
        images: (B, H, W, C), float32 or float64. Sums of them are kept in float64.
        scale: (C,), of their dtype.
        bias: the same.
        eps: added to the variance.
        mask: (B,) bool, which images mean and variance are of; None if of all.
    """
    which = [] if mask is None else [mask]
    out, mean, variance, _, _ = _norm.bind(images, scale, bias, *which, eps=float(eps))
    return out, mean, variance


def moved(
    running: tuple[jax.Array, jax.Array],
    batch: tuple[jax.Array, jax.Array],
    weight: float,
    ratio: float | jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Return running + weight (batch - running) of means and variances, each (C,).

    Args:
        running: mean and variance, (C,) each, float32 or float64.
        batch: the same, of a batch.
        weight: of the batch, in [0, 1].
        ratio: what the batch's variance is multiplied by before; an array of their dtype, (), or a
            number.
    """
    ratio = jnp.asarray(ratio, running[0].dtype)
    mean, variance = _running.bind(ratio, *batch, *running, weight=float(weight))
    return mean, variance


def moved_plainly(
    ratio: float | jax.Array,
    batch_mean: jax.Array,
    batch_variance: jax.Array,
    mean: jax.Array,
    variance: jax.Array,
    *,
    weight: float | jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Compute `moved` by XLA; the weight may be an array, ()."""
    kept = 1 - weight
    return kept * mean + weight * batch_mean, kept * variance + weight * (ratio * batch_variance)


def _of_images(images, *_others, eps=0.0):
    return images.update(weak_type=False)


def _masked(images, mask):
    """Put 0 in place of images that do not count."""
    return jnp.where(mask[0][:, None, None, None], images, 0) if mask else images


# The last argument of all that follows is the mask, where there is one.
#
# (images - mean) factor + bias, mean, variance, inverse = 1 / sqrt(variance + eps), and
# factor = scale inverse
def _lower_norm(ctx, images, scale, bias, *mask, eps):
    of_images, of_scale, _, *of_mask = ctx.avals_in
    operands, arrays = (images, scale, *mask), (of_images, of_scale, *of_mask)
    normal = call(ctx, "normal", operands, arrays, ctx.avals_out[1:], eps=np.float64(eps))
    mean, _, _, factor = normal
    return [moments.affine(images, mean, factor, bias), *normal]


def _plain_normal(images, scale, eps, mask):
    if mask:
        mean, variance, _ = moments.counted(images, *mask)
    else:
        mean, variance = moments.moments(images)
    inverse = lax.rsqrt(variance + eps)
    return mean, variance, inverse, scale * inverse


def _norm_plain(images, scale, bias, *mask, eps):
    mean, variance, inverse, factor = _plain_normal(images, scale, eps, mask)
    return moments.scaled(images, mean, factor, bias), mean, variance, inverse, factor


def _norm_shapes(images, scale, bias, *mask, eps):
    moments.check(images, channels=[scale, bias], mask=mask)
    return [_of_images(images), *(4 * [_of_images(scale)])]


def _norm_jvp(primals, tangents, *, eps):
    images, scale, _, *mask = primals
    found = _norm.bind(*primals, eps=eps)
    _, mean, _, inverse, factor = found
    moving = (ad.instantiate_zeros(tangent) for tangent in tangents[:3])
    tangent = _tangent.bind(*moving, images, scale, mean, inverse, factor, *mask, eps=eps)
    return found, [tangent, *(ad.Zero(jax.typeof(x).to_tangent_aval()) for x in found[1:])]


# The tangent of the first result by images, scale and bias. Derivatives by what follows from
# images and scale are among those by images and scale, here as in the gradient.
def _tangent_found(
    of_images, of_scale, of_bias, images, _scale, mean, inverse, factor, *mask, eps=0.0
):
    total, product = moments.products(_masked(of_images, mask), images, mean)
    count = moments.values(images, *mask)
    slope = inverse * of_scale - factor * inverse * inverse * (product / count)
    offset = of_bias - factor * (total / count)
    return of_images * factor + moments.scaled(images, mean, slope, offset)


def _tangent_plain(of_images, of_scale, of_bias, images, scale, _m, _i, _f, *mask, eps):
    mean, _, *found = _plain_normal(images, scale, eps, mask)
    return _tangent_found(of_images, of_scale, of_bias, images, scale, mean, *found, *mask)


def _tangent_transpose(cotangent, of_images, of_scale, of_bias, *fixed, eps):
    found = _gradient.bind(cotangent, *fixed, eps=eps)
    moving = (of_images, of_scale, of_bias)
    wanted = [ad.is_undefined_primal(value) for value in moving]
    given = (x if want else None for x, want in zip(found, wanted, strict=True))
    return *given, *(len(fixed) * [None])


# The gradient by images, scale and bias, of that by the first result. Images that do not count are
# normalised too, and so are in the sums.
def _lower_gradient(ctx, numbers, images, _scale, mean, inverse, factor, *mask, eps):
    del eps
    of_numbers, of_images, of_channels, *_ = ctx.avals_in
    operands, results = (numbers, images, mean, inverse, factor, *mask), 4 * [of_channels]
    arrays = (of_numbers, of_images, *(3 * [of_channels]), *ctx.avals_in[6:])
    by_bias, by_scale, slope, offset = call(ctx, "norm_gradient", operands, arrays, results)
    direct = hlo.multiply(numbers, moments.spread(factor, images))
    by_images = hlo.add(direct, moments.affine(images, mean, slope, offset))
    if mask:
        kind = ir.RankedTensorType.get(of_images.shape, mask[0].type.element_type)
        counts = hlo.broadcast_in_dim(kind, mask[0], [0])
        by_images = hlo.select(counts, by_images, direct)
    return by_images, by_scale, by_bias


def _gradient_plain(numbers, images, scale, _mean, _inverse, _factor, *mask, eps):
    mean, _, inverse, factor = _plain_normal(images, scale, eps, mask)
    total, product = moments.products(numbers, images, mean)
    count = moments.values(images, *mask)
    slope = -factor * inverse * inverse * (product / count)
    offset = -factor * (total / count)
    by_moments = _masked(moments.scaled(images, mean, slope, offset), mask)
    return numbers * factor + by_moments, product * inverse, total


def _gradient_shapes(numbers, images, scale, *_found, eps):
    return [_of_images(images), _of_images(scale), _of_images(scale)]


def _running_shapes(ratio, *channels, weight):
    shapes = [array.shape for array in channels]
    if ratio.shape or any(shape != (channels[0].size,) for shape in shapes):
        raise ValueError(f"running statistics: expected four arrays (C,), got {shapes}")
    return [_of_images(array) for array in channels[2:]]


def _float64(**numbers: float) -> dict[str, np.float64]:
    return {name: np.float64(number) for name, number in numbers.items()}


_running = library_call(
    "running",
    _running_shapes,
    several=True,
    static=["weight"],
    attributes=_float64,
    in_place=True,
)
_norm = primitive(
    "norm", _lower_norm, _norm_shapes, several=True, static=["eps"], plain=_norm_plain
)
_tangent = composed("norm_tangent", _tangent_found, _of_images, static=["eps"])
_gradient = primitive(
    "norm_gradient",
    _lower_gradient,
    _gradient_shapes,
    several=True,
    static=["eps"],
    plain=_gradient_plain,
)

map_plainly(_norm, _norm_plain)
map_plainly(_tangent, _tangent_plain)
map_plainly(_gradient, _gradient_plain)
map_plainly(_running, moved_plainly)

ad.primitive_jvps[_norm] = _norm_jvp
ad.primitive_transposes[_tangent] = _tangent_transpose
differentiate_plainly(_tangent, _tangent_plain)
differentiate_plainly(_gradient, _gradient_plain)
differentiate_plainly(_running, moved_plainly)

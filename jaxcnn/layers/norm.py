"""Batch normalisation with the conventions of `torch.nn.BatchNorm2d` (PyTorch 2.13).

Ioffe and Szegedy, 2015, arXiv:1502.03167. Where Flax's `nn.BatchNorm` differs: `momentum` is the
weight of the *new* value; the running variance is the unbiased one (n / (n - 1)) while the batch is
normalised by the biased one; the variance is computed in two passes, because E[x^2] - E[x]^2 loses
every digit in float32 where the mean is large against the deviation; batches are counted; examples
that fill a batch up do not count (`jaxcnn.layers.masking`); parts of a batch can have statistics of
their own (`jaxcnn.layers.parts`), whose average then goes into the running ones.

Statistics are float32 at least: bfloat16 images are normalised in float32 and rounded at the end.
"""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.core import Tracer

from jaxcnn.layers import forms, half, masking, moments, normalised, parts
from jaxcnn.layers.initializers import Initializer, parameter
from jaxcnn.layers.window import check_images


class BatchNorm2d(nn.Module):
    """`torch.nn.BatchNorm2d` on (B, H, W, C) images.

    Parameters `scale` (C,) ones and `bias` (C,) zeros; collection `batch_stats`: `mean` (C,) zeros,
    `var` (C,) ones, `num_batches_tracked` () int32.

    Attributes:
        eps: added to the variance.
        momentum: weight of the new batch in the running statistics; None averages all batches
            with equal weight (1 / num_batches_tracked), as in PyTorch.
        affine: whether there are a scale and a bias to learn.
        track_running_stats: False keeps no statistics: every batch is normalised by its own, in
            evaluation too.
        unbiased: whether the running variance is the unbiased one, as PyTorch's, or the biased one
            that the batch is normalised by, as Keras'.
        scale_init: distribution of the initial `scale`.
    """

    eps: float = 1e-5
    momentum: float | None = 0.1
    affine: bool = True
    track_running_stats: bool = True
    unbiased: bool = True
    scale_init: Initializer = nn.initializers.ones

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Normalise (B, H, W, C) by the batch's statistics (train) or by the running ones.

        Raises:
            ValueError: wrong rank, running statistics of another number of channels, a mask of
                another number of images (`jaxcnn.layers.masking`), one value per channel where the
                batch's own statistics normalise it (no variance), or a batch that does not fall
                into equal parts.
        """
        layer = f"BatchNorm2d {self.name!r}"
        check_images(layer, images.shape)
        channels, given = images.shape[3], images.dtype
        dtype = half.kept(given)
        images = images.astype(dtype)
        scale = bias = None
        if self.affine:
            scale = parameter(self, "scale", self.scale_init, (channels,), dtype)
            bias = parameter(self, "bias", nn.initializers.zeros, (channels,), dtype)
        running = None
        if self.track_running_stats:
            running = (
                self.variable("batch_stats", "mean", jnp.zeros, (channels,), dtype),
                self.variable("batch_stats", "var", jnp.ones, (channels,), dtype),
                self.variable("batch_stats", "num_batches_tracked", jnp.zeros, (), jnp.int32),
            )
            _check_running(layer, channels, *running)
        if running and not train:
            mean, var, _ = running
            return _normalise(images, mean.value, var.value, scale, bias, self.eps).astype(given)

        divided = min(parts.parts(), images.shape[0])
        if images.shape[0] % divided:
            raise ValueError(
                f"{layer}: expected {divided} equal parts, got {images.shape[0]} images"
            )
        if math.prod(images.shape[:3]) == divided:
            when = "when training" if train else "without running statistics"
            raise ValueError(
                f"{layer}: expected more than 1 value per channel {when}, "
                f"got images of shape {images.shape}"
            )
        mask = masking.mask()
        if mask is not None and mask.shape != images.shape[:1]:
            raise ValueError(
                f"{layer}: expected a mask of {images.shape[0]} images, got {mask.shape}"
            )
        known = divided == 1 and not isinstance(self.eps, Tracer)
        if known and forms.native_for(images, scale, bias):
            out, *seen = _by_our_own(images, scale, bias, self.eps, mask)
            ratio = _unbiased(moments.values(images, mask)) if self.unbiased else 1.0
        else:
            batch_mean, batch_var, *seen = _statistics(images, mask, divided, self.unbiased)
            out = _normalise(images, batch_mean, batch_var, scale, bias, self.eps)
            ratio = 1.0
        if running and not self.is_initializing() and self.is_mutable_collection("batch_stats"):
            mean, var, count = running
            count.value += 1
            weight = 1 / count.value.astype(dtype) if self.momentum is None else self.momentum
            mean.value, var.value = _moved((mean.value, var.value), seen, weight, ratio)
        return out.astype(given)


def _check_running(layer, channels, mean, var, _count):
    for name, found in (("mean", mean), ("var", var)):
        if found.value.shape != (channels,):
            raise ValueError(
                f"{layer}: expected a running {name} of shape {(channels,)}, "
                f"got {found.value.shape}"
            )


def _by_our_own(images, scale, bias, eps, mask):
    """Return normalised images, and the mean and variance that go into the running ones, (C,)."""
    channels = images.shape[3:]
    scale = jnp.ones(channels, images.dtype) if scale is None else scale
    bias = jnp.zeros(channels, images.dtype) if bias is None else bias
    return normalised.normalised(images, scale, bias, eps, mask)


def _unbiased(n):
    """Return what makes a biased variance of n values an unbiased one."""
    return n / (n - 1)


def _moved(running, seen, weight, ratio):
    """Return the running mean and variance with the batch's in them."""
    mean, var = (lax.stop_gradient(value) for value in seen)
    if isinstance(weight, float) and forms.native_for(mean, var, *running):
        return normalised.moved(running, (mean, var), weight, ratio)
    return normalised.moved_plainly(ratio, mean, var, *running, weight=weight)


def _statistics(images, mask, divided, unbiased):
    """Return mean and variance to normalise by, and those that go into the running ones, (C,)."""
    if divided == 1:
        mean, var, n = _moments(images, mask)
        return mean, var, mean, var * (_unbiased(n) if unbiased else 1)

    def in_parts(array):
        return array.reshape(divided, -1, *array.shape[1:])

    def of_examples(values):  # (parts, C) -> (B, 1, 1, C)
        return jnp.repeat(values, images.shape[0] // divided, axis=0)[:, None, None]

    counts = None if mask is None else in_parts(mask)
    seen = jnp.ones(divided, bool) if counts is None else jnp.any(counts, axis=1)
    if counts is not None:
        # A part of filling alone is normalised by its own values: by none it would grow from norm
        # to norm, and an overflow there would make NaN of everybody's gradient.
        counts = counts | ~seen[:, None]
    mean, var, n = jax.vmap(_moments)(in_parts(images), counts)
    # A part of one value has no variance.
    n = jnp.asarray(n, images.dtype)
    scaled = var * (n / jnp.maximum(n - 1, 1))[:, None] if unbiased else var
    averages = (jnp.mean(values, axis=0, where=seen[:, None]) for values in (mean, scaled))
    return of_examples(mean), of_examples(var), *averages


def _moments(images, mask):
    """Return mean, variance (C,) and number of values a channel, of the examples that count."""
    if mask is None:
        return *moments.plain(images), moments.values(images)
    return moments.counted(images, mask)


def _normalise(images, mean, var, scale, bias, eps):
    # One multiplication and one addition a value, but centred first: x * a + (bias - mean * a)
    # would cancel where the mean is large against the deviation.
    factor = lax.rsqrt(var + eps)
    if scale is not None:
        factor = scale * factor
    if mean.ndim == 1 and forms.native_for(images, mean, factor, bias):
        bias = jnp.zeros_like(mean) if bias is None else bias
        return moments.scaled(images, mean, factor, bias)
    out = (images - mean) * factor
    return out if bias is None else out + bias

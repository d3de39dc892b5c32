"""Losses of every element by itself: binary cross-entropies, L1, squares, smooth L1."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.losses.reduction import Reduction, check_reduction, check_same_shape, reduced

# What PyTorch bounds the logarithms and the gradient's denominator of BCE by; the latter is a
# `float` of its source (4e-9 below 1e-12) in double precision too.
_LEAST_LOG = -100.0
_LEAST_VARIANCE = float(np.float32(1e-12))


def binary_cross_entropy(
    probabilities: jax.Array,
    targets: jax.Array,
    *,
    weight: jax.Array | None = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Return -(t log p + (1 - t) log(1 - p)) as `torch.nn.functional.binary_cross_entropy` does.

    The logarithms are at least -100 and the gradient's denominator p (1 - p) at least 1e-12, so
    that probabilities of 0 and 1 have finite losses and gradients. From logits,
    `binary_cross_entropy_with_logits` is exact.

    Args:
        probabilities: any shape, floating, in [0, 1] (not checked: they are data).
        targets: of the same shape and dtype, in [0, 1].
        weight: factor of every element, of a shape that broadcasts to the probabilities'.
        reduction: "none", "mean" (over all elements, whatever their weights) or "sum".

    Returns:
        The probabilities' shape for "none", else (), of their dtype.

    Raises:
        ValueError: shapes, dtypes, a weight or a reduction that do not fit.
    """
    name = "binary_cross_entropy"
    check_reduction(name, reduction)
    check_same_shape(name, probabilities, targets)
    values = _binary_cross_entropy(probabilities, targets)
    return reduced(_weighted(name, values, weight), reduction)


def binary_cross_entropy_with_logits(
    logits: jax.Array,
    targets: jax.Array,
    *,
    weight: jax.Array | None = None,
    pos_weight: jax.Array | None = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Return -(pos_weight t log s(x) + (1 - t) log(1 - s(x))), s the sigmoid.

    As `torch.nn.functional.binary_cross_entropy_with_logits`; finite for every finite logit.

    Args:
        logits: any shape, floating.
        targets: of the same shape and dtype, in [0, 1].
        weight: factor of every element, of a shape that broadcasts to the logits'.
        pos_weight: factor of the positive part, e.g. (K,) for K labels of (..., K), which are our
            last axis; above 1 it buys recall for precision.
        reduction: "none", "mean" (over all elements, whatever their weights) or "sum".

    Returns:
        The logits' shape for "none", else (), of their dtype.

    Raises:
        ValueError: shapes, dtypes, a weight or a reduction that do not fit.
    """
    name = "binary_cross_entropy_with_logits"
    check_reduction(name, reduction)
    check_same_shape(name, logits, targets)
    positive = targets * -jax.nn.log_sigmoid(logits)
    positive = _weighted(name, positive, pos_weight, "pos_weight")
    values = positive + (1 - targets) * -jax.nn.log_sigmoid(-logits)
    return reduced(_weighted(name, values, weight), reduction)


def l1_loss(inputs: jax.Array, targets: jax.Array, *, reduction: Reduction = "none") -> jax.Array:
    """Return |input - target| as `torch.nn.functional.l1_loss` does; the gradient at 0 is 0.

    Args:
        inputs: any shape, floating.
        targets: of the same shape and dtype.
        reduction: "none", "mean" or "sum".

    Returns:
        The inputs' shape for "none", else (), of their dtype.

    Raises:
        ValueError: shapes, dtypes or a reduction that do not fit.
    """
    check_reduction("l1_loss", reduction)
    check_same_shape("l1_loss", inputs, targets)
    return reduced(absolute(inputs - targets), reduction)


def mse_loss(inputs: jax.Array, targets: jax.Array, *, reduction: Reduction = "none") -> jax.Array:
    """Return (input - target)^2, without a half, as `torch.nn.functional.mse_loss` does.

    Args:
        inputs: any shape, floating.
        targets: of the same shape and dtype.
        reduction: "none", "mean" or "sum".

    Returns:
        The inputs' shape for "none", else (), of their dtype.

    Raises:
        ValueError: shapes, dtypes or a reduction that do not fit.
    """
    check_reduction("mse_loss", reduction)
    check_same_shape("mse_loss", inputs, targets)
    return reduced(jnp.square(inputs - targets), reduction)


def smooth_l1_loss(
    inputs: jax.Array, targets: jax.Array, *, beta: float = 1.0, reduction: Reduction = "none"
) -> jax.Array:
    """Return d^2 / (2 beta) where |d| < beta, else |d| - beta / 2, with d = input - target.

    As `torch.nn.functional.smooth_l1_loss` (Girshick, 2015, arXiv:1504.08083).

    Args:
        inputs: any shape, floating.
        targets: of the same shape and dtype.
        beta: where the parabola turns into a line, at least 0; 0 is `l1_loss`.
        reduction: "none", "mean" or "sum".

    Returns:
        The inputs' shape for "none", else (), of their dtype.

    Raises:
        ValueError: a negative beta, or shapes, dtypes or a reduction that do not fit.
    """
    check_reduction("smooth_l1_loss", reduction)
    check_same_shape("smooth_l1_loss", inputs, targets)
    if not beta >= 0:
        raise ValueError(f"smooth_l1_loss: beta must be at least 0, got {beta}")
    if beta == 0:
        return l1_loss(inputs, targets, reduction=reduction)
    difference = inputs - targets
    distance = absolute(difference)
    parabola = jnp.square(difference) * (0.5 / beta)
    return reduced(jnp.where(distance < beta, parabola, distance - 0.5 * beta), reduction)


def absolute(x: jax.Array) -> jax.Array:
    """Return |x|, whose gradient at 0 is 0 as PyTorch's; that of `jnp.abs` is 1."""
    return x * jax.lax.stop_gradient(jnp.sign(x))


@jax.custom_jvp
def _binary_cross_entropy(p: jax.Array, t: jax.Array) -> jax.Array:
    log_p, log_not_p = _logs(p)
    return -(t * log_p + (1 - t) * log_not_p)


@_binary_cross_entropy.defjvp
def _binary_cross_entropy_jvp(primals, tangents):
    (p, t), (dp, dt) = primals, tangents
    log_p, log_not_p = _logs(p)
    slope = (p - t) / jnp.maximum(p * (1 - p), jnp.asarray(_LEAST_VARIANCE, p.dtype))
    return _binary_cross_entropy(p, t), slope * dp + (log_not_p - log_p) * dt


def _logs(p: jax.Array) -> tuple[jax.Array, jax.Array]:
    least = jnp.asarray(_LEAST_LOG, p.dtype)
    return jnp.maximum(jnp.log(p), least), jnp.maximum(jnp.log1p(-p), least)


def _weighted(
    loss: str, values: jax.Array, weight: jax.Array | None, argument: str = "weight"
) -> jax.Array:
    if weight is None:
        return values
    try:
        fits = jnp.broadcast_shapes(weight.shape, values.shape) == values.shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"{loss}: {argument} must broadcast to the inputs' shape {values.shape}, got "
            f"{weight.shape}"
        )
    return values * weight

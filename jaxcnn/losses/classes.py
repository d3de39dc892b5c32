"""Cross-entropy and negative log-likelihood over K classes, of examples or of pixels."""

import jax
import jax.numpy as jnp

from jaxcnn.losses.reduction import Reduction, check_reduction, reduced


def cross_entropy(
    logits: jax.Array,
    labels: jax.Array,
    *,
    weight: jax.Array | None = None,
    ignore_index: int | None = None,
    reduction: Reduction = "none",
    label_smoothing: float = 0.0,
) -> jax.Array:
    """Return -log softmax(logits)[label] as `torch.nn.functional.cross_entropy` does.

    Args:
        logits: (..., K), floating; (B, H, W, K) of pixels, where PyTorch has (B, K, H, W).
        labels: (...), integers in [0, K) (not checked: they are data), or probabilities (..., K)
            of the logits' dtype.
        weight: (K,), what each class counts for. The mean over class indices is then a weighted
            one: it divides by the sum of the labels' weights, that over probabilities by the
            number of examples, as PyTorch's.
        ignore_index: a label (class indices only) whose loss is 0 and which the mean does not
            count; PyTorch's is -100 unless told. None ignores none.
        reduction: "none", "mean" or "sum".
        label_smoothing: share in [0, 1] that goes evenly to all classes (Szegedy et al., 2015,
            arXiv:1512.00567).

    Returns:
        (...) for "none", else (), of the logits' dtype.

    Raises:
        ValueError: labels, a weight or a reduction that do not fit, a smoothing outside [0, 1], or
            ignore_index with probabilities.
    """
    check_reduction("cross_entropy", reduction)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"cross_entropy: label_smoothing must be in [0, 1], got {label_smoothing}")
    _check_weight("cross_entropy", logits, weight)
    if jnp.issubdtype(labels.dtype, jnp.floating):
        if ignore_index is not None:
            raise ValueError(
                f"cross_entropy: ignore_index={ignore_index} needs class indices, got "
                f"{labels.dtype} probabilities"
            )
        values = _of_probabilities(logits, labels, weight, label_smoothing)
        return reduced(values, reduction)

    _check_labels("cross_entropy", logits, labels)
    log_probabilities = jax.nn.log_softmax(logits)
    values, counts = _of_labels(log_probabilities, labels, weight, ignore_index)
    if label_smoothing:
        weighted = log_probabilities if weight is None else log_probabilities * weight
        evenly = -jnp.mean(weighted, axis=-1)
        if ignore_index is not None:
            evenly = jnp.where(labels == ignore_index, jnp.zeros((), evenly.dtype), evenly)
        values = (1 - label_smoothing) * values + label_smoothing * evenly
    return reduced(values, reduction, jnp.sum(counts))


def nll_loss(
    log_probabilities: jax.Array,
    labels: jax.Array,
    *,
    weight: jax.Array | None = None,
    ignore_index: int | None = None,
    reduction: Reduction = "none",
) -> jax.Array:
    """Return -log_probabilities[label] as `torch.nn.functional.nll_loss` does.

    Args:
        log_probabilities: (..., K), floating, such as `jax.nn.log_softmax` returns; (B, H, W, K) of
            pixels, where PyTorch has (B, K, H, W).
        labels: (...), integers in [0, K) (not checked).
        weight: (K,), what each class counts for; the mean divides by the sum of the labels'.
        ignore_index: a label whose loss is 0 and which the mean does not count; PyTorch's is -100
            unless told. None ignores none.
        reduction: "none", "mean" or "sum".

    Returns:
        (...) for "none", else (), of the log-probabilities' dtype.

    Raises:
        ValueError: labels, a weight or a reduction that do not fit.
    """
    check_reduction("nll_loss", reduction)
    _check_weight("nll_loss", log_probabilities, weight)
    _check_labels("nll_loss", log_probabilities, labels)
    values, counts = _of_labels(log_probabilities, labels, weight, ignore_index)
    return reduced(values, reduction, jnp.sum(counts))


def _of_labels(log_probabilities, labels, weight, ignore_index) -> tuple[jax.Array, jax.Array]:
    """Return every label's loss, and what it counts for in the mean."""
    ignored = None if ignore_index is None else labels == ignore_index
    # An ignored label may lie outside [0, K); class 0 stands in for it.
    known = labels if ignored is None else jnp.where(ignored, jnp.zeros((), labels.dtype), labels)
    values = -jnp.take_along_axis(log_probabilities, known[..., None], axis=-1)[..., 0]
    counts = jnp.ones_like(values) if weight is None else weight[known]
    if ignored is not None:
        counts = jnp.where(ignored, jnp.zeros((), counts.dtype), counts)
        # Not by the factor 0 alone: the loss of class 0 may be infinite.
        values = jnp.where(ignored, jnp.zeros((), values.dtype), values)
    return values * counts, counts


def _of_probabilities(logits, labels, weight, label_smoothing) -> jax.Array:
    if labels.shape != logits.shape or labels.dtype != logits.dtype:
        raise ValueError(
            f"cross_entropy: probabilities must have the logits' shape and dtype, {logits.shape} "
            f"{logits.dtype}, got {labels.shape} {labels.dtype}"
        )
    if label_smoothing:
        labels = (1 - label_smoothing) * labels + label_smoothing / logits.shape[-1]
    terms = jax.nn.log_softmax(logits) * labels
    return -jnp.sum(terms if weight is None else terms * weight, axis=-1)


def _check_labels(loss: str, logits: jax.Array, labels: jax.Array) -> None:
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(f"{loss}: labels must be integers, got {labels.dtype}")
    if labels.shape != logits.shape[:-1]:
        raise ValueError(
            f"{loss}: labels must be {logits.shape[:-1]} for inputs {logits.shape}, got "
            f"{labels.shape}"
        )


def _check_weight(loss: str, logits: jax.Array, weight: jax.Array | None) -> None:
    if weight is not None and weight.shape != logits.shape[-1:]:
        raise ValueError(
            f"{loss}: weight must be {logits.shape[-1:]}, one a class, got {weight.shape}"
        )

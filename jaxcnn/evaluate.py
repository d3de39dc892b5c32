"""Evaluation of a whole test set: loss, accuracy, every prediction, and what they are worth."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxcnn import metrics
from jaxcnn.data import Arrays, Files, eval_batches
from jaxcnn.data.readers import Workers
from jaxcnn.train import Batch, Metrics, TrainState


def evaluate(
    eval_step: Callable[[TrainState, Batch], Metrics],
    state: TrainState,
    split: Arrays | Files,
    batch_size: int,
    *,
    workers: Workers = 0,
    mesh: Mesh | None = None,
) -> dict[str, Any]:
    """Evaluate every example of a split once, in order.

    Args:
        eval_step: from `jaxcnn.train.make_eval_step`.
        state: the state to evaluate; unchanged.
        split: N examples.
        batch_size: examples a step; the last batch is filled up and masked.
        workers: what decodes files, as `jaxcnn.data.eval_batches` takes it.
        mesh: that `eval_step` is called on, of `jaxcnn.devices`.

    Returns:
        `loss` and `accuracy` (floats, means over the N examples), `labels` (N,) int32,
        `predictions` (N,) int32 and `probabilities` (N, K) float32.

    Raises:
        FloatingPointError: the mean loss is NaN or infinite.
    """
    outputs = []
    for batch in eval_batches(split, batch_size, workers=workers, mesh=mesh):
        # Only handles are kept: the device runs ahead, and everything is read once at the end.
        outputs.append((batch["labels"], batch["mask"], eval_step(state, batch)))
    outputs = jax.device_get(outputs)
    mask = np.concatenate([mask for _, mask, _ in outputs])
    labels = np.concatenate([labels for labels, _, _ in outputs])[mask]
    gathered = {
        name: np.concatenate([output[name] for _, _, output in outputs])[mask]
        for name in ("loss", "predictions", "probabilities")
    }
    loss = float(np.mean(gathered["loss"], dtype=np.float64))
    if not np.isfinite(loss):
        raise FloatingPointError(f"evaluation loss is {loss} over {len(labels)} examples")
    return {
        "loss": loss,
        "accuracy": float(np.mean(gathered["predictions"] == labels)),
        "labels": labels,
        "predictions": gathered["predictions"],
        "probabilities": gathered["probabilities"],
    }


def ranks(num_classes: int, top: int | None = None) -> tuple[int, ...]:
    """Return the k of the top-k accuracies to report, ascending.

    Args:
        num_classes: K.
        top: the largest k; by default 5 where there are more than 5 classes, 2 where there are
            more than 2, else 1.

    Raises:
        ValueError: `top` is not in 1..K.
    """
    if top is None:
        top = next((k for k in (5, 2) if k < num_classes), 1)
    if not 1 <= top <= num_classes:
        raise ValueError(f"ranks: top={top}: expected 1 to {num_classes}, the number of classes")
    return tuple(sorted({1, top}))


def measure(
    result: dict[str, Any], *, top: int | None = None, bins: int = 15, mistakes: int = 48
) -> dict[str, Any]:
    """Compute what users want to know of an evaluation, see `jaxcnn.metrics`.

    Args:
        result: what `evaluate` returned, of K classes.
        top: as in `ranks`.
        bins: of the calibration.
        mistakes: how many to list at most.

    Returns:
        `confusion` (K, K) int64; `per_class`, a `metrics.PerClass`; `class_accuracy` (K,), its
        recall, NaN for a class without examples; `top_k`, k -> accuracy; `brier`, a float;
        `calibration`, a `metrics.Calibration`; `mistakes` (M,), their indices, the most confident
        first.

    Raises:
        ValueError: `top` or `bins` is out of range.
    """
    labels, probabilities = result["labels"], result["probabilities"]
    predictions, num_classes = result["predictions"], probabilities.shape[1]
    matrix = metrics.confusion(labels, predictions, num_classes)
    each = metrics.per_class(matrix)
    top_k = {k: metrics.top_k_accuracy(probabilities, labels, k) for k in ranks(num_classes, top)}
    return {
        "confusion": matrix,
        "per_class": each,
        "class_accuracy": each.recall,
        "top_k": top_k,
        "brier": metrics.brier_score(probabilities, labels),
        "calibration": metrics.calibration(probabilities, labels, bins),
        "mistakes": metrics.confident_mistakes(probabilities, labels, predictions, mistakes),
    }
